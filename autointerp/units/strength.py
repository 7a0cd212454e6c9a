"""How strong an intervention is, measured by what it does to the subject's predictions.

    KL(s) = mean over texts of KL(p_s ‖ p_0)

p_0 and p_s the distributions of the token after a text, without and with the intervention at
strength s. Strengths of equal KL are comparable between units and layers, which multiples of the
maximum activation are not (intervention scoring at KL budgets: Paulo et al. 2024).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from autointerp.records import AutointerpError
from autointerp.subject import Edit, Subject


@dataclass(frozen=True)
class MatchedStrength:
    """A strength that spends a KL budget."""

    strength: float
    kl: float
    """Mean KL at this strength, in nats."""

    reached: bool
    """False where even the largest strength stays below the budget: `strength` is the largest."""

    n_passes: int
    """Times the texts were run."""


def mean_kl(steered: Tensor, base: Tensor) -> float:
    """Mean of KL(steered ‖ base) in nats over rows of logits [n_texts, vocab]."""
    q, p = steered.double().log_softmax(-1), base.double().log_softmax(-1)
    return float((q.exp() * (q - p)).sum(-1).mean().clamp_min(0))


def jensen_shannon(a: Tensor, b: Tensor) -> Tensor:
    """Jensen-Shannon divergence of rows of logits: [n_rows] in nats, 0 to log 2."""
    p, q = a.double().softmax(-1), b.double().softmax(-1)
    middle = (p + q) / 2
    entropy = torch.special.entr
    return (entropy(middle) - (entropy(p) + entropy(q)) / 2).sum(-1).clamp_min(0)


def strength_for_kl(
    subject: Subject,
    edit_of: Callable[[float], Edit],
    texts: Sequence[Sequence[int]],
    budget: float,
    *,
    start: float = 1.0,
    largest: float = 1024.0,
    tolerance: float = 0.01,
    batch_size: int = 16,
) -> MatchedStrength:
    """The strength at which the mean KL equals a budget, by bisection.

    Doubled from `start` until the budget is passed (or halved until it is not), then bisected on
    the logarithm. KL need not rise everywhere: some strength that meets the budget is found.

    Args:
        edit_of: the edit at a strength above 0.
        texts: token ids of the texts before the predictions.
        budget: nats, above 0.
        largest: no strength above it is tried.
        tolerance: of the KL, relative to the budget.

    Raises:
        AutointerpError: where budget or texts cannot be used.
    """
    if not 0 < budget < math.inf:
        raise AutointerpError(f"a KL budget of {budget} cannot be met: give nats above 0")
    if not texts:
        raise AutointerpError("a KL budget needs at least one text to measure on")
    base = subject.next_logits(texts, batch_size)
    n_passes = 1

    def kl(strength: float) -> float:
        nonlocal n_passes
        n_passes += 1
        with subject.intervene(edit_of(strength)):
            return mean_kl(subject.next_logits(texts, batch_size), base)

    low = high = start
    at_low = at_high = kl(start)
    while at_high < budget * (1 - tolerance):
        if high >= largest:
            return MatchedStrength(high, at_high, False, n_passes)
        low, at_low, high = high, at_high, min(2 * high, largest)
        at_high = kl(high)
    while at_low > budget * (1 + tolerance) and low > start * 2.0**-40:
        high, at_high, low = low, at_low, low / 2
        at_low = kl(low)
    nearer = abs(at_low - budget) < abs(at_high - budget)
    best, at = (low, at_low) if nearer else (high, at_high)
    for _ in range(60):
        if abs(at - budget) <= tolerance * budget:
            break
        best = math.sqrt(low * high)
        at = kl(best)
        low, high = (low, best) if at > budget else (best, high)
    return MatchedStrength(best, at, True, n_passes)
