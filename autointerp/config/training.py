"""Config of the training of dictionaries."""

from typing import Literal, Self

from pydantic import Field, model_validator

from autointerp.config.base import LocalPath, Stage
from autointerp.config.corpus import CorpusConfig
from autointerp.config.subjects import SubjectConfig


class SaeTrainConfig(Stage):
    """`autointerp sae train`."""

    subject: SubjectConfig = SubjectConfig()
    hook_point: str
    corpus: CorpusConfig
    exclude: list[LocalPath] = []
    """Corpora none of whose documents may be trained on; `demo` is the shipped one."""
    output: str
    n_latents: int = Field(ge=2)
    k: int = Field(ge=1)
    n_tokens: int = Field(ge=1)
    held_out_share: float = Field(default=0.02, gt=0, lt=0.5)
    """Share of documents kept for the metrics in the card, never trained on."""
    batch_tokens: int = Field(default=1024, ge=2)
    learning_rate: float = Field(default=1e-3, gt=0)
    aux_k: int = Field(default=256, ge=0)
    buffer_chunks: int = Field(default=16, ge=1)
    seed: int = 0
    threads: int | None = Field(default=None, ge=1)
    save_dtype: Literal["float32", "float16"] = "float16"

    @model_validator(mode="after")
    def _k_fits(self) -> Self:
        if self.k > self.n_latents:
            raise ValueError(f"k {self.k} is more than n_latents {self.n_latents}")
        return self
