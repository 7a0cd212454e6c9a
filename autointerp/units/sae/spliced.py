"""What a subject loses where a dictionary's reconstruction takes the place of the truth.

    loss recovered = (CE_ablated - CE_reconstructed) / (CE_ablated - CE)

Ablation puts zero, or the mean, in the same place. Masked tokens keep what is there in all of them.
Every next token counts in the loss, and every token's prediction in the divergence, as in SAELens'
evaluations of unmasked tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from autointerp.records import AutointerpError
from autointerp.subject import Subject
from autointerp.subject.intervene import Tokens
from autointerp.units.sae.evaluation import LossRecovered


@dataclass(frozen=True)
class _Put:
    """Given values in the place of what is there."""

    write_at: str
    values: Tensor
    """[n_texts, n_tokens, width]."""

    positions: Tensor
    """[n_texts, n_tokens] bool: where."""

    @property
    def read_at(self) -> str:
        """Where it writes."""
        return self.write_at

    def change(self, hidden: Tensor | None, tokens: Tokens) -> Tensor:
        """The value less what is there."""
        assert hidden is not None
        wanted = self.values[tokens.rows.to(self.values.device), tokens.positions]
        return wanted.to(hidden.device).float() - hidden.float()


@dataclass
class SplicedLoss:
    """Sums over texts for one place that is written: `add` texts, then ask for `of` a name."""

    subject: Subject
    write_at: str
    mean: Tensor
    """[width] what stands there on average."""

    _sums: dict[str, float] = field(default_factory=dict[str, float])
    _n: int = 0
    _n_predictions: int = 0

    @torch.inference_mode()
    def add(self, ids: np.ndarray, masked: np.ndarray, reconstructions: dict[str, Tensor]) -> None:
        """Take in texts.

        Args:
            ids: [n_texts, n_tokens] token ids.
            masked: [n_texts, n_tokens] bool: tokens that keep what is there.
            reconstructions: by name, [n_texts, n_tokens, width] what is put there.
        """
        texts = ids.tolist()
        truth = [logits.log_softmax(-1) for logits in self.subject.each_logits(texts, len(texts))]
        next_ids = torch.from_numpy(ids[:, 1:].astype(np.int64)).to(truth[0].device)
        self._add("", _cross_entropy(truth, next_ids))
        width = self.mean.shape[0]
        shape = (*ids.shape, width)
        put = {
            "|zero": torch.zeros(shape),
            "|mean": self.mean.expand(shape),
            **reconstructions,
        }
        where = torch.from_numpy(~masked)
        for name, values in put.items():
            with self.subject.intervene(_Put(self.write_at, values, where)):
                found = [
                    logits.log_softmax(-1) for logits in self.subject.each_logits(texts, len(texts))
                ]
            self._add(name, _cross_entropy(found, next_ids))
            self._add(f"{name}|kl", _divergence(truth, found))
        self._n += next_ids.numel()
        self._n_predictions += ids.size

    def of(self, name: str) -> LossRecovered:
        """What was found for one reconstruction.

        Raises:
            AutointerpError: where there was no text.
        """
        if not self._n:
            raise AutointerpError("no text to measure the subject's loss on")
        mean = {
            key: value / (self._n_predictions if key.endswith("|kl") else self._n)
            for key, value in self._sums.items()
        }
        return LossRecovered(
            n_tokens=self._n,
            ce=mean[""],
            ce_reconstructed=mean[name],
            ce_zero=mean["|zero"],
            ce_mean=mean["|mean"],
            kl_reconstructed=mean[f"{name}|kl"],
            kl_zero=mean["|zero|kl"],
            kl_mean=mean["|mean|kl"],
        )

    def _add(self, name: str, total: float) -> None:
        self._sums[name] = self._sums.get(name, 0.0) + total


def _cross_entropy(log_probabilities: Sequence[Tensor], next_ids: Tensor) -> float:
    """Σ over tokens of -log p(next), in nats."""
    return sum(
        -float(each[:-1].gather(1, ids[:, None]).double().sum())
        for each, ids in zip(log_probabilities, next_ids, strict=True)
    )


def _divergence(truth: Sequence[Tensor], found: Sequence[Tensor]) -> float:
    """Σ over tokens of KL(truth ‖ found), in nats."""
    return sum(
        float((p.exp() * (p - q)).sum(-1).double().sum()) for p, q in zip(truth, found, strict=True)
    )
