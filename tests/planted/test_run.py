"""A run over the planted model: what is recorded, explained and scored is what was planted."""

import numpy as np
import pytest

from autointerp.explainers import ExplainView
from autointerp.explainers.top_tokens import TopTokens
from autointerp.planted import UNITS, oracle_for
from autointerp.planted.model import INDEX, explanations_of_latents, latent_units
from autointerp.records import Explanation, Split, Status, UnitId
from autointerp.scorers import ScoreJob
from autointerp.scorers.simulation import SimulationScorer
from autointerp.simulators import Inverted
from autointerp.store import RunStore
from autointerp.stored_run import from_store

LATENTS = latent_units()
PLACE_OF = {unit: place for place, unit in enumerate(LATENTS)}


def latent(name: str, polarity: int = 1) -> int:
    return PLACE_OF[UnitId("directions", INDEX[name], polarity)]


def known(name: str) -> bool:
    return next(u for u in UNITS if u.name == name).kind not in ("zero", "constant")


def test_recorded_activations_are_the_computed_ones(planted, planted_run):
    """To the last place of half precision, in which they are stored."""
    n = 0
    for record in planted_run.records[: len(LATENTS)]:
        for window in record.records:
            span = window.window
            truth = planted.latents(planted_run.ids[span.sequence_id])
            want = truth[span.start : span.stop, record.unit.index]
            np.testing.assert_allclose(window.activations, want, rtol=0.0005, atol=0.002)
            n += bool(want.any())
    assert n > 300


def test_firing_rates_are_counted_over_the_whole_corpus(planted, planted_run):
    store = RunStore(planted_run.folder)
    found = {unit.unit.index: unit for unit in store.units("latents")}
    store.close()
    active, n = np.zeros(len(LATENTS)), 0
    for sequence in planted_run.sequences.values():
        if sequence.split != Split.EXPLAIN:
            continue
        values = planted.latents(sequence.token_ids)[~sequence.masked]
        active += (values > 0).sum(0)
        n += len(values)
    want = active / n
    for place in range(len(LATENTS)):
        assert found[place].density == pytest.approx(want[place], abs=1e-9)


def scored(planted, run, simulator, place, donors=()):
    def words(index):
        text = explanations_of_latents()[index]
        return Explanation(UnitId("latents", index), "true", text, Status.OK, f"k{index}")

    others = tuple(words(d) for d in donors)
    job = ScoreJob(run.records[place], words(place), others, simulator.name, "f", "k")
    steps = SimulationScorer("planted", n_replicates=100, min_active_documents=1).score(job)
    return from_store(steps, lambda r: simulator.simulate(r.explanation, r.sequences))


def test_true_explanations_read_perfectly_score_one_and_others_about_nothing(planted, planted_run):
    oracle = oracle_for(planted, planted_run.records, planted_run.ids)
    donors = [latent(n) for n in ("the", "colours", "tools", "furniture")]
    for name in (u.name for u in UNITS if known(u.name)):
        place = latent(name)
        score = scored(planted, planted_run, oracle, place, [d for d in donors if d != place])
        assert score.status == Status.OK, name
        assert score.value == pytest.approx(1, abs=1e-4), name
        assert abs(score.control_mean) < 0.15, name
        assert score.lift > 0.8, name
    turned = scored(planted, planted_run, Inverted(oracle), latent("animals"))
    assert turned.value == pytest.approx(-1, abs=1e-4)


def test_near_units_are_told_apart(planted, planted_run):
    """Cold is not heat; animals are not animals after the sea; chairs are not other furniture."""
    oracle = oracle_for(planted, planted_run.records, planted_run.ids)
    pairs = [
        (latent("heat"), latent("heat", -1)),
        (latent("both"), latent("animals")),
        (latent("furniture"), latent("chairs")),
    ]
    for one, other in pairs:
        for unit, foreign in ((one, other), (other, one)):
            score = scored(planted, planted_run, oracle, unit, [foreign])
            assert score.value == pytest.approx(1, abs=1e-4)
            assert score.control_mean < 0.9


def test_constant_and_silent_units_have_no_number(planted, planted_run):
    oracle = oracle_for(planted, planted_run.records, planted_run.ids)
    score = scored(planted, planted_run, oracle, latent("constant"))
    assert score.value is None and score.status == Status.UNDEFINED_TRUTH
    score = scored(planted, planted_run, oracle, latent("silent 0"))
    assert score.value is None
    assert score.status in (Status.INSUFFICIENT_DATA, Status.UNDEFINED_TRUTH, Status.DEAD)


@pytest.mark.parametrize("name", ["the", "animals", "tools", "sea", "chairs", "food or family"])
def test_top_tokens_name_planted_words_and_no_others(planted_run, name):
    """An explainer without a language model finds what was planted, from `explain` alone."""
    steps = TopTokens().explain(ExplainView.of(planted_run.records[latent(name)]), "k")
    with pytest.raises(StopIteration) as end:
        next(steps)
    named = {token["token"] for token in end.value.value.details["tokens"]}
    words = set(next(u for u in UNITS if u.name == name).strengths)
    assert named <= words and len(named) >= min(8, len(words))
