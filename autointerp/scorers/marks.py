"""Which tokens of a window are marked: truly, or falsely but alike in every respect that shows.

A true mark is on a token above 0.3 of its window's maximum (`explainers.windows`), as explainers
show it; a false one is on a token at which the unit is silent. Tokens between the two bear no mark.

False marks must not be told from true ones by anything but what is marked. So a window gets its
false marks from another window of the unit: the same places, moved over as a whole. Taken as a
permutation of all windows, false marks have exactly the numbers and places of the true ones; among
all permutations that fall on silent tokens one is taken whose marked tokens are most alike in kind,
frequency and length (an assignment problem).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from autointerp.explainers.windows import HIGHLIGHT_SHARE, visible
from autointerp.records import ActivationRecord

Marks = npt.NDArray[np.bool_]
"""[n_tokens] whether a token is marked."""

_IMPOSSIBLE = 1e6
"""Cost of marks that would fall on a token that is active or masked."""


def true_marks(window: ActivationRecord, share: float = HIGHLIGHT_SHARE) -> Marks:
    """Tokens above a share of the window's maximum."""
    found = visible(window)
    return found > share * found.max(initial=0.0)


@dataclass(frozen=True)
class TokenFacts:
    """How tokens look to someone who does not know the unit."""

    counts: Mapping[str, int]
    """How often each token stands in the unit's windows."""

    @classmethod
    def of(cls, windows: Sequence[ActivationRecord]) -> "TokenFacts":
        """From the windows of a unit that a judge may see."""
        return cls(Counter(token for window in windows for token in window.tokens))

    def difference(self, a: str, b: str) -> float:
        """How unlike two tokens are: kind first, then frequency (in e-folds) and length."""
        frequency = abs(np.log1p(self.counts.get(a, 0)) - np.log1p(self.counts.get(b, 0)))
        length = abs(len(a.strip()) - len(b.strip()))
        return 4.0 * (kind_of_token(a) != kind_of_token(b)) + float(frequency) + 0.1 * length


def kind_of_token(token: str) -> str:
    """What sort of token it is: a word's beginning or continuation, a number, marks, space."""
    text = token.strip()
    if not text:
        return "space"
    if text.isnumeric():
        return "number"
    if not any(char.isalnum() for char in text):
        return "marks"
    if not token[0].isspace():
        return "continuation"
    return "name" if text[0].isupper() else "word"


def cost(
    window: ActivationRecord,
    marks: Marks,
    source: ActivationRecord,
    bound: float,
    facts: TokenFacts,
) -> float:
    """How badly marks of `source` suit `window`: unlikeness per token, or impossible.

    Args:
        window: that would be marked.
        marks: of `source`, in its own places.
        source: where they come from.
        bound: up to here a token is silent.
        facts: of tokens.
    """
    places = np.flatnonzero(marks)
    if places.size == 0 or places[-1] >= len(window.tokens):
        return _IMPOSSIBLE
    if window.masked[places].any() or (window.activations[places] > bound).any():
        return _IMPOSSIBLE
    return float(np.mean([facts.difference(window.tokens[i], source.tokens[i]) for i in places]))


def false_marks(
    windows: Sequence[ActivationRecord], bound: float, facts: TokenFacts
) -> list[Marks | None]:
    """False marks for every window: the true marks of others, each used once.

    Args:
        windows: active ones.
        bound: up to here a token is silent.
        facts: of tokens.

    Returns:
        Per window its marks; `None` for those that no permutation serves.
    """
    marks = [true_marks(window) for window in windows]
    found: list[Marks | None] = [None] * len(windows)
    left = list(range(len(windows)))
    # A window that gets no marks must not give any, or numbers and places would differ.
    while len(left) > 1:
        costs = np.array(
            [[_cost_between(windows, marks, i, j, bound, facts) for j in left] for i in left]
        )
        rows, columns = linear_sum_assignment(costs)
        fits = costs[rows, columns] < _IMPOSSIBLE
        if fits.all():
            for row, column in zip(rows, columns, strict=True):
                own, source = left[row], left[column]
                found[own] = moved(marks[source], len(windows[own].tokens))
            break
        left = [place for place, fit in zip(left, fits, strict=True) if fit]
    return found


def _cost_between(
    windows: Sequence[ActivationRecord],
    marks: Sequence[Marks],
    i: int,
    j: int,
    bound: float,
    facts: TokenFacts,
) -> float:
    return _IMPOSSIBLE if i == j else cost(windows[i], marks[j], windows[j], bound, facts)


def moved(marks: Marks, n: int) -> Marks:
    """The same places in a window of `n` tokens."""
    found = np.zeros(n, bool)
    found[np.flatnonzero(marks)] = True
    return found


def lend(
    sources: Sequence[ActivationRecord],
    windows: Sequence[ActivationRecord],
    bound: float,
    facts: TokenFacts,
) -> list[int | None]:
    """For the marks of every source a silent window to stand on, all used about equally often.

    Args:
        sources: active windows whose marks are wanted elsewhere; may hold one several times.
        windows: silent ones.
        bound: up to here a token is silent.
        facts: of tokens.

    Returns:
        Per source the place of the window whose tokens there are most like its own; `None` where
        the marks fit none of them.
    """
    if not windows:
        return [None] * len(sources)
    marks = [true_marks(source) for source in sources]
    once = np.array(
        [
            [cost(window, m, source, bound, facts) for window in windows]
            for m, source in zip(marks, sources, strict=True)
        ]
    )
    copies = -(-len(sources) // len(windows))
    rows, columns = linear_sum_assignment(np.tile(once, (1, copies)))
    found: list[int | None] = [None] * len(sources)
    for row, column in zip(rows, columns, strict=True):
        place = int(column) % len(windows)
        if once[row, place] < _IMPOSSIBLE:
            found[row] = place
    return found
