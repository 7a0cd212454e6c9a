"""Names the tokens that a unit responds to most: an explanation without a language model."""

from autointerp.explainers.base import Explaining, ExplainView, dead
from autointerp.explainers.token_means import TokenMean, token_means
from autointerp.explainers.words import shown_token
from autointerp.records import Explanation, Status, content_key

_VERSION = 2
"""Raise when the same view gives other words."""

SHARE_OF_BEST = 0.2
"""Tokens with less than this share of the best token's shrunken mean are not named."""


class TopTokens:
    """The tokens with the highest mean activation in the `explain` split, as words.

    Tokens are ranked by sum / (count + 1): the mean, shrunk towards 0 by one silent occurrence, so
    that tokens seen once do not win. Variants in case or leading space (` Of`, `of`) are named once
    by the strongest of them.
    """

    needs_llm = False

    def __init__(self, name: str = "top_tokens", n_tokens: int = 8) -> None:
        """Set it up.

        Args:
            name: as in the config.
            n_tokens: most tokens named.
        """
        self.name = name
        self.n_tokens = n_tokens
        self.fingerprint = content_key(
            "explainer", type="top_tokens", version=_VERSION, n_tokens=n_tokens
        )

    def explain(self, view: ExplainView, key: str) -> Explaining:
        """Name the tokens; yields no request. See `Explainer.explain`."""
        yield from ()
        unexplained = dead(view, self.name, key)
        if unexplained is not None:
            return unexplained
        named = self._named(token_means(view).tokens)
        details = {"tokens": [{"token": m.token, "mean": m.mean, "count": m.count} for m in named]}
        if not named:
            reason = "no token with an activation is known in the explain split"
            return Explanation(
                view.unit, self.name, None, Status.INSUFFICIENT_DATA, key, reason, details
            )
        quoted = ", ".join(_quoted(mean.token) for mean in named)
        text = f"the token{'s' if len(named) > 1 else ''} {quoted}"
        return Explanation(view.unit, self.name, text, Status.OK, key, details=details)

    def _named(self, means: tuple[TokenMean, ...]) -> list[TokenMean]:
        """The tokens to name, best first, one of each group of variants."""
        # Pieces of characters share the text U+FFFD and name nothing, unless nothing else is there.
        readable = [mean for mean in means if mean.token.strip() != "\ufffd"]
        ranked = sorted(readable or means, key=lambda mean: (-_shrunken(mean), mean.token))
        named: dict[str, TokenMean] = {}
        for mean in ranked:
            if _shrunken(mean) > 0 and _shrunken(mean) >= SHARE_OF_BEST * _shrunken(ranked[0]):
                named.setdefault(mean.token.strip().casefold() or mean.token, mean)
        return list(named.values())[: self.n_tokens]


def _shrunken(mean: TokenMean) -> float:
    return mean.total / (mean.count + 1)


def _quoted(token: str) -> str:
    return '"' + shown_token(token).replace('"', '\\"') + '"'
