"""N2G from recorded windows: which tokens, after which others, activate (Foote et al. 2023).

Neuron to Graph prunes the context of a unit's strongest examples, finds which of the tokens left
matter, augments them, and stores what remains in a trie that predicts activations: explainer and
simulator in one, without a language model. It does so by running the subject on changed texts. Here
every step is taken on the recorded windows of the `explain` split instead, so units recorded
elsewhere have patterns too:

    start       a pattern is the token alone on which an activation is strong
    important   while too few of the places it matches are strong, the one token of its context that
                raises its precision most is added, at its distance; others stay wildcards
    prune       tokens at the ends and in between whose removal does not lower the precision go
    augment     other strong tokens grow patterns of their own: the branches of the trie

A context token that the windows never show to matter cannot be found, and a word that no window
holds cannot be substituted: recall is that of the windows' own vocabulary.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autointerp.explainers.base import Explaining, ExplainView, dead
from autointerp.explainers.windows import distinct, visible
from autointerp.records import ActivationRecord, Explanation, Status, content_key
from autointerp.simulators.n2g import Pattern, Trie

_VERSION = 1
"""Raise when the same view gives other patterns."""

STRONG_SHARE = 0.5
"""An activation is strong above this share of the unit's maximum (Foote et al. 2023: 0.5)."""

PRECISION = 0.9
"""A pattern stops growing at this precision."""

MIN_PRECISION = 0.5
"""A pattern below it is left out: it would be wrong more often than right."""

REACH = 8
"""Tokens before an activation that may belong to a pattern."""

MAX_CONTEXT = 3
"""Most context tokens of a pattern."""

N_FOLDS = 4
"""Groups of documents of which each is predicted from the others, for the held-out figures."""

_DIGITS = 6


@dataclass(frozen=True)
class Firing:
    """How well patterns tell where a unit is strong."""

    precision: float | None
    """Share of predicted places at which it is; `None` where nothing is predicted."""

    recall: float | None
    """Share of strong places that are predicted; `None` where there is none."""

    n_strong: int


class N2G:
    """Writes the patterns that the simulator `n2g` reads, as JSON.

    Places are weighted by 1 / inclusion probability, so precision and recall are of the corpus that
    the windows were drawn from. The details give both in the windows that the patterns were built
    from, and held out by documents within the `explain` split.
    """

    needs_llm = False

    def __init__(self, name: str = "n2g") -> None:
        """Set it up; `name` as in the config."""
        self.name = name
        self.fingerprint = content_key("explainer", type="n2g", version=_VERSION)

    def explain(self, view: ExplainView, key: str) -> Explaining:
        """Build the patterns; yields no request. See `Explainer.explain`."""
        yield from ()
        unexplained = dead(view, self.name, key)
        if unexplained is not None:
            return unexplained
        windows = [record for record in distinct(view.records) if len(record.tokens)]
        patterns = build_patterns(windows, view.maximum)
        if not patterns:
            reason = "no pattern of the explain windows is right more often than wrong"
            return Explanation(view.unit, self.name, None, Status.INSUFFICIENT_DATA, key, reason)
        own = firing(windows, [patterns] * len(windows), view.maximum)
        folds = _folds(windows)
        held = [
            build_patterns(
                [w for w, f in zip(windows, folds, strict=True) if f != fold], view.maximum
            )
            for fold in range(N_FOLDS)
        ]
        out = firing(windows, [held[fold] for fold in folds], view.maximum)
        text = json.dumps(
            {
                "patterns": [
                    {"tokens": list(tokens), "activation": float(f"{value:.{_DIGITS}g}")}
                    for tokens, value in patterns
                ],
                "default": 0.0,
            },
            ensure_ascii=False,
        )
        details = {"n_patterns": len(patterns), "in_sample": vars(own), "held_out": vars(out)}
        return Explanation(view.unit, self.name, text, Status.OK, key, details=details)


def firing(
    windows: Sequence[ActivationRecord],
    patterns: Sequence[Sequence[tuple[Pattern, float]]],
    maximum: float,
) -> Firing:
    """Precision and recall of strong places, weighted by 1 / inclusion probability.

    Args:
        windows: what is predicted.
        patterns: per window, the patterns it is predicted by.
        maximum: the unit's; both truth and prediction are strong above half of it.
    """
    right = predicted = strong_weight = 0.0
    n_strong = 0
    tries: dict[int, Trie] = {}
    for record, own in zip(windows, patterns, strict=True):
        trie = tries.setdefault(id(own), Trie(own))
        weight = 1.0 / record.probability
        truth = visible(record) > STRONG_SHARE * maximum
        guess = (trie.predict(record.tokens) > 0) & ~record.masked
        right += weight * int((truth & guess).sum())
        predicted += weight * int(guess.sum())
        strong_weight += weight * int(truth.sum())
        n_strong += int(truth.sum())
    return Firing(
        right / predicted if predicted else None,
        right / strong_weight if strong_weight else None,
        n_strong,
    )


