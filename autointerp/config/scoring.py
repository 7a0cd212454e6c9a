"""Config of simulators, and what all scorers share."""

from typing import Any, Literal

from pydantic import Field, model_validator

from autointerp.config.base import Stage
from autointerp.config.cost import StopConfig


class SimulatorConfig(Stage):
    """Who predicts activations from words."""

    name: Literal[
        "embedded",
        "all_at_once",
        "one_at_a_time",
        "generated",
        "structured",
        "completions",
        "trained_head",
    ] = "embedded"
    """How activations are predicted; docs/simulators.md compares them. `embedded` is the trained
    one that ships. `one_at_a_time`, `generated`, `structured` and `completions` ask the language
    model of `llm`. `simulator: embedded` is short for `simulator: {name: embedded}`."""
    model: str = "smollm2"
    """The model that predicts, for `all_at_once`: `smollm2`, a folder or a hub id; for
    `trained_head`: its folder; for `embedded`: the folder of one of your own, if set."""
    device: str = "auto"
    """Of a model on this machine: `auto`, `cpu`, `cuda:0`, `mps`."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of a model on this machine; `auto` is float32 on a CPU. `bfloat16` is several times faster
    on CPUs that have it, and moves scores in their third digit."""
    prompt: str | None = None
    """Template in `prompts/`, or a `.j2` file; the simulator's own if left out."""
    top_logprobs: int = Field(default=20, ge=5, le=20)
    """Alternatives read at every token, where log-probabilities are asked for."""
    sequences_per_call: int = Field(default=4, ge=1, le=64)
    """Windows in one question of `structured`."""
    mass_floor: float | None = Field(default=None, ge=0, le=1)
    """Tokens on which less probability lies on levels are missing; 0.01 if left out, 0.5 for
    `embedded`, which says by it what it does not know."""
    levels: Literal["auto", "0-9", "0-10"] = "auto"
    """`auto` is 0 to 10 where "10" is one token of the model, else 0 to 9; `0-10` reads "10" as
    two tokens where it must."""
    batch_tokens: int | None = Field(default=None, ge=1)
    """Tokens of a forward pass; 2,048 on a CPU and 16,384 elsewhere if left out."""
    memory_gb: float | None = Field(default=None, gt=0)
    """What simulation may hold beside the model, in 10^9 bytes: lowers `batch_tokens`."""
    keep_few_shot: bool = True
    """Keep the few-shot's keys and values in the user's cache for the next run."""

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, given: Any) -> Any:
        """`simulator: embedded` is short for `simulator: {name: embedded}`."""
        return {"name": given} if isinstance(given, str) else given


class ScoreConfig(Stage):
    """Scoring by simulation on the `test` split."""

    min_active_documents: int = Field(default=4, ge=1)
    """Sampled `test` documents a unit must be active in; fewer: `insufficient_data`."""
    shuffled_donors: int = Field(default=5, ge=0)
    """Other units' explanations scored on the same windows: the control."""
    windows: Literal["partition", "top_and_random"] = "partition"
    """`partition`: windows of all strata but `random`; `top_and_random`: those two alone, as Bills
    et al. (2023) score, which cannot tell an explanation that is too broad from the right one."""
    calibration: Literal["none", "linear", "percentile", "isotonic"] = "none"
    """How levels become activations for the scores in activation units (R², absolute deviation):
    fitted on the unit's `calibrate` windows, which are simulated as well. The score itself is the
    correlation with the levels as they are."""
    bootstrap: int = Field(default=1000, ge=100, le=100_000)
    """Replicates for the interval of a score."""
    stop: StopConfig | None = None
    """Stop scoring a source by a scorer where its mean is known to this width."""
