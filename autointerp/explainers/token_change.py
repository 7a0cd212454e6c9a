"""Explains a unit by what it writes: token change and promoted tokens (Gur-Arieh et al. 2025).

The subject reads neutral prompts with the unit held at its largest activation. Shown to a language
model are the tokens whose logits rise and fall most on average (`TokenChange`, which goes through
all later blocks), beside those of the unit's weights alone (`VocabProj`, the direct path). It says
what the unit makes the subject write; not what the unit responds to.
"""

from collections.abc import Generator, Sequence
from typing import Any

from autointerp.explainers.asking import Asking, Shown
from autointerp.explainers.base import ExplainView, dead
from autointerp.explainers.max_act_logits import promoted_words
from autointerp.explainers.windows import token_word
from autointerp.records import Explanation, Status
from autointerp.subject.requests import TokenChange, TokenChangeRequest

PROMPTS = (
    "I think that",
    "The most important thing is",
    "Yesterday we",
    "In this article",
    "They said that",
    "Let me tell you about",
    "Once there was",
    "When I looked outside,",
)
"""Beginnings that leave everything open."""


class TokenChanges(Asking):
    """Shows the tokens that a unit makes likelier and less likely when it is clamped."""

    kind = "token_change"
    touches_subject = True

    def __init__(
        self, name: str = "", *, n_tokens: int = 25, strength: float = 1.0, **common: Any
    ) -> None:
        """Set it up; see `Asking` for what all such explainers take.

        Args:
            name: as in the config.
            n_tokens: tokens shown of each kind.
            strength: multiple of the largest activation that the unit is clamped to.
            common: see `Asking`.
        """
        super().__init__(name, n_tokens=n_tokens, strength=strength, **common)
        self.n_tokens, self.strength = n_tokens, strength

    def explain(
        self, view: ExplainView, key: str
    ) -> Generator[Sequence[Any], Sequence[Any], Explanation]:
        """Clamp, then ask for a short phrase. See `Explainer.explain`."""
        unexplained = dead(view, self.name, key)
        if unexplained is not None:
            return unexplained
        (found,) = yield [TokenChangeRequest(view.unit, PROMPTS, self.strength, self.n_tokens)]
        shown = effects(view, found, self.n_tokens)
        if isinstance(shown, str):
            return Explanation(view.unit, self.name, None, Status.INSUFFICIENT_DATA, key, shown)
        responses = yield [self.request(view, shown, n) for n in range(self.n_samples)]
        return self.explained(view, key, shown, responses)


def effects(view: ExplainView, found: TokenChange, n_tokens: int) -> Shown | str:
    """What clamping a unit changes, and what its weights promote, or why nothing can be shown."""
    rising, falling = (
        list(dict.fromkeys(word for word in map(token_word, tokens) if word.strip()))
        for tokens in (found.promoted, found.suppressed)
    )
    if not rising:
        return "clamping the unit raises no token that can be shown"
    changes = {"rising": rising, "falling": falling}
    promoted = promoted_words(view.promoted, n_tokens)
    return Shown({**changes, "promoted": promoted}, details=changes)
