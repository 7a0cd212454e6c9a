"""Texts and their highly activating tokens instead of a table (Lee et al. 2023, section 3)."""

from typing import Any, Literal

import numpy as np

from autointerp.explainers.asking import Asking, Shown
from autointerp.explainers.base import ExplainView
from autointerp.explainers.token_activation_pairs import chosen_windows
from autointerp.explainers.windows import (
    active,
    highlighted_where,
    line,
    token_word,
    visible,
)
from autointerp.records import ActivationRecord
from autointerp.stats import normalise_levels

SummaryForm = Literal["summary", "highlight", "highlight_summary", "values_summary"]

CUTOFF = 0.3
"""A token is highly activating above this share of the unit's maximum."""


class Summary(Asking):
    """Shows the most active windows in one of the forms of Lee et al. (2023).

    | form | text | highly activating tokens |
    |---|---|---|
    | `summary` | plain | listed |
    | `highlight` | strong tokens between `<<` and `>>` | not listed |
    | `highlight_summary` | both | listed |
    | `values_summary` (AVHS) | every token with a level above 0 marked | listed with their levels |

    Highly activating: above 0.3 of the unit's maximum in `explain`, and in any case the window's
    strongest token, so that no window is shown without one.
    """

    kind = "summary"

    def __init__(
        self, name: str = "", *, n_windows: int = 5, form: SummaryForm = "summary", **common: Any
    ) -> None:
        """Set it up; see `Asking` for what all such explainers take.

        Args:
            name: as in the config.
            n_windows: most windows shown.
            form: one of the table above.
            common: see `Asking`.
        """
        super().__init__(name, n_windows=n_windows, form=form, **common)
        self.n_windows = n_windows
        self.form: SummaryForm = form

    def shown(self, view: ExplainView) -> Shown | str:
        """The most active windows, each document's best first."""
        chosen = chosen_windows(active(view), self.n_windows)
        if not chosen:
            return "the explain split holds no window in which the unit is active"
        return Shown({"windows": [self._window(r, view.maximum) for r in chosen]}, chosen)

    def _window(self, record: ActivationRecord, maximum: float) -> dict[str, Any]:
        found = visible(record)
        levels = normalise_levels(found, maximum)
        with_values = self.form == "values_summary"
        strong = levels > 0 if with_values else found > CUTOFF * maximum
        strong |= found == found.max()
        # Twice the same token tells no more than once, at its highest level.
        listed: dict[str, int] = {}
        for place in np.flatnonzero(strong):
            word = token_word(record.tokens[place])
            listed[word] = max(listed.get(word, 0), int(levels[place]))
        return {
            "plain": line(record.tokens),
            "text": highlighted_where(record.tokens, strong),
            "tokens": list(listed.items()),
        }
