"""Attention in parts, for rows that share their beginnings.

softmax over all keys = the softmaxes over disjoint parts of them, weighed by each part's sum of
exponentials. So the keys that many rows share are attended by all of them in one product and are
copied for none (Juravsky et al. 2024, "Hydragen", section 3.2), as in flash decoding:

    out = (out_a e^{l_a} + out_b e^{l_b}) / (e^{l_a} + e^{l_b}),   l = log sum exp of the scores

The function here stands in for a model's attention through transformers' interface for such
functions: it is given queries, keys and values as the model made them, rotated or not, so one
function serves every model that uses the interface. It knows grouped queries, capped scores,
sliding windows and sinks, and refuses what it does not know by `UnsupportedAttention`.
"""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from autointerp.simulators.linear import is_faster, product, use_fast_linears

NAME = "autointerp_shared"
"""What the attention function is called in `transformers`."""

SCORES_AT_ONCE = 2**23
"""Attention scores held at a time where no fused kernel does the work."""

_QUERIES_AT_ONCE = 512
"""Queries of one key head multiplied at a time on a CPU: their scores stay in its cache."""

_HARMLESS = {
    "position_ids",
    "position_embeddings",
    "cache_position",
    "use_cache",
    "output_attentions",
    "output_hidden_states",
    "deterministic",
}
"""What models hand to attention functions that changes nothing here."""


class UnsupportedAttention(Exception):
    """The model's attention has a feature that attention in parts does not know."""


@dataclass(frozen=True)
class Segment:
    """Keys and values that some rows of a pass see whole, the window permitting."""

    layers: list[tuple[Tensor, Tensor]]
    """Per block keys and values, [1, n_kv_heads, n_keys, d_head] each."""

    start: int
    """Position of its first key."""

    rows: slice
    """The rows that see it."""

    positions: tuple[int, int]
    """The first and the last position of those rows' own tokens."""


@dataclass
class Pass:
    """What one forward pass needs to know beyond its tokens."""

    segments: list[Segment]

    positions: Tensor
    """[n_rows, n_own] positions of the own tokens."""

    seen: Tensor | None = None
    """[n_rows, n_own, n_own] bool, which own tokens an own token sees; `None` for all before it."""

    capture: bool = False
    """Whether keys and values of the own tokens are wanted."""

    captured: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Block → keys and values of the own tokens, [n_rows, n_kv_heads, n_own, d_head] each."""

    masks: dict[Any, Tensor] = field(default_factory=dict)
    """Masks already made, for blocks of one kind share them."""


class _Current:
    """Where the attention modules of one model find the pass under way."""

    value: Pass | None = None


def twin_with_parts(model: Any) -> tuple[Any, _Current]:
    """A model with the same weights whose attention is done in parts; `model` is left alone.

    Returns:
        The twin, and where to put the `Pass` before it is run.

    Raises:
        UnsupportedAttention: where the model does not use transformers' attention interface, or
            mixes kinds of layers that are not full or sliding attention.
    """
    ALL_ATTENTION_FUNCTIONS.register(NAME, _attention)
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ()) - {
        "full_attention",
        "sliding_attention",
    }
    if kinds:
        raise UnsupportedAttention(f"it has layers of kind {', '.join(sorted(kinds))}")
    if not model._can_set_attn_implementation():
        raise UnsupportedAttention("it computes its attention in a way of its own")
    shared = [*model.parameters(), *model.buffers()]
    twin = copy.deepcopy(model, {id(tensor): tensor for tensor in shared})
    twin.set_attn_implementation(NAME)
    use_fast_linears(twin)
    current = _Current()
    for module in twin.modules():
        if hasattr(module, "layer_idx"):
            module.pass_under_way = current
    return twin, current


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    is_causal: bool | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention of the own tokens to the segments and to themselves.

    Args:
        module: the attention module that asks.
        query: [n_rows, n_heads, n_own, d_head].
        key: [n_rows, n_kv_heads, n_own, d_head], of the own tokens.
        value: as `key`.
        attention_mask: always `None`: the pass says what is seen.
        scaling: factor of the scores; d_head ** -0.5 if left out.
        dropout: 0, as nothing is trained.
        sliding_window: a token sees this many last tokens, itself included.
        softcap: scores s become softcap * tanh(s / softcap).
        s_aux: [n_heads] scores of the sinks, which take weight and give nothing.
        is_causal: not `False`.
        others: what else the model hands over.

    Returns:
        [n_rows, n_own, n_heads, d_head] and `None` for the weights.
    """
    current = getattr(module, "pass_under_way", None)
    state = current.value if current is not None else None
    if state is None:
        raise UnsupportedAttention("its attention modules are not numbered")
    causal = is_causal is not False and getattr(module, "is_causal", True) is not False
    strange = [name for name, x in others.items() if x is not None and name not in _HARMLESS]
    if attention_mask is not None or dropout or not causal or strange:
        named = ", ".join(strange) or "a mask of its own"
        raise UnsupportedAttention(f"its attention uses {named}")
    if sliding_window is None and getattr(module, "layer_type", None) == "sliding_attention":
        raise UnsupportedAttention("it does not say how wide its sliding window is")
    if state.capture:
        state.captured[module.layer_idx] = (key, value)

    scores = Scores(query.shape[-1] ** -0.5 if scaling is None else scaling, softcap)
    out, total = _own_part(query, key, value, state, sliding_window, scores)
    for number, segment in enumerate(state.segments):
        part = _segment_part(
            query, module.layer_idx, segment, number, state, scores, sliding_window
        )
        if part is not None:
            merge(out[segment.rows], total[segment.rows], *part)
    if s_aux is not None:
        kept = torch.sigmoid(total - s_aux.float().reshape(1, -1, 1))
        out = out * kept[..., None].to(out.dtype)
    return out.transpose(1, 2).contiguous(), None


