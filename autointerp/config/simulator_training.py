"""Config of the training of a simulator."""

from typing import Annotated, Literal

from pydantic import Field

from autointerp.config.base import LocalPath, Stage


class SimulatorTrainConfig(Stage):
    """`autointerp simulator train`: a small model that reads a description and a text."""

    base: str = "smollm2"
    """The language model it is made from: `smollm2`, a folder or a hub id, of the Llama kind."""
    rows: LocalPath
    """Table of planted concepts: `python datasets/simulator/build.py`."""
    repeats: dict[str, Annotated[int, Field(ge=1, le=100)]] = {}
    """How often rows of a family, a column of the table, stand in an epoch; once if not named."""
    output: str
    """Folder of the trained simulator and of its checkpoint."""
    n_blocks: int = Field(default=18, ge=1)
    """It is made of the base's first so many blocks."""
    left_out: list[int] = []
    """Blocks below `n_blocks` that it does without, for speed."""
    start_from: LocalPath | None = None
    """Folder of a trained simulator whose weights it begins with, of the blocks it has."""
    lora_rank: int = Field(default=16, ge=1)
    lora_blocks_from: int = Field(default=2, ge=0)
    """First block that is adapted."""
    n_steps: int = Field(ge=1)
    decay_share: float = Field(default=0.15, gt=0, le=1)
    """Share of the steps, at the end, over which the learning rate falls to nothing."""
    batch_rows: Literal[1, 2, 4, 8, 16, 32, 64, 128] = 8
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup_steps: int = Field(default=100, ge=1)
    active_weight: float = Field(default=4.0, gt=0)
    """Weight of tokens above level 0 in the cross-entropy."""
    correlation_weight: float = Field(default=0.5, ge=0)
    """Weight of 1 - mean correlation beside the cross-entropy."""
    pair_every: int = Field(default=0, ge=0)
    """Every so-manyth step is on pairs, two rows after one another with the same windows: the right
    description is to correlate better than the other one. 0: no such step."""
    pair_margin: float = Field(default=0.25, ge=0, le=2)
    """By how much, in a step on pairs."""
    bfloat16: bool = True
    """Matrix products in bfloat16; what is trained stays in float32."""
    device: str = "auto"
    seed: int = 0
    threads: int | None = Field(default=None, ge=1)
