"""How well yes-or-no truth is told apart: by scores (AUROC, AUPRC) or by answers (the rest).

Every number comes with the prevalence it was measured at, since AUPRC and F1 cannot be read
without it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from autointerp.records import Status
from autointerp.stats.estimate import FloatArray, finite_vector, is_constant


@dataclass(frozen=True)
class ClassificationEstimate:
    """One classification metric."""

    value: float | None
    """In [0, 1]; `None` where `status` is `undefined_truth`."""

    status: Status
    """`undefined_truth` where a class is missing. `constant_prediction` where all scores or answers
    are the same: the value is then chance's, and not the 0.5 of an even overlap."""

    prevalence: float | None
    """Share of positives in [0, 1]; `None` for no items."""

    n: int
    """Number of items."""


def auroc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> ClassificationEstimate:
    """Area under the ROC curve: P(score of a positive > of a negative) + P(equal) / 2.

    From mid-ranks (Mann-Whitney): (Σ ranks of positives - n₊(n₊ + 1)/2) / (n₊ n₋). Below 0.5 for
    scores that point the wrong way; never folded to its mirror image.

    Args:
        labels: [n_items] booleans.
        scores: [n_items], higher for positives.

    Raises:
        ValueError: if lengths differ, labels are not 0 or 1, or a score is NaN or infinite.
    """
    y, s, status = _inputs(labels, scores)
    if status is Status.UNDEFINED_TRUTH:
        return _estimate(None, status, y)
    positives = int(y.sum())
    rank_sum = float(stats.rankdata(s)[y].sum())
    area = (rank_sum - positives * (positives + 1) / 2) / (positives * (y.size - positives))
    return _estimate(area, status, y)


def auprc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> ClassificationEstimate:
    """Area under the precision-recall curve as average precision: Σ_k (R_k - R_{k-1}) P_k.

    k over distinct scores from the highest, tied items enter together; chance is the prevalence.

    Args:
        labels: [n_items] booleans.
        scores: [n_items], higher for positives.

    Raises:
        ValueError: if lengths differ, labels are not 0 or 1, or a score is NaN or infinite.
    """
    y, s, status = _inputs(labels, scores)
    if status is Status.UNDEFINED_TRUTH:
        return _estimate(None, status, y)
    order = np.argsort(-s, kind="stable")
    hits = np.cumsum(y[order])
    last_of_tie = np.append(np.flatnonzero(np.diff(s[order])), y.size - 1)
    precision = hits[last_of_tie] / (last_of_tie + 1)
    recall = hits[last_of_tie] / hits[-1]
    return _estimate(float(np.sum(np.diff(recall, prepend=0.0) * precision)), status, y)


def weighted_auprc(
    weights: npt.ArrayLike, labels: npt.ArrayLike, scores: npt.ArrayLike
) -> FloatArray:
    """Average precision of weighted items, for many sets of weights at once.

    As `auprc`, each item counted as often as its weight says: a weight of 2 is two copies, and
    tied items enter together whatever their weights.

    Args:
        weights: [n_replicates, n_items] >= 0.
        labels: [n_items] booleans.
        scores: [n_items], higher for positives; may be graded.

    Returns:
        [n_replicates]; 0 where no positive has weight.

    Raises:
        ValueError: if lengths differ, labels are not 0 or 1, or a score is NaN or infinite.
    """
    y, s, _ = _inputs(labels, scores)
    order = np.argsort(-s, kind="stable")
    ordered = np.asarray(weights, np.float64)[:, order]
    last_of_tie = np.append(np.flatnonzero(np.diff(s[order])), y.size - 1)
    seen = np.cumsum(ordered, axis=1)[:, last_of_tie]
    hits = np.cumsum(ordered * y[order], axis=1)[:, last_of_tie]
    precision = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)
    gained = np.diff(hits, axis=1, prepend=0.0)
    total = hits[:, -1]
    area = (gained * precision).sum(axis=1)
    return np.divide(area, total, out=np.zeros_like(total), where=total > 0)


def balanced_accuracy(labels: npt.ArrayLike, answers: npt.ArrayLike) -> ClassificationEstimate:
    """(true positive rate + true negative rate) / 2; chance is 0.5 at any prevalence.

    Args:
        labels: [n_items] booleans.
        answers: [n_items] booleans.

    Raises:
        ValueError: if lengths differ, or a value is not 0 or 1.
    """
    y, a, status = _inputs(labels, _booleans(answers, "answers"))
    if status is Status.UNDEFINED_TRUTH:
        return _estimate(None, status, y)
    return _estimate((float(a[y].mean()) + float(1 - a[~y].mean())) / 2, status, y)


def f1(labels: npt.ArrayLike, answers: npt.ArrayLike) -> ClassificationEstimate:
    """2 TP / (2 TP + FP + FN); the answer "always yes" gets 2 p / (1 + p) at prevalence p.

    Args:
        labels: [n_items] booleans.
        answers: [n_items] booleans.

    Raises:
        ValueError: if lengths differ, or a value is not 0 or 1.
    """
    y, a, status = _inputs(labels, _booleans(answers, "answers"))
    if status is Status.UNDEFINED_TRUTH:
        return _estimate(None, status, y)
    return _estimate(2 * float(a[y].sum()) / float(a.sum() + y.sum()), status, y)


def _inputs(
    labels: npt.ArrayLike, scores: npt.ArrayLike
) -> tuple[npt.NDArray[np.bool_], FloatArray, Status]:
    y, s = _booleans(labels, "labels"), finite_vector(scores, "scores")
    if y.size != s.size:
        raise ValueError(f"{y.size} labels, but {s.size} scores or answers")
    if y.all() or not y.any():
        return y, s, Status.UNDEFINED_TRUTH
    return y, s, Status.CONSTANT_PREDICTION if is_constant(s) else Status.OK


def _booleans(values: npt.ArrayLike, name: str) -> npt.NDArray[np.bool_]:
    array = finite_vector(values, name)
    bad = np.flatnonzero((array != 0) & (array != 1))
    if bad.size:
        raise ValueError(f"{name} must be 0 or 1, got {array[bad[0]]} at position {bad[0]}")
    return array.astype(bool)


def _estimate(
    value: float | None, status: Status, y: npt.NDArray[np.bool_]
) -> ClassificationEstimate:
    prevalence = float(y.mean()) if y.size else None
    return ClassificationEstimate(value, status, prevalence, y.size)
