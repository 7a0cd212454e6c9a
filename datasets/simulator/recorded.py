"""Recorded latents and neurons under descriptions that no language model wrote.

Planted concepts are exact and real units are not: they are graded, and their descriptions say a part
of what they do. Documents are in two halves (`activations.py`). One gives a unit's descriptions:

    tokens    those of the highest shrunken mean, as the explainer `top_tokens` names them
    followed  the same of the token before: what comes after it
    pairs     a token after another, where the token alone is strong in less than half of its places
              (N2G, Foote et al. 2023)
    concept   the planted concept (`concepts.py`) whose levels are most like its activations

On the other half each is tried: the correlation between a unit's activations and what the
description says of every token. Where it is low the description is left out, since from it nothing
can be learned. The rows are of the other half, with levels from true activations.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import concepts as c
import numpy as np
import phrasing
from activations import Recorded
from known import KnownConcepts
from phrasing import Name
from scipy import sparse

LEAST_CORRELATION = 0.45
"""Between a unit and what its description says, on the half that did not give it."""

LEAST_OF_BEST = 0.75
"""A description that tells less than this share of what a unit's best one does is left out."""

LEAST_IN_ROW = 0.45
"""Such a correlation within one row."""

MOST_PIECES = 0.25
"""Share of pieces of characters in a window; above it a row could hardly be read."""

N_TRIES = 3
"""Draws of a row's windows."""

MOST_OF_ONE = 0.6
"""Share of one token in what a unit does within a concept; above it the unit is of that token."""

LEAST_ACTIVE = 20
"""Active tokens in either half."""

MOST_ROWS = 6
"""Of one unit."""

N_NAMED = 8
SHARE_OF_BEST = 0.2
SHRINKAGE = (1, 1, 5)
"""Silent occurrences that are added to every token; the explainer adds 1."""

TOP_QUANTILE = 0.99
"""The activation of level 9, among a unit's activations above 0."""

STRONG_LEVEL = 4
"""A window with such a level is one in which the unit is active."""


@dataclass(frozen=True)
class Row:
    """One row of training data."""

    family: str
    description: str
    numbers: list[int]
    """Of its windows."""

    levels: list[np.ndarray]
    """[n_tokens] each; NaN where a token is not trained on."""


@dataclass(frozen=True)
class Told:
    """What a description says: its kind, ways of putting it, and what it says of every token."""

    kind: str
    say: Callable[[], str]
    levels: np.ndarray
    """[n_positions] in the unit's own scale."""

    rule: c.Rule
    """The same of any window, up to scale."""

    correlation: float
    """With the unit, on the half that did not give it."""


class Tokens:
    """Token texts by what they are named: variants in case or leading space are one."""

    def __init__(self, recorded: Recorded, tokenizer: Any, forbidden: frozenset[str]) -> None:
        """`forbidden`: words that no description may name, lower-case."""
        ids, places = np.unique(recorded.ids, return_inverse=True)
        self.texts = [tokenizer.decode([int(i)]) for i in ids]
        keys = [key_of(text) for text in self.texts]
        self.keys = list(dict.fromkeys(keys))
        number = {key: n for n, key in enumerate(self.keys)}
        self.token = places.ravel()
        """[n_positions] index into `texts`."""

        self.group_of = np.array([number[key] for key in keys])
        self.group = self.group_of[self.token]
        """[n_positions] index into `keys`."""

        self.before = np.r_[0, self.group[:-1]]
        """[n_positions] group of the token before; of no meaning at the start of a sequence."""

        self.piece = np.array(["\ufffd" in text for text in self.texts])[self.token]
        """[n_positions] bool: a part of a character."""

        self.named = np.array(["\ufffd" not in k and k.strip() not in forbidden for k in self.keys])

    def name(self, group: int, totals: np.ndarray, share: float, bare: bool) -> Name:
        """A group by its strongest variant, given the summed activation of every token."""
        members = np.flatnonzero(self.group_of == group)
        return Name(self.texts[members[np.argmax(totals[members])]], share, bare)


def key_of(text: str) -> str:
    """What variants of a token have in common."""
    return text.strip().casefold() or text


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's; 0 where one does not vary."""
    if one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


