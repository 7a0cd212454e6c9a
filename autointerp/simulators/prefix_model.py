"""A causal language model run on rows that share their beginnings.

A row's context is three segments, of which only the last is computed for it:

    [ few-shot: n_prefix | head: n_head | its own tokens, padded: n_own ]

The head is an explanation that several sequences stand under, or a text that several explanations
are tried on. Padding stands after a row's own tokens and is seen by none of them, so a row gets
what it would get alone (to rounding).

Own tokens may fork: a token sees its ancestors only, at the positions they would have without the
other branches.

`SharedPrefixModel` attends to the shared keys in one product for all rows (`attention`).
`CopiedPrefixModel` serves the models that this cannot: each row gets a copy of the shared keys.
`sharing_model` takes the first where it gives what the plain model gives.
"""

import inspect
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from autointerp.records import AutointerpError
from autointerp.simulators.attention import (
    Pass,
    Segment,
    UnsupportedAttention,
    twin_with_parts,
)

KeysValues = list[tuple[Tensor, Tensor]]
"""Per block keys and values, [1, n_kv_heads, n_tokens, d_head] each."""

_FINAL_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm")
"""How models call the norm between their last block and their head."""


@dataclass(frozen=True)
class Own:
    """The own tokens of one row."""

    ids: list[int]
    parents: list[int] | None = None
    """Index of the own token before every token, -1 for none; `None` where nothing forks."""

    def positions(self) -> list[int]:
        """Position of every token after the row's head."""
        if self.parents is None:
            return list(range(len(self.ids)))
        positions: list[int] = []
        for parent in self.parents:
            positions.append(positions[parent] + 1 if parent >= 0 else 0)
        return positions

    def seen(self) -> np.ndarray:
        """[n_own, n_own] bool: row i says what token i sees, itself included."""
        n = len(self.ids)
        if self.parents is None:
            return np.tri(n, dtype=bool)
        seen = np.eye(n, dtype=bool)
        for place, parent in enumerate(self.parents):
            if parent >= 0:
                seen[place] |= seen[parent]
        return seen

    def path(self, place: int) -> list[int]:
        """Ids of a token and of what it sees, in order."""
        if self.parents is None:
            return self.ids[: place + 1]
        ids: list[int] = []
        while place >= 0:
            ids.append(self.ids[place])
            place = self.parents[place]
        return ids[::-1]


@dataclass(frozen=True)
class Row:
    """One row of a batch."""

    head: int | None
    """Which head it stands under; `None` where it follows the few-shot."""

    own: Own
    reads: list[int]
    """Indices into the own tokens whose hidden states are wanted."""


class PrefixModel(Protocol):
    """Runs rows after a shared few-shot."""

    way: str
    """`shared` or `copied`."""

    def prefix(self, ids: list[int]) -> KeysValues:
        """Keys and values of the few-shot."""
        ...

    def heads(self, prefix: KeysValues, ids: Sequence[list[int]]) -> list[KeysValues]:
        """Keys and values of several heads after the few-shot, in one pass."""
        ...

    def hidden(
        self, prefix: KeysValues, heads: Sequence[KeysValues], rows: Sequence[Row]
    ) -> Tensor:
        """Hidden states after the final norm at the places that the rows want read.

        Returns:
            [sum of the rows' reads, d_model], row by row.
        """
        ...


