"""Best-of-k: chosen on `calibrate`, reported on `test`, beside the best-of-k of shuffled words."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from autointerp.config import RunConfig, load_config, parse_config
from autointerp.explainers.best_of import BestOf, Candidate, best, candidates_of, donors_of
from autointerp.progress import Silent
from autointerp.records import (
    AutointerpError,
    Explanation,
    Score,
    Split,
    Status,
    UnitId,
    UsageError,
)
from autointerp.runner import Run, run
from autointerp.scorers import ScoreJob
from autointerp.selecting import Selection, _chosen
from autointerp.simulation_stage import simulation_scorer
from tests.run_helpers import small_config, write_dictionary
from tests.scorers.test_embedding import made_folder

UNIT = UnitId("features", 3)
TEXTS = ("water and rain", "people who farm", "the number seven", "walls of stone")


@pytest.fixture(scope="module")
def config(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    folder = tmp_path_factory.mktemp("best_of")
    explainers = []
    for n, text in enumerate(TEXTS):
        path = folder / f"{n}.csv"
        rows = "".join(f"features/{i},{text} {i % 5}\n" for i in range(24))
        path.write_text("unit,explanation\n" + rows)
        explainers.append({"name": f"text{n}", "type": "fixed", "path": str(path)})
    names = [explainer["name"] for explainer in explainers]
    explainers += [
        {"name": "best", "type": "best_of", "of": names},
        {"name": "nearest", "type": "best_of", "of": names[:3], "by": "near"},
    ]
    scorers = [
        {"name": "simulation", "type": "simulation"},
        {"name": "near", "type": "embedding", "model": str(made_folder(folder))},
    ]
    sources = {"features": {"type": "sae", "path": str(write_dictionary(folder / "sae"))}}
    return small_config(
        folder, tiny_folder, explainers=explainers, scorers=scorers, sources=sources,
        units={"sample": 4}, controls=False,
        score={"shuffled_donors": 2, "bootstrap": 100, "min_active_documents": 1},
    )  # fmt: skip


@pytest.fixture(scope="module")
def results(config: RunConfig):
    path = Path(config.output or "").parent / "best.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return run(load_config(path, RunConfig))


def test_the_chosen_text_has_the_largest_score_on_calibrate(config, results):
    again = Run(config, Silent(), None)
    simulator = again.parts.simulator("best")
    for unit in results.units:
        chosen = unit.explanations["best"]
        assert chosen.status is Status.OK
        details = chosen.details
        assert (details["scorer"], details["split"], details["k"]) == ("simulation", "calibrate", 4)
        values = [entry["value"] for entry in details["candidates"]]
        assert chosen.text == details["candidates"][details["chosen"]]["text"]
        known = [value for value in values if value is not None]
        assert details["value_on_calibrate"] == max(known)
        assert details["mean_on_calibrate"] == pytest.approx(np.mean(known))
        # The same from the records, by another way.
        scorer = replace(
            simulation_scorer(again, again.design.name),
            split=Split.CALIBRATE,
            min_active_documents=1,
        )
        for entry in details["candidates"]:
            words = Explanation(unit.unit, "x", entry["text"], Status.OK, "")
            steps = scorer.score(ScoreJob(unit.record, words, (), "", "", ""))
            requests = next(steps)
            windows = [w.tokens for w in unit.record.of(Split.CALIBRATE) if w.stratum != "random"]
            assert [list(r.sequences) for r in requests] == [windows]
            try:
                pairs = [(r.explanation, r.sequences) for r in requests]
                steps.send(simulator.simulate_many(pairs))
            except StopIteration as end:
                assert end.value.value == pytest.approx(entry["value"], abs=0.02)


def test_it_is_reported_on_test_where_its_score_is_that_of_the_chosen_one(results):
    n_compared = 0
    for unit in results.units:
        chosen = unit.explanations["best"]
        entry = chosen.details["candidates"][chosen.details["chosen"]]
        score = unit.scores["best"]
        assert score.split is Split.TEST
        # Tokens that a donor does not know are left out, so that donors matter a little.
        if score.n_unknown_tokens == unit.scores[entry["explainer"]].n_unknown_tokens:
            assert score.value == pytest.approx(unit.scores[entry["explainer"]].value)
            n_compared += 1
    assert n_compared


def test_controls_have_been_chosen_as_well(results):
    for unit in results.units:
        chosen = unit.explanations["best"]
        shuffled = chosen.details["shuffled"]
        assert len(shuffled) == 2
        score = unit.scores["best"]
        assert [str(control.donor) for control in score.controls] == [e["unit"] for e in shuffled]
        assert str(unit.unit) not in [entry["unit"] for entry in shuffled]
        for donor, entry in zip(donors_of(chosen), shuffled, strict=True):
            assert donor.text == entry["text"]
            assert donor.text in [f"{text} {donor.unit.index % 5}" for text in TEXTS]
        values = [entry["value"] for entry in shuffled if entry["value"] is not None]
        found = chosen.details["shuffled_best_on_calibrate"]
        assert found == (pytest.approx(np.mean(values)) if values else None)


def test_any_scorer_of_explanations_can_choose(results):
    for unit in results.units:
        chosen = unit.explanations["nearest"]
        assert (chosen.details["scorer"], chosen.details["k"]) == ("near", 3)
        values = [entry["value"] for entry in chosen.details["candidates"]]
        assert chosen.details["value_on_calibrate"] == max(v for v in values if v is not None)


def test_a_second_run_chooses_nothing_anew(config, results):
    class Counts(Silent):
        stages: dict[str, int] = {}  # noqa: RUF012

        def stage(self, name: str, total: int, unit: str) -> None:
            self.stages[name] = total

    reporter = Counts()
    again = run(config, reporter=reporter)
    assert again is not None
    assert reporter.stages["best"] == reporter.stages["nearest"] == reporter.stages["score"] == 0
    assert [u.scores["best"] for u in again.units] == [u.scores["best"] for u in results.units]


def test_what_cannot_choose_is_refused(config):
    data = config.model_dump(mode="json")

    def refused(match: str, **changes) -> None:
        with pytest.raises(UsageError, match=match):
            run(parse_config({**data, **changes}, RunConfig, "test"))

    texts = data["explainers"][:4]
    refused("nobody", explainers=[*texts, {"name": "b", "type": "best_of", "of": ["nobody"]}])
    refused("names 'b'", explainers=[*texts, {"name": "b", "type": "best_of", "of": ["b"]}])
    refused("`of`", explainers=[*texts, {"name": "b", "type": "best_of"}])
    by = {"name": "b", "type": "best_of", "of": ["text0"], "by": "odd"}
    refused("by is 'odd'", explainers=[*texts, by])
    odd = [{"name": "odd", "type": "intruder"}]
    refused("cannot choose", explainers=[*texts, by], scorers=[*data["scorers"], *odd])


def test_candidates_are_all_samples_and_all_items_each_once():
    details = {"candidates": [{"text": None}, {"text": "Rain"}, {"text": "rain "}, {"text": "sun"}]}
    one = Explanation(UNIT, "a", "rain", Status.OK, "k1", details=details)
    failed = Explanation(UNIT, "b", None, Status.FAILED, "k2")
    two = Explanation(UNIT, "c", "snow", Status.OK, "k3")
    assert candidates_of([one, failed, two]) == [
        Candidate("rain", "a", "k1"), Candidate("sun", "a", "k1"), Candidate("snow", "c", "k3")
    ]  # fmt: skip


def test_the_first_of_equals_is_best_and_missing_ones_never():
    assert best([0.1, None, 0.5, 0.5]) == 2
    assert best([-0.2, None]) == 0
    assert best([None, None]) is None and best([]) is None


def score(value: float | None) -> Score:
    status = Status.INSUFFICIENT_DATA if value is None else Status.OK
    return Score(UNIT, "", "", "", "", value, status, "")


def test_without_any_score_the_first_stands_and_is_said_to_be_unchosen():
    own = (Candidate("a", "x", "1"), Candidate("b", "x", "1"))
    found = _chosen(BestOf("best", of=["x"]), Selection(UNIT, "key", own, ()),
                    {0: score(None), 1: score(None)})  # fmt: skip
    assert (found.text, found.details["chosen"]) == ("a", None)
    assert found.details["value_on_calibrate"] is None
    nothing = _chosen(BestOf("best", of=["x"]), Selection(UNIT, "key", (), ()), {})
    assert (nothing.status, nothing.text) == (Status.FAILED, None) and "x" in nothing.reason


def test_choosing_among_noise_lifts_nothing():
    """20 texts that are worth the same: on calibrate the best seems good, as shuffled ones do."""
    generator = np.random.default_rng(0)
    own = tuple(Candidate(f"own {i}", "x", "1") for i in range(20))
    donors = tuple((UnitId("features", 10 + d), own) for d in range(3))
    gaps, seeming = [], []
    for _ in range(200):
        values = dict(enumerate(score(float(v)) for v in generator.normal(size=80)))
        found = _chosen(BestOf("best", of=["x"]), Selection(UNIT, "key", own, donors), values)
        seeming.append(found.details["value_on_calibrate"])
        gaps.append(seeming[-1] - found.details["shuffled_best_on_calibrate"])
    # The expected maximum of 20 standard normal numbers.
    assert np.mean(seeming) == pytest.approx(1.867, abs=0.15)
    assert np.mean(gaps) == pytest.approx(0.0, abs=0.12)


def test_it_sees_no_window_itself():
    with pytest.raises(AutointerpError, match="in a run"):
        BestOf("best", of=["x"]).explain(None, "key")  # type: ignore[arg-type]
