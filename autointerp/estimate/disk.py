"""Bytes that a run's folder takes, about."""

from typing import TYPE_CHECKING

from autointerp.estimate.sampled_units import SampledUnits
from autointerp.records import Split

if TYPE_CHECKING:
    from autointerp.runner import Run

_ZSTD = 0.5
"""Share that compression leaves of activations: most are zero."""

_WINDOW_FACTS = 40
_STATISTICS = 1500
_CORPUS_TOKEN = 12
_EXPLANATION = 1500
_SCORE = 3000
"""Bytes per window, per unit, per token of the corpus, per explanation and per score, about."""


def disk_bytes(run: "Run", sample: SampledUnits) -> int:
    """Bytes of records, results and kept answers."""
    design, config = run.design, run.config
    if sample.is_recorded:
        records = sum(p.stat().st_size for p in run.store.folder.rglob("*.parquet"))
    else:
        records = _records(run, sample)
    test = design.quotas[Split.TEST]
    tokens = (test.total - test.random) * (design.window_length or 32)
    n_explained = sample.n_units * len(config.explainers)
    simulated = any(scorer.type == "simulation" for scorer in config.scorers)
    simulations = n_explained * (1 + config.score.shuffled_donors) * simulated
    results = n_explained * (_EXPLANATION + _SCORE * len(config.scorers))
    return round(records + results + simulations * (tokens * 3.125 + 200))


def _records(run: "Run", sample: SampledUnits) -> int:
    """Of the records of all units, and of the corpus, before there are any."""
    kept = sum(quota.total for quota in run.design.quotas.values())
    n_all = sum(s.n_units * len(s.polarities) for s in run.parts.sources.values())
    per_window = 2 * run.design.window_length * _ZSTD + _WINDOW_FACTS
    records = round(n_all * (kept * per_window + _STATISTICS))
    if not run.parts.sources:
        return records
    return records + round(sum(len(s.token_ids) for s in sample.sequences) * _CORPUS_TOKEN)