class SharedPrefixModel:
    """A model whose rows attend to what they share without having a copy of it."""

    way = "shared"

    def __init__(self, model: Any):
        """Take the base model of `model`, a `transformers` causal language model.

        Raises:
            UnsupportedAttention: where its attention cannot be done in parts.
        """
        if "position_ids" not in inspect.signature(model.base_model.forward).parameters:
            raise UnsupportedAttention("it takes no positions")
        if len(set((getattr(model, "hf_device_map", None) or {}).values())) > 1:
            raise UnsupportedAttention("it is spread over several devices")
        self._base, self._current = twin_with_parts(model.base_model)
        self._device = next(model.parameters()).device
        self._norm = _take_final_norm(self._base)
        self._lock = threading.Lock()

    def prefix(self, ids: list[int]) -> KeysValues:
        """Keys and values of the few-shot; see `PrefixModel`."""
        return _block_order(self._run([], [Own(ids)], [0], capture=True)[1].captured)

    def heads(self, prefix: KeysValues, ids: Sequence[list[int]]) -> list[KeysValues]:
        """Keys and values of several heads; see `PrefixModel`."""
        own = [Own(row) for row in ids]
        n_prefix = _length(prefix)
        segment = _prefix_segment(prefix, own, [n_prefix] * len(own))
        _, state = self._run([segment], own, [n_prefix] * len(own), capture=True)
        layers = _block_order(state.captured)
        # Copies, so that what is kept does not hold the padding and the whole batch.
        return [
            [(k[i : i + 1, :, :n].clone(), v[i : i + 1, :, :n].clone()) for k, v in layers]
            for i, n in enumerate(map(len, ids))
        ]

    def hidden(
        self, prefix: KeysValues, heads: Sequence[KeysValues], rows: Sequence[Row]
    ) -> Tensor:
        """Hidden states where the rows want them; see `PrefixModel`."""
        order = sorted(range(len(rows)), key=lambda i: -1 if (h := rows[i].head) is None else h)
        ordered = [rows[i] for i in order]
        n_prefix = _length(prefix)
        starts = [n_prefix + (0 if r.head is None else _length(heads[r.head])) for r in ordered]
        own = [row.own for row in ordered]
        segments = [_prefix_segment(prefix, own, starts)]
        segments += _head_segments(heads, ordered, n_prefix)
        last, _ = self._run(segments, own, starts)

        back = np.argsort(order)
        picked_rows = [int(back[i]) for i, row in enumerate(rows) for _ in row.reads]
        picked = [read for row in rows for read in row.reads]
        at = last[
            torch.tensor(picked_rows, device=last.device),
            torch.tensor(picked, device=last.device),
        ]
        return self._norm(at)

    def _run(
        self, segments: list[Segment], own: list[Own], starts: list[int], capture: bool = False
    ) -> tuple[Tensor, Pass]:
        """Hidden states before the final norm [n_rows, longest, d_model], and the pass."""
        longest = max(len(row.ids) for row in own)
        positions = [
            [start + place for place in row.positions()]
            for row, start in zip(own, starts, strict=True)
        ]
        state = Pass(
            segments=segments,
            positions=_padded(positions, longest, self._device),
            seen=_seen(own, longest, self._device),
            capture=capture,
        )
        with self._lock:
            self._current.value = state
            try:
                output = self._base(
                    input_ids=_padded([row.ids for row in own], longest, self._device),
                    position_ids=state.positions,
                    use_cache=False,
                )
            finally:
                self._current.value = None
        return output.last_hidden_state, state


def _prefix_segment(prefix: KeysValues, own: list[Own], starts: list[int]) -> Segment:
    return Segment(prefix, 0, slice(0, len(own)), _span(own, starts))


def _head_segments(heads: Sequence[KeysValues], rows: list[Row], n_prefix: int) -> list[Segment]:
    """One segment per head that the rows, which are sorted by head, stand under."""
    segments: list[Segment] = []
    first = 0
    while first < len(rows):
        head, last = rows[first].head, first
        while last < len(rows) and rows[last].head == head:
            last += 1
        if head is not None:
            start = n_prefix + _length(heads[head])
            own = [row.own for row in rows[first:last]]
            span = _span(own, [start] * len(own))
            segments.append(Segment(heads[head], n_prefix, slice(first, last), span))
        first = last
    return segments


def _span(own: list[Own], starts: list[int]) -> tuple[int, int]:
    """The first and the last position of several rows' own tokens."""
    ends = [s + max(row.positions()) for row, s in zip(own, starts, strict=True)]
    return min(starts), max(ends)


def _seen(own: list[Own], longest: int, device: torch.device) -> Tensor | None:
    """[n_rows, longest, longest] what own tokens see; `None` where that is all before them."""
    if all(row.parents is None for row in own):
        return None
    seen = np.zeros((len(own), longest, longest), dtype=bool)
    seen[:] = np.eye(longest, dtype=bool)
    for place, row in enumerate(own):
        n = len(row.ids)
        seen[place, :n, :n] = row.seen()
    return torch.from_numpy(seen).to(device)


