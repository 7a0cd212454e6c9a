"""Log-probabilities of a prompt's own tokens, on this machine."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from autointerp.llm.base import TokenLogprobs
from autointerp.llm.local_decoding import shared_start
from autointerp.subject import Subject

_POSITIONS_AT_ONCE = 512
"""Positions whose logits over the whole vocabulary are held at a time, all rows together."""


class PromptReader:
    """log p(token_i | token_0 … token_{i-1}) for every token but the first."""

    def __init__(self, subject: Subject) -> None:
        self._model = subject.model
        self._tokenizer = subject.tokenizer
        self._device = subject.device
        accepted = inspect.signature(subject.model.forward).parameters
        self._takes_positions = "position_ids" in accepted

    @torch.inference_mode()
    def read(self, rows: Sequence[list[int]], tops: Sequence[int]) -> list[list[TokenLogprobs]]:
        """Read several prompts; what all of them begin with is read once.

        Args:
            rows: token ids of every prompt, at least one each.
            tops: per prompt the number of alternatives wanted at every token.

        Returns:
            Per prompt [n_tokens - 1].
        """
        cache: Any = DynamicCache()
        n_shared = shared_start(rows)
        found: list[list[TokenLogprobs]] = [[] for _ in rows]
        top = max(tops, default=0)
        if n_shared:
            first = [rows[0][:n_shared]]
            common: list[list[TokenLogprobs]] = [[]]
            last = self._read(first, cache, 0, top, common)
            cache.batch_repeat_interleave(len(rows))
            for row, own in zip(rows, found, strict=True):
                own += common[0] + self._scored(last, row[n_shared : n_shared + 1], top)
        self._read([row[n_shared:] for row in rows], cache, n_shared, top, found)
        return [
            [TokenLogprobs(t.token, t.logprob, t.top[:n]) for t in own]
            for own, n in zip(found, tops, strict=True)
        ]

    def _read(
        self,
        rows: Sequence[list[int]],
        cache: Any,
        n_before: int,
        top: int,
        found: list[list[TokenLogprobs]],
    ) -> Tensor:
        """Add to `found` what the rows, all after `n_before` cached tokens, predict of themselves.

        Returns:
            [1, vocab] the logits after the last token of the first row.
        """
        longest, step = max(map(len, rows)), max(1, _POSITIONS_AT_ONCE // len(rows))
        padded = torch.tensor([ids + [0] * (longest - len(ids)) for ids in rows])
        real = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in rows])
        padded, real = padded.to(self._device), real.to(self._device)
        mask = torch.cat([real.new_ones(len(rows), n_before), real], 1)
        last = torch.empty(0)
        for start in range(0, longest, step):
            stop = min(longest, start + step)
            positions = torch.arange(n_before + start, n_before + stop, device=self._device)
            logits = self._model(
                input_ids=padded[:, start:stop],
                attention_mask=mask[:, : n_before + stop],
                past_key_values=cache,
                use_cache=True,
                **(
                    {"position_ids": positions.expand(len(rows), -1)}
                    if self._takes_positions
                    else {}
                ),
            ).logits
            for row, ids, own in zip(logits, rows, found, strict=True):
                own += self._scored(row, ids[start + 1 : stop + 1], top)
            if start < len(rows[0]) <= stop:
                last = logits[0, len(rows[0]) - 1 - start, None]
        return last

    def _scored(self, logits: Tensor, ids: list[int], top: int) -> list[TokenLogprobs]:
        """What `logits` [n or more, vocab] say of the tokens `ids` [n] that came next."""
        logprobs = logits[: len(ids)].float().log_softmax(-1)
        chosen = logprobs.gather(1, torch.tensor(ids, device=logits.device).view(-1, 1))
        values, tops = (part.tolist() for part in logprobs.topk(min(top, logprobs.shape[1])))
        return [
            TokenLogprobs(self._text(i), p, tuple(zip(map(self._text, alike), ps, strict=True)))
            for i, p, alike, ps in zip(ids, chosen[:, 0].tolist(), tops, values, strict=True)
        ]

    def _text(self, token: int) -> str:
        return str(self._tokenizer.decode([token]))
