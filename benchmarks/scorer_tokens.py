"""Tokens per unit of every scorer that asks, in the designs of others: prints JSON.

    python benchmarks/scorer_tokens.py [--units 8] [--active 3] [--each 50]

Units are made up: `--each` active and as many silent test windows of 32 tokens of the demo corpus,
`--active` tokens active in each active one, over the whole range of the unit. Half of the silent
windows hold one of its top tokens. Prompts are the real ones; answers are made up by their schemas.
Both are counted with SmolLM2's tokenizer and chat template and added up by a run's ledger. Controls
are left out.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from autointerp import resources
from autointerp.config import ScoreConfig, ScorerConfig
from autointerp.dry_run import TYPICAL_EXPLANATION, made_up_answer
from autointerp.llm import Capabilities, Request, Response, ResponseStatus, Usage, drive
from autointerp.llm.budget import Meter, MeteredClient
from autointerp.llm.prices import load_prices
from autointerp.recording.corpus import read_corpus
from autointerp.records import (
    ActivationRecord,
    Explanation,
    HardBy,
    Split,
    SplitStatistics,
    Status,
    Strata,
    TokenLogit,
    UnitId,
    UnitRecord,
    Window,
)
from autointerp.scorers import ScoreJob, load_scorer
from autointerp.store.ledger import Ledger
from autointerp.subject.embedded import embedded_model_folder

LENGTH = 32
MAXIMUM = 10.0
N_OTHERS = 5
"""Other units, whose promoted tokens are mixed with the unit's own."""


