"""Hook points: TransformerLens names for places in Hugging Face models.

One table per model family says which submodule's input or output a name is. Every row was checked
by value against TransformerLens on GPT-2, NeoX, Llama and Gemma 2. A place the table does not know
is written as a module path: `model.layers.12:output` or `model.layers.12.mlp:input`.
"""

import re
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from autointerp.names import near_names
from autointerp.records import AutointerpError


@dataclass(frozen=True)
class Family:
    """Where one family of models keeps its parts."""

    blocks: str
    """Module path of the list of blocks."""

    points: dict[str, tuple[str, str]]
    """Hook name within a block → (submodule of the block, "" for the block; input or output)."""


_RESIDUAL = {"hook_resid_pre": ("", "input"), "hook_resid_post": ("", "output")}

_LLAMA = {
    **_RESIDUAL,
    "hook_resid_mid": ("post_attention_layernorm", "input"),
    "hook_attn_out": ("self_attn", "output"),
    "attn.hook_z": ("self_attn.o_proj", "input"),
    "hook_mlp_out": ("mlp", "output"),
    "mlp.hook_in": ("mlp", "input"),
    "mlp.hook_post": ("mlp.down_proj", "input"),
}

_GEMMA = {
    **_LLAMA,
    "hook_resid_mid": ("pre_feedforward_layernorm", "input"),
    "hook_attn_out": ("post_attention_layernorm", "output"),
    "hook_mlp_out": ("post_feedforward_layernorm", "output"),
}

_GPT2 = {
    **_RESIDUAL,
    "hook_resid_mid": ("ln_2", "input"),
    "hook_attn_out": ("attn", "output"),
    "attn.hook_z": ("attn.c_proj", "input"),
    "hook_mlp_out": ("mlp", "output"),
    "mlp.hook_in": ("mlp", "input"),
    "mlp.hook_post": ("mlp.c_proj", "input"),
}

_NEOX = {
    **_RESIDUAL,
    "hook_attn_out": ("attention", "output"),
    "attn.hook_z": ("attention.dense", "input"),
    "hook_mlp_out": ("mlp", "output"),
    "mlp.hook_in": ("mlp", "input"),
    "mlp.hook_post": ("mlp.dense_4h_to_h", "input"),
}

FAMILIES: dict[str, Family] = {
    "gpt2": Family("transformer.h", _GPT2),
    "gpt_neox": Family("gpt_neox.layers", _NEOX),
    **{
        name: Family("model.layers", _LLAMA)
        for name in ("llama", "mistral", "qwen2", "qwen3", "smollm3")
    },
    **{name: Family("model.layers", _GEMMA) for name in ("gemma2", "gemma3_text")},
    "gemma3": Family("model.language_model.layers", _GEMMA),
}
"""Model family by `config.model_type`."""


@dataclass(frozen=True)
class HookPoint:
    """A place in a model, resolved."""

    name: str
    module: nn.Module
    side: str
    """`input`: the module's first argument; `output`: what it returns (first of a tuple)."""

    block: int | None
    """Index of the block it lies in; `None` outside the blocks, where nothing can be skipped."""

    def value(self, args: tuple, kwargs: dict, output: object) -> Tensor:
        """The tensor at this place, from what a forward hook sees."""
        found = output
        if self.side == "input":
            found = args[0] if args else next(iter(kwargs.values()), None)
        elif isinstance(output, tuple):
            found = output[0]
        if not isinstance(found, Tensor):
            raise AutointerpError(
                f"hook point {self.name!r} carries no tensor but {type(found).__name__}: choose "
                "the input or output of another module"
            )
        return found


def _model_type(model: nn.Module) -> str:
    config: Any = model.config
    return str(config.model_type)


def hook_names(model: nn.Module) -> list[str]:
    """All TransformerLens names that the table knows for this model; empty for other families."""
    family = FAMILIES.get(_model_type(model))
    if family is None:
        return []
    n_blocks = sum(1 for _ in model.get_submodule(family.blocks).children())
    return [f"blocks.{i}.{point}" for i in range(n_blocks) for point in family.points]


def resolve(model: nn.Module, name: str) -> HookPoint:
    """Find the place called `name`.

    Args:
        name: `blocks.12.hook_resid_post`, or `module.path:input`, `module.path:output`.

    Raises:
        AutointerpError: where the model has no such place; lists the near ones.
    """
    family = FAMILIES.get(_model_type(model))
    if ":" in name:
        return _resolve_module(model, name, family)
    known = hook_names(model)
    match = re.match(r"^blocks\.(\d+)\.(.+)$", name)
    if family is None or match is None or name not in known:
        where = (
            f"near ones: {', '.join(near_names(name, known))}"
            if known
            else f"models of type {_model_type(model)!r} have no TransformerLens names here; "
            "write a module path such as model.layers.12:output"
        )
        raise AutointerpError(f"hook point {name!r} does not exist in this model; {where}")
    block, point = int(match[1]), match[2]
    submodule, side = family.points[point]
    path = f"{family.blocks}.{block}" + (f".{submodule}" if submodule else "")
    return HookPoint(name, model.get_submodule(path), side, block)


def _resolve_module(model: nn.Module, name: str, family: Family | None) -> HookPoint:
    path, _, side = name.rpartition(":")
    modules = dict(model.named_modules())
    if side not in ("input", "output") or path not in modules:
        near = near_names(path, [m for m in modules if m])
        raise AutointerpError(
            f"hook point {name!r} does not exist in this model: write MODULE:input or "
            f"MODULE:output, with a module such as {', '.join(near)}"
        )
    block = None
    if family is not None:
        match = re.match(rf"^{re.escape(family.blocks)}\.(\d+)(\.|$)", path)
        block = int(match[1]) if match else None
    return HookPoint(name, modules[path], side, block)
