"""Hook points: TransformerLens names for places in Hugging Face models.

One table per model family says which submodule's input or output a name is. A place the table does
not know is written as a module path: `model.layers.12:output` or `model.layers.12.mlp:input`; that
works in any causal language model.
"""

import re
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from autointerp.names import near_names
from autointerp.records import AutointerpError

INPUT, OUTPUT = "input", "output"

NORMALIZED = "normalized"
"""What a norm makes of its input before its own scale and shift: `ln2.hook_normalized`."""


@dataclass(frozen=True)
class Family:
    """Where one family of models keeps its parts."""

    blocks: str
    """Module path of the list of blocks."""

    embedding: tuple[str, str]
    """Module path and side of `hook_embed`: token embeddings, scaled as the model scales them."""

    points: dict[str, tuple[str, str]]
    """Hook name within a block → (submodule of the block, "" for the block; side)."""


_RESIDUAL = {"hook_resid_pre": ("", INPUT), "hook_resid_post": ("", OUTPUT)}

_LLAMA = {
    **_RESIDUAL,
    "ln1.hook_normalized": ("input_layernorm", NORMALIZED),
    "attn.hook_z": ("self_attn.o_proj", INPUT),
    "hook_attn_out": ("self_attn", OUTPUT),
    "hook_resid_mid": ("post_attention_layernorm", INPUT),
    "ln2.hook_normalized": ("post_attention_layernorm", NORMALIZED),
    "mlp.hook_in": ("mlp", INPUT),
    "mlp.hook_pre": ("mlp.gate_proj", OUTPUT),
    "mlp.hook_pre_linear": ("mlp.up_proj", OUTPUT),
    "mlp.hook_post": ("mlp.down_proj", INPUT),
    "hook_mlp_out": ("mlp", OUTPUT),
}

_GEMMA = {
    **_LLAMA,
    "hook_attn_out": ("post_attention_layernorm", OUTPUT),
    "hook_resid_mid": ("pre_feedforward_layernorm", INPUT),
    "ln2.hook_normalized": ("pre_feedforward_layernorm", NORMALIZED),
    "hook_mlp_out": ("post_feedforward_layernorm", OUTPUT),
}

_GPT2 = {
    **_RESIDUAL,
    "ln1.hook_normalized": ("ln_1", NORMALIZED),
    "attn.hook_z": ("attn.c_proj", INPUT),
    "hook_attn_out": ("attn", OUTPUT),
    "hook_resid_mid": ("ln_2", INPUT),
    "ln2.hook_normalized": ("ln_2", NORMALIZED),
    "mlp.hook_in": ("mlp", INPUT),
    "mlp.hook_pre": ("mlp.c_fc", OUTPUT),
    "mlp.hook_post": ("mlp.c_proj", INPUT),
    "hook_mlp_out": ("mlp", OUTPUT),
}

_NEOX = {
    **_RESIDUAL,
    "ln1.hook_normalized": ("input_layernorm", NORMALIZED),
    "attn.hook_z": ("attention.dense", INPUT),
    "hook_attn_out": ("attention", OUTPUT),
    "ln2.hook_normalized": ("post_attention_layernorm", NORMALIZED),
    "mlp.hook_in": ("mlp", INPUT),
    "mlp.hook_pre": ("mlp.dense_h_to_4h", OUTPUT),
    "mlp.hook_post": ("mlp.dense_4h_to_h", INPUT),
    "hook_mlp_out": ("mlp", OUTPUT),
}

_NEOX_ONE_AFTER_THE_OTHER = {**_NEOX, "hook_resid_mid": ("post_attention_layernorm", INPUT)}
"""Attention first, then the MLP (`use_parallel_residual: false`): there is a place between."""


def _gemma(inner: str) -> Family:
    # Embeddings are scaled by the square root of the width; where that happens has moved between
    # versions of transformers, but block 0 always reads the scaled ones.
    return Family(f"{inner}.layers", (f"{inner}.layers.0", INPUT), _GEMMA)


FAMILIES: dict[str, Family] = {
    "gpt2": Family("transformer.h", ("transformer.wte", OUTPUT), _GPT2),
    "gpt_neox": Family("gpt_neox.layers", ("gpt_neox.embed_in", OUTPUT), _NEOX),
    **{
        name: Family("model.layers", ("model.embed_tokens", OUTPUT), _LLAMA)
        for name in ("llama", "mistral", "qwen2", "qwen3", "smollm3")
    },
    **{name: _gemma("model") for name in ("gemma2", "gemma3_text")},
    "gemma3": _gemma("model.language_model"),
}
"""Model family by `config.model_type`."""


