"""The sampling design: which windows of a unit are kept, and how likely each was to be.

Within one unit and split the windows are partitioned by their maximum m, relative to the unit's
maximum E in the `explain` split:

    top          the few largest m, taken for certain
    interval j   (j-1)/10 < m/E <= j/10 and m > silent bound; above E counts as interval 10
    hard         m <= silent bound, but the unit is active elsewhere in the same sequence, or its
                 nearest unit is active here, or the window holds a top token of the unit
                 (`recording.hardness`)
    silent       all other windows with m <= silent bound = 0.01 E

`random` windows are a simple random sample of all windows, drawn beside that partition.

E is not known while the corpus streams by. So windows are sampled in half-octave buckets of m, at
most 16 under the largest m seen, the rest pooled; a bucket keeps the windows with the smallest
seeded random keys (a simple random sample) and its exact count; so does every kind of hard window.
At the end the kept windows are sorted into the strata above and drawn again: two-phase sampling, so
a window's probability is (kept / seen in its bucket) · (drawn / kept in its stratum), both without
the top windows, and the first factor times the chance that the bucket kept any other than top
windows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from autointerp.config import DesignConfig, QuotaConfig
from autointerp.records import HardBy, Split, Strata, content_key

SILENT_SHARE = 0.01
"""A window is silent where its maximum is at most this share of the explain maximum."""

LIVE_BUCKETS = 16
"""Half octaves kept apart under the largest maximum: 2^-8 of it, below the silent bound."""

DEFAULT_QUOTAS: Mapping[Split, QuotaConfig] = {
    Split.EXPLAIN: QuotaConfig(top=10, intervals=10, hard=3, silent=5, random=2),
    Split.CALIBRATE: QuotaConfig(top=2, intervals=5, hard=2, silent=3, random=2),
    Split.TEST: QuotaConfig(top=2, intervals=10, hard=4, silent=6, random=2),
    Split.AUDIT: QuotaConfig(top=2, intervals=10, hard=4, silent=6, random=2),
}
"""The default design. Test windows spread over the whole range: top windows alone cannot tell an
explanation that is too broad from the right one (docs/methods.md)."""


@dataclass(frozen=True)
class SamplingDesign:
    """Strata and how many windows are drawn from each, per split."""

    name: str
    window_length: int
    seed: int
    quotas: Mapping[Split, QuotaConfig] = field(default_factory=lambda: dict(DEFAULT_QUOTAS))

    @classmethod
    def of(cls, config: DesignConfig, window_length: int, seed: int) -> "SamplingDesign":
        """The design a config describes; splits it leaves out keep the default quota."""
        given = {Split(name): quota for name, quota in (config.quotas or {}).items()}
        return cls(config.name, window_length, seed, {**DEFAULT_QUOTAS, **given})

    def key(self) -> str:
        """Hash of everything in it."""
        return content_key(
            "design",
            name=self.name,
            window_length=self.window_length,
            seed=self.seed,
            quotas={split: quota.model_dump() for split, quota in self.quotas.items()},
        )

    def kept_per_bucket(self, split: Split) -> int:
        """Windows a bucket keeps while streaming: enough for any stratum's share of the quota."""
        quota = self.quotas[split]
        return max(4, -(-quota.intervals // 2), quota.hard, quota.silent) if quota.total else 0

    def interval_quota(self, split: Split) -> dict[str, int]:
        """Windows wanted from each value interval, highest first, spread evenly."""
        n = self.quotas[split].intervals
        wanted = {Strata.interval(i): 0 for i in range(Strata.N_INTERVALS, 0, -1)}
        names = list(wanted)
        for draw in range(n):
            # Evenly spread places when there are fewer draws than intervals; whole rounds first.
            rounds, rest = divmod(n, len(names))
            if draw < rounds * len(names):
                wanted[names[draw % len(names)]] += 1
            else:
                wanted[names[(draw - rounds * len(names)) * len(names) // rest]] += 1
        return wanted

    def draws(self, split: Split) -> list[tuple[tuple[str, ...], int]]:
        """(strata drawn together, windows wanted of them) below `top`, most active first.

        With fewer draws than intervals an interval shares the draw of the next higher one that has
        one: every active window keeps a chance.
        """
        quota = self.quotas[split]
        drawn: list[tuple[tuple[str, ...], int]] = []
        for name, wanted in self.interval_quota(split).items():
            if drawn and not wanted:
                names, shared = drawn.pop()
                drawn.append(((*names, name), shared))
            else:
                drawn.append(((name,), wanted))
        return [*drawn, ((Strata.HARD,), quota.hard), ((Strata.SILENT,), quota.silent)]

    def hard_draws(self, split: Split) -> list[tuple[tuple[HardBy, ...], int]]:
        """(kinds of hard windows drawn together, windows wanted of them).

        The quota is spread evenly; with fewer draws than kinds the last are drawn together, so that
        every hard window keeps a chance.
        """
        n = self.quotas[split].hard
        kinds = (HardBy.NEIGHBOUR, HardBy.TOP_TOKEN, HardBy.BESIDE)
        n_draws = max(1, min(n, len(kinds)))
        groups = [(kind,) for kind in kinds[: n_draws - 1]] + [kinds[n_draws - 1 :]]
        return [(g, n // n_draws + (place < n % n_draws)) for place, g in enumerate(groups)]


def stratum_of(maximum: float, explain_maximum: float, *, active_in_sequence: bool) -> str:
    """The stratum a window's maximum falls in; `top` is decided elsewhere, by rank.

    Args:
        maximum: the window's largest activation.
        explain_maximum: the unit's largest activation in the `explain` split, > 0.
        active_in_sequence: whether the unit passes the silent bound elsewhere in the sequence.
    """
    if maximum <= SILENT_SHARE * explain_maximum:
        return Strata.HARD if active_in_sequence else Strata.SILENT
    share = Strata.N_INTERVALS * maximum / explain_maximum
    number = min(Strata.N_INTERVALS, max(1, -int(-share // 1)))
    return Strata.interval(number)
