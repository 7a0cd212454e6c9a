"""Gates that need a model, on one whose units are planted (`autointerp.planted`): no download.

A folder is written and recorded once for all of them, and removed at the end of the program.
"""

import random
import re
import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from autointerp import stats
from autointerp.config import ExplainerConfig, LlmConfig, RunConfig, load_config, parse_config
from autointerp.gates import NotRunError
from autointerp.planted import UNITS, PlantedModel, oracle_for, write_folder
from autointerp.planted.folder import SOURCE
from autointerp.planted.model import INDEX, explanations_of_latents, latent_units
from autointerp.planted.units import STRONG
from autointerp.records import Explanation, Sequence, Status, UnitId, UnitRecord

_WITH_WORDS = ("token", "set", "graded", "or", "hierarchy")
"""Kinds of planted unit that words alone decide: what a list of tokens can say."""


@dataclass(frozen=True)
class Recorded:
    """The planted model, and what was recorded of its dictionary."""

    folder: Path
    planted: PlantedModel
    config: RunConfig
    records: tuple[UnitRecord, ...]
    """Of every latent, by its index."""

    sequences: dict[str, Sequence]

    @property
    def ids(self) -> dict[str, list[int]]:
        """Sequence id → token ids."""
        return {name: one.token_ids.tolist() for name, one in self.sequences.items()}


@cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="autointerp-gates-")


@cache
def recorded() -> Recorded:
    """Write and record the planted model; done once."""
    from autointerp.runner import run
    from autointerp.store import RunStore

    folder = Path(_temporary().name) / "planted"
    planted = write_folder(folder)
    config = load_config(folder / "config.yaml", RunConfig)
    run(config, until="record")
    store = RunStore(folder / "run")
    try:
        units = [summary.unit for summary in store.units(SOURCE)]
        sequences = {one.sequence_id: one for one in store.read_sequences()}
        return Recorded(folder, planted, config, tuple(store.read_units(units)), sequences)
    finally:
        store.close()


def _named(kinds: tuple[str, ...]) -> list[tuple[str, int]]:
    """Planted units of some kinds, and the latent of each one's positive side."""
    places = {unit: place for place, unit in enumerate(latent_units())}
    return [
        (unit.name, places[UnitId("directions", INDEX[unit.name])])
        for unit in UNITS
        if unit.kind in kinds
    ]


def planted_units_are_recorded() -> tuple[bool, str]:
    """planted: activations recorded of a model are the computed ones, through every stage."""
    found = recorded()
    ids, worst, n = found.ids, 0.0, 0
    for record in found.records[: len(latent_units())]:
        for one in record.records:
            span = one.window
            truth = found.planted.latents(ids[span.sequence_id])[span.start : span.stop]
            want = truth[:, record.unit.index]
            if want.any():
                worst = max(worst, float(np.abs(one.activations - want).max() / want.max()))
                n += 1
            elif one.activations.any():
                worst = float("inf")
    # Activations are kept as half-precision shares of a window's maximum.
    return worst < 1e-3 and n > 0, f"largest error {worst:.1e} of the maximum, over {n} windows"


def explainers_find_what_was_planted() -> tuple[bool, str]:
    """G3: token lists find planted words; two rules judge, and scores reach 0.8 of the oracle's.

    Two judges without a language model: are all named tokens planted, and are at least 80 % of the
    unit's words named (8 at most are).
    """
    from autointerp.explainers import ExplainView
    from autointerp.explainers.top_tokens import TopTokens

    found = recorded()
    oracle = oracle_for(found.planted, found.records, found.ids)
    units = _named(_WITH_WORDS)
    right, shares = 0, list[float]()
    for name, place in units:
        record = found.records[place]
        words = {w for w, strength in UNITS[INDEX[name]].strengths.items() if strength > 0}
        said = _returned(TopTokens().explain(ExplainView.of(record), "gate"))
        named = {str(token["token"]) for token in said.details["tokens"]}
        is_right = named <= words
        is_whole = len(named & words) >= 0.8 * min(8, len(words))
        right += is_right and is_whole
        shares.append(_look_up_score(found, place) / _oracle_score(found, oracle, place))
    return right >= 0.8 * len(units) and fmean(shares) >= 0.8, (
        f"both judges agree on {right} of {len(units)} units; a token table scores "
        f"{fmean(shares):.2f} of the oracle's score"
    )


def steering_is_told_apart() -> tuple[bool, str]:
    """G11: steered texts tell a planted direction; what writes nothing is chosen by chance."""
    from autointerp.live import LiveSubject
    from autointerp.scorers.output_choice import OutputChoiceScorer
    from autointerp.units import SaeLatents

    found = recorded()
    subject = found.planted.subject
    source = SaeLatents.of(SOURCE, "planted", subject, found.planted.dictionary())
    live = LiveSubject(
        lambda _: source, lambda _: subject, lambda _: STRONG, lambda name: found.ids[name]
    )
    scorer = OutputChoiceScorer("gate", n_trials=20, max_new_tokens=12)
    planted = [place for _, place in _named(("set", "or", "hierarchy"))]
    silent = [place for _, place in _named(("zero",))]
    right = {True: [0, 0], False: [0, 0]}
    for group in (planted, silent):
        for number, place in enumerate(group):
            # The silent ones borrow the words of a unit that writes: nothing steers towards them.
            words = place if group is planted else planted[number % len(planted)]
            others = [p for p in group if p != place][:2]
            score = _steered(found, scorer, live, place, words, others)
            counts = right[group is planted]
            counts[0] += int(score.details["n_right"])
            counts[1] += int(score.details["n"])
    (hit, n), (by_chance, n_silent) = right[True], right[False]
    chance = stats.exact_binomial(by_chance, n_silent, p0=1 / 3)
    return hit >= 0.9 * n and chance.p_value is not None and chance.p_value > 0.01, (
        f"{hit} of {n} right along planted directions, {by_chance} of {n_silent} along silent ones "
        "(chance 1 in 3)"
    )