def designs(each: int) -> dict[str, dict[str, Any]]:
    """The scorers, with as many questions as others ask."""
    return {
        "detection, 5 a question": {"type": "detection"},
        "detection, 1 a question": {"type": "detection", "n_per_prompt": 1},
        "fuzzing, 5 a question": {"type": "fuzzing"},
        "intruder, 50 trials of 5": {"type": "intruder", "n_trials": 50},
        "intruder, 20 trials of 5": {"type": "intruder"},
        "pair, 50 pairs": {"type": "pair", "n_pairs": each},
        "pair, 1 a question": {"type": "pair", "n_pairs": each, "n_per_prompt": 1},
        "sort, 25 pairs": {"type": "sort", "n_pairs": each // 2},
        "rating, 30 + 15 texts": {"type": "rating"},
        "logit_weight, 10 + 10 tokens": {"type": "logit_weight"},
        "bricken60, 60 texts of 9": {"type": "bricken60"},
        "bricken60, 60 texts of 9, 1 a question": {"type": "bricken60", "n_per_prompt": 1},
        "recall_alt, 20 + 5 + 5 texts": {"type": "recall_alt"},
    }


class CountingJudge:
    """Answers what the schema allows, and counts tokens as a local model would."""

    name = "made/up"
    fingerprint = "made up"
    capabilities = Capabilities(json_schema=True)

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def complete(self, requests: Sequence[Request]) -> list[Response]:
        """The plainest answer to every request, with what it takes."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Response:
        turns = [{"role": m.role, "content": m.content} for m in request.messages]
        prompt = self.tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True
        )
        answer = made_up_answer(request)
        # One more ends the answer.
        usage = Usage(self._count(prompt), 0, self._count(answer) + 1)
        return Response(answer, ResponseStatus.OK, usage, model=self.name)

    def _count(self, text: str) -> int:
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def made_up_unit(
    number: int, each: int, n_active: int, ids: Sequence[int], tokenizer: Any
) -> UnitRecord:
    """A unit of windows of the corpus, every one a document of its own."""
    generator = np.random.default_rng(number)
    unit = UnitId("made", number)
    top = [int(i) for i in generator.choice(ids, 3)]
    records: list[ActivationRecord] = []
    for place in range(2 * each):
        start = int(generator.integers(len(ids) - LENGTH))
        window = np.array(ids[start : start + LENGTH])
        values = np.zeros(LENGTH, np.float32)
        stratum, hard_by = Strata.SILENT, None
        where = generator.choice(LENGTH, n_active, replace=False)
        if place < each:
            # Eight windows of the highest of 13 value intervals, the others evenly over the rest.
            share = 1 - place / 200 if place < 8 else 12 / 13 * (each - place) / (each - 8)
            level = MAXIMUM * share
            values[where] = level * generator.uniform(0.4, 1, n_active)
            values[where[0]] = level
            window[where[0]] = top[place % 3]
            stratum = Strata.interval(max(1, int(np.ceil(level * 10 / MAXIMUM))))
        elif place % 2:
            stratum, hard_by = Strata.HARD, HardBy.TOP_TOKEN
            window[where[0]] = top[place % 3]
        records.append(
            ActivationRecord(
                unit, Window(f"{number}:{place}", 0, LENGTH), f"{number} {place}", Split.TEST,
                stratum, 1.0, tuple(tokenizer.decode([int(i)]) for i in window), values,
                np.zeros(LENGTH, bool), hard_by=hard_by,
            )
        )  # fmt: skip
    explain = SplitStatistics(1000, 10, 100, 10, MAXIMUM, (0.0, 0.0, 0.0, 0.0), (), ())
    promoted = tuple(
        TokenLogit(tokenizer.decode([int(i)]), int(i), 1.0) for i in generator.choice(ids, 30)
    )
    return UnitRecord(unit, tuple(records), {Split.EXPLAIN: explain}, promoted=promoted)


def job_of(units: Sequence[UnitRecord], place: int, n_others: int) -> ScoreJob:
    """One unit's explanation, of usual length; the units after it are the others."""
    unit = units[place]
    own = Explanation(unit.unit, "made", TYPICAL_EXPLANATION, Status.OK, "made")
    others = tuple(units[(place + step) % len(units)] for step in range(1, n_others + 1))
    return ScoreJob(unit, own, (), "made", "made", str(unit.unit), others)


def fail(place: int, error: Exception) -> None:
    """No score may fail here."""
    raise RuntimeError(f"unit {place}: {error}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=8)
    parser.add_argument("--active", type=int, default=3)
    parser.add_argument("--each", type=int, default=50)
    arguments = parser.parse_args()
    tokenizer: Any = AutoTokenizer.from_pretrained(embedded_model_folder())
    corpus = read_corpus(resources.path("datasets/demo/corpus.jsonl"))
    text = "\n".join(document.text for document in corpus.documents[:200])
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    units = [
        made_up_unit(number, arguments.each, arguments.active, ids, tokenizer)
        for number in range(arguments.units + N_OTHERS)
    ]
    score = ScoreConfig(shuffled_donors=0, bootstrap=100)
    found: dict[str, Any] = {}
    for number, (name, settings) in enumerate(designs(arguments.each).items()):
        scorer: Any = load_scorer(ScorerConfig(name="one", **settings), score, "made", 0)
        with tempfile.TemporaryDirectory() as folder:
            ledger = Ledger(Path(folder) / f"{number}.db")
            judge = MeteredClient(CountingJudge(tokenizer), Meter(ledger, load_prices(None)))
            # Others are the tokens to choose from here; intruders ask about them as a control.
            n_others = N_OTHERS if settings["type"] == "logit_weight" else 0
            jobs = [
                (place, scorer.score(job_of(units, place, n_others)))
                for place in range(arguments.units)
            ]
            scores: dict[int, Any] = {}
            drive(iter(jobs), {Request: judge.complete}, scores.__setitem__, fail)
            rows = ledger.rows()
            ledger.close()
        found[name] = {
            "n": round(float(np.mean([one.details["n"] for one in scores.values()])), 1),
            **{
                key: round(sum(getattr(row, key) for row in rows) / arguments.units, 1)
                for key in ("requests", "input_tokens", "output_tokens")
            },
        }
    facts = {"n_units": arguments.units, "n_active": arguments.active, "each": arguments.each}
    print(json.dumps({**facts, "per_unit": found}, indent=2))


if __name__ == "__main__":
    main()
