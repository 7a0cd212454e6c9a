"""The scorers of this file's tests that ask a language model, each with a unit that suits it."""

from typing import Any

from autointerp.scorers import ScoreJob
from autointerp.scorers.bricken60 import Bricken60Scorer
from autointerp.scorers.logit_weight import LogitWeightScorer
from autointerp.scorers.rating import RatingScorer
from autointerp.scorers.recall import RecallAltScorer
from tests.scorers.made import job, logits, unit

ASKING: dict[str, Any] = {
    "rating": RatingScorer,
    "logit_weight": LogitWeightScorer,
    "bricken60": Bricken60Scorer,
    "recall_alt": RecallAltScorer,
}

PROMOTED = "horse dog goat sheep goose duck hen cow pig cat"
OTHERS = ("law judge court jury bill act", "river stone lake pond hill sea bay cliff marsh field")
"""What the donors' units promote: the first is a control, the second lends its tokens."""


def job_of(*donors: str, own: str = "animals", **changes: Any) -> ScoreJob:
    """A job that every scorer can do."""
    from dataclasses import replace

    record = replace(unit(**changes), promoted=logits(PROMOTED))
    others = [unit([], promoted=words) for words in OTHERS]
    return job(*donors, own=own, record=record, others=others)