@dataclass(frozen=True)
class _Places:
    """Every unmasked place of the windows, with what stands before it."""

    context: np.ndarray
    """[n_places, REACH + 1] ids of the tokens at distance 0, 1, …; -1 before the window."""

    activation: np.ndarray
    """[n_places]."""

    weight: np.ndarray
    """[n_places] 1 / inclusion probability."""

    words: tuple[str, ...]
    """Token texts by id."""


def build_patterns(
    windows: Sequence[ActivationRecord], maximum: float
) -> list[tuple[Pattern, float]]:
    """Patterns with their mean activations, the strongest first.

    Args:
        windows: active and silent ones.
        maximum: the unit's.
    """
    places = _places(windows)
    strong = places.activation > STRONG_SHARE * maximum
    found: dict[tuple[tuple[int, int], ...], float] = {}
    for place in np.flatnonzero(strong):
        known = next((True for p in found if _matches(places, p)[place]), False)
        if known:
            continue
        parts, precision = _grown(places, strong, int(place))
        if precision >= MIN_PRECISION:
            hit = _matches(places, parts)
            mean = np.average(places.activation[hit], weights=places.weight[hit])
            found[parts] = float(mean)
    ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return [(_pattern(places, parts), value) for parts, value in ranked]


def _grown(
    places: _Places, strong: np.ndarray, place: int
) -> tuple[tuple[tuple[int, int], ...], float]:
    """The pattern of one strong place: (distance, token) pairs, and its precision."""
    parts = ((0, int(places.context[place, 0])),)
    precision = _precision(places, strong, parts)
    while precision < PRECISION and len(parts) <= MAX_CONTEXT:
        taken = {distance for distance, _ in parts}
        options = [
            tuple(sorted((*parts, (distance, int(places.context[place, distance])))))
            for distance in range(1, REACH + 1)
            if distance not in taken and places.context[place, distance] >= 0
        ]
        scored = [(_precision(places, strong, option), option) for option in options]
        # Nearest first: `max` keeps the first of equals.
        best = max(scored, key=lambda item: item[0], default=(0.0, parts))
        if best[0] <= precision:
            break
        precision, parts = best
    for part in parts[1:]:
        fewer = tuple(other for other in parts if other != part)
        if _precision(places, strong, fewer) >= precision:
            parts = fewer
    return parts, precision


def _matches(places: _Places, parts: tuple[tuple[int, int], ...]) -> np.ndarray:
    hit = np.ones(len(places.activation), bool)
    for distance, token in parts:
        hit &= places.context[:, distance] == token
    return hit


def _precision(places: _Places, strong: np.ndarray, parts: tuple[tuple[int, int], ...]) -> float:
    hit = _matches(places, parts)
    return float(places.weight[hit & strong].sum() / places.weight[hit].sum())


def _places(windows: Sequence[ActivationRecord]) -> _Places:
    ids: dict[str, int] = {}
    contexts: list[np.ndarray] = []
    activations: list[np.ndarray] = []
    weights: list[np.ndarray] = []
    for record in windows:
        tokens = [ids.setdefault(token, len(ids)) for token in record.tokens]
        padded = np.array([-1] * REACH + tokens)
        rows = np.stack([padded[REACH - d : len(padded) - d] for d in range(REACH + 1)], axis=1)
        kept = ~record.masked
        contexts.append(rows[kept])
        activations.append(np.asarray(record.activations, float)[kept])
        weights.append(np.full(int(kept.sum()), 1.0 / record.probability))
    if not contexts:
        return _Places(np.zeros((0, REACH + 1), int), np.zeros(0), np.zeros(0), ())
    return _Places(
        np.concatenate(contexts), np.concatenate(activations), np.concatenate(weights), tuple(ids)
    )


def _pattern(places: _Places, parts: tuple[tuple[int, int], ...]) -> Pattern:
    by_distance = dict(parts)
    length = max(by_distance) + 1
    return tuple(
        places.words[by_distance[d]] if d in by_distance else None for d in reversed(range(length))
    )


def _folds(windows: Sequence[ActivationRecord]) -> list[int]:
    """Every window's fold: documents in turn, in the order of their names."""
    order = {name: n for n, name in enumerate(sorted({r.document_id for r in windows}))}
    return [order[record.document_id] % N_FOLDS for record in windows]
