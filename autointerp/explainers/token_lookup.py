"""The look-up baseline (Bills et al. 2023): every token predicts its own mean activation."""

import json

from autointerp.explainers.base import Explaining, ExplainView, dead
from autointerp.explainers.token_means import token_means
from autointerp.records import Explanation, Status, content_key

_VERSION = 1
"""Raise when the same view gives another table."""

_DIGITS = 6
"""Significant digits of a mean."""


class TokenLookup:
    """Writes the table that the simulator `token_lookup` reads, as JSON.

    `{"token_means": {" the": 3.2}, "default": 0.1}`: the means of the tokens in the unit's
    top-token table of the `explain` split, and the mean over all other tokens.
    """

    needs_llm = False

    def __init__(self, name: str = "token_lookup") -> None:
        """Set it up; `name` as in the config."""
        self.name = name
        self.fingerprint = content_key("explainer", type="token_lookup", version=_VERSION)

    def explain(self, view: ExplainView, key: str) -> Explaining:
        """Write the table; yields no request. See `Explainer.explain`."""
        yield from ()
        unexplained = dead(view, self.name, key)
        if unexplained is not None:
            return unexplained
        means = token_means(view)
        details = {"n_tokens": len(means.tokens)}
        if not means.tokens:
            reason = "the explain split has neither a top-token table nor an unmasked token"
            return Explanation(
                view.unit, self.name, None, Status.INSUFFICIENT_DATA, key, reason, details
            )
        table = {
            "token_means": {mean.token: _rounded(mean.mean) for mean in means.tokens},
            "default": _rounded(means.default),
        }
        text = json.dumps(table, ensure_ascii=False)
        return Explanation(view.unit, self.name, text, Status.OK, key, details=details)


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
