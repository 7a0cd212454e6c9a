import itertools

import pytest

from autointerp.config import DesignConfig, QuotaConfig
from autointerp.recording.design import DEFAULT_QUOTAS, SILENT_SHARE, SamplingDesign, stratum_of
from autointerp.records import SPLITS, Split, Strata


def design(**explain: int) -> SamplingDesign:
    quota = QuotaConfig(**({"top": 0, "intervals": 0, "hard": 0, "silent": 0} | explain))
    return SamplingDesign("d", 8, 0, dict.fromkeys(SPLITS, quota))


@pytest.mark.parametrize("n", range(32))
def test_draws_over_the_intervals_sum_to_the_quota_and_spread(n):
    quota = design(intervals=n).interval_quota(Split.EXPLAIN)
    assert list(quota) == [Strata.interval(i) for i in range(10, 0, -1)]
    assert sum(quota.values()) == n
    assert max(quota.values()) - min(quota.values()) <= 1
    places = [i for i, wanted in enumerate(quota.values()) if wanted == max(quota.values())]
    if 1 < len(places) < 10:
        gaps = [b - a for a, b in itertools.pairwise([*places, places[0] + 10])]
        assert max(gaps) - min(gaps) <= 1
    if n:
        assert places[0] == 0  # the highest interval comes first


@pytest.mark.parametrize("n", range(1, 32))
def test_every_interval_has_a_chance_of_being_drawn(n):
    drawn = design(intervals=n, hard=2, silent=3).draws(Split.TEST)
    assert sum(wanted for _, wanted in drawn) == n + 5
    assert all(wanted > 0 for _, wanted in drawn)
    names = [name for group, _ in drawn for name in group]
    assert names == [s for s in Strata.ordered() if s not in (Strata.TOP, Strata.RANDOM)]


def test_strata_by_value():
    cases = {10.0: "interval_10", 9.01: "interval_10", 9.0: "interval_09", 5.5: "interval_06"}
    cases |= {1.0: "interval_01", 0.11: "interval_01", 25.0: "interval_10"}
    for maximum, stratum in cases.items():
        for elsewhere in (True, False):
            assert stratum_of(maximum, 10.0, active_in_sequence=elsewhere) == stratum
    at_the_bound = SILENT_SHARE * 10.0
    assert stratum_of(at_the_bound, 10.0, active_in_sequence=False) == "silent"
    assert stratum_of(0.0, 10.0, active_in_sequence=True) == "hard"


def test_splits_left_out_of_a_config_keep_the_default():
    quota = QuotaConfig(top=1, intervals=2, hard=3, silent=4)
    config = DesignConfig(name="mine", quotas={"test": quota})
    own = SamplingDesign.of(config, 16, 7)
    assert own.quotas[Split.TEST] == quota
    assert own.quotas[Split.EXPLAIN] == DEFAULT_QUOTAS[Split.EXPLAIN]


def test_the_key_depends_on_everything_in_the_design():
    base = SamplingDesign("d", 8, 0)
    more = {**DEFAULT_QUOTAS, Split.TEST: QuotaConfig(top=1, intervals=10, hard=4, silent=6)}
    others = [
        SamplingDesign("e", 8, 0),
        SamplingDesign("d", 9, 0),
        SamplingDesign("d", 8, 1),
        SamplingDesign("d", 8, 0, more),
    ]
    assert len({base.key(), *(other.key() for other in others)}) == 5
    assert SamplingDesign("d", 8, 0).key() == base.key()
