"""How sure a judge is of yes: P(yes) from the log-probabilities at its answers.

    P(yes) = p(true) / (p(true) + p(false)),   mass = p(true) + p(false)

at the token where each value of the answer begins (as in the code of Paulo et al. 2024, with a
floor on the mass: what lies on other words says nothing). Tokens are cut differently by every
tokenizer, so an alternative counts for the value whose beginning it is: " true", "[true", "tr" and
"True" for true.
"""

import math
import re
from collections.abc import Sequence

from autointerp.llm import Response, TokenLogprobs
from autointerp.llm.schemas import MalformedAnswerError

N_ALTERNATIVES = 5
"""Alternatives asked for at every token of an answer; more hardly change the sum."""

MASS_FLOOR = 0.5
"""Least probability of true and false together for an answer to count."""

_VALUE = re.compile(r"true|false")
_NO_LETTER = re.compile(r"[^a-z]")


def yes_probabilities(response: Response, n: int, mass_floor: float = MASS_FLOOR) -> list[float]:
    """P(yes) of every value of an answer, NaN where less than the floor lies on yes and no.

    Args:
        response: its text is the JSON of `n` booleans.
        n: values in it.
        mass_floor: least mass.

    Raises:
        MalformedAnswerError: where there are no log-probabilities, or they do not belong to the
            text.
    """
    tokens = response.logprobs
    if not tokens:
        raise MalformedAnswerError("the judge's answer came without log-probabilities")
    text = "".join(token.token for token in tokens)
    starts = [found.start() for found in _VALUE.finditer(text)]
    if len(starts) != n:
        raise MalformedAnswerError(
            f"the log-probabilities of the judge's answer hold {len(starts)} values, not {n}"
        )
    return [_probability(_token_at(tokens, start), mass_floor) for start in starts]


def _token_at(tokens: Sequence[TokenLogprobs], character: int) -> TokenLogprobs:
    """The token that holds a character of the answer."""
    seen = 0
    for token in tokens:
        seen += len(token.token)
        if seen > character:
            return token
    raise MalformedAnswerError("the log-probabilities end before the answer does")


def _probability(token: TokenLogprobs, mass_floor: float) -> float:
    yes = no = 0.0
    chosen = {token.token: token.logprob}
    for text, logprob in {**chosen, **dict(token.top)}.items():
        letters = _NO_LETTER.sub("", text.lower())
        if not letters:
            continue
        if "true".startswith(letters):
            yes += math.exp(min(0.0, logprob))
        elif "false".startswith(letters):
            no += math.exp(min(0.0, logprob))
    mass = yes + no
    return yes / mass if mass >= mass_floor and mass > 0 else math.nan
