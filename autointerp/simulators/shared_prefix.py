"""Keys and values that many rows of a batch share: the few-shot, and what several rows begin with.

A row's context is three segments, of which only the last is computed for it:

    [ few-shot: n_prefix | head, padded: n_head | its own tokens, padded: n_own ]

The head is an explanation that several sequences stand under, or a text that several explanations
are tried on. Padding is masked out and takes no position, so a row gets what it would get alone
(to rounding).

Own tokens may fork: branch 0 is the trunk, and a token of branch b > 0 sees the trunk and the
earlier tokens of branch b, at the positions they would have without the other branches.
"""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

KeysValues = list[tuple[Tensor, Tensor]]
"""Per block keys and values, [batch, n_heads, n_tokens, d_head] each."""


@dataclass(frozen=True)
class Heads:
    """Keys and values of what rows begin with, each computed once after the few-shot."""

    states: KeysValues
    """Per block [n_heads_of_rows, n_attention_heads, longest, d_head]."""

    lengths: Tensor
    """[n_heads_of_rows] int64."""


@dataclass(frozen=True)
class Own:
    """The own tokens of one row."""

    ids: list[int]
    branches: list[int] | None = None
    """Branch of every token, ascending from 0, the trunk; `None` where nothing forks."""

    def positions(self) -> list[int]:
        """Position of every token after the row's head."""
        if self.branches is None:
            return list(range(len(self.ids)))
        trunk = self.branches.count(0)
        starts = {branch: place for place, branch in reversed(list(enumerate(self.branches)))}
        return [
            place if branch == 0 else trunk + place - starts[branch]
            for place, branch in enumerate(self.branches)
        ]


class _SharedLayer(DynamicLayer):
    """One block's cache: joins the shared segments to a batch's own, and does not keep the whole.

    Keeping it, as `DynamicLayer` does, would hold every row's copy of the few-shot in every block.
    """

    def __init__(self, shared: list[tuple[Tensor, Tensor]], rows: Tensor | None, n_rows: int):
        super().__init__()
        self._shared = shared
        self._rows = rows
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
        keys = [self._spread(segment[0]) for segment in self._shared]
        values = [self._spread(segment[1]) for segment in self._shared]
        return torch.cat([*keys, key_states], -2), torch.cat([*values, value_states], -2)

    def _spread(self, states: Tensor) -> Tensor:
        """The few-shot has one row for all, explanations have one each."""
        if self._rows is None or states.shape[0] == 1:
            return states[:1].expand(self._n_rows, -1, -1, -1)
        return states[self._rows.to(states.device)]


class PrefixSharingModel:
    """A causal language model without its head, run on rows that share their beginnings."""

    def __init__(self, model: Any):
        """Take the base model of `model`, a `transformers` causal language model."""
        self._base: Any = model.base_model
        self._device = next(model.parameters()).device
        accepted = inspect.signature(self._base.forward).parameters
        # ALiBi models derive positions from the attention mask and take none.
        self.can_fork = "position_ids" in accepted

    def prefix(self, ids: list[int]) -> KeysValues:
        """Keys and values of the few-shot `ids`, [1, n_heads, n_prefix, d_head] per block."""
        cache: Any = DynamicCache()
        tokens = torch.tensor([ids], device=self._device)
        self._base(input_ids=tokens, past_key_values=cache, use_cache=True)
        return [_states(layer.keys, layer.values) for layer in cache.layers]

    def heads(self, prefix: KeysValues, ids: list[list[int]]) -> Heads:
        """Keys and values of several heads after the few-shot, in one pass."""
        _, layers = self._forward([[block] for block in prefix], None, None, [Own(i) for i in ids])
        lengths = torch.tensor([len(row) for row in ids], device=self._device)
        return Heads([_states(*layer.own) for layer in layers if layer.own is not None], lengths)

    def hidden(self, prefix: KeysValues, heads: Heads, rows: list[int], own: list[Own]) -> Tensor:
        """Last hidden states of every row's own tokens.

        Args:
            prefix: of `prefix`.
            heads: of `heads`.
            rows: [n_rows] which head each row stands under.
            own: [n_rows] what each row goes on with.

        Returns:
            [n_rows, longest, d_model]; what stands at padding is meaningless.
        """
        shared = [list(pair) for pair in zip(prefix, heads.states, strict=True)]
        chosen = torch.tensor(rows, device=self._device)
        return self._forward(shared, heads.lengths, chosen, own)[0]

    def _forward(
        self,
        shared: list[list[tuple[Tensor, Tensor]]],
        lengths: Tensor | None,
        rows: Tensor | None,
        own: list[Own],
    ) -> tuple[Tensor, list[_SharedLayer]]:
        n_rows, longest = len(own), max(len(row.ids) for row in own)
        real = self._padded([[1] * len(row.ids) for row in own], longest)
        n_prefix = shared[0][0][0].shape[-2]
        before = [real.new_ones(n_rows, n_prefix)]
        start = real.new_full((n_rows, 1), n_prefix)
        if lengths is not None and rows is not None:
            places = torch.arange(shared[0][1][0].shape[-2], device=self._device)
            before.append((places < lengths[rows, None]).to(real))
            start += lengths[rows, None]

        mask = torch.cat([*before, real], 1)
        if any(row.branches is not None for row in own):
            branches = self._padded([row.branches or [0] * len(row.ids) for row in own], longest)
            mask = _forked_mask(mask, branches, next(self._base.parameters()).dtype)
        positions = start + self._padded([row.positions() for row in own], longest)

        layers = [_SharedLayer(segments, rows, n_rows) for segments in shared]
        cache: Any = DynamicCache()
        cache.layers = list(layers)
        output = self._base(
            input_ids=self._padded([row.ids for row in own], longest),
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            **({"position_ids": positions} if self.can_fork else {}),
        )
        return output.last_hidden_state, layers

    def _padded(self, lists: list[list[int]], length: int) -> Tensor:
        """[n_rows, length] int64 on the model's device, zeros after the end."""
        rows = [row + [0] * (length - len(row)) for row in lists]
        return torch.tensor(rows, device=self._device)


def _forked_mask(mask: Tensor, branches: Tensor, dtype: torch.dtype) -> Tensor:
    """What every own token sees, as numbers to add to attention scores.

    Args:
        mask: [n_rows, n_all] 1 for tokens, 0 for padding; the own tokens stand last.
        branches: [n_rows, n_own].
        dtype: of the model.

    Returns:
        [n_rows, 1, n_own, n_all] 0 where seen; the dtype's minimum elsewhere.
    """
    n_own = branches.shape[1]
    seen = mask[:, None, :].bool().repeat(1, n_own, 1)
    causal = torch.ones(n_own, n_own, dtype=torch.bool, device=mask.device).tril()
    same = (branches[:, None, :] == 0) | (branches[:, None, :] == branches[:, :, None])
    seen[:, :, -n_own:] &= causal & same
    scores = torch.zeros(seen.shape, dtype=dtype, device=mask.device)
    return scores.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]


def _states(keys: Tensor | None, values: Tensor | None) -> tuple[Tensor, Tensor]:
    assert keys is not None and values is not None, "the model ran without filling its cache"
    return keys, values