def _take_final_norm(base: Any) -> Any:
    """Take the norm after the last block out of `base`, to be applied where it is wanted.

    Only the places that are read need it. Where none is found it stays, and what is returned
    changes nothing.
    """
    for owner in (base, getattr(base, "decoder", None), getattr(base, "language_model", None)):
        for name in _FINAL_NORMS:
            norm = getattr(owner, name, None)
            if isinstance(norm, torch.nn.Module):
                setattr(owner, name, torch.nn.Identity())
                return norm
    return torch.nn.Identity()


class _CopiedLayer(DynamicLayer):
    """One block's cache: joins a copy of the shared keys to a batch's own, and keeps neither.

    Keeping it, as `DynamicLayer` does, would hold every row's copy of the few-shot in every block.
    """

    def __init__(self, shared: list[tuple[Tensor, Tensor]], n_rows: int):
        super().__init__()
        self._shared = shared
        self._n_rows = n_rows
        self.own: tuple[Tensor, Tensor] | None = None
        keys, _ = shared[0]
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True

    def get_seq_length(self) -> int:
        return sum(keys.shape[-2] for keys, _ in self._shared)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        self.own = (key_states, value_states)
        keys = [pair[0].expand(self._n_rows, -1, -1, -1) for pair in self._shared]
        values = [pair[1].expand(self._n_rows, -1, -1, -1) for pair in self._shared]
        return torch.cat([*keys, key_states], -2), torch.cat([*values, value_states], -2)


class CopiedPrefixModel:
    """A model with attention of its own, given a copy of the shared keys for every row.

    Nothing but padding at the end is asked of the model's masks, so rows of one head share a
    batch, and a row that forks becomes one row for every place that is read.
    """

    way = "copied"

    def __init__(self, model: Any):
        """Take the base model of `model`, a `transformers` causal language model."""
        self._base = model.base_model
        self._device = next(model.parameters()).device
        self._takes_positions = "position_ids" in inspect.signature(self._base.forward).parameters

    def prefix(self, ids: list[int]) -> KeysValues:
        """Keys and values of the few-shot; see `PrefixModel`.

        Raises:
            AutointerpError: where the model ran without giving keys and values of every block.
        """
        cache: Any = DynamicCache()
        tokens = torch.tensor([ids], device=self._device)
        self._base(input_ids=tokens, past_key_values=cache, use_cache=True)
        layers = [(layer.keys, layer.values) for layer in cache.layers]
        n_blocks = self._base.config.get_text_config().num_hidden_layers
        if len(layers) != n_blocks or any(
            k is None or v is None or k.shape[-2] != len(ids) for k, v in layers
        ):
            raise no_cache(self._base)
        return layers

    def heads(self, prefix: KeysValues, ids: Sequence[list[int]]) -> list[KeysValues]:
        """Keys and values of several heads; see `PrefixModel`."""
        _, layers = self._run([prefix], [list(row) for row in ids])
        return [
            [(k[i : i + 1, :, :n].clone(), v[i : i + 1, :, :n].clone()) for k, v in layers]
            for i, n in enumerate(map(len, ids))
        ]

    def hidden(
        self, prefix: KeysValues, heads: Sequence[KeysValues], rows: Sequence[Row]
    ) -> Tensor:
        """Hidden states where the rows want them; see `PrefixModel`."""
        results: list[Tensor | None] = [None] * len(rows)
        for head in dict.fromkeys(row.head for row in rows):
            shared = [prefix] if head is None else [prefix, heads[head]]
            chosen = [i for i, row in enumerate(rows) if row.head == head]
            straight = [i for i in chosen if rows[i].own.parents is None]
            if straight:
                last, _ = self._run(shared, [rows[i].own.ids for i in straight])
                for place, i in enumerate(straight):
                    results[i] = last[place, rows[i].reads]
            for i in set(chosen) - set(straight):
                own, reads = rows[i].own, rows[i].reads
                paths = [own.path(read) for read in reads]
                last, _ = self._run(shared, paths)
                ends = torch.tensor([len(path) - 1 for path in paths], device=last.device)
                results[i] = last[torch.arange(len(paths), device=last.device), ends]
        return torch.cat([result for result in results if result is not None])

    def _run(self, shared: list[KeysValues], ids: list[list[int]]) -> tuple[Tensor, KeysValues]:
        """Last hidden states [n_rows, longest, d_model], and the own keys and values."""
        longest = max(map(len, ids))
        before = sum(_length(states) for states in shared)
        real = _padded([[1] * len(row) for row in ids], longest, self._device)
        mask = torch.cat([real.new_ones(len(ids), before), real], 1)
        places = torch.arange(before, before + longest, device=self._device)
        layers = [_CopiedLayer(list(pairs), len(ids)) for pairs in zip(*shared, strict=True)]
        cache: Any = DynamicCache()
        cache.layers = list(layers)
        output = self._base(
            input_ids=_padded(ids, longest, self._device),
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            **({"position_ids": places.expand(len(ids), -1)} if self._takes_positions else {}),
        )
        return output.last_hidden_state, [layer.own for layer in layers if layer.own is not None]