@dataclass(frozen=True)
class Scores:
    """How scores are made of queries and keys."""

    scale: float
    softcap: float | None = None


def merge(out: Tensor, total: Tensor, part: Tensor, part_total: Tensor) -> None:
    """Join the attention to more keys to that so far, in place.

    Args:
        out: [..., n_queries, d_head] softmax-weighed values so far.
        total: [..., n_queries] log of the sum of exponentials so far, finite.
        part: as `out`, of the other keys; 0 where none of them is seen.
        part_total: as `total`; -inf where none is seen.
    """
    share = torch.sigmoid(part_total - total)
    out.lerp_(part, share[..., None].to(out.dtype))
    torch.logaddexp(total, part_total, out=total)


def part(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scores: Scores,
    *,
    causal: bool = False,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention to some of the keys, and the log of the sum of exponentials of the scores.

    Args:
        query: [batch, n_heads, n_queries, d_head].
        key: [batch, n_kv_heads, n_keys, d_head], each seen by n_heads / n_kv_heads in a row.
        value: [batch, n_kv_heads, n_keys, d_value].
        scores: how scores are made.
        causal: query i sees keys up to i, and there are as many of both.
        bias: [batch or 1, 1, n_queries, n_keys] added to the scores, -inf where a key is not
            seen; every query sees some.

    Returns:
        out [batch, n_heads, n_queries, d_value] and total [batch, n_heads, n_queries] float32.
    """
    if is_faster(key):
        return by_heads(query, key, value, scores, causal, bias)
    grouped = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(grouped, 1), value.repeat_interleave(grouped, 1)
    fused = _fused(query, key, value, scores, causal, bias)
    return in_chunks(query, key, value, scores, causal, bias) if fused is None else fused


def by_heads(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scores: Scores,
    causal: bool = False,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """As `part` on a CPU, a key head and some queries at a time.

    The largest probability of a softmax is e^(max - l), which gives l without another pass.
    """
    batch, n_heads, n_queries, width = query.shape
    n_kv, n_keys = key.shape[1], key.shape[2]
    grouped = n_heads // n_kv
    # The queries of one place stand together, so that a few of them see few keys.
    rows = (query * scores.scale).reshape(batch, n_kv, grouped, n_queries, width)
    rows = rows.transpose(2, 3).reshape(batch, n_kv, n_queries * grouped, width)
    out = query.new_empty(batch, n_kv, n_queries * grouped, value.shape[-1])
    total = query.new_empty(batch, n_kv, n_queries * grouped)
    keys = key.contiguous()
    places = max(1, min(_QUERIES_AT_ONCE, SCORES_AT_ONCE // n_keys) // grouped)
    for first in range(0, n_queries, places):
        last = min(first + places, n_queries)
        seen = last if causal else n_keys
        shown = _shown(first, last, seen, causal, bias, query)
        chunk = slice(first * grouped, last * grouped)
        # oneDNN is slow on matrices with gaps.
        values = value[:, :, :seen].transpose(-1, -2).contiguous()
        for row in range(batch):
            for head in range(n_kv):
                raw = product(rows[row, head, chunk], keys[row, head, :seen], None)
                if scores.softcap is not None:
                    raw.div_(scores.softcap).tanh_().mul_(scores.softcap)
                if shown is not None:
                    per_place = raw.view(last - first, grouped, seen)
                    per_place.add_(shown[row % len(shown), :, None])
                weights = raw.softmax(-1)
                total[row, head, chunk] = raw.amax(-1) - weights.amax(-1).log_()
                out[row, head, chunk] = product(weights, values[row, head], None)
    out = out.view(batch, n_kv, n_queries, grouped, -1).transpose(2, 3)
    total = total.view(batch, n_kv, n_queries, grouped).transpose(2, 3)
    return (
        out.reshape(batch, n_heads, n_queries, -1),
        total.reshape(batch, n_heads, n_queries),
    )


def _shown(
    first: int, last: int, n_keys: int, causal: bool, bias: Tensor | None, like: Tensor
) -> Tensor | None:
    """[batch or 1, last - first, n_keys] to add to the scores of the queries from `first` on."""
    if bias is not None:
        return bias[:, 0, first:last, :n_keys]
    if not causal:
        return None
    hidden = torch.full((last - first, n_keys), -torch.inf, dtype=like.dtype, device=like.device)
    return hidden.triu_(first + 1)[None]


def _fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scores: Scores,
    causal: bool,
    bias: Tensor | None,
) -> tuple[Tensor, Tensor] | None:
    """PyTorch's kernels that give the log-sum-exp as well; `None` where they cannot be used."""
    width = query.shape[-1]
    if scores.softcap is not None or width != value.shape[-1]:
        return None
    kernels: Any = torch.ops.aten
    if query.device.type == "cpu":
        out, total = kernels._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, causal, attn_mask=bias, scale=scores.scale
        )
        return out, total.float()
    fits = query.dtype in (torch.float16, torch.bfloat16) and width % 8 == 0 and width <= 256
    if query.device.type == "cuda" and fits and bias is None:
        out, total = kernels._scaled_dot_product_flash_attention(
            query, key, value, 0.0, causal, scale=scores.scale
        )[:2]
        return out, total[..., : query.shape[-2]].float()
    return None


