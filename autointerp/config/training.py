"""Config of the training of dictionaries."""

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from autointerp.config.base import LocalPath, Name, Stage
from autointerp.config.corpus import CorpusConfig
from autointerp.config.subjects import SubjectConfig

if TYPE_CHECKING:
    from autointerp.units.sae.objectives import SaeSettings


class SaeDictionaryConfig(Stage):
    """One dictionary to train; keys that its architecture does not name in docs/sae-training.md
    have no effect."""

    architecture: Literal[
        "relu_l1", "relu_l1_april", "topk", "batch_topk", "gated", "jumprelu", "matryoshka"
    ] = "topk"
    n_latents: int = Field(ge=2)
    decoder: Literal["trained", "frozen"] = "trained"
    """`frozen`: random directions that stay as they are, only the rest learns; a control."""
    seed: int | None = None
    """Of its start; the training's if left out, which gives all of one width the same start."""
    learning_rate: float = Field(default=1e-3, gt=0)
    k: int = Field(default=32, ge=1)
    """Latents per token: of every token (`topk`) or on average (`batch_topk`, `matryoshka`)."""
    l1: float = Field(default=1.0, gt=0)
    """Weight of the L1 penalty: `relu_l1`, `relu_l1_april`, `gated`."""
    l0_target: float = Field(default=32.0, gt=0)
    """Mean active latents that `jumprelu` is driven to."""
    l0_weight: float = Field(default=1.0, gt=0)
    """Weight of the squared relative distance from `l0_target`."""
    bandwidth: float = Field(default=0.02, gt=0)
    """Width of the window in which thresholds of `jumprelu` learn."""
    groups: list[float] = [1 / 16, 3 / 16, 1 / 2, 1.0]
    """Nested shares of the latents of `matryoshka`, ascending to 1."""
    aux_k: int = Field(default=256, ge=0)
    """Dead latents that reconstruct the error: `topk`, `batch_topk`, `matryoshka`."""
    aux_weight: float = Field(default=1 / 32, ge=0)
    """Weight of that reconstruction's error in the loss."""
    dead_after_tokens: int = Field(default=100_000, ge=1)
    """A latent that has not fired for this many tokens counts as dead."""
    sparsity_warmup: float = Field(default=0.05, ge=0, le=1)
    """Share of the steps over which `l1` or `l0_weight` rises from zero."""
    resample_at: list[int] = []
    """Steps after which dead latents of `relu_l1` are drawn anew."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.k > self.n_latents:
            raise ValueError(f"k {self.k} is more than n_latents {self.n_latents}")
        ascending = all(a < b for a, b in zip(self.groups, self.groups[1:], strict=False))
        if self.decoder == "frozen" and self.resample_at:
            raise ValueError("resample_at draws decoder rows anew, which a frozen decoder forbids")
        if not self.groups or not ascending or self.groups[0] <= 0 or self.groups[-1] != 1:
            raise ValueError(f"groups {self.groups} are not shares that ascend to 1")
        return self

    def settings(self) -> "SaeSettings":
        """The same for the training loop."""
        from autointerp.units.sae.objectives import SaeSettings

        values: dict[str, Any] = self.model_dump()
        tuples: dict[str, Any] = {name: tuple(values[name]) for name in ("groups", "resample_at")}
        return SaeSettings(**(values | tuples))


class SaeTrainConfig(Stage):
    """`autointerp sae train`: several dictionaries in one pass over the activations."""

    subject: SubjectConfig = SubjectConfig()
    hook_point: str
    """What the dictionaries read."""
    hook_out: str | None = None
    """What they reconstruct, for transcoders; `null` for what they read."""
    corpus: CorpusConfig
    exclude: list[LocalPath] = []
    """Corpora none of whose documents may be trained on; `demo` is the shipped one."""
    output: str
    """Folder: progress and checkpoint here, each dictionary in a folder of its name."""
    dictionaries: dict[Name, SaeDictionaryConfig] = Field(min_length=1)
    n_tokens: int = Field(ge=1)
    """Tokens to train on; a corpus that holds fewer is gone through again."""
    held_out_share: float = Field(default=0.02, gt=0, lt=0.5)
    """Share of documents kept for the metrics, never trained on."""
    batch_tokens: int = Field(default=1024, ge=2)
    max_norm: float | None = Field(default=10.0, gt=1)
    """Tokens whose activations are longer than this many times the median are left out, here and
    in the metrics: attention sinks, few but most of the variance. `null`: all are taken."""
    warmup_steps: int = Field(default=100, ge=1)
    """Steps over which the learning rate rises."""
    decay_share: float = Field(default=0.3, ge=0, le=1)
    """Share of the steps, at the end, over which it falls to zero."""
    ema: float = Field(default=0.0, ge=0, lt=1)
    """Weight of the past in a running mean of the parameters, which is what is kept; 0: none."""
    bfloat16: bool = False
    """Matrix products of factors in bfloat16; weights, sums and choices stay float32."""
    buffer_chunks: int = Field(default=16, ge=1)
    """Chunks of 32 sequences that are shuffled together."""
    keep_activations: bool = False
    """Keep activations on disk in bfloat16 while training (2 bytes a token and channel), so that a
    second time through the corpus costs no subject. They are removed at the end."""
    checkpoint_seconds: float = Field(default=120.0, ge=0)
    seed: int = 0
    threads: int | None = Field(default=None, ge=1)
    save_dtype: Literal["float32", "float16"] = "float16"

    @model_validator(mode="after")
    def _can_be_written(self) -> Self:
        if self.hook_out in (None, self.hook_point):
            return self
        for name, each in self.dictionaries.items():
            if each.architecture in ("topk", "gated"):
                raise ValueError(
                    f"dictionaries.{name}: {each.architecture} transcoders cannot be written, "
                    "since SAELens' layout has none; take batch_topk or jumprelu"
                )
        return self
