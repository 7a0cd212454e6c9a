"""Which tokens of a window are marked: truly, or falsely but alike in every respect that shows.

A true mark is on a token above 0.3 of its window's maximum (`explainers.windows`), as explainers
show it; a false one is on a token at which the unit is silent. Tokens between the two bear no mark.

False marks must not be told from true ones by anything but what is marked. So a window gets its
false marks from another window of the unit: the same places, moved over as a whole. Taken as a
permutation of all windows, false marks have exactly the numbers and places of the true ones; among
all permutations that fall on silent tokens one is taken whose marked tokens are most alike in kind,
frequency and length (an assignment problem). A window that no permutation serves, because the unit
is active all over, gets as many marks as it has true ones, on the silent tokens that are most like
those and nearest to them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from autointerp.explainers.windows import HIGHLIGHT_SHARE, visible
from autointerp.records import ActivationRecord

Marks = npt.NDArray[np.bool_]
"""[n_tokens] whether a token is marked."""

IMPOSSIBLE = 1e6
"""Cost of marks that would fall on a token that is active or masked."""

_KINDS = ("space", "number", "marks", "continuation", "name", "word")


def true_marks(window: ActivationRecord, share: float = HIGHLIGHT_SHARE) -> Marks:
    """Tokens above a share of the window's maximum."""
    found = visible(window)
    return found > share * found.max(initial=0.0)


class TokenFacts:
    """How the tokens of some windows look to someone who does not know the unit."""

    def __init__(self, windows: Sequence[ActivationRecord], bound: float) -> None:
        """Look at the windows of a unit that a judge may see.

        Args:
            windows: all of them.
            bound: up to here a token is silent.
        """
        counts = Counter(token for window in windows for token in window.tokens)
        self._length = max((len(window.tokens) for window in windows), default=0)
        looks = {
            token: (_KINDS.index(kind_of_token(token)), float(np.log1p(n)), len(token.strip()))
            for token, n in counts.items()
        }
        self._rows = {window.window: row for row, window in enumerate(windows)}
        self._looks = np.zeros((len(windows), self._length, 3))
        self._silent = np.zeros((len(windows), self._length), bool)
        for row, window in enumerate(windows):
            n = len(window.tokens)
            self._looks[row, :n] = [looks[token] for token in window.tokens]
            self._silent[row, :n] = ~window.masked & (window.activations <= bound)

    def costs(
        self,
        windows: Sequence[ActivationRecord],
        sources: Sequence[ActivationRecord],
        marks: Sequence[Marks],
    ) -> npt.NDArray[np.float64]:
        """How badly the marks of each source suit each window.

        The mean over marked places of how unlike the tokens there are: 4 for another kind, the
        difference of frequencies in e-folds, 0.1 per character of length.

        Args:
            windows: that would be marked.
            sources: where marks come from.
            marks: of the sources, in their own places.

        Returns:
            [n_windows, n_sources]; `IMPOSSIBLE` where a mark would fall on a token that is active,
            masked or not there, and on the source itself.
        """
        rows = [self._rows[window.window] for window in windows]
        looks, silent = self._looks[rows], self._silent[rows]
        found = np.full((len(windows), len(sources)), IMPOSSIBLE)
        for column, (source, marked) in enumerate(zip(sources, marks, strict=True)):
            places = np.flatnonzero(marked)
            if not places.size:
                continue
            own = self._looks[self._rows[source.window], places]
            apart = np.abs(looks[:, places] - own)
            unlike = 4.0 * (apart[..., 0] > 0) + apart[..., 1] + 0.1 * apart[..., 2]
            fits = silent[:, places].all(axis=1)
            fits &= np.array([window.window != source.window for window in windows])
            found[fits, column] = unlike.mean(axis=1)[fits]
        return found

    def nearby(self, window: ActivationRecord, marks: Marks) -> Marks | None:
        """As many marks on silent tokens of a window, like its own and near them.

        Returns:
            The marks; `None` where there are fewer silent tokens than marks.
        """
        row, places = self._rows[window.window], np.flatnonzero(marks)
        silent = np.flatnonzero(self._silent[row])
        if not places.size or silent.size < places.size:
            return None
        apart = np.abs(self._looks[row, places][:, None] - self._looks[row, silent][None])
        unlike = 4.0 * (apart[..., 0] > 0) + apart[..., 1] + 0.1 * apart[..., 2]
        distance = np.abs(places[:, None] - silent[None]) / 4
        found = np.zeros(len(window.tokens), bool)
        found[silent[linear_sum_assignment(unlike + distance)[1]]] = True
        return found


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


@dataclass(frozen=True)
class FalseMarks:
    """The false marks of a unit's windows."""

    marks: tuple[Marks | None, ...]
    """Per window; `None` where it has fewer silent tokens than true marks."""

    n_nearby: int
    """Windows whose marks are not another's, but near their own."""


def false_marks(windows: Sequence[ActivationRecord], facts: TokenFacts) -> FalseMarks:
    """False marks for every window: the true marks of others, each used once, or nearby ones.

    Args:
        windows: active ones.
        facts: of these windows.
    """
    marks = [true_marks(window) for window in windows]
    costs = facts.costs(windows, windows, marks)
    found: list[Marks | None] = [None] * len(windows)
    left = list(range(len(windows)))
    # A window that gets no marks must not give any, or numbers and places would differ.
    while len(left) > 1:
        among = costs[np.ix_(left, left)]
        rows, columns = linear_sum_assignment(among)
        fits = among[rows, columns] < IMPOSSIBLE
        if fits.all():
            for row, column in zip(rows, columns, strict=True):
                own, source = left[row], left[column]
                found[own] = moved(marks[source], len(windows[own].tokens))
            break
        left = [place for place, fit in zip(left, fits, strict=True) if fit]
    served = [marks is not None for marks in found]
    found = [
        one if one is not None else facts.nearby(window, own)
        for one, window, own in zip(found, windows, marks, strict=True)
    ]
    n_nearby = sum(
        one is not None and not is_served for one, is_served in zip(found, served, strict=True)
    )
    return FalseMarks(tuple(found), n_nearby)


def lend(
    sources: Sequence[ActivationRecord], windows: Sequence[ActivationRecord], facts: TokenFacts
) -> list[int | None]:
    """For the marks of every source a silent window to stand on, all used about equally often.

    Args:
        sources: active windows whose marks are wanted elsewhere; may hold one several times.
        windows: silent ones.
        facts: of all of them.

    Returns:
        Per source the place of the window whose tokens there are most like its own; `None` where
        the marks fit none of them.
    """
    if not windows:
        return [None] * len(sources)
    once = facts.costs(windows, sources, [true_marks(source) for source in sources]).T
    copies = -(-len(sources) // len(windows))
    rows, columns = linear_sum_assignment(np.tile(once, (1, copies)))
    found: list[int | None] = [None] * len(sources)
    for row, column in zip(rows, columns, strict=True):
        place = int(column) % len(windows)
        if once[row, place] < IMPOSSIBLE:
            found[row] = place
    return found


def moved(marks: Marks, n: int) -> Marks:
    """The same places in a window of `n` tokens."""
    found = np.zeros(n, bool)
    found[np.flatnonzero(marks)] = True
    return found
