"""What an estimate says: of one stage with one model, and of a whole run."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class StageEstimate:
    """One stage with one model."""

    stage: str
    model: str
    calls: int
    input_tokens: int
    cached_tokens: int
    """Of the input, read from the provider's prompt cache; none are assumed in batches."""
    output_tokens: int
    """With answers of usual length."""
    most_output_tokens: int
    """With every answer as long as it may be."""
    usd: float | None
    """`None` where the price is unknown; 0 on this machine."""
    usd_batch: float | None
    most_usd: float | None
    """With the longest answers and nothing cached."""
    hours: float | None
    rounds: int = 1
    """Questions that wait for the answers of earlier ones: as many batches, one after the other."""
    price: str = ""
    """Date and source of the price."""


@dataclass(frozen=True)
class RunEstimate:
    """A whole run."""

    basis: str
    """`records`: real units; `design`: made-up units, as nothing is recorded yet."""
    n_units: int
    n_sampled: int
    counted: str
    """How tokens were counted."""
    stages: tuple[StageEstimate, ...] = ()
    record_seconds: float | None = None
    """`None` where nothing is recorded, or nothing was timed."""
    disk_bytes: int = 0
    notes: tuple[str, ...] = field(default=())

    @property
    def usd(self) -> float | None:
        """Of all stages; `None` where one is unknown."""
        return total([stage.usd for stage in self.stages])

    @property
    def usd_batch(self) -> float | None:
        """Of all stages through batch APIs."""
        return total([stage.usd_batch for stage in self.stages])

    @property
    def hours(self) -> float | None:
        """Of all stages and recording."""
        recording = None if self.record_seconds is None else self.record_seconds / 3600
        return total([recording, *(stage.hours for stage in self.stages)])

    def as_json(self) -> dict[str, Any]:
        """Everything, with the totals."""
        return {
            **asdict(self),
            "stages": [asdict(stage) for stage in self.stages],
            "notes": list(self.notes),
            "usd": self.usd,
            "usd_batch": self.usd_batch,
            "hours": self.hours,
            "calls": sum(stage.calls for stage in self.stages),
            "input_tokens": sum(stage.input_tokens for stage in self.stages),
            "output_tokens": sum(stage.output_tokens for stage in self.stages),
        }


def total(parts: Sequence[float | None]) -> float | None:
    """The sum; `None` where a part is unknown."""
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None
