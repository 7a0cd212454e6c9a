"""Config of what has units: one model per kind of source."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from autointerp.config.base import LocalPath, Stage


class SparsifyConfig(Stage):
    """Only the strongest values of every token are kept."""

    l0: int = Field(ge=1)
    """Units kept on every token: those of largest |value|, both signs competing. Take the L0 of
    the dictionary that they are compared with."""


class NeuronsConfig(Stage):
    """MLP neurons as units, both polarities."""

    type: Literal["neurons"]
    subject: str = "subject"
    hook_point: str
    """Such as `blocks.10.mlp.hook_post`, or a module path such as `model.layers.10.mlp:output`."""
    sparsify: SparsifyConfig | None = None
    """`null`: raw values, active on half of all tokens."""


class DirectionsConfig(Stage):
    """Directions at any hook point as units, both polarities; random ones and PCA are controls."""

    type: Literal["directions"]
    subject: str = "subject"
    hook_point: str
    """Such as `blocks.10.hook_resid_post`."""
    kind: Literal["basis", "random", "pca", "file"]
    """`basis`: the channels of the place; `random`: of length 1, uniform on the sphere; `pca`:
    principal components of the place on `explain` documents, largest variance first; `file`: the
    rows of a matrix."""
    n: int | None = Field(default=None, ge=1, le=1_000_000)
    """Directions (`random`, `pca`); `null` for as many as the place has channels."""
    seed: int | None = Field(default=None, ge=0)
    """Of `random`; `null` derives it from the run's seed and the source's name."""
    path: LocalPath | None = None
    """Of `file`: a safetensors file with a matrix [n, channels]."""
    tensor: str | None = None
    """Of `file`: the matrix, where the file holds several tensors."""
    centre: bool | None = None
    """Subtract the mean of `explain` documents first; `null`: only for `pca`."""
    fit_tokens: int | None = Field(default=200_000, ge=1)
    """Tokens that mean and components are fitted to; `null` for all of `explain`."""
    sparsify: SparsifyConfig | None = None
    """`null`: raw values, active on half of all tokens."""

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        belongs = {"n": ("random", "pca"), "seed": ("random",), "path": ("file",),
                   "tensor": ("file",)}  # fmt: skip
        for name, kinds in belongs.items():
            if getattr(self, name) is not None and self.kind not in kinds:
                raise ValueError(f"`{name}` is of kind {' or '.join(kinds)}, not {self.kind}")
        if self.kind == "file" and self.path is None:
            raise ValueError("kind file needs `path`, a safetensors file")
        if self.kind == "pca" and self.centre is False:
            raise ValueError("principal components are of centred values: leave `centre` out")
        return self


class AttentionHeadsConfig(Stage):
    """Attention heads as units: the norm of what each head writes on a token."""

    type: Literal["attention_heads"]
    subject: str = "subject"
    hook_point: str
    """`blocks.L.attn`, or the input of another output projection, such as
    `model.layers.3.self_attn.o_proj:input`."""


class SaeConfig(Stage):
    """Latents of a sparse autoencoder as units."""

    type: Literal["sae"]
    subject: str = "subject"
    path: LocalPath
    """A folder or file, or `organisation/repository:path/in/it` on the hub; `demo` is shipped."""
    format: str | None = None
    """Such as `saelens` or `gemma_scope` (docs/sae-formats.md); recognised if left out."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    k: int | None = Field(default=None, ge=1)
    """Latents kept per token, where the files do not say."""
    input_scale: float | None = Field(default=None, gt=0)
    """sqrt(d_in) / mean norm of its training data, where it needs that and its files do not say."""
    hook_point: str | None = None
    """Where it is read; taken from its files if left out."""
    control: Literal["random_decoder", "permuted_decoder"] | None = None
    """Instead of the dictionary a like one that learned nothing: `random_decoder` has directions
    drawn at random, its encoder tied to them; `permuted_decoder` its own with the channels
    exchanged. Norms, biases and activation function stay."""
    control_seed: int = Field(default=0, ge=0)
    """Of `control`."""


class RecordedConfig(Stage):
    """Units whose activations were recorded elsewhere (`autointerp import-records`), of the side
    that a unit's name says; what is below 0 counts as 0."""

    type: Literal["recorded"]
    path: LocalPath
    """A parquet or jsonl file with unit, tokens, activations and, if known, document."""


UnitSourceConfig = Annotated[
    NeuronsConfig | SaeConfig | DirectionsConfig | AttentionHeadsConfig | RecordedConfig,
    Field(discriminator="type"),
]
