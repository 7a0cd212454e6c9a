"""Texts a unit responds to beside similar ones it does not (delphi's contrastive explainer)."""

from typing import Any

from autointerp.explainers.asking import Asking, Shown
from autointerp.explainers.base import ExplainView
from autointerp.explainers.windows import (
    SILENT,
    Sampling,
    active,
    highlighted,
    line,
    sampled,
    silent_windows,
)
from autointerp.records import ActivationRecord, Strata


class Contrastive(Asking):
    """Shows active windows with highlights, and hard negatives without any.

    Hard negatives are windows in which recording found the unit silent though it is active in the
    same sequence, its nearest unit is active, or they hold one of its top tokens
    (`recording.hardness`); where there are fewer than wanted, windows that are silent by chance
    stand in, and the details say how many of each were shown (Ma et al. 2025: random negatives do
    not show that an explanation is too broad).
    """

    kind = "contrastive"
    marked = True

    def __init__(
        self,
        name: str = "",
        *,
        n_windows: int = 15,
        n_contrast: int = 5,
        sampling: Sampling = "interval",
        **common: Any,
    ) -> None:
        """Set it up; see `Asking` for what all such explainers take.

        Args:
            name: as in the config.
            n_windows: most active windows.
            n_contrast: most negatives.
            sampling: how active windows are chosen (`windows.sampled`).
            common: see `Asking`.
        """
        super().__init__(
            name, n_windows=n_windows, n_contrast=n_contrast, sampling=sampling, **common
        )
        self.n_windows = n_windows
        self.n_contrast = n_contrast
        self.sampling: Sampling = sampling

    def shown(self, view: ExplainView) -> Shown | str:
        """Active windows and negatives."""
        chosen = sampled(view, active(view), self.n_windows, self.sampling, self.seed)
        if not chosen:
            return "the explain split holds no window in which the unit is active"
        negatives = self._negatives(view)
        fields = {
            "windows": [highlighted(record) for record in chosen],
            "contrast": [line(record.tokens) for record in negatives],
        }
        n_hard = sum(record.stratum == Strata.HARD for record in negatives)
        counts = {"n_active": len(chosen), "n_hard": n_hard, "n_silent": len(negatives) - n_hard}
        return Shown(fields, [*chosen, *negatives], counts)

    def _negatives(self, view: ExplainView) -> list[ActivationRecord]:
        hard = silent_windows(view, (Strata.HARD,), self.n_contrast, self.seed)
        return hard + silent_windows(view, SILENT, self.n_contrast - len(hard), self.seed)