@dataclass(frozen=True)
class HookPoint:
    """A place in a model, resolved."""

    name: str
    module: nn.Module
    side: str
    """`input`: the module's first argument; `output`: what it returns (first of a tuple);
    `normalized`: its first argument, normalised as the module does before scale and shift."""

    block: int | None
    """Index of the block it lies in; `None` outside the blocks, where nothing can be skipped."""

    def value(self, args: tuple, kwargs: dict, output: object) -> Tensor:
        """The tensor at this place, from what a forward hook sees."""
        found = output
        if self.side != OUTPUT:
            found = args[0] if args else next(iter(kwargs.values()), None)
        elif isinstance(output, tuple):
            found = output[0]
        if not isinstance(found, Tensor):
            raise AutointerpError(
                f"hook point {self.name!r} carries no tensor but {type(found).__name__}: choose "
                "the input or output of another module"
            )
        return normalized(self.module, found) if self.side == NORMALIZED else found


def normalized(norm: nn.Module, x: Tensor) -> Tensor:
    """x̂ of a LayerNorm, (x - mean) / sqrt(var + ε), or RMSNorm, x / sqrt(mean x² + ε).

    Args:
        norm: the module; its scale and shift are not applied.
        x: [..., width].

    Returns:
        [..., width] in x's dtype, computed in float32.
    """
    wide = x.float()
    if isinstance(norm, nn.LayerNorm):
        return nn.functional.layer_norm(wide, norm.normalized_shape, eps=norm.eps).to(x.dtype)
    settings: Any = norm
    epsilon = getattr(settings, "variance_epsilon", None) or settings.eps
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)).to(x.dtype)


def _model_type(model: nn.Module) -> str:
    config: Any = model.config
    return str(config.model_type)


def _family(model: nn.Module) -> Family | None:
    family = FAMILIES.get(_model_type(model))
    config: Any = model.config
    if family is not None and not getattr(config, "use_parallel_residual", True):
        return replace(family, points=_NEOX_ONE_AFTER_THE_OTHER)
    return family


def _n_blocks(model: nn.Module, family: Family) -> int:
    return sum(1 for _ in model.get_submodule(family.blocks).children())


def hook_names(model: nn.Module) -> list[str]:
    """All TransformerLens names that the table knows for this model; empty for other families."""
    family = _family(model)
    if family is None:
        return []
    blocks = range(_n_blocks(model, family))
    return ["hook_embed", *(f"blocks.{i}.{point}" for i in blocks for point in family.points)]


def resolve(model: nn.Module, name: str) -> HookPoint:
    """Find the place called `name`.

    Args:
        name: `blocks.12.hook_resid_post`, or `module.path:input`, `module.path:output`.

    Raises:
        AutointerpError: where the model has no such place; lists the near ones.
    """
    family = _family(model)
    if ":" in name:
        return _resolve_module(model, name, family)
    known = hook_names(model)
    if family is None or name not in known:
        raise AutointerpError(
            f"hook point {name!r} does not exist in this model; {_what_there_is(model, name)}"
        )
    if name == "hook_embed":
        path, side = family.embedding
        return HookPoint(name, model.get_submodule(path), side, 0)
    _, number, point = name.split(".", 2)
    submodule, side = family.points[point]
    path = f"{family.blocks}.{number}" + (f".{submodule}" if submodule else "")
    return HookPoint(name, model.get_submodule(path), side, int(number))


def _what_there_is(model: nn.Module, name: str) -> str:
    """Near names, and what kinds of names a model has."""
    family, kind = _family(model), _model_type(model)
    if family is None:
        blocks = [path for path, _ in model.named_modules() if re.search(r"\.\d+$", path)]
        example = blocks[-1] if blocks else "model.layers.12"
        return (
            f"models of type {kind!r} have no TransformerLens names here; write a module path "
            f"such as {example}:output"
        )
    return (
        f"near ones: {', '.join(near_names(name, hook_names(model)))}. A {kind} model of "
        f"{_n_blocks(model, family)} blocks has hook_embed and, in each of blocks.0 to "
        f"blocks.{_n_blocks(model, family) - 1}: {', '.join(family.points)}; any other place is "
        f"written as a module path such as {family.blocks}.0:output"
    )


def _resolve_module(model: nn.Module, name: str, family: Family | None) -> HookPoint:
    path, _, side = name.rpartition(":")
    modules = dict(model.named_modules())
    if side not in (INPUT, OUTPUT) or path not in modules:
        near = near_names(path, [m for m in modules if m])
        prefix = str(getattr(model, "base_model_prefix", ""))
        parts = ", ".join(child for child, _ in model.get_submodule(prefix).named_children())
        raise AutointerpError(
            f"hook point {name!r} does not exist in this model: write MODULE:input or "
            f"MODULE:output, with a module such as {', '.join(near)}. Below {prefix or 'its top'}, "
            f"this {_model_type(model)} model has: {parts}"
        )
    # Numbered modules are blocks in every model of the library.
    blocks = re.escape(family.blocks) if family else r"[^\d]+"
    match = re.match(rf"^{blocks}\.(\d+)(\.|$)", path)
    return HookPoint(name, modules[path], side, int(match[1]) if match else None)
