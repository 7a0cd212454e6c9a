"""Texts with the strong tokens between delimiters (Paulo et al. 2024, section 3.1)."""

from typing import Any

from autointerp.explainers.asking import Asking, Shown
from autointerp.explainers.base import ExplainView
from autointerp.explainers.windows import Sampling, active, highlighted, sampled, values


class Highlights(Asking):
    """Shows windows spread over the unit's whole range, strong tokens between `<<` and `>>`.

    A token is highlighted above 0.3 of its window's maximum. With `values` the highlighted tokens
    of every window are listed with levels from 1 to 10, floor(10 · a / max) with the unit's maximum
    in `explain`. With `reasoning` the model is asked to think aloud first. The explanation is what
    follows the last `[EXPLANATION]:` that begins a line.
    """

    kind = "highlights"
    marked = True

    def __init__(
        self,
        name: str = "",
        *,
        n_windows: int = 40,
        sampling: Sampling = "interval",
        values: bool = True,
        reasoning: bool = False,
        max_new_tokens: int | None = None,
        **common: Any,
    ) -> None:
        """Set it up; see `Asking` for what all such explainers take.

        Args:
            name: as in the config.
            n_windows: most windows shown.
            sampling: how they are chosen (`windows.sampled`).
            values: whether levels are listed.
            reasoning: whether the model thinks aloud first.
            max_new_tokens: longest answer; 60, or 400 with reasoning, if `None`.
            common: see `Asking`.
        """
        super().__init__(
            name,
            max_new_tokens=max_new_tokens or (400 if reasoning else 60),
            n_windows=n_windows,
            sampling=sampling,
            values=values,
            reasoning=reasoning,
            **common,
        )
        self.n_windows = n_windows
        self.sampling: Sampling = sampling
        self.values = values

    def shown(self, view: ExplainView) -> Shown | str:
        """Windows of all intervals or deciles, with highlights."""
        chosen = sampled(view, active(view), self.n_windows, self.sampling, self.seed)
        if not chosen:
            return "the explain split holds no window in which the unit is active"
        windows = [
            {"text": highlighted(record), "values": values(record, view.maximum)}
            for record in chosen
        ]
        return Shown({"windows": windows}, chosen, {"n_windows": len(chosen)})
