"""How much memory a recording takes, before it starts.

    units × (statistics + samples × (row + active tokens × 4 bytes) × trimming) + batch + 100 MB

where, over the four splits, a unit has at most

    samples      Σ (20 · kept_per_bucket + top + random): 16 live half octaves, one for those below,
                 three kinds of hard windows
    row          24 bytes
    statistics   4 · (8 · 128 histogram + 12 · 134 groups + 24 · 40 tokens + 52) bytes = 14.6 kB
    trimming     2: while a split is trimmed, what was offered stands beside what is kept
    100 MB       what passes through the subject (40 MB for SmolLM2-135M) and the writer's columns

The number of samples does not depend on the corpus. Active tokens of a kept window are at most its
length; for sparse sources they are taken to be an eighth of it, which is generous: half the samples
are silent, and a latent that fires on 1 % of tokens is active on 1 or 2 of 32.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from autointerp.recording.buffers import capacities
from autointerp.recording.design import LIVE_BUCKETS, SamplingDesign
from autointerp.recording.samples import N_GROUPS, RANDOM, TOP
from autointerp.recording.statistics import N_BUCKETS, TRACKED_TOKENS
from autointerp.records import SPLITS, AutointerpError
from autointerp.units import UnitSource

SAMPLE_ROW_BYTES = 24
ACTIVE_TOKEN_BYTES = 4
_TRIMMING = 2.0
_SPARSE_SHARE = 1 / 8
_WINDOW_CELL_BYTES = 48
"""Arrays over windows × units of a batch: maxima, context, hashes and masks."""

_FIXED_BYTES = 100_000_000
"""The subject's own pass and the writing of files."""


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes a recording takes beyond the subject and its sources."""

    per_unit: int
    """Of every unit recorded at once."""
    n_units: int
    batch: int
    """While one batch is worked on, and what does not depend on units."""

    @property
    def total(self) -> int:
        """Bytes at the peak."""
        return self.per_unit * self.n_units + self.batch

    def units_that_fit(self, n_bytes: float) -> int:
        """How many units can be recorded at once in so many bytes."""
        return max(0, int((n_bytes - self.batch) // self.per_unit))


def memory_need(
    sources: Iterable[UnitSource], design: SamplingDesign, batch_tokens: int
) -> MemoryNeed:
    """What recording all units of some sources at once takes; the formula is the module's."""
    per_unit, n_units, batch = 0, 0, _FIXED_BYTES
    n_samples = 0
    for split in SPLITS:
        capacity = capacities(design, split)
        n_groups = LIVE_BUCKETS + 4
        n_samples += n_groups * int(capacity[0]) + int(capacity[TOP]) + int(capacity[RANDOM])
    statistics = len(SPLITS) * (8 * N_BUCKETS + 12 * N_GROUPS + 24 * TRACKED_TOKENS + 52)
    windows = max(1, batch_tokens // design.window_length)
    for source in sources:
        n = source.n_units * len(source.polarities)
        is_sparse = len(source.polarities) == 1
        active = design.window_length * (_SPARSE_SHARE if is_sparse else 0.5)
        row = SAMPLE_ROW_BYTES + ACTIVE_TOKEN_BYTES * active
        per_unit = max(per_unit, int(statistics + n_samples * row * _TRIMMING))
        n_units += n
        # Dense values stand there twice: token by token, and window by window.
        copies = 1 if is_sparse else 2
        batch += 4 * batch_tokens * source.n_units * copies + _WINDOW_CELL_BYTES * windows * n
    return MemoryNeed(per_unit, n_units, batch)


def range_size(
    sources: list[UnitSource],
    design: SamplingDesign,
    batch_tokens: int,
    *,
    unit_range_size: int | None,
    memory_gb: float | None,
) -> int | None:
    """Units of every source recorded at once; `None` for all of them in one pass.

    Args:
        unit_range_size: as the config says; taken as it is.
        memory_gb: what may be used; if left out, what the machine has free, and then everything
            must fit into it at once.

    Raises:
        AutointerpError: where it does not fit, with what to change.
    """
    if unit_range_size is not None:
        return unit_range_size
    need = memory_need(sources, design, batch_tokens)
    limit = available_bytes() if memory_gb is None else int(memory_gb * 1e9)
    if limit is None or need.total <= limit:
        return None
    fitting = need.units_that_fit(limit) // max(1, len(sources))
    said = (
        f"recording {need.n_units} units takes {need.total / 1e9:.1f} GB ({need.per_unit} bytes a "
        f"unit, {need.batch / 1e9:.2f} GB a batch), but "
    )
    if memory_gb is None:
        raise AutointerpError(
            said + f"{limit / 1e9:.1f} GB are free: set record.memory_gb to go by ranges of units, "
            "one pass over the corpus each; or lower record.batch_tokens, corpus.window_length or "
            "the quotas of record.design"
        )
    if fitting < 1:
        raise AutointerpError(
            said + f"record.memory_gb is {memory_gb:g}, less than one batch takes: raise it, or "
            "lower record.batch_tokens"
        )
    return fitting


def available_bytes() -> int | None:
    """Memory that can be had without swapping; `None` where the system does not say."""
    try:
        with Path("/proc/meminfo").open(encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return None
    return None
