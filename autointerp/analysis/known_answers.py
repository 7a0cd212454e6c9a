"""The known answers that ship with autointerp: planted units whose explanation is known.

Every unit has four explanations: the true one, one too broad, one too narrow, and an unrelated one.
For each the data say what it predicts on every window, so that an oracle needs no rules.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autointerp import resources
from autointerp.records import AutointerpError
from autointerp.simulators import Oracle

TEXTS = ("true", "broad", "narrow", "unrelated")
"""The four explanations of a unit, the true one first."""

GROUPS = {
    "tokens": ("token", "set", "pattern", "affix"),
    "context": ("previous", "gate", "negated", "long_range", "and", "or", "hierarchy"),
    "whole text": ("position", "topic", "graded", "dense", "signed"),
}
"""What a reader must look at → kinds of unit; kinds that no text decides are in none."""


@dataclass(frozen=True)
class KnownAnswer:
    """One planted unit with the windows of one split."""

    unit: str
    name: str
    kind: str
    """See `datasets/known_answers/README.md`."""

    readable: bool
    """Whether the text decides where it fires, and it fires often enough."""

    explanations: dict[str, str]
    """Name in `TEXTS` → words."""

    tokens: tuple[tuple[str, ...], ...]
    """Per window the token texts, [n_tokens] each."""

    predictions: dict[str, tuple[np.ndarray, ...]]
    """Name in `TEXTS` → per window what that explanation predicts; `true` is the truth."""

    expected_status: str
    """Status that a score of the unit must have."""

    @property
    def truth(self) -> tuple[np.ndarray, ...]:
        """Per window the planted activations, [n_tokens] each, from 0 to 10."""
        return self.predictions["true"]


def known_answers(split: str = "test") -> list[KnownAnswer]:
    """All planted units in their order, with the windows of `split` (`explain` or `test`)."""
    import pyarrow.parquet as pq  # late: slow to import

    folder = resources.path("datasets/known_answers")
    units: list[dict[str, Any]] = json.loads((folder / "units.json").read_text("utf-8"))
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in pq.read_table(folder / "known_answers.parquet").to_pylist():
        if row["split"] == split:
            rows[row["unit"]].append(row)
    columns = {
        "true": "activations",
        "broad": "broad",
        "narrow": "narrow",
        "unrelated": "unrelated",
    }
    return [
        KnownAnswer(
            unit["unit"],
            unit["name"],
            unit["kind"],
            unit["readable"],
            {"true": unit["explanation"]} | {name: unit[name] for name in TEXTS[1:]},
            tuple(tuple(row["tokens"]) for row in rows[unit["unit"]]),
            {
                name: tuple(np.asarray(row[column], np.float32) for row in rows[unit["unit"]])
                for name, column in columns.items()
            },
            unit["expected_status"],
        )
        for unit in units
    ]


def oracle_of(answers: Sequence[KnownAnswer]) -> Oracle:
    """A simulator that knows what every explanation of these units means on these windows."""
    tables: dict[str, dict[tuple[str, ...], np.ndarray]] = defaultdict(dict)
    for answer in answers:
        for name in TEXTS:
            for tokens, values in zip(answer.tokens, answer.predictions[name], strict=True):
                tables[answer.explanations[name]][tokens] = values

    def rule(text: str) -> Any:
        def look_up(tokens: Sequence[str]) -> np.ndarray:
            found = tables[text].get(tuple(tokens))
            if found is None:
                raise AutointerpError(f"the oracle was not told what {text!r} means on this text")
            return found

        return look_up

    return Oracle({text: rule(text) for text in tables})
