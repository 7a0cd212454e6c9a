"""Mean activation per token in the `explain` split: what the LLM-free explainers read."""

from dataclasses import dataclass

from autointerp.explainers.base import ExplainView


@dataclass(frozen=True)
class TokenMean:
    """What a unit does on one token, over all its unmasked occurrences."""

    token: str
    total: float
    """Sum of the activations."""

    count: int
    """Occurrences."""

    @property
    def mean(self) -> float:
        """Mean activation; a lower bound where the statistics are (`TopToken.mean`)."""
        return self.total / self.count


@dataclass(frozen=True)
class TokenMeans:
    """Means of some tokens, and of all the others together."""

    tokens: tuple[TokenMean, ...]
    """Highest mean first; every text once."""

    default: float
    """What to expect of any other token."""


def token_means(view: ExplainView) -> TokenMeans:
    """The token means of a unit, from its statistics or, without any, from its windows.

    From statistics, with the tokens of the top-token table as the known ones:

        default = max(0, (E[x] · n - Σ mean·count) / (n - Σ count))

    From windows every token is known; `default` is then the mean over all tokens. Windows are drawn
    with more of the active ones, so their means are higher than the corpus'.
    """
    totals: dict[str, tuple[float, int]] = {}

    def add(token: str, total: float, count: int) -> None:
        # Different ids can have the same text, above all parts of characters.
        old_total, old_count = totals.get(token, (0.0, 0))
        totals[token] = (old_total + total, old_count + count)

    if view.statistics is not None:
        for top in view.statistics.top_tokens:
            add(top.token, top.mean * top.count, top.count)
        n_all = view.statistics.n_tokens
        total_all = view.statistics.moments[0] * n_all
        n_rest = n_all - sum(count for _, count in totals.values())
        total_rest = total_all - sum(total for total, _ in totals.values())
    else:
        for record in view.records:
            triples = zip(record.tokens, record.activations, record.masked, strict=True)
            for token, activation, masked in triples:
                if not masked:
                    add(token, float(activation), 1)
        n_rest = sum(count for _, count in totals.values())
        total_rest = sum(total for total, _ in totals.values())
    means = (TokenMean(token, total, count) for token, (total, count) in totals.items() if count)
    return TokenMeans(
        tuple(sorted(means, key=lambda m: (-m.mean, m.token))),
        max(0.0, total_rest / n_rest) if n_rest > 0 else 0.0,
    )
