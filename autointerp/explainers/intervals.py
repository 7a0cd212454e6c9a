"""The 49 examples of Bricken et al. (2023), "Automated interpretability: activations"."""

from typing import Any

import numpy as np

from autointerp.explainers.asking import Asking, Shown
from autointerp.explainers.base import ExplainView
from autointerp.explainers.windows import (
    SILENT,
    active,
    distinct,
    documents_in_turn,
    line,
    shuffled,
    silent_bound,
    token_word,
    unmasked_maximum,
    visible,
)
from autointerp.records import ActivationRecord, HardBy, Strata
from autointerp.stats import normalise_levels

N_INTERVALS = 13
"""The top interval and 12 others, of equal width, from 0 to the unit's maximum."""

N_TOP, N_OTHER, N_RANDOM, N_OUT_OF_CONTEXT = 10, 2, 5, 10
"""Windows of the top interval, of each other one, random ones, top tokens out of context."""

N_TOP_TOKENS = 10
"""Tokens that count as top: the strongest of the strongest windows, each once."""

N_LEVELS = 10
"""Levels run from 0 to 9."""


class Intervals(Asking):
    """Shows windows of every value interval, random ones, and top tokens out of context.

    10 of the top interval, 2 of each of the other 12, 5 random, and 10 windows that hold one of the
    unit's top tokens while it is silent: 49. Below every text stand its tokens with a level above
    0, and its top tokens with level 0 where it is silent on them. An interval without windows
    leaves its places empty; the details say what was shown.
    """

    kind = "intervals"

    def __init__(self, name: str = "", *, n_windows: int = 49, **common: Any) -> None:
        """Set it up; see `Asking` for what all such explainers take.

        Args:
            name: as in the config.
            n_windows: 49 for the paper's numbers; others scale all four of them.
            common: see `Asking`.
        """
        super().__init__(name, n_windows=n_windows, **common)
        self.n_windows = n_windows

    def shown(self, view: ExplainView) -> Shown | str:
        """The windows, most active first, then those in which it is silent."""
        windows = active(view)
        if not windows:
            return "the explain split holds no window in which the unit is active"
        responding = self._responding(view, windows)
        top_tokens = _top_tokens(responding)
        out = self._out_of_context(view, top_tokens)
        random = self._random(view, {record.window for record in (*responding, *out)})
        chosen = [*responding, *random, *out]
        fields = {"windows": [_window(record, view.maximum, top_tokens) for record in chosen]}
        counts = {
            "n_active": len(responding),
            "n_random": len(random),
            "n_out_of_context": len(out),
        }
        return Shown(fields, chosen, counts)

    def _scaled(self, n: int) -> int:
        return max(1, round(n * self.n_windows / 49))

    def _responding(
        self, view: ExplainView, windows: list[ActivationRecord]
    ) -> list[ActivationRecord]:
        groups: list[list[ActivationRecord]] = [[] for _ in range(N_INTERVALS)]
        for record in windows:
            share = N_INTERVALS * unmasked_maximum(record) / view.maximum
            groups[min(N_INTERVALS, max(1, -int(-share // 1))) - 1].append(record)
        chosen: list[ActivationRecord] = []
        for place, group in enumerate(groups):
            wanted = self._scaled(N_TOP if place == N_INTERVALS - 1 else N_OTHER)
            drawn = documents_in_turn(shuffled(view, group, self.seed, f"interval {place}"))
            chosen += drawn[:wanted]
        return sorted(chosen, key=lambda record: (-unmasked_maximum(record), record.window))

    def _out_of_context(
        self, view: ExplainView, top_tokens: frozenset[str]
    ) -> list[ActivationRecord]:
        """Silent windows with a top token; those that recording chose for it come first."""
        found = [
            record
            for record in distinct(view.records)
            if unmasked_maximum(record) <= silent_bound(view)
            and any(
                token_word(token) in top_tokens
                for token, masked in zip(record.tokens, record.masked, strict=True)
                if not masked
            )
        ]
        mixed = documents_in_turn(shuffled(view, found, self.seed, "out of context"))
        ranked = sorted(mixed, key=lambda record: record.hard_by is not HardBy.TOP_TOKEN)
        return ranked[: self._scaled(N_OUT_OF_CONTEXT)]

    def _random(self, view: ExplainView, taken: set[Any]) -> list[ActivationRecord]:
        """A random sample of all windows; silent ones where the design draws none."""
        left = [record for record in distinct(view.records) if record.window not in taken]
        random = [record for record in left if record.stratum == Strata.RANDOM]
        silent = [record for record in left if record.stratum in SILENT[:1]]
        drawn = shuffled(view, random, self.seed, "random")
        drawn += shuffled(view, silent, self.seed, "silent")
        return drawn[: self._scaled(N_RANDOM)]


def _top_tokens(windows: list[ActivationRecord]) -> frozenset[str]:
    """The strongest tokens of the strongest windows."""
    words = (token_word(record.tokens[int(visible(record).argmax())]) for record in windows)
    return frozenset(list(dict.fromkeys(words))[:N_TOP_TOKENS])


def _window(record: ActivationRecord, maximum: float, top_tokens: frozenset[str]) -> dict[str, Any]:
    """A text with the levels of its tokens; zeros are listed for top tokens alone."""
    levels = normalise_levels(visible(record), maximum, N_LEVELS)
    listed: dict[str, int] = {}
    for place in np.argsort(-levels, kind="stable"):
        word = token_word(record.tokens[place])
        if not record.masked[place] and (levels[place] > 0 or word in top_tokens):
            listed.setdefault(word, int(levels[place]))
    return {"text": line(record.tokens), "levels": list(listed.items())}
