"""The estimate of a whole run, stage by stage."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from autointerp.config import RunConfig
from autointerp.estimate.asking import asked_to_explain, asked_to_judge
from autointerp.estimate.disk import disk_bytes
from autointerp.estimate.figures import RunEstimate, StageEstimate
from autointerp.estimate.local_time import recording_seconds, seconds_per_token
from autointerp.estimate.pricing import ANSWER_RATE, LATENCY, Pricing, counter_of
from autointerp.estimate.sampled_units import SampledUnits
from autointerp.estimate.simulating import simulation_stage
from autointerp.judging import judges
from autointerp.progress import Silent
from autointerp.staging import savings_notes

if TYPE_CHECKING:
    from autointerp.runner import Run


def estimate_run(
    config: RunConfig,
    *,
    units: Sequence[str] | None = None,
    sample: int = 8,
    timing: bool = True,
) -> RunEstimate:
    """Estimate what a run takes as a whole. Asks no language model and writes nothing.

    Args:
        config: of the run.
        units: these units instead of the config's.
        sample: units whose prompts are built.
        timing: time the models on this machine; without, hours on this machine are unknown.

    Raises:
        AutointerpError: for what would stop the run too.
    """
    from autointerp.runner import Run

    run = Run(config, Silent(), units)
    try:
        return _estimate(run, sample, timing)
    finally:
        run.store.close()


def _estimate(run: "Run", n_sampled: int, timing: bool) -> RunEstimate:
    """Build the prompts, count, price and time them."""
    sample = SampledUnits(run, n_sampled)
    counter = counter_of(run)
    per_token = seconds_per_token(run) if timing else None
    pricing = Pricing(run.config, counter, sample.scale, per_token)
    stages = pricing.stage("explain", *asked_to_explain(run, sample))
    for settings in judges(run):
        stages += pricing.stage(settings.name, *asked_to_judge(run, sample, settings))
    stages += simulation_stage(run, sample, pricing)
    notes = [
        f"prompts of {len(sample.records)} of {sample.n_units:,} units, tokens {counter.how}",
        *(() if sample.is_real else (_MADE_UP,)),
        *savings_notes(run.config),
        *_price_notes(stages),
    ]
    return RunEstimate(
        basis="records" if sample.is_real else "design",
        n_units=sample.n_units,
        n_sampled=len(sample.records),
        counted=counter.how,
        stages=tuple(stages),
        record_seconds=recording_seconds(run, sample, per_token),
        disk_bytes=disk_bytes(run, sample),
        notes=tuple(notes),
    )


_MADE_UP = "nothing is recorded yet: units are made up from the sampling design"


def _price_notes(stages: Sequence[StageEstimate]) -> list[str]:
    """What prices and hours rest on."""
    notes: list[str] = []
    if any(stage.usd is None for stage in stages):
        unknown = sorted({stage.model for stage in stages if stage.usd is None})
        notes.append(f"no price is known for {', '.join(unknown)}: add a row to llm.prices")
    if any(stage.usd for stage in stages):
        notes.append(
            f"hours of hosted models: {LATENCY:g} s a call and {ANSWER_RATE:g} tokens/s "
            "written, within llm.max_concurrency and the limits per minute; a batch takes up "
            "to 24 hours a round"
        )
    return notes
