"""No explainer reads anything but the `explain` split, whatever its type."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from autointerp.config import EXPLAINER_KEYS, ExplainerConfig
from autointerp.explainers import EXPLAINERS, ExplainView, load_explainer
from autointerp.llm import Request, Response, ResponseStatus
from autointerp.records import ActivationRecord, Explanation, Split, SplitStatistics, UnitRecord
from tests.explainers.asked import unit, write_label
from tests.explainers.planted import UNIT, animals_with_statistics

SELECTING = {"best_of"}
"""Types that choose among others' explanations and are shown no window at all."""


@pytest.fixture(params=sorted(set(EXPLAINERS) - SELECTING))
def explainer(request, tmp_path: Path) -> Any:
    texts = tmp_path / "texts.csv"
    texts.write_text(f"unit,explanation\n{UNIT},animals\n")
    paths = {"fixed": texts, "labels": write_label(tmp_path / "labels.jsonl", str(UNIT))}
    settings = {"path": str(paths[request.param])} if request.param in paths else {}
    return load_explainer(ExplainerConfig(name="x", type=request.param, **settings))


def run(explainer: Any, view: ExplainView) -> tuple[Explanation, list[Request]]:
    """An explanation with all that was asked for it; every answer is the same."""
    asked: list[Request] = []
    steps = explainer.explain(view, "key")
    answers: Sequence[Response] | None = None
    while True:
        try:
            requests = next(steps) if answers is None else steps.send(answers)
        except StopIteration as end:
            return end.value, asked
        asked += requests
        said = Response("[EXPLANATION]: animals", ResponseStatus.OK)
        # What a live subject is asked knows an answer for dry runs.
        answers = [one.made_up() if hasattr(one, "made_up") else said for one in requests]


def whole() -> UnitRecord:
    """In `calibrate`, `test` and `audit` documents " ZEBRA" fires, nowhere in `explain`."""
    return replace(unit(), statistics=animals_with_statistics().statistics)


def inputs(value: Any) -> Sequence[ActivationRecord | SplitStatistics]:
    """All records and statistics that can be reached from a view."""
    if isinstance(value, ActivationRecord | SplitStatistics):
        return [value]
    if isinstance(value, tuple | list):
        return [found for item in value for found in inputs(item)]
    if is_dataclass(value):
        return [found for field in fields(value) for found in inputs(getattr(value, field.name))]
    return []


def test_every_type_is_tested():
    assert set(EXPLAINER_KEYS) == set(EXPLAINERS)


def test_the_view_of_a_unit_reaches_the_explain_split_alone():
    view = ExplainView.of(whole())
    found = inputs(view)
    assert {record.split for record in found if isinstance(record, ActivationRecord)} == {
        Split.EXPLAIN
    }
    statistics = [one for one in found if isinstance(one, SplitStatistics)]
    assert statistics == [whole().statistics[Split.EXPLAIN]]
    assert view.maximum == whole().statistics[Split.EXPLAIN].maximum
    assert "ZEBRA" in str(whole()) and "ZEBRA" not in str(view)


def test_other_splits_change_neither_question_nor_explanation(explainer):
    everything = whole()
    alone = replace(
        everything,
        records=everything.of(Split.EXPLAIN),
        statistics={Split.EXPLAIN: everything.statistics[Split.EXPLAIN]},
    )
    found, asked = run(explainer, ExplainView.of(everything))
    expected, asked_alone = run(explainer, ExplainView.of(alone))
    assert asked == asked_alone
    assert (found.text, found.details) == (expected.text, expected.details)
    assert found.text is not None or any(hasattr(one, "made_up") for one in asked), found.reason
    assert "ZEBRA" not in f"{found} {asked}"
