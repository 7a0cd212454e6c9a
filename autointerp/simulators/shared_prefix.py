"""Keys and values that many rows of a batch share: the few-shot, and each row's explanation.

A row's context is three segments, of which only the last is computed for it:

    [ few-shot: n_prefix | explanation, padded: n_explanation | its own tokens, padded: n_own ]

Padding is masked out and takes no position, so a row gets what it would get alone (to rounding).
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
class Explanations:
    """Keys and values of several explanations, each computed once after the few-shot."""

    states: KeysValues
    """[n_explanations, n_heads, longest, d_head]."""

    lengths: Tensor
    """[n_explanations] int64."""


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
        self._takes_positions = "position_ids" in accepted

    def prefix(self, ids: list[int]) -> KeysValues:
        """Keys and values of the few-shot `ids`, [1, n_heads, n_prefix, d_head] per block."""
        cache: Any = DynamicCache()
        tokens = torch.tensor([ids], device=self._device)
        self._base(input_ids=tokens, past_key_values=cache, use_cache=True)
        return [_states(layer.keys, layer.values) for layer in cache.layers]

    def explanations(self, prefix: KeysValues, ids: list[list[int]]) -> Explanations:
        """Keys and values of several explanations after the few-shot, in one pass."""
        _, layers = self._forward([[block] for block in prefix], None, None, ids)
        lengths = torch.tensor([len(row) for row in ids], device=self._device)
        states = [_states(*layer.own) for layer in layers if layer.own is not None]
        return Explanations(states, lengths)

    def hidden(
        self, prefix: KeysValues, explanations: Explanations, rows: list[int], ids: list[list[int]]
    ) -> Tensor:
        """Last hidden states of every row's own tokens.

        Args:
            prefix: of `prefix`.
            explanations: of `explanations`.
            rows: [n_rows] which explanation each row stands under.
            ids: [n_rows] lists of token ids.

        Returns:
            [n_rows, longest, d_model]; what stands at padding is meaningless.
        """
        shared = [list(pair) for pair in zip(prefix, explanations.states, strict=True)]
        chosen = torch.tensor(rows, device=self._device)
        hidden, _ = self._forward(shared, explanations.lengths, chosen, ids)
        return hidden

    def _forward(
        self,
        shared: list[list[tuple[Tensor, Tensor]]],
        lengths: Tensor | None,
        rows: Tensor | None,
        ids: list[list[int]],
    ) -> tuple[Tensor, list[_SharedLayer]]:
        n_rows, longest = len(ids), max(len(row) for row in ids)
        tokens = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
        own = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids])
        tokens, own = tokens.to(self._device), own.to(self._device)

        n_prefix = shared[0][0][0].shape[-2]
        mask = [own.new_ones(n_rows, n_prefix)]
        start = own.new_full((n_rows, 1), n_prefix)
        if lengths is not None and rows is not None:
            mask.append((self._arange(shared[0][1][0].shape[-2]) < lengths[rows, None]).to(own))
            start += lengths[rows, None]

        layers = [_SharedLayer(segments, rows, n_rows) for segments in shared]
        cache: Any = DynamicCache()
        cache.layers = list(layers)
        positions = {"position_ids": start + self._arange(longest)}
        output = self._base(
            input_ids=tokens,
            attention_mask=torch.cat([*mask, own], 1),
            past_key_values=cache,
            use_cache=True,
            **(positions if self._takes_positions else {}),
        )
        return output.last_hidden_state, layers

    def _arange(self, n: int) -> Tensor:
        return torch.arange(n, device=self._device)[None, :]


def _states(keys: Tensor | None, values: Tensor | None) -> tuple[Tensor, Tensor]:
    assert keys is not None and values is not None, "the model ran without filling its cache"
    return keys, values
