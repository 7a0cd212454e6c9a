"""Cascades in a run: who is asked what, what stands in the place of a missing score, the mean."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from autointerp.cascade import decided
from autointerp.config import parse_config
from autointerp.progress import Silent
from autointerp.records import Status, UsageError
from autointerp.runner import Run, run
from tests.made_scorers import MadeScorer, install, sixty_units
from tests.run_helpers import StopAfter

CALLS: Counter[str] = Counter()
"""Explanations that each made scorer was asked about."""


def quality(index: int) -> float:
    """How good the explanation of a unit is: a third are good, the others poor."""
    return 0.6 if index % 3 == 0 else 0.0


class Made(MadeScorer):
    """The quality of the unit, and how far the scorer is off."""

    def value(self, index: int) -> float:
        CALLS[self.name] += 1
        # The first stage leaves every fifth unit in the middle, where it cannot tell.
        if self.name == "first" and index % 5 == 0:
            return 0.3
        return quality(index) + 0.001 * (index % 7)


class OfUnits(Made):
    reads_explanation = False


@pytest.fixture(autouse=True)
def made_scorers(monkeypatch: pytest.MonkeyPatch) -> None:
    CALLS.clear()
    install(monkeypatch, first=Made, second=Made, gold=Made, of_units=OfUnits)


def config_of(folder: Path, model: Path, **changes: Any) -> Any:
    stages = ["first", "second", "gold"]
    return sixty_units(folder, model, **{
        "scorers": [{"name": name, "type": name} for name in stages],
        "cascade": {"stages": stages, "gold_share": 0.5, "max_error": 0.3, "delta": 0.2,
                    "bar": 0.5},
        **changes,
    })  # fmt: skip


def rows_of(config: Any) -> list[dict[str, Any]]:
    text = (Path(config.output) / "explanations.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_later_stages_are_asked_about_gold_units_and_what_is_open(
    tmp_path: Path, tiny_folder: Path
) -> None:
    config = config_of(tmp_path, tiny_folder)
    results = run(config)
    assert results is not None
    staged = results.staged["cascade"]
    assert CALLS["first"] == 60
    gold = staged["n_gold_units"]
    assert gold == 30
    assert gold < CALLS["second"] < 60
    assert CALLS["second"] == staged["n_scored"]["second"]
    assert CALLS["gold"] == staged["n_scored"]["gold"]
    decisions = staged["explainers"]["top_tokens"]["decided"]
    assert decisions["first"]["poor"] > 20


def test_a_score_that_was_not_needed_says_who_decided(tmp_path: Path, tiny_folder: Path) -> None:
    config = config_of(tmp_path, tiny_folder)
    run(config)
    missing = [
        row["scores"]["gold"]
        for row in rows_of(config)
        if row["scores"]["gold"]["status"] == "staged" and row["scores"]["gold"]["score"] is None
    ]
    assert missing
    assert all(one["reason"].startswith("decided by ") for one in missing)
    assert {one["reason"].rsplit(", ", 1)[1] for one in missing} <= {"poor", "good"}
    assert all(one["lift"] is None and one["score_interval"] is None for one in missing)


def test_means_of_later_stages_are_of_gold_units_alone(tmp_path: Path, tiny_folder: Path) -> None:
    config = config_of(tmp_path, tiny_folder)
    results = run(config)
    assert results is not None
    summary = json.loads((Path(config.output) / "summary.json").read_text())
    group = summary["scorers"]["gold"]["sources"]["neurons"]["explainers"]["top_tokens"]
    gold = [u.unit for u in results.units if u.judged["gold"]["top_tokens"].status == "ok"
            and not u.judged["gold"]["top_tokens"].details]  # fmt: skip
    assert group["counts"]["scored"] == len(gold) == 30
    truth = [quality(u.index) + 0.001 * (u.index % 7) for u in gold]
    assert group["lift"]["excluded"]["mean"] == pytest.approx(sum(truth) / 30)
    assert group["lift"]["worst_case"] is None
    outside = [
        row for row in rows_of(config)
        if row["scores"]["gold"]["status"] == "staged"
        and row["scores"]["gold"]["score"] is not None
    ]  # fmt: skip
    assert all("in no mean" in row["scores"]["gold"]["reason"] for row in outside)


def test_the_mean_of_the_dictionary_is_prediction_powered(
    tmp_path: Path, tiny_folder: Path
) -> None:
    config = config_of(tmp_path, tiny_folder)
    results = run(config)
    assert results is not None
    mean = results.staged["cascade"]["means"]["neurons"]["top_tokens"]
    truth = [quality(u.unit.index) + 0.001 * (u.unit.index % 7) for u in results.units]
    found = mean["these_units"]
    assert found["interval"]["low"] <= sum(truth) / 60 <= found["interval"]["high"]
    assert found["gain"] > 1
    assert mean["n_gold"] == 30 and mean["n_cheap_only"] == 30


def test_a_killed_cascade_goes_on_and_asks_nothing_twice(tmp_path: Path, tiny_folder: Path) -> None:
    config = config_of(tmp_path, tiny_folder)
    run(config, until="explain")
    for _ in range(12):
        try:
            run(config, reporter=StopAfter(9))
            break
        except KeyboardInterrupt:
            continue
    run(config)
    asked = dict(CALLS)
    again = run(config)
    assert again is not None
    assert dict(CALLS) == asked
    assert asked == again.staged["cascade"]["n_scored"]


def test_without_decisions_only_gold_units_reach_the_gold_stage(
    tmp_path: Path, tiny_folder: Path
) -> None:
    cascade = {"stages": ["first", "gold"], "gold_share": 0.2, "decide": False}
    scorers = [{"name": name, "type": name} for name in ("first", "gold")]
    config = config_of(tmp_path, tiny_folder, cascade=cascade, scorers=scorers)
    run(config)
    assert dict(CALLS) == {"first": 60, "gold": 12}
    reasons = {row["scores"]["gold"]["reason"] for row in rows_of(config)} - {""}
    assert reasons == {"gold scores the 12 gold units alone (cascade.decide is false)"}


def test_too_few_gold_units_decide_nothing(tmp_path: Path, tiny_folder: Path) -> None:
    cascade = {"stages": ["first", "gold"], "gold_share": 0.1}
    scorers = [{"name": name, "type": name} for name in ("first", "gold")]
    config = config_of(tmp_path, tiny_folder, cascade=cascade, scorers=scorers)
    results = run(config)
    assert results is not None
    assert dict(CALLS) == {"first": 60, "gold": 60}
    rule = results.staged["cascade"]["explainers"]["top_tokens"]["thresholds"]["first"]
    assert rule["poor"] is None and rule["good"] is None
    # What was scored because it was open is not part of the random sample, all the same.
    assert results.staged["cascade"]["n_gold_units"] == 6


def test_simulation_can_be_the_last_stage(tmp_path: Path, tiny_folder: Path) -> None:
    scorers = [{"name": "first", "type": "first"}, {"name": "sim", "type": "simulation"}]
    cascade = {"stages": ["first", "sim"], "gold_share": 0.3, "decide": False}
    config = config_of(
        tmp_path, tiny_folder, cascade=cascade, scorers=scorers,
        units={"sample": 10, "min_active_documents": 1},
    )  # fmt: skip
    results = run(config)
    assert results is not None
    scored = [u for u in results.units if u.scores["top_tokens"].status is not Status.STAGED]
    assert len(scored) == 3
    assert results.staged["cascade"]["n_scored"] == {"first": 10, "sim": 3}


def test_decisions_follow_from_stored_scores_alone(tmp_path: Path, tiny_folder: Path) -> None:
    config = config_of(tmp_path, tiny_folder)
    run(config)
    here = Run(config, Silent(), None)
    with here.store.lock():
        found = [decided(here), decided(here)]
        here.store.close()
    assert found[0] == found[1]


def test_a_scorer_of_units_cannot_be_a_stage(tmp_path: Path, tiny_folder: Path) -> None:
    scorers = [{"name": "first", "type": "of_units"}, {"name": "gold", "type": "gold"}]
    cascade = {"stages": ["first", "gold"]}
    config = config_of(tmp_path, tiny_folder, cascade=cascade, scorers=scorers)
    with pytest.raises(UsageError, match="'first' scores units, not explanations"):
        run(config)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cascade": {"stages": ["first", "nobody"]}}, "cascade.stages names 'nobody'"),
        ({"cascade": {"stages": ["first", "first"]}}, "one stage only"),
        ({"cascade": {"stages": ["first"]}}, "at least 2"),
        ({"score": {"shuffled_donors": 0}}, "set measure to score"),
        ({"score": {"stop": {"half_width": 0.1}}}, "keep one"),
    ],
)
def test_a_cascade_that_cannot_be_is_refused(
    tmp_path: Path, tiny_folder: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        config_of(tmp_path, tiny_folder, **changes)


def test_the_config_is_read_back_as_it_was_written(tmp_path: Path, tiny_folder: Path) -> None:
    config = config_of(tmp_path, tiny_folder)
    again = parse_config(config.model_dump(mode="json"), type(config), "again")
    assert again == config


def test_the_summary_says_what_was_decided(tmp_path: Path, tiny_folder: Path) -> None:
    from autointerp.analysis.staged_words import staged_lines

    results = run(config_of(tmp_path, tiny_folder))
    assert results is not None
    lines = list(staged_lines(results.staged))
    assert lines[0].startswith("Cascade: 30 of 60 units are gold; explanations scored: first 60")
    assert "At most 30 % of either kind are wrong (80 % sure)" in lines[1]
    assert "from 30 gold units, worth" in lines[2]


def test_an_estimate_says_what_a_cascade_may_save(tmp_path: Path, tiny_folder: Path) -> None:
    from autointerp.staging import savings_notes

    config = config_of(tmp_path, tiny_folder)
    (note,) = savings_notes(config)
    assert "second, gold are asked about at least 50 % of the units, first about all" in note


def test_the_example_of_the_docs_is_a_cascade() -> None:
    import re

    import yaml

    from autointerp.config import RunConfig

    page = (Path(__file__).parents[1] / "docs" / "cost.md").read_text()
    blocks = [b for b in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "cascade:" in b]
    config = parse_config(yaml.safe_load(blocks[0]), RunConfig, "docs/cost.md")
    assert config.cascade is not None and not config.cascade.decide
    (bare,) = blocks[1:]
    plan = {**config.model_dump(mode="json"), **yaml.safe_load(bare)}
    plan["scorers"] += [{"name": "detection", "type": "detection"}]
    assert parse_config(plan, RunConfig, "docs/cost.md").cascade.bar == 0.3
