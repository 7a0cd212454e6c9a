from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autointerp.analysis.compare_runs import compare_runs
from autointerp.analysis.token_entropy import bin_of, token_entropy
from autointerp.records import ActivationRecord, Split, Strata, UnitId, UnitRecord, Window

from .run_folders import write_run
from .synthetic import run_of, unit_of

UNIT = UnitId("features", 0)


def record(*windows: tuple[str, list[float], float]) -> UnitRecord:
    """A unit of windows given as tokens, activations, inclusion probability."""
    made = []
    for number, (tokens, values, probability) in enumerate(windows):
        texts = tuple(tokens.split())
        place = Window(f"s{number}", 0, len(texts))
        made.append(
            ActivationRecord(
                UNIT, place, f"d{number}", Split.EXPLAIN, Strata.TOP, probability, texts,
                np.array(values, np.float32), np.zeros(len(texts), bool),
            )
        )  # fmt: skip
    return UnitRecord(UNIT, tuple(made), {})


def test_entropy_is_that_of_the_mass_over_tokens() -> None:
    assert token_entropy(record(("a b a c", [1, 0, 3, 0], 1.0))) == 0
    assert token_entropy(record(("a b c d", [2, 2, 2, 2], 1.0))) == pytest.approx(2)
    assert token_entropy(record(("a a b", [1, 2, 1], 1.0))) == pytest.approx(
        -(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25))
    )


def test_rarely_drawn_windows_stand_for_those_that_were_not() -> None:
    """One of four windows was drawn: its token has four times the mass."""
    found = token_entropy(record(("a", [1], 1.0), ("b", [1], 0.25)))
    assert found == pytest.approx(-(0.2 * np.log2(0.2) + 0.8 * np.log2(0.8)))


def test_random_windows_are_left_out_as_the_others_stand_for_all() -> None:
    """Two tokens alike; one of a hundred windows was drawn at random, too."""
    one = record(("a", [1], 1.0), ("b", [1], 1.0), ("a", [1], 0.01))
    *drawn, random = one.records
    whole = replace(one, records=(*drawn, replace(random, stratum=Strata.RANDOM)))
    assert token_entropy(whole) == pytest.approx(1)


def test_only_explain_windows_and_unmasked_tokens_count() -> None:
    one = record(("a b", [1, 1], 1.0), ("c d", [1, 1], 1.0))
    first, second = one.records
    masked = replace(first, masked=np.array([False, True]))
    assert token_entropy(replace(one, records=(masked, replace(second, split=Split.TEST)))) == 0
    assert token_entropy(record(("a b", [0, 0], 1.0))) is None


def test_bins_hold_every_entropy_once() -> None:
    assert [bin_of(x)[0] for x in (0, 1.99, 2, 5, 40)] == [
        "0 to 2 bits", "0 to 2 bits", "2 to 4 bits", "4 to 6 bits", "6 bits and more",
    ]  # fmt: skip


def test_groups_are_compared_inside_of_like_values(tmp_path: Path) -> None:
    """Features and neurons of 1 % and of 20 %: two comparisons of each explainer, not one."""
    units = []
    for source, shift in (("features", 0.3), ("neurons", 0.0)):
        for i in range(16):
            unit = unit_of(UnitId(source, i), 0.1 + shift + 0.01 * (i % 4))
            units.append(replace(unit, density=0.01 if i < 8 else 0.2))
    folder = write_run(tmp_path / "run", run_of(units))
    found = compare_runs([folder], within="density", explainers=["words"])
    assert [c["within"] for c in found.comparisons] == [
        "1 % to 10 % of tokens", "10 % to 100 % of tokens",
    ]  # fmt: skip
    for comparison in found.comparisons:
        assert comparison["excluded"]["n_a"] == comparison["excluded"]["n_b"] == 8
        assert comparison["excluded"]["difference"] == pytest.approx(0.3)
        assert comparison["n_comparisons"] == 2
