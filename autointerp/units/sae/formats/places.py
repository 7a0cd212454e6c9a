"""What owners call the places in a model, as the hook points of this project.

Only names whose meaning is certain are translated; for all others a checkpoint says no hook point,
and the user gives one.
"""

import re

_MODULES = {
    # sparsify and dictionary_learning hook modules: what a module returns.
    "": "hook_resid_post",
    "mlp": "hook_mlp_out",
    "attn": "hook_attn_out",
    "self_attn": "hook_attn_out",
    "attention": "hook_attn_out",
}
_OPENAI = {
    "mlp_post_act": "mlp.hook_post",
    "resid_delta_attn": "hook_attn_out",
    "resid_post_attn": "hook_resid_mid",
    "resid_delta_mlp": "hook_mlp_out",
    "resid_post_mlp": "hook_resid_post",
}
_GEMMA_MODULES = {
    "output": "hook_resid_post",
    "self_attn.o_proj.input": "attn.hook_z",
    "post_attention_layernorm.output": "hook_attn_out",
    "pre_feedforward_layernorm.output": "mlp.hook_in",
    "mlp.input": "mlp.hook_in",
    "post_feedforward_layernorm.output": "hook_mlp_out",
}


def in_block(block: int | str, point: str) -> str:
    """Name of a hook point within a block."""
    return f"blocks.{int(block)}.{point}"


def of_submodule(name: str, model: str | None, side: str = "output") -> str | None:
    """Hook point of a module path below the base model: `layers.3`, `h.3.attn`, `layers.3.mlp`.

    On Gemma the MLP and attention write through a norm of their own, so the module's output is not
    `hook_mlp_out`: the module path itself is given.
    """
    match = re.fullmatch(r"(?:layers|h)\.(\d{1,6})(?:\.(\w+))?", name)
    if match is None or (match[2] or "") not in _MODULES:
        return None
    module = match[2] or ""
    if side == "input":
        points = {"": "hook_resid_pre", "mlp": "mlp.hook_in"}
        return in_block(match[1], points[module]) if module in points else None
    if module and "gemma" in (model or "").lower():
        return f"model.layers.{int(match[1])}.{module}:output"
    return in_block(match[1], _MODULES[module])


def of_dictionary_learning(submodule: object, model: object) -> str | None:
    """`resid_post_layer_3`, `mlp_out_layer3`, or a hook point written in full."""
    if not isinstance(submodule, str):
        return None
    if re.fullmatch(r"blocks\.\d{1,6}\.[\w.]+|[\w.]+:(input|output)", submodule):
        return submodule
    match = re.fullmatch(r"(resid|mlp|attn|attention)_(?:post|out)_layer_?(\d{1,6})", submodule)
    if match is None:
        return None
    module = {"resid": "", "mlp": ".mlp", "attn": ".self_attn"}.get(match[1], ".self_attn")
    return of_submodule(f"layers.{match[2]}{module}", model if isinstance(model, str) else None)


def of_openai(words: tuple[str, ...], stem: str) -> str | None:
    """`…/resid_post_mlp_v5_32k/autoencoders/8.pt`: the location is a folder, the layer the file."""
    layer = re.match(r"(\d{1,6})(?:_|$)", stem)
    for word in reversed(words):
        for location, point in _OPENAI.items():
            if layer and re.fullmatch(rf"{location}(_v\d.*)?", word):
                return in_block(layer[1], point)
    return None


def of_gemma_module(name: str | None) -> str | None:
    """`model.layers.12.pre_feedforward_layernorm.output`, as Gemma Scope 2 writes modules."""
    if name is None:
        return None
    match = re.fullmatch(r"model\.(?:language_model\.)?layers\.(\d{1,6})\.([\w.]+)", name)
    if match and match[2] in _GEMMA_MODULES:
        return in_block(match[1], _GEMMA_MODULES[match[2]])
    module, _, side = name.rpartition(".")
    return f"{module}:{side}" if module and side in ("input", "output") else None
