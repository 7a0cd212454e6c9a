"""Config of the recording pass, its design, and which units are taken on."""

from typing import Literal

from pydantic import Field

from autointerp.config.base import Name, Stage


class QuotaConfig(Stage):
    """Windows drawn for one split."""

    top: int = Field(ge=0, le=100_000)
    intervals: int = Field(ge=0, le=100_000)
    """Spread evenly over the ten value intervals, the highest first."""
    hard: int = Field(ge=0, le=100_000)
    silent: int = Field(ge=0, le=100_000)
    random: int = Field(default=0, ge=0, le=100_000)

    @property
    def total(self) -> int:
        """All windows of the split."""
        return self.top + self.intervals + self.hard + self.silent + self.random


class DesignConfig(Stage):
    """The sampling design; the default is written down in `recording/design.py`."""

    name: Name = "default"
    """Stored with every record and score."""
    quotas: dict[Literal["explain", "calibrate", "test", "audit"], QuotaConfig] | None = None
    """Per split; the splits left out keep the default quota."""


class RecordConfig(Stage):
    """The recording pass."""

    design: DesignConfig = DesignConfig()
    """Which windows are kept."""
    batch_tokens: int = Field(default=2064, ge=8)
    """Tokens per forward pass."""
    shard_tokens: int = Field(default=8256, ge=8)
    """Tokens per work item; a killed run goes on from the last one it saved."""
    unit_range_size: int | None = Field(default=None, ge=1)
    """Units of a source recorded at once, one pass over the corpus for each range; all if left out,
    or as many as `memory_gb` holds."""
    memory_gb: float | None = Field(default=None, gt=0)
    """Memory that recording may take beside the models; without it everything must fit into what
    is free (docs/recording.md has the formula)."""
    output_tokens: int = Field(default=10, ge=0, le=1000)
    """Tokens that each unit promotes and suppresses most, stored with it; 0 leaves them out."""
    neighbours: int = Field(default=5, ge=0, le=1000)
    """Units of the source that write most alike, by cosine, stored with it; 0 leaves them out."""


class UnitsConfig(Stage):
    """Which units of every source are explained and scored."""

    sample: int | None = Field(default=16, ge=1)
    """Units drawn per source, stratified by firing rate; `null` for all."""
    min_active_documents: int = Field(default=4, ge=1)
    """Units active in fewer `explain` documents are not drawn; they are counted in the coverage."""
    ids: list[str] | None = Field(default=None, min_length=1)
    """These units instead, as `source/index` or `source/index-`."""