def no_cache(base: Any) -> AutointerpError:
    """The refusal of a model that keeps no keys and values."""
    return AutointerpError(
        f"{type(base).__name__} keeps no keys and values of what it has read, so no prompt can be "
        "shared: as simulator use a Llama, Qwen, Gemma, Mistral, GPT-2 or Pythia model"
    )


def check_has_cache(model: Any) -> None:
    """Refuse a model without a key-value cache, before anything runs.

    Raises:
        AutointerpError: naming it and what to use instead.
    """
    base = model.base_model
    kinds = set(getattr(base.config.get_text_config(), "layer_types", None) or ())
    recurrent = any("attention" not in kind or "linear" in kind for kind in kinds)
    accepted = inspect.signature(base.forward).parameters
    if "past_key_values" not in accepted or recurrent:
        raise no_cache(base)


def sharing_model(model: Any, ids: list[int]) -> tuple[PrefixModel, KeysValues, str | None]:
    """The fastest way to run `model` on shared beginnings that gives what the model gives.

    Attention in parts is compared with the model's own on the few-shot itself, read once more.

    Args:
        model: a `transformers` causal language model.
        ids: the few-shot.

    Returns:
        The way, the few-shot's keys and values, and why it is not the fast one, if it is not.
    """
    try:
        shared = SharedPrefixModel(model)
        prefix = shared.prefix(ids)
        difference = _difference(model, shared, prefix, ids)
    except UnsupportedAttention as error:
        reason = str(error)
    else:
        exact = next(model.parameters()).dtype == torch.float32
        if difference <= (1e-3 if exact else 0.1):
            return shared, prefix, None
        reason = f"attention in parts would differ from its own by {difference:.2g}"
    copied = CopiedPrefixModel(model)
    return copied, copied.prefix(ids), reason


def _difference(model: Any, shared: PrefixModel, prefix: KeysValues, ids: list[int]) -> float:
    """Relative distance of hidden states by `shared` from the plain model's, on the few-shot.

    Its last tokens are read as a head, a trunk and a branch beside another branch.
    """
    if len(ids) < 9:
        return 0.0
    before = [(keys[:, :, :-8], values[:, :, :-8]) for keys, values in prefix]
    heads = shared.heads(before, [ids[-8:-5]])
    trunk, beside, branch = ids[-5:-3], ids[:2], ids[-3:]
    own = Own([*trunk, *beside, *branch], [-1, 0, 1, 2, 1, 4, 5])
    ours = shared.hidden(before, heads, [Row(0, own, [1, 4, 6])]).float()
    tokens = torch.tensor([ids], device=next(model.parameters()).device)
    plain = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state[0]
    theirs = plain[[-4, -3, -1]].float().to(ours.device)
    return float((ours - theirs).norm() / theirs.norm())


def _length(states: KeysValues) -> int:
    return states[0][0].shape[-2]


def _block_order(captured: dict[int, tuple[Tensor, Tensor]]) -> KeysValues:
    if sorted(captured) != list(range(len(captured))):
        raise UnsupportedAttention("not all of its blocks have attention of their own")
    return [captured[block] for block in sorted(captured)]


def _padded(lists: Sequence[list[int]], length: int, device: torch.device) -> Tensor:
    """[n_rows, length] int64, zeros after the end."""
    return torch.tensor([row + [0] * (length - len(row)) for row in lists], device=device)