def in_chunks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scores: Scores,
    causal: bool = False,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """As `part` by matrix products, a bounded number of scores at a time.

    Here a query may see no key: then `out` is 0 and `total` is -inf.
    """
    batch, n_heads, n_queries, _ = query.shape
    n_keys = key.shape[-2]
    out = value.new_empty(batch, n_heads, n_queries, value.shape[-1])
    total = query.new_empty(batch, n_heads, n_queries, dtype=torch.float32)
    step = max(1, SCORES_AT_ONCE // (batch * n_heads * n_keys))
    for first in range(0, n_queries, step):
        chunk = slice(first, min(first + step, n_queries))
        raw = (query[:, :, chunk] @ key.transpose(-1, -2)).float() * scores.scale
        if scores.softcap is not None:
            raw.div_(scores.softcap).tanh_().mul_(scores.softcap)
        if bias is not None:
            raw.add_(bias[:, :, chunk])
        elif causal:
            places = torch.arange(n_keys, device=raw.device)
            later = places > places[chunk, None]
            raw.masked_fill_(later, -torch.inf)
        sums = raw.logsumexp(-1)
        total[:, :, chunk] = sums
        weights = raw.sub_(sums.clamp(min=torch.finfo(torch.float32).min)[..., None]).exp_()
        out[:, :, chunk] = weights.to(value.dtype) @ value
    return out, total


def _own_part(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    state: Pass,
    window: int | None,
    scores: Scores,
) -> tuple[Tensor, Tensor]:
    """Attention of the own tokens to the own tokens of their row."""
    bias = _own_bias(state, window, query)
    return part(query, key, value, scores, causal=bias is None, bias=bias)


def _own_bias(state: Pass, window: int | None, query: Tensor) -> Tensor | None:
    """[n_rows or 1, 1, n_own, n_own]; `None` where a token sees all before it."""
    n_own = state.positions.shape[1]
    if state.seen is None and (window is None or n_own <= window):
        return None
    if ("own", window) not in state.masks:
        seen = state.seen
        if seen is None:
            seen = torch.ones(1, n_own, n_own, dtype=torch.bool, device=query.device).tril()
        if window is not None:
            distance = state.positions[:, :, None] - state.positions[:, None, :]
            seen = seen & (distance < window)
        state.masks["own", window] = _bias(seen[:, None], query.dtype)
    return state.masks["own", window]


def _segment_part(
    query: Tensor,
    layer: int,
    segment: Segment,
    number: int,
    state: Pass,
    scores: Scores,
    window: int | None,
) -> tuple[Tensor, Tensor] | None:
    """Attention of a segment's rows to it, all in one product; `None` if it is out of sight."""
    key, value = segment.layers[layer]
    lowest, highest = segment.positions
    first, bias = 0, None
    if window is not None and segment.start <= highest - window:
        first = max(0, lowest - window + 1 - segment.start)
        if first >= key.shape[-2]:
            return None
        key, value = key[:, :, first:], value[:, :, first:]
        bias = _window_bias(segment, number, first, key.shape[-2], state, window)
    own = query[segment.rows]
    n_rows, n_heads, n_own, width = own.shape
    n_kv = key.shape[1]
    n_grouped = n_heads // n_kv
    # Rows and the queries that share a key head are all queries of one product.
    folded = own.reshape(n_rows, n_kv, n_grouped, n_own, width).transpose(0, 1)
    folded = folded.reshape(1, n_kv, n_rows * n_grouped * n_own, width)
    if bias is None:
        out, total = part(folded, key, value, scores)
    else:
        bias = bias[:, None].expand(-1, n_grouped, -1, -1).reshape(1, 1, folded.shape[2], -1)
        out, total = in_chunks(folded, key, value, scores, bias=bias)
    out = out.reshape(n_kv, n_rows, n_grouped, n_own, -1).transpose(0, 1)
    total = total.reshape(n_kv, n_rows, n_grouped, n_own).transpose(0, 1)
    return (
        out.reshape(n_rows, n_heads, n_own, -1),
        total.reshape(n_rows, n_heads, n_own),
    )


def _window_bias(
    segment: Segment, number: int, first: int, n_keys: int, state: Pass, window: int
) -> Tensor:
    """[rows of the segment, n_own, n_keys] 0 where a key, from `first` on, is in the window."""
    if (number, window) not in state.masks:
        positions = state.positions[segment.rows]
        keys = torch.arange(n_keys, device=positions.device) + segment.start + first
        state.masks[number, window] = _bias(positions[..., None] - keys < window, torch.float32)
    return state.masks[number, window]


def _bias(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where `seen`, -inf elsewhere."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, -torch.inf)
