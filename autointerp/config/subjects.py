"""Config of the language models under study."""

from typing import Literal

from pydantic import Field

from autointerp.config.base import Stage


class SubjectConfig(Stage):
    """A language model under study."""

    model: str = "smollm2"
    """`smollm2` (embedded), a folder in Hugging Face layout, or a hub id."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda:N` or `mps`."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """`auto` is bfloat16 on CUDA and float32 elsewhere."""
    device_map: str | dict[str, str | int] | None = None
    """For a model larger than one device: `auto`, `balanced`, `sequential`, or module path →
    device, `cpu` or `disk`."""
    random_weights: int | None = Field(default=None, ge=0)
    """A seed: the model's shape and tokenizer with freshly drawn weights, as they are before
    training. A control: what is found in it was not learned."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model."""