class Units:
    """The units of one recording, and what can be said of each."""

    def __init__(
        self,
        rng: np.random.Generator,
        recorded: Recorded,
        tokens: Tokens,
        masked: np.ndarray,
        concepts: "Concepts | None" = None,
    ) -> None:
        """Take a recording.

        Args:
            rng: draws phrasings and windows.
            recorded: what the units do.
            tokens: of the same recording.
            masked: [n_positions] bool: words that nothing is trained on.
            concepts: that units are compared with.
        """
        self.rng, self.recorded, self.tokens, self.masked = rng, recorded, tokens, masked
        self.concepts = concepts
        self.tells = np.flatnonzero(recorded.tells & recorded.known)
        self.shows = np.flatnonzero(~recorded.tells & recorded.known & ~masked)
        n = len(tokens.keys)
        self.counts = np.bincount(tokens.group[self.tells], minlength=n)
        self.counts_before = np.bincount(tokens.before[self.tells], minlength=n)
        told = np.zeros(len(recorded.ids), bool)
        told[self.tells] = True
        self._told = told
        active = recorded.values > 0
        self.active = np.flatnonzero(
            (active[self.tells].sum(0) >= LEAST_ACTIVE)
            & (active[self.shows].sum(0) >= LEAST_ACTIVE)
        )
        self.best = concepts.best(recorded, self.tells) if concepts is not None else {}

    def column(self, unit: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Activations [n_positions], and places and values of those on the half that tells."""
        values = self.recorded.values
        part = slice(values.indptr[unit], values.indptr[unit + 1])
        places, found = values.indices[part], values.data[part].astype(np.float64)
        all_of_it = np.zeros(len(self.recorded.ids))
        all_of_it[places] = found
        inside = self._told[places]
        return all_of_it, places[inside], found[inside]

    def told(self, unit: int) -> list[Told]:
        """Descriptions of a unit that hold on the other half, the best first."""
        found, places, values = self.column(unit)
        made = [
            *self._tokens(found, places, values),
            *self._followed(found, places, values),
            *self._pairs(found, places, values),
            *self._concept(unit, found, places, values),
        ]
        good = [t for t in made if t.correlation >= LEAST_CORRELATION]
        best = max((t.correlation for t in good), default=0.0)
        good = [t for t in good if t.correlation >= LEAST_OF_BEST * best]
        return sorted(good, key=lambda t: -t.correlation)

    def _held_out(self, levels: np.ndarray, found: np.ndarray) -> float:
        return correlation(levels[self.shows], found[self.shows])

    def _ranked(self, groups: np.ndarray, counts: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Shrunken mean of every group, [n_groups]."""
        totals = np.bincount(groups, values, minlength=len(counts))
        return totals / (counts + float(self.rng.choice(SHRINKAGE)))

    def _names(self, means: np.ndarray, places: np.ndarray, values: np.ndarray, n: int, ids: Any):
        """The best groups that may be named, with their names."""
        means = np.where(self.tokens.named, means, 0)
        best = np.argsort(-means, kind="stable")[:n]
        if means[best[0]] <= 0:
            return [], []
        chosen = [int(g) for g in best if means[g] > SHARE_OF_BEST * means[best[0]]]
        totals = np.bincount(ids, values, minlength=len(self.tokens.texts))
        bare = bool(self.rng.random() < 0.7)
        shares = [float(means[g] / means[best[0]]) for g in chosen]
        names = [self.tokens.name(g, totals, s, bare) for g, s in zip(chosen, shares, strict=True)]
        return chosen, names

    def _tokens(self, found: np.ndarray, places: np.ndarray, values: np.ndarray) -> list[Told]:
        means = self._ranked(self.tokens.group[places], self.counts, values)
        made = []
        for n in {N_NAMED, int(self.rng.integers(1, 5))}:
            groups, names = self._names(means, places, values, n, self.tokens.token[places])
            if not groups:
                continue
            levels = _only(groups, means)[self.tokens.group]
            say = _later(phrasing.of_tokens, self.rng, names)
            rule = _rule({self.tokens.keys[g]: means[g] for g in groups})
            made.append(Told("tokens", say, levels, rule, self._held_out(levels, found)))
        return made

    def _followed(self, found: np.ndarray, places: np.ndarray, values: np.ndarray) -> list[Told]:
        means = self._ranked(self.tokens.before[places], self.counts_before, values)
        ids = self.tokens.token[np.maximum(places - 1, 0)]
        groups, names = self._names(means, places, values, int(self.rng.integers(1, 5)), ids)
        if not groups:
            return []
        levels = _only(groups, means)[self.tokens.before] * self.recorded.known
        say = _later(phrasing.of_followed, self.rng, names)
        rule = _rule({self.tokens.keys[g]: means[g] for g in groups}, before=True)
        return [Told("followed", say, levels, rule, self._held_out(levels, found))]

    def _pairs(self, found: np.ndarray, places: np.ndarray, values: np.ndarray) -> list[Told]:
        n = len(self.tokens.keys)
        both = self.tokens.before.astype(np.int64) * n + self.tokens.group
        strong = values > 0.5 * np.quantile(values, TOP_QUANTILE)
        seen, hits = np.unique(both[places[strong]], return_counts=True)
        seen, hits = seen[hits >= 3], hits[hits >= 3]
        if not len(seen):
            return []
        every, counts = self._pair_counts(both)
        counts = counts[np.searchsorted(every, seen)]
        alone = np.bincount(self.tokens.group[places[strong]], minlength=n) / (self.counts + 1)
        good = (hits >= 0.5 * counts) & (alone[seen % n] < 0.5)
        good &= self.tokens.named[seen // n] & self.tokens.named[seen % n]
        chosen = [int(p) for p in seen[good][np.argsort(-hits[good], kind="stable")][:4]]
        if not chosen:
            return []
        totals = np.bincount(self.tokens.token[places], values, minlength=len(self.tokens.texts))
        ids = self.tokens.token[np.maximum(places - 1, 0)]
        earlier = np.bincount(ids, values, minlength=len(self.tokens.texts))
        names = [
            (
                self.tokens.name(p // n, earlier, 1.0, True),
                self.tokens.name(p % n, totals, 1.0, True),
            )
            for p in chosen
        ]
        levels = (np.isin(both, chosen) & self.recorded.known).astype(float)
        say = _later(phrasing.of_pairs, self.rng, names)
        rule = _pair_rule({(self.tokens.keys[p // n], self.tokens.keys[p % n]) for p in chosen})
        return [Told("pairs", say, levels, rule, self._held_out(levels, found))]

    def _pair_counts(self, both: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if not hasattr(self, "_every_pair"):
            self._every_pair = np.unique(both[self.tells], return_counts=True)
        return self._every_pair

    def _concept(
        self, unit: int, found: np.ndarray, places: np.ndarray, values: np.ndarray
    ) -> list[Told]:
        if self.concepts is None or unit not in self.best:
            return []
        number = self.best[unit]
        concept = self.concepts.concepts[number]
        levels = self.concepts.levels[:, [number]].toarray().ravel()
        inside = values * (levels[places] > 0)
        by_token = np.bincount(self.tokens.group[places], inside, minlength=len(self.counts))
        if concept.forms and by_token.max() > MOST_OF_ONE * by_token.sum():
            return []
        means = by_token / (self.counts + 1)
        _, names = self._names(means, places, values, 3, self.tokens.token[places])
        texts = concept.descriptions

        def say() -> str:
            return phrasing.of_concept(self.rng, str(c.pick(self.rng, texts)), names)

        told = self._held_out(levels, found)
        return [Told(f"concept_{concept.family}", say, levels, concept.rule, told)]

    def row(
        self, unit: int, told: Told, n_windows: int
    ) -> tuple[list[int], list[np.ndarray]] | None:
        """Windows of the half that shows, and their levels; none where nothing could be learned.

        About half of the windows have strong activations, one has none of them though the
        description says so, where there is one, and the others are any.
        """
        found, _, values = self.column(unit)
        top = float(np.quantile(values, TOP_QUANTILE))
        n_tokens = self.recorded.n_tokens
        levels = np.rint(np.minimum(9 * found / top, 9))
        hidden = self.masked | ~self.recorded.known
        levels = np.where(hidden, np.nan, levels).reshape(-1, n_tokens)
        said = np.where(hidden, np.nan, told.levels).reshape(-1, n_tokens)
        for _ in range(N_TRIES):
            chosen = self._windows(levels, said, n_windows)
            one, other = levels[chosen].ravel(), said[chosen].ravel()
            seen = ~np.isnan(one)
            if len(chosen) == n_windows and (correlation(one[seen], other[seen]) >= LEAST_IN_ROW):
                return [int(self.recorded.numbers[i]) for i in chosen], [levels[i] for i in chosen]
        return None

    def _windows(self, levels: np.ndarray, said: np.ndarray, n: int) -> list[int]:
        """Places of windows in the recording; fewer than `n` where too few are active."""
        strongest, mean = np.nan_to_num(levels).max(1), np.nan_to_num(said).max(1)
        shows = ~self.recorded.tells.reshape(levels.shape)[:, 0]
        shows &= self.tokens.piece.reshape(levels.shape).mean(1) <= MOST_PIECES
        order = self.rng.permutation(np.flatnonzero(shows))
        active = order[strongest[order] >= STRONG_LEVEL]
        n_active = int(self.rng.integers(3, 6))
        if len(active) < n_active:
            return []
        near = order[(strongest[order] <= 1) & (mean[order] > 0.5 * mean.max())][:1]
        chosen = [*active[:n_active].tolist(), *near.tolist()]
        chosen += [int(i) for i in order[: 2 * n] if i not in chosen]
        return chosen[:n]


def rows(
    rng: np.random.Generator,
    units: Units,
    family: str,
    known: KnownConcepts,
    n: int,
    n_windows: int,
) -> Iterator[Row]:
    """Rows of units in turn, each time under another description, until there are `n`."""
    told: dict[int, list[Told]] = {}
    used: dict[int, set[str]] = {}
    made = 0
    for _ in range(MOST_ROWS):
        for unit in rng.permutation(units.active).tolist():
            if made >= n:
                return
            if unit not in told:
                told[unit] = units.told(unit)
            if not told[unit]:
                continue
            one = told[unit][int(rng.integers(len(told[unit])))]
            text = one.say()
            concept = c.Concept(one.kind, one.rule, (text,))
            if text in used.setdefault(unit, set()) or known.covered_by(concept, text):
                continue
            row = units.row(unit, one, n_windows)
            if row is None:
                continue
            used[unit].add(text)
            made += 1
            yield Row(f"{family}_{one.kind.partition('_')[0]}", text, *row)


class Concepts:
    """Planted concepts on the recorded positions, for units to be compared with."""

    def __init__(
        self, recorded: Recorded, concepts: Sequence[c.Concept], windows: Sequence[c.Window]
    ) -> None:
        """Take concepts; those that never fire are as good as left out.

        Args:
            recorded: whose positions.
            concepts: where one has word forms, they are all that it fires on.
            windows: of the recording, in its order.
        """
        self.concepts = list(concepts)
        n_tokens = recorded.n_tokens
        places: dict[str, list[int]] = {}
        for number, window in enumerate(windows):
            for match in c.WORD.finditer(window.text):
                inside = np.flatnonzero(c.over(window, *match.span())) + number * n_tokens
                places.setdefault(match[0].lower(), []).extend(inside.tolist())
        columns = []
        for concept in self.concepts:
            flat = np.zeros(len(recorded.ids), np.float32)
            if concept.forms:
                for form in concept.forms:
                    flat[places.get(form, [])] = c.STRONG
            else:
                flat = np.nan_to_num(np.concatenate([concept.rule(w) for w in windows]))
                flat = flat.astype(np.float32)
            columns.append(sparse.csc_array(flat[:, None]))
        self.levels = sparse.hstack(columns).tocsc()
        """[n_positions, n_concepts] sparse."""

    def best(self, recorded: Recorded, positions: np.ndarray) -> dict[int, int]:
        """Unit → the concept of the highest correlation, where that is high enough to be tried."""
        own, found = self.levels[positions].tocsc(), recorded.values[positions].tocsc()
        n = len(positions)
        mean_own, mean = own.sum(0) / n, found.sum(0) / n
        sd_own = np.sqrt(own.power(2).sum(0) / n - mean_own**2)
        sd = np.sqrt(found.power(2).sum(0) / n - mean**2)
        shared = (own.T @ found).toarray() / n - np.outer(mean_own, mean)
        with np.errstate(divide="ignore", invalid="ignore"):
            shared = np.nan_to_num(shared / np.outer(sd_own, sd), nan=0.0, posinf=0.0, neginf=0.0)
        best = shared.argmax(0)
        told = shared[best, np.arange(shared.shape[1])] >= LEAST_CORRELATION
        return {int(unit): int(best[unit]) for unit in np.flatnonzero(told)}


def masked_positions(windows: Sequence[c.Window], words: frozenset[str]) -> np.ndarray:
    """[n_positions] bool: tokens of some words."""
    parts = []
    for window in windows:
        inside = np.zeros(len(window.starts), bool)
        for match in c.WORD.finditer(window.text):
            if match[0].lower() in words:
                inside |= c.over(window, *match.span())
        parts.append(inside)
    return np.concatenate(parts)


def _only(groups: Sequence[int], means: np.ndarray) -> np.ndarray:
    """[n_groups] means of some groups, 0 elsewhere."""
    table = np.zeros(len(means))
    table[list(groups)] = means[list(groups)]
    return table


def _later(say: Callable[..., str], rng: np.random.Generator, names: Any) -> Callable[[], str]:
    return lambda: say(rng, names)


def _pieces(window: c.Window) -> list[str]:
    return [key_of(window.text[a:b]) for a, b in zip(window.starts, window.ends, strict=True)]


def _rule(table: dict[str, float], *, before: bool = False) -> c.Rule:
    """Means of tokens by their key, or of the token before."""

    def rule(window: c.Window) -> np.ndarray:
        found = [table.get(piece, 0.0) for piece in _pieces(window)]
        return np.array([0.0, *found[:-1]] if before else found)

    return rule


def _pair_rule(pairs: set[tuple[str, str]]) -> c.Rule:
    def rule(window: c.Window) -> np.ndarray:
        pieces = _pieces(window)
        return c.STRONG * np.array([False, *((a, b) in pairs for a, b in pairwise(pieces))])

    return rule
