"""Score an explanation by embedding (Paulo et al. 2024, "embedding"): is it near the right texts?

    s_w   = cos(e(explanation), e(window))
    score = average precision of s, active windows against silent ones

No language model is asked. It is the cheapest scorer that reads words, and a weak one: it agrees
with people less than the others do, and knows nothing of what is not a topic. Use it to sort, not
to judge.
"""

from dataclasses import dataclass
from typing import ClassVar

from autointerp.scorers.measured import Measuring
from autointerp.scorers.sentence_model import EMBEDDED_NAME


@dataclass(frozen=True)
class EmbeddingScorer(Measuring):
    """Scores by the cosine of explanation and window, in a sentence-transformers model."""

    kind: ClassVar[str] = "embedding"

    model: str = EMBEDDED_NAME
    """`minilm`, or a sentence-transformers folder."""
