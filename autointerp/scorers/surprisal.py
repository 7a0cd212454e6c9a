"""Score an explanation by surprisal (Paulo et al. 2024, "surprisal"): does it make texts likelier?

    s_w   = L(window | "Various unrelated sentences.") - L(window | explanation)
    score = average precision of s, active windows against silent ones

L the mean cross-entropy of a base model over the window's tokens, in nats. An explanation is worth
something where it makes active windows more predictable than silent ones. No question is asked, so
that any causal language model on this machine can score.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from autointerp.llm import Response
from autointerp.records import content_key
from autointerp.scorers.measured import Measurement, Measuring, measured

if TYPE_CHECKING:  # the subject's room imports torch
    from autointerp.subject import Subject

BASELINE = "Various unrelated sentences."
"""What stands in the explanation's place for comparison."""

_VERSION = 1
"""Raise when the same model gives other numbers."""

_BATCH_TOKENS = 1024
"""Tokens of a forward pass: the logits of every text's tokens are held at once."""


@dataclass(frozen=True)
class SurprisalScorer(Measuring):
    """Scores by how much the explanation lowers a base model's surprise at the windows."""

    kind: ClassVar[str] = "surprisal"

    model: str = "smollm2"
    """`smollm2`, a folder in Hugging Face layout, or a hub id."""


class SurprisalReader:
    """A causal language model that measures by how many nats a token an explanation helps."""

    def __init__(self, subject: "Subject", batch_tokens: int = _BATCH_TOKENS) -> None:
        """Use a model that is loaded.

        Args:
            subject: the model with its tokenizer.
            batch_tokens: tokens of a forward pass.
        """
        self.name = f"surprisal/{subject.name}"
        self.fingerprint = content_key("surprisal", version=_VERSION, model=subject.fingerprint)
        self._subject = subject
        self._batch_tokens = batch_tokens
        self._baseline: tuple[tuple[str, ...], list[float]] = ((), [])

    def answer(self, requests: list[Measurement]) -> list[Response]:
        """Per text the fall of its surprisal; NaN where it has no token."""
        answers: list[Response] = []
        for request in requests:
            if self._baseline[0] != request.texts:
                self._baseline = (request.texts, self.losses(BASELINE, request.texts))
            with_words = self.losses(request.explanation, request.texts)
            gains = np.subtract(self._baseline[1], with_words)
            n_tokens = sum(map(len, map(self._ids, request.texts)))
            answers.append(measured(gains.tolist(), n_tokens, self.name))
        return answers

    def losses(self, words: str, texts: Sequence[str]) -> list[float]:
        """Mean cross-entropy of every text's tokens after some words, in nats; NaN for none."""
        head = self._head(words)
        bodies = [self._ids(text) for text in texts]
        found = [float("nan")] * len(texts)
        # Texts of like length go together: less is padded.
        places = sorted((i for i, ids in enumerate(bodies) if ids), key=lambda i: len(bodies[i]))
        start = 0
        while start < len(places):
            stop = start + 1
            while (
                stop < len(places)
                and (stop + 1 - start) * (len(head) + len(bodies[places[stop]]))
                <= self._batch_tokens
            ):
                stop += 1
            batch = places[start:stop]
            for place, loss in zip(
                batch, self._forward(head, [bodies[i] for i in batch]), strict=True
            ):
                found[place] = loss
            start = stop
        return found

    def _head(self, words: str) -> list[int]:
        """Ids of what stands before a text: the tokenizer's own beginning, and the words."""
        tokenizer = self._subject.tokenizer
        own: list[int] = list(tokenizer("")["input_ids"])
        bos = own[:1] if own and own[0] == tokenizer.bos_token_id else []
        return bos + self._ids(f"Description: {words}\n\n")

    def _ids(self, text: str) -> list[int]:
        # What looks like a special token in a text is text all the same.
        found: Any = self._subject.tokenizer(
            text, add_special_tokens=False, split_special_tokens=True
        )
        return list(found["input_ids"])

    def _forward(self, head: list[int], bodies: list[list[int]]) -> list[float]:
        import torch

        longest = max(map(len, bodies))
        ids = torch.zeros((len(bodies), len(head) + longest), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, body in enumerate(bodies):
            whole = head + body
            ids[row, : len(whole)] = torch.tensor(whole)
            mask[row, : len(whole)] = 1
        device = self._subject.device
        with torch.no_grad():
            logits = self._subject.model(
                input_ids=ids.to(device), attention_mask=mask.to(device)
            ).logits[:, len(head) - 1 : -1]
        target = ids[:, len(head) :].to(logits.device)
        losses = torch.nn.functional.cross_entropy(
            logits.float().transpose(1, 2), target, reduction="none"
        ).double()
        return [float(losses[row, : len(body)].mean()) for row, body in enumerate(bodies)]
