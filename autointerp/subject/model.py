"""A subject: one causal language model, run up to named places inside it."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import Tensor

from autointerp.records import AutointerpError
from autointerp.subject import embedded, hooks


class _StopForward(Exception):
    """Raised by the deepest hook: nothing after it is wanted."""


@dataclass
class Subject:
    """A language model under study. Never trains, never runs its LM head when recording."""

    name: str
    """The name it was asked for by: `smollm2`, a folder, a hub id."""

    model: Any
    """A transformers model with an LM head."""

    tokenizer: Any
    device: torch.device
    fingerprint: str
    """Hash of its configuration and weights: enters the key of everything recorded from it."""

    _resolved: dict[str, hooks.HookPoint] = field(default_factory=dict)

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def n_blocks(self) -> int:
        """Number of transformer blocks."""
        return int(self.model.config.get_text_config().num_hidden_layers)

    @property
    def max_tokens(self) -> int | None:
        """Tokens it can read at once; `None` where its configuration does not say."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    def hook(self, name: str) -> hooks.HookPoint:
        """The place called `name`; an `AutointerpError` lists near names where there is none."""
        if name not in self._resolved:
            self._resolved[name] = hooks.resolve(self.model, name)
        return self._resolved[name]

    def width_at(self, name: str) -> int:
        """Number of channels at a hook point, found by running a few tokens up to it.

        Raises:
            AutointerpError: where there is not one vector of numbers per token.
        """
        tokens = torch.zeros((2, 3), dtype=torch.long)
        value = self.run(tokens, [name])[name]
        if value.ndim != 3 or value.shape[:2] != tokens.shape or not value.is_floating_point():
            raise AutointerpError(
                f"hook point {name!r} has values of shape {list(value.shape)} for 2 texts of 3 "
                "tokens: units need one vector of numbers per token"
            )
        return int(value.shape[-1])

    @torch.inference_mode()
    def run(
        self, token_ids: Tensor, hook_points: Iterable[str], attention_mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Run the model up to the deepest of `hook_points` and return what is there.

        Args:
            token_ids: [batch, n_tokens], any integer type.
            hook_points: names of places.
            attention_mask: [batch, n_tokens], 1 for tokens, 0 for padding; all 1 if left out.

        Returns:
            name → [batch, n_tokens, width], in the model's dtype, on its device.
        """
        points = [self.hook(name) for name in dict.fromkeys(hook_points)]
        captured: dict[str, Tensor] = {}
        wanted = len(points)

        def capture(point: hooks.HookPoint, value: Tensor) -> None:
            captured[point.name] = value
            if len(captured) == wanted:
                raise _StopForward

        handles = [_register(point, capture) for point in points]
        ids = token_ids.to(self.device, torch.long)
        mask = None if attention_mask is None else attention_mask.to(self.device)
        try:
            # The base model has no LM head; the last hook stops it before the blocks above.
            self.model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
        except _StopForward:
            pass
        finally:
            for handle in handles:
                handle.remove()
        missing = [point.name for point in points if point.name not in captured]
        if missing:
            raise AutointerpError(
                f"nothing passed hook point {missing[0]!r} of {self.name}: the module exists but "
                "the forward pass does not use it"
            )
        return captured


def _register(point: hooks.HookPoint, capture: Any) -> Any:
    if point.side == "input":
        return point.module.register_forward_pre_hook(
            lambda _m, args, kwargs: capture(point, point.value(args, kwargs, None)),
            with_kwargs=True,
        )
    return point.module.register_forward_hook(
        lambda _m, args, output: capture(point, point.value(args, {}, output))
    )


def choose_device(name: str) -> torch.device:
    """The device called `name`; `auto` takes CUDA, then MPS, then the CPU."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise AutointerpError(f"device {name!r} is not auto, cpu, cuda:N or mps") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise AutointerpError(f"device {name!r} was asked for, but this machine has no CUDA device")
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype called `name`; `auto` is bfloat16 on CUDA and float32 elsewhere."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    choices = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in choices:
        raise AutointerpError(f"dtype {name!r} is not one of auto, {', '.join(choices)}")
    return choices[name]


def load_subject(
    name: str = embedded.EMBEDDED_NAME,
    *,
    device: str = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
) -> Subject:
    """Load a causal language model and its tokenizer.

    Args:
        name: `smollm2` (the embedded model), a folder in Hugging Face layout, or a hub id.
        device: `auto`, `cpu`, `cuda:N` or `mps`.
        dtype: `auto`, `float32`, `bfloat16` or `float16`.
        trust_remote_code: run Python code that comes with the model; off unless asked for.

    Raises:
        AutointerpError: where there is no such model, or it is not a causal language model.
    """
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = choose_device(device)
    source: str | Path = (
        embedded.embedded_model_folder() if name == embedded.EMBEDDED_NAME else name
    )
    _check_causal(name, source, trust_remote_code)
    # A bar for a second's work would tear a notebook's output apart.
    transformers.logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code)
        model = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=choose_dtype(dtype, place),
            attn_implementation="sdpa",
            trust_remote_code=trust_remote_code,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise AutointerpError(
            f"model {name!r} could not be loaded: {_first_line(error)}"
        ) from error
    model = cast(Any, model).to(place).eval()
    model.requires_grad_(False)
    return Subject(name, model, tokenizer, place, _fingerprint(model))


def _check_causal(name: str, source: str | Path, trust_remote_code: bool) -> None:
    """Refuse what is not a causal language model, before any weights are read."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise AutointerpError(
            f"no model at {name!r}: give `{embedded.EMBEDDED_NAME}`, a folder with config.json and "
            f"safetensors, or a Hugging Face id ({_first_line(error)})"
        ) from error
    architectures = list(getattr(config, "architectures", None) or [])
    causal = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    named_otherwise = architectures and not any(
        a.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration"))
        for a in architectures
    )
    if getattr(config, "is_encoder_decoder", False) or not causal or named_otherwise:
        found = ", ".join(architectures) or config.model_type
        raise AutointerpError(
            f"model {name!r} is not a causal language model (it is {found}): a subject must "
            "predict the next token, such as GPT-2, Llama, Qwen, Gemma or Pythia"
        )


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0][:300]


def _fingerprint(model: Any) -> str:
    """BLAKE2b of the configuration and of every weight's name, shape, dtype and bytes."""
    digest = hashlib.blake2b(digest_size=16)
    config = {k: v for k, v in model.config.to_dict().items() if k not in _LOADING_FACTS}
    digest.update(repr(sorted(config.items(), key=lambda item: item[0])).encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


_LOADING_FACTS = {"_name_or_path", "transformers_version", "torch_dtype", "_attn_implementation"}
"""Configuration entries that say how a model was loaded, not what it is."""
