"""The explainers that ask a language model, and how the tests drive them."""

import json
from collections.abc import Sequence
from pathlib import Path

from autointerp.explainers import (
    Clusters,
    Contrastive,
    ExplainView,
    Highlights,
    Intervals,
    MaxActLogits,
    Short,
    Summary,
    TokenActivationPairs,
)
from autointerp.llm import Request, Response, ResponseStatus, Usage
from autointerp.records import Explanation, TokenLogit, UnitRecord
from tests.explainers.planted import animals, record

ASKING = {
    "highlights": lambda *a, **k: Highlights(*a, **k),
    "highlights_plain": lambda *a, **k: Highlights(*a, values=False, **k),
    "highlights_reasoning": lambda *a, **k: Highlights(*a, reasoning=True, sampling="decile", **k),
    "summary": lambda *a, **k: Summary(*a, **k),
    "summary_highlight": lambda *a, **k: Summary(*a, form="highlight", **k),
    "summary_highlight_summary": lambda *a, **k: Summary(*a, form="highlight_summary", **k),
    "summary_values_summary": lambda *a, **k: Summary(*a, form="values_summary", **k),
    "max_act_logits": lambda *a, **k: MaxActLogits(*a, **k),
    "contrastive": lambda *a, **k: Contrastive(*a, **k),
    "short": lambda *a, **k: Short(*a, **k),
    "intervals": lambda *a, **k: Intervals(*a, **k),
    "clusters": lambda *a, **k: Clusters(*a, **k),
    "pairs": lambda *a, **k: TokenActivationPairs(*a, **k),
    "numbered": lambda *a, **k: TokenActivationPairs(*a, n_explanations=3, **k),
}
"""Every prompt by a name: explainers that ask, in each of their forms."""

MARKED = ("highlights", "highlights_plain", "highlights_reasoning", "contrastive", "clusters")
"""Those whose answer stands after the marker."""

LOGITS = (TokenLogit(" bark", 7, 2.5), TokenLogit("\n", 8, 2.0), TokenLogit('"', 9, 1.0))


def unit() -> UnitRecord:
    """The animals, with hard and random windows and what the unit promotes."""
    from dataclasses import replace

    from autointerp.records import HardBy, Strata

    base = animals()
    hot = record([" a", " hot", " dog", " stand"], number=11)
    hard = replace(hot, stratum=Strata.HARD, hard_by=HardBy.TOP_TOKEN)
    random = replace(record([" we", " sat", " down"], number=12), stratum=Strata.RANDOM)
    suppressed = (TokenLogit(" the", 1, -1.0),)
    return replace(
        base, records=(*base.records, hard, random), promoted=LOGITS, suppressed=suppressed
    )


def asked(explainer, record: UnitRecord) -> Sequence[Request]:
    """What it asks first."""
    return next(explainer.explain(ExplainView.of(record), "key"))


def text_of(request: Request) -> str:
    """A conversation as a snapshot shows it."""
    return "\n".join(f"[{message.role}]\n{message.content}" for message in request.messages)


def answered(explainer, record: UnitRecord, *answers: Response | str) -> Explanation:
    """The explanation after some answers, the last of which is given to all further requests."""
    steps = explainer.explain(ExplainView.of(record), "key")
    try:
        requests = next(steps)
        responses = [answers[min(n, len(answers) - 1)] for n in range(len(requests))]
        steps.send([ok(r) if isinstance(r, str) else r for r in responses])
    except StopIteration as end:
        return end.value
    raise AssertionError("asked twice")


def ok(text: str) -> Response:
    """An answer that ended by itself."""
    return Response(text, ResponseStatus.OK, Usage(100, 20, 5), model="scripted")


def write_label(path: Path, unit: str) -> Path:
    """A file of labels by hand, with one for a unit."""
    row = {"unit": unit, "explanation": "animals", "author": "me", "at": "2026-01-01T00:00:00"}
    path.write_text(json.dumps(row) + "\n")
    return path
