"""What scoring by simulation takes: tokens read on this machine, or questions to a provider."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from autointerp.dry_run import TYPICAL_EXPLANATION, Asked, drive_dry
from autointerp.estimate.asking import names_in_words, simulated_splits
from autointerp.estimate.figures import StageEstimate
from autointerp.estimate.pricing import Pricing
from autointerp.estimate.sampled_units import SampledUnits
from autointerp.records import ActivationRecord, Strata
from autointerp.simulators import Simulator
from autointerp.simulators.asked import AskedSimulator

if TYPE_CHECKING:
    from autointerp.runner import Run


def simulation_stage(run: "Run", sample: SampledUnits, pricing: Pricing) -> list[StageEstimate]:
    """The stage, where the config scores by simulation and there are words to simulate."""
    in_words = names_in_words(run.config)
    if not in_words or not any(scorer.type == "simulation" for scorer in run.config.scorers):
        return []
    simulator = run.parts.simulator(in_words[0])
    if isinstance(simulator, AskedSimulator):
        return pricing.stage("simulation", _asked(run, sample, simulator), 1)
    return [_read(run, sample, simulator, pricing.seconds_per_token)]


def _simulated(run: "Run", sample: SampledUnits) -> Iterator[tuple[list[ActivationRecord], int]]:
    """The windows of the sample that are simulated together, and under how many texts."""
    for record in sample.records:
        for split, times in simulated_splits(run, sample):
            windows = [w for w in record.of(split) if w.stratum != Strata.RANDOM]
            if windows:
                yield windows, times


def _read(
    run: "Run", sample: SampledUnits, simulator: Simulator, seconds_per_token: float | None
) -> StageEstimate:
    """Simulation reads prompts and writes nothing: tokens and time on this machine."""
    count = getattr(simulator, "count_tokens", None)
    tokens = calls = 0
    for windows, times in _simulated(run, sample):
        calls += times
        texts = [(TYPICAL_EXPLANATION, [w.tokens for w in windows])]
        tokens += times * (count(texts) if count is not None else 0)
    total = round(tokens * sample.scale)
    return StageEstimate(
        stage="simulation",
        model=simulator.name,
        calls=round(calls * sample.scale),
        input_tokens=total,
        cached_tokens=0,
        output_tokens=0,
        most_output_tokens=0,
        usd=0.0,
        usd_batch=0.0,
        most_usd=0.0,
        hours=None if seconds_per_token is None else total * seconds_per_token / 3600,
    )


def _asked(run: "Run", sample: SampledUnits, simulator: AskedSimulator) -> list[Asked]:
    """Simulation by asking: its real questions, under explanations of the usual length."""
    asked: list[Asked] = []
    for windows, times in _simulated(run, sample):
        steps = simulator.steps(TYPICAL_EXPLANATION, [w.tokens for w in windows])
        for one in drive_dry(steps)[1]:
            one.answer = simulator.typical_answer(one.request, one.answer)
            asked += [one] * times
    return asked