def _steered(
    found: Recorded, scorer: Any, live: Any, place: int, words: int, others: list[int]
) -> Any:
    from autointerp.llm import Request, Response, ResponseStatus
    from autointerp.scorers import ScoreJob

    coin = random.Random(place)
    name = UNITS[latent_units()[words].index].name
    listed = [w for w, s in UNITS[INDEX[name]].strengths.items() if s > 0]

    def answer(request: Any) -> Any:
        if not isinstance(request, Request):
            return live.handlers[type(request)]([request])[0]
        sets = re.split(r"Set \d:\n", request.messages[-1].content)[1:]
        counts = [sum(part.count(word) for word in listed) for part in sets]
        best = [i for i, count in enumerate(counts) if count == max(counts)]
        return Response(f'{{"answers": [{coin.choice(best) + 1}]}}', ResponseStatus.OK)

    def as_unit(index: int) -> UnitRecord:
        # Windows of a unit that fires: silent ones have none, and only their number counts here.
        return replace(found.records[words], unit=UnitId(SOURCE, index))

    job = ScoreJob(
        as_unit(place), _explanation(words), (), "rule", "rule", "gate",
        tuple(as_unit(index) for index in others),
    )  # fmt: skip
    return _returned(scorer.score(job), answer)


def tokens_are_as_counted() -> tuple[bool, str]:
    """G12: tokens that were counted before are those that are used, within 2 %."""
    from autointerp.estimate import estimate_run
    from autointerp.runner import run
    from autointerp.store import RunStore

    found = recorded()
    model = _tiny_language_model(Path(_temporary().name) / "language_model")
    explainers = [
        parse_config({"name": kind, "type": kind, "max_new_tokens": 4}, ExplainerConfig, "gate")
        for kind in ("token_activation_pairs", "highlights")
    ]
    changes: dict[str, Any] = {
        "explainers": explainers,
        "llm": LlmConfig(model=f"local/{model}", cache="off"),
    }
    ids = [f"{SOURCE}/{place}" for _, place in _named(("set",))]
    config = found.config.model_copy(update=changes)
    before = estimate_run(config, units=ids, sample=len(ids), timing=False)
    run(config, until="explain", units=ids)
    store = RunStore(found.folder / "run")
    used = sum(r["input_tokens"] for r in store.ledger_totals() if r["purpose"] == "explain")
    store.close()
    counted = sum(stage.input_tokens for stage in before.stages if stage.stage == "explain")
    return used > 0 and abs(counted - used) <= 0.02 * used, (
        f"{counted:,} tokens counted before, {used:,} used, {len(ids)} units"
    )


def _tiny_language_model(folder: Path) -> Path:
    """A random model with the embedded model's tokenizer: its answers mean nothing."""
    import torch
    import transformers

    from autointerp.records import AutointerpError
    from autointerp.subject.embedded import embedded_model_folder

    try:
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(embedded_model_folder())
    except AutointerpError as error:
        raise NotRunError(f"needs the embedded model's tokenizer: {error}") from None
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, bos_token_id=0, eos_token_id=0, pad_token_id=0,
        max_position_embeddings=8192,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _explanation(place: int) -> Explanation:
    text = explanations_of_latents()[place]
    return Explanation(UnitId(SOURCE, place), "true", text, Status.OK, f"gate {place}")


def _oracle_score(found: Recorded, oracle: Any, place: int) -> float:
    return _simulated(found, place, lambda r: oracle.simulate(r.explanation, r.sequences))


def _look_up_score(found: Recorded, place: int) -> float:
    from autointerp.explainers import ExplainView
    from autointerp.explainers.token_lookup import TokenLookup as Explainer
    from autointerp.simulators.token_lookup import TokenLookup

    own = _returned(Explainer().explain(ExplainView.of(found.records[place]), "gate"))
    simulator = TokenLookup()
    return _simulated(found, place, lambda r: simulator.simulate(own.text or "", r.sequences))


def _simulated(found: Recorded, place: int, read: Any) -> float:
    from autointerp.scorers import ScoreJob
    from autointerp.scorers.simulation import SimulationScorer

    job = ScoreJob(found.records[place], _explanation(place), (), "gate", "gate", "gate")
    scorer = SimulationScorer("gate", n_replicates=100, min_active_documents=1)
    return _returned(scorer.score(job), read).value or 0.0


def _returned(steps: Any, answer: Any = None) -> Any:
    """What a generator returns, with every request answered."""
    try:
        requests = next(steps)
        while True:
            requests = steps.send([answer(request) for request in requests])
    except StopIteration as end:
        return end.value
