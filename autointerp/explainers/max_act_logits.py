"""Strongest tokens, the tokens after them and promoted tokens (Neuronpedia's `np_max-act-logits`).

The form in which Neuronpedia labels the features of attribution graphs.
"""

from collections.abc import Sequence
from typing import Any

from autointerp.explainers.asking import Asking, Shown
from autointerp.explainers.base import ExplainView
from autointerp.explainers.token_activation_pairs import chosen_windows
from autointerp.explainers.windows import (
    active,
    around_strongest,
    highlighted_where,
    token_word,
    visible,
)
from autointerp.records import ActivationRecord, TokenLogit

N_LOGITS = 10
"""Most promoted tokens shown."""

BEFORE, AFTER = 12, 4
"""Tokens of a text shown before and after its strongest token."""


class MaxActLogits(Asking):
    """Shows each window's strongest token, the one after it, short texts, and promoted tokens.

    A unit that writes nothing known into the logits is shown without promoted tokens.
    """

    kind = "max_act_logits"

    def __init__(self, name: str = "", *, n_windows: int = 10, **common: Any) -> None:
        """Set it up; see `Asking` for what all such explainers take.

        Args:
            name: as in the config.
            n_windows: most windows whose strongest tokens are shown.
            common: see `Asking`.
        """
        super().__init__(name, n_windows=n_windows, **common)
        self.n_windows = n_windows

    def shown(self, view: ExplainView) -> Shown | str:
        """Three lists of tokens, and the texts they come from."""
        chosen = chosen_windows(active(view), self.n_windows)
        if not chosen:
            return "the explain split holds no window in which the unit is active"
        peaks = [int(visible(record).argmax()) for record in chosen]
        fields = {
            "strongest": _distinct(r.tokens[p] for r, p in zip(chosen, peaks, strict=True)),
            "following": _distinct(
                r.tokens[p + 1] for r, p in zip(chosen, peaks, strict=True) if p + 1 < len(r.tokens)
            ),
            "promoted": promoted_words(view.promoted),
            "windows": [_text(record) for record in chosen],
        }
        return Shown(fields, chosen)


def promoted_words(logits: Sequence[TokenLogit] | None, n: int = N_LOGITS) -> list[str]:
    """The tokens with the largest effects, most first, each text once; none where none is known."""
    return _distinct(logit.token for logit in logits or ())[:n]


def _distinct(tokens: Any) -> list[str]:
    return list(dict.fromkeys(token_word(token) for token in tokens))


def _text(record: ActivationRecord) -> str:
    part = around_strongest(record, BEFORE, AFTER)
    found = visible(record)
    return highlighted_where(record.tokens[part], (found == found.max())[part])
