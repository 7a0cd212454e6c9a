"""Several labels for a unit of several meanings (PRISM, Kopf et al. 2025, section 3)."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from autointerp.explainers.asking import (
    Asking,
    Shown,
    details_of_answers,
    first_readable,
)
from autointerp.explainers.base import Explaining, ExplainView, dead
from autointerp.explainers.windows import (
    active,
    details_of,
    documents_in_turn,
    highlighted,
    unmasked_maximum,
    values,
    visible,
)
from autointerp.explainers.words import shown_token
from autointerp.records import ActivationRecord, Explanation, Status

FloatArray = npt.NDArray[np.float64]

Embed = Callable[[Sequence[ActivationRecord]], FloatArray]
"""Windows to vectors [n_windows, width]."""

MIN_SILHOUETTE = 0.1
"""Below this mean silhouette windows make no groups: one label for all."""

MIN_SHARE = 0.1
"""A group of fewer windows, or of fewer than two, joins the nearest other."""

REACH = 4.0
"""Tokens over which the weight of a token's surroundings falls by a factor e."""


class Clusters(Asking):
    """Groups the active windows, asks for one label per group, and gives their union.

    The explanation is `label; or label; …`: one text, so every scorer scores the union. No label is
    scored alone, and none is chosen for its score: the best of several would be no explanation of
    the unit. A group without a label leaves the union incomplete, and the explanation failed.

    Groups: average linkage on cosines, cut at the number of groups from 2 to `n_clusters` with the
    largest mean silhouette; one group where that is below 0.1. Windows are embedded as the tokens
    around their activations, tf-idf weighted; `embed` takes another embedding.
    """

    kind = "clusters"
    version = 2
    marked = True

    def __init__(
        self,
        name: str = "",
        *,
        n_windows: int = 40,
        n_clusters: int = 4,
        max_new_tokens: int = 60,
        prompt: str | None = None,
        embed: Embed | None = None,
        **common: Any,
    ) -> None:
        """Set it up; see `Asking` for what all such explainers take.

        Args:
            name: as in the config.
            n_windows: most windows shown, all groups together.
            n_clusters: most groups.
            max_new_tokens: longest label.
            prompt: of one group; that of `highlights` if `None`.
            embed: windows to vectors; the surroundings of their activations if `None`.
            common: see `Asking`.
        """
        super().__init__(
            name,
            max_new_tokens=max_new_tokens,
            prompt=prompt or "explain_highlights",
            n_windows=n_windows,
            n_clusters=n_clusters,
            values=True,
            reasoning=False,
            **common,
        )
        self.n_windows = n_windows
        self.n_clusters = n_clusters
        self.embed = embed or embed_surroundings

    def explain(self, view: ExplainView, key: str) -> Explaining:
        """Ask for one label per group. See `Explainer.explain`."""
        unexplained = dead(view, self.name, key)
        if unexplained is not None:
            return unexplained
        ranked = sorted(active(view), key=lambda r: (-unmasked_maximum(r), r.window))
        windows = documents_in_turn(ranked)[: self.n_windows]
        if not windows:
            reason = "the explain split holds no window in which the unit is active"
            return Explanation(view.unit, self.name, None, Status.INSUFFICIENT_DATA, key, reason)
        groups = grouped(windows, self.embed(windows), self.n_clusters)
        shown = [_shown(group, view.maximum) for group in groups]
        requests = [self.request(view, s, n) for s in shown for n in range(self.n_samples)]
        responses = yield requests
        size = self.n_samples
        readings = [
            self.read(response, shown[place // size]) for place, response in enumerate(responses)
        ]
        labels = [
            first_readable(readings[start : start + size])
            for start in range(0, len(readings), size)
        ]
        details = {
            **details_of_answers([[reading] for reading in readings], responses),
            "sequences": details_of(windows),
            "clusters": [
                {"text": text, "reason": reason, "sequences": details_of(group)}
                for (text, reason), group in zip(labels, groups, strict=True)
            ],
        }
        if len(groups) > 1 and "candidates" in details:
            # Labels of one group each: none of them is an explanation that could be chosen.
            details["labels"] = details.pop("candidates")
        missing = [reason for text, reason in labels if text is None]
        if missing:
            reason = f"{len(missing)} of {len(groups)} groups have no label: {missing[0]}"
            return Explanation(view.unit, self.name, None, Status.FAILED, key, reason, details)
        text = "; or ".join(dict.fromkeys(text for text, _ in labels if text is not None))
        return Explanation(view.unit, self.name, text, Status.OK, key, details=details)


def grouped(
    windows: Sequence[ActivationRecord], vectors: FloatArray, n_clusters: int
) -> list[list[ActivationRecord]]:
    """Windows in groups, that of the most active window first.

    Args:
        windows: the most active first.
        vectors: [n_windows, width] their embeddings.
        n_clusters: most groups.
    """
    labels = cluster_labels(vectors, n_clusters)
    order = list(dict.fromkeys(labels))
    return [[w for w, own in zip(windows, labels, strict=True) if own == label] for label in order]


def cluster_labels(vectors: FloatArray, n_clusters: int) -> list[int]:
    """The group of every vector; all the same where they make no groups."""
    from scipy.cluster.hierarchy import fcluster, linkage  # late: scipy is slow to import
    from scipy.spatial.distance import squareform

    n = len(vectors)
    if n < 4 or n_clusters < 2:
        return [0] * n
    distances = _cosine_distances(vectors)
    tree = linkage(squareform(distances, checks=False), method="average")
    best, labels = MIN_SILHOUETTE, [0] * n
    for n_groups in range(2, min(n_clusters, n // 2) + 1):
        cut = _without_small(fcluster(tree, n_groups, criterion="maxclust"), distances)
        if len(set(cut)) > 1 and (found := mean_silhouette(distances, cut)) > best:
            best, labels = found, cut
    return labels


def mean_silhouette(distances: FloatArray, labels: Sequence[int]) -> float:
    """Mean of (b - a) / max(a, b) over all members (Rousseeuw 1987); 0 for groups of one.

    Args:
        distances: [n, n].
        labels: [n], at least two different ones.
    """
    own = np.asarray(labels)
    scores: list[float] = []
    for place, label in enumerate(own):
        same = (own == label) & (np.arange(len(own)) != place)
        if not same.any():
            scores.append(0.0)
            continue
        a = distances[place, same].mean()
        b = min(distances[place, own == other].mean() for other in set(labels) - {int(label)})
        scores.append(float((b - a) / max(a, b)) if max(a, b) > 0 else 0.0)
    return float(np.mean(scores))


def _without_small(labels: npt.NDArray[Any], distances: FloatArray) -> list[int]:
    """Groups that are too small joined to the nearest of the others."""
    own = np.asarray(labels).astype(int)
    least = max(2, int(np.ceil(MIN_SHARE * len(own))))
    sizes = {label: int((own == label).sum()) for label in set(own.tolist())}
    kept = [label for label, size in sizes.items() if size >= least]
    if not kept:
        return [0] * len(own)
    for label in set(sizes) - set(kept):
        members = own == label
        nearest = min(kept, key=lambda k: distances[members][:, np.asarray(labels) == k].mean())
        own[members] = nearest
    return own.tolist()


def _cosine_distances(vectors: FloatArray) -> FloatArray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(norms > 0, norms, 1.0)
    distances = np.clip(1.0 - unit @ unit.T, 0.0, 2.0)
    np.fill_diagonal(distances, 0.0)
    return distances


def embed_surroundings(windows: Sequence[ActivationRecord]) -> FloatArray:
    """Windows as the words around their activations, [n_windows, n_words].

    w(word) = idf(word) · Σ_places max_t (a_t / max a) · exp(-|place - t| / 4),
    idf(word) = log(1 + n_windows / n_windows_with(word))
    """
    words: dict[str, int] = {}
    rows: list[dict[int, float]] = []
    for record in windows:
        found = visible(record) / max(unmasked_maximum(record), 1e-30)
        places = np.arange(len(found))
        near = found[None, :] * np.exp(-np.abs(places[:, None] - places[None, :]) / REACH)
        row: dict[int, float] = {}
        for token, weight in zip(record.tokens, near.max(axis=1), strict=True):
            word = shown_token(token).strip().casefold()
            if word:
                column = words.setdefault(word, len(words))
                row[column] = row.get(column, 0.0) + float(weight)
        rows.append(row)
    vectors = np.zeros((len(rows), max(1, len(words))))
    for place, row in enumerate(rows):
        vectors[place, list(row)] = list(row.values())
    n_with = (vectors > 0).sum(axis=0)
    return vectors * np.log1p(len(rows) / np.maximum(1, n_with))


def _shown(group: Sequence[ActivationRecord], maximum: float) -> Shown:
    texts = [{"text": highlighted(r), "values": values(r, maximum)} for r in group]
    return Shown({"windows": texts}, group)
