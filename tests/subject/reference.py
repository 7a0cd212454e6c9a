"""Every hook point of every family computed from the weights alone: no module is run, no hook set.

Written from the papers' equations: layer norm or RMS norm, rotary or learned positions, grouped
attention with optional norms of queries and keys, sliding windows and capped scores, gated or plain
MLP, residuals one after the other or in parallel.
"""

import math
from typing import Any

import torch
from torch import Tensor


def reference(model: Any, tokens: Tensor) -> dict[str, Tensor]:
    """All hook points of a model on [batch, n_tokens] ids, by TransformerLens name."""
    kind = model.config.model_type
    weights = dict(model.state_dict())
    if kind == "gpt2":
        return _gpt2(weights, model.config, tokens)
    if kind == "gpt_neox":
        return _gpt_neox(weights, model.config, tokens)
    return _llama_like(weights, model.config, tokens, is_gemma=kind.startswith("gemma"))


def layer_norm(x: Tensor, epsilon: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + epsilon).sqrt()


def rms_norm(x: Tensor, epsilon: float) -> Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + epsilon).sqrt()


def gelu_tanh(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def gelu_exact(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def rotate(x: Tensor, base: float, n_rotated: int) -> Tensor:
    """Rotary positions on the first `n_rotated` channels of [batch, n_tokens, n_heads, d_head]."""
    half = n_rotated // 2
    angles = torch.arange(x.shape[1])[:, None] / base ** (torch.arange(half) / half)
    cos, sin = angles.cos()[None, :, None], angles.sin()[None, :, None]
    first, second, rest = x[..., :half], x[..., half:n_rotated], x[..., n_rotated:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], dim=-1)


def attention(
    q: Tensor, k: Tensor, v: Tensor, scale: float, *, window: int | None = None, cap: float | None
) -> Tensor:
    """Flat [batch, n_tokens, n_heads * d_head] from q, k, v of [batch, n_tokens, heads, d_head]."""
    groups = q.shape[2] // k.shape[2]
    k, v = (x.repeat_interleave(groups, dim=2) for x in (k, v))
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * scale
    if cap is not None:
        scores = cap * torch.tanh(scores / cap)
    distance = torch.arange(q.shape[1])[:, None] - torch.arange(q.shape[1])[None]
    seen = (distance >= 0) & (distance < (window or q.shape[1] + 1))
    probabilities = scores.masked_fill(~seen, -math.inf).softmax(-1)
    return torch.einsum("bhqk,bkhd->bqhd", probabilities, v).flatten(-2)


def _gpt2(w: dict[str, Tensor], config: Any, tokens: Tensor) -> dict[str, Tensor]:
    heads = (config.n_head, config.n_embd // config.n_head)
    found = {"hook_embed": w["transformer.wte.weight"][tokens]}
    x = found["hook_embed"] + w["transformer.wpe.weight"][: tokens.shape[1]]
    for block in range(config.n_layer):
        at, p = f"blocks.{block}.", f"transformer.h.{block}."
        found[at + "hook_resid_pre"] = x
        found[at + "ln1.hook_normalized"] = normal = layer_norm(x, config.layer_norm_epsilon)
        normal = normal * w[p + "ln_1.weight"] + w[p + "ln_1.bias"]
        joined = normal @ w[p + "attn.c_attn.weight"] + w[p + "attn.c_attn.bias"]
        q, k, v = (part.unflatten(-1, heads) for part in joined.split(config.n_embd, dim=-1))
        z = found[at + "attn.hook_z"] = attention(q, k, v, heads[1] ** -0.5, cap=None)
        written = z @ w[p + "attn.c_proj.weight"] + w[p + "attn.c_proj.bias"]
        found[at + "hook_attn_out"] = written
        x = found[at + "hook_resid_mid"] = x + written
        found[at + "ln2.hook_normalized"] = normal = layer_norm(x, config.layer_norm_epsilon)
        normal = normal * w[p + "ln_2.weight"] + w[p + "ln_2.bias"]
        found[at + "mlp.hook_in"] = normal
        before = normal @ w[p + "mlp.c_fc.weight"] + w[p + "mlp.c_fc.bias"]
        found[at + "mlp.hook_pre"] = before
        after = found[at + "mlp.hook_post"] = gelu_tanh(before)
        written = after @ w[p + "mlp.c_proj.weight"] + w[p + "mlp.c_proj.bias"]
        found[at + "hook_mlp_out"] = written
        x = found[at + "hook_resid_post"] = x + written
    return found


def _gpt_neox(w: dict[str, Tensor], config: Any, tokens: Tensor) -> dict[str, Tensor]:
    n_heads = config.num_attention_heads
    d_head = config.hidden_size // n_heads
    rotary = config.rope_parameters
    n_rotated = int(d_head * rotary["partial_rotary_factor"])
    x = w["gpt_neox.embed_in.weight"][tokens]
    found = {"hook_embed": x}
    for block in range(config.num_hidden_layers):
        at, p = f"blocks.{block}.", f"gpt_neox.layers.{block}."

        def linear(x: Tensor, name: str, p: str = p) -> Tensor:
            return x @ w[f"{p}{name}.weight"].T + w[f"{p}{name}.bias"]

        found[at + "hook_resid_pre"] = x
        found[at + "ln1.hook_normalized"] = normal = layer_norm(x, config.layer_norm_eps)
        normal = normal * w[p + "input_layernorm.weight"] + w[p + "input_layernorm.bias"]
        joined = linear(normal, "attention.query_key_value").unflatten(-1, (n_heads, 3, d_head))
        q, k, v = joined.unbind(-2)
        q, k = (rotate(part, rotary["rope_theta"], n_rotated) for part in (q, k))
        z = found[at + "attn.hook_z"] = attention(q, k, v, d_head**-0.5, cap=None)
        attended = found[at + "hook_attn_out"] = linear(z, "attention.dense")
        middle = x
        if not config.use_parallel_residual:
            middle = found[at + "hook_resid_mid"] = x + attended
        found[at + "ln2.hook_normalized"] = normal = layer_norm(middle, config.layer_norm_eps)
        norm = p + "post_attention_layernorm"
        found[at + "mlp.hook_in"] = normal = normal * w[norm + ".weight"] + w[norm + ".bias"]
        before = found[at + "mlp.hook_pre"] = linear(normal, "mlp.dense_h_to_4h")
        after = found[at + "mlp.hook_post"] = gelu_exact(before)
        written = found[at + "hook_mlp_out"] = linear(after, "mlp.dense_4h_to_h")
        x = found[at + "hook_resid_post"] = x + attended + written
    return found


def _llama_like(
    w: dict[str, Tensor], config: Any, tokens: Tensor, *, is_gemma: bool
) -> dict[str, Tensor]:
    """Llama, Mistral, Qwen 2 and 3, Gemma 2 and 3."""
    d_head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    epsilon = config.rms_norm_eps
    layer_types = getattr(config, "layer_types", None)
    scale = (config.query_pre_attn_scalar if is_gemma else d_head) ** -0.5

    def norm(x: Tensor, name: str) -> Tensor:
        # Gemma stores how far the scale is from one.
        return rms_norm(x, epsilon) * (w[name + ".weight"] + (1 if is_gemma else 0))

    x = w["model.embed_tokens.weight"][tokens]
    if is_gemma:
        x = x * config.hidden_size**0.5
    found = {"hook_embed": x}
    for block in range(config.num_hidden_layers):
        at, p = f"blocks.{block}.", f"model.layers.{block}."
        kind = layer_types[block] if layer_types else "full_attention"

        def linear(x: Tensor, name: str, p: str = p) -> Tensor:
            bias = w.get(f"{p}{name}.bias")
            return x @ w[f"{p}{name}.weight"].T + (0 if bias is None else bias)

        found[at + "hook_resid_pre"] = x
        found[at + "ln1.hook_normalized"] = rms_norm(x, epsilon)
        normal = norm(x, p + "input_layernorm")
        q, k, v = (
            linear(normal, f"self_attn.{name}_proj").unflatten(-1, (-1, d_head)) for name in "qkv"
        )
        if p + "self_attn.q_norm.weight" in w:
            q, k = norm(q, p + "self_attn.q_norm"), norm(k, p + "self_attn.k_norm")
        rotary = config.rope_parameters
        base = rotary["rope_theta"] if "rope_theta" in rotary else rotary[kind]["rope_theta"]
        q, k = rotate(q, base, d_head), rotate(k, base, d_head)
        slides = kind == "sliding_attention" or (config.model_type == "mistral")
        z = found[at + "attn.hook_z"] = attention(
            q,
            k,
            v,
            scale,
            window=config.sliding_window if slides else None,
            cap=getattr(config, "attn_logit_softcapping", None),
        )
        written = linear(z, "self_attn.o_proj")
        if is_gemma:
            written = norm(written, p + "post_attention_layernorm")
        found[at + "hook_attn_out"] = written
        x = found[at + "hook_resid_mid"] = x + written
        second = p + ("pre_feedforward_layernorm" if is_gemma else "post_attention_layernorm")
        found[at + "ln2.hook_normalized"] = rms_norm(x, epsilon)
        normal = found[at + "mlp.hook_in"] = norm(x, second)
        gate = found[at + "mlp.hook_pre"] = linear(normal, "mlp.gate_proj")
        up = found[at + "mlp.hook_pre_linear"] = linear(normal, "mlp.up_proj")
        after = found[at + "mlp.hook_post"] = (gelu_tanh if is_gemma else silu)(gate) * up
        written = linear(after, "mlp.down_proj")
        if is_gemma:
            written = norm(written, p + "post_feedforward_layernorm")
        found[at + "hook_mlp_out"] = written
        x = found[at + "hook_resid_post"] = x + written
    return found
