"""The short form of SAEBench (Karvonen et al. 2025, "Automated interpretability")."""

from typing import Any

import numpy as np

from autointerp.explainers.asking import Asking, Shown
from autointerp.explainers.base import ExplainView
from autointerp.explainers.token_activation_pairs import chosen_windows
from autointerp.explainers.windows import (
    active,
    around_strongest,
    highlighted_where,
    unmasked_maximum,
    visible,
)
from autointerp.records import ActivationRecord, derived_seed

BUFFER = 10
"""Tokens shown before and after a window's strongest token."""

TOP_SHARE = 2 / 3
"""Of the windows shown: the most active; the rest are drawn in proportion to their maxima."""


class Short(Asking):
    """Shows excerpts of 21 tokens: ten of the most active windows, five drawn by importance.

    Importance: without replacement, with chances in proportion to the windows' maxima. Highlighted:
    tokens above 0.01 of the unit's maximum, SAEBench's threshold. No levels, no worked examples.
    """

    kind = "short"

    def __init__(
        self, name: str = "", *, n_windows: int = 15, max_new_tokens: int = 30, **common: Any
    ) -> None:
        """Set it up; see `Asking` for what all such explainers take.

        Args:
            name: as in the config.
            n_windows: most excerpts; two thirds of them the most active.
            max_new_tokens: longest answer.
            common: see `Asking`.
        """
        super().__init__(name, max_new_tokens=max_new_tokens, n_windows=n_windows, **common)
        self.n_windows = n_windows

    def shown(self, view: ExplainView) -> Shown | str:
        """Excerpts with highlights."""
        windows = active(view)
        if not windows:
            return "the explain split holds no window in which the unit is active"
        top = chosen_windows(windows, round(TOP_SHARE * self.n_windows))
        taken = {record.window for record in top}
        rest = [record for record in windows if record.window not in taken]
        chosen = [*top, *self._by_importance(view, rest, self.n_windows - len(top))]
        excerpts = [_excerpt(record, view.maximum) for record in chosen]
        return Shown({"windows": excerpts}, chosen, {"n_top": len(top)})

    def _by_importance(
        self, view: ExplainView, windows: list[ActivationRecord], n: int
    ) -> list[ActivationRecord]:
        if not windows or n <= 0:
            return []
        ordered = sorted(windows, key=lambda record: record.window)
        weights = np.array([unmasked_maximum(record) for record in ordered])
        generator = np.random.default_rng(derived_seed(self.seed, "importance", view.unit))
        size = min(n, len(ordered))
        drawn = generator.choice(len(ordered), size, replace=False, p=weights / weights.sum())
        return [ordered[place] for place in drawn]


def _excerpt(record: ActivationRecord, maximum: float) -> str:
    part = around_strongest(record, BUFFER, BUFFER)
    return highlighted_where(record.tokens[part], (visible(record) > 0.01 * maximum)[part])
