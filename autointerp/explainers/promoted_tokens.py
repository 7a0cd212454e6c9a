"""Names the tokens a unit makes likelier and less likely: an explanation without a language model.

The logit lens of what the unit writes (Bricken et al. 2023, "Logit weights"; `VocabProj` in Gur-
Arieh et al. 2025): the tokens with the largest entries of W_U d, d the unit's write direction.
"""

from autointerp.explainers.base import Explaining, ExplainView
from autointerp.explainers.max_act_logits import promoted_words
from autointerp.records import Explanation, Status, content_key

_VERSION = 1
"""Raise when the same view gives other words."""


class PromotedTokens:
    """Says which tokens a unit promotes and suppresses, from its weights alone.

    It says nothing of what a unit responds to, and needs no activation.
    """

    needs_llm = False

    def __init__(self, name: str = "promoted_tokens", n_tokens: int = 8) -> None:
        """Set it up.

        Args:
            name: as in the config.
            n_tokens: most tokens named on either side.
        """
        self.name = name
        self.n_tokens = n_tokens
        self.fingerprint = content_key(
            "explainer", type="promoted_tokens", version=_VERSION, n_tokens=n_tokens
        )

    def explain(self, view: ExplainView, key: str) -> Explaining:
        """Name the tokens; yields no request. See `Explainer.explain`."""
        yield from ()
        promoted = promoted_words(view.promoted, self.n_tokens)
        suppressed = promoted_words(view.suppressed, self.n_tokens)
        if not promoted and not suppressed:
            reason = "what the unit writes into the logits is not known (record.output_tokens)"
            return Explanation(view.unit, self.name, None, Status.INSUFFICIENT_DATA, key, reason)
        sides = {"makes likelier": promoted, "makes less likely": suppressed}
        text = "; ".join(f"{verb} {_quoted(words)}" for verb, words in sides.items() if words)
        details = {"promoted": promoted, "suppressed": suppressed}
        return Explanation(view.unit, self.name, text, Status.OK, key, details=details)


def _quoted(words: list[str]) -> str:
    return ", ".join(f'"{word}"' for word in words)
