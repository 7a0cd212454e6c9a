"""Time on this machine, from a timed forward pass."""

import time
from typing import TYPE_CHECKING

from autointerp.config import BASELINE_EXPLAINERS
from autointerp.estimate.sampled_units import SampledUnits, n_units_of
from autointerp.record_stage import is_recorded
from autointerp.records import Split

if TYPE_CHECKING:
    from autointerp.runner import Run

RECORDING_OVERHEAD = 1.25
"""Recording takes so much longer than the subject's forward passes alone."""


def estimate_seconds(run: "Run") -> float | None:
    """Seconds the missing work will take, from a timed forward pass; `None` without a subject.

    Tokens through the whole model are what costs; a truncated pass counts by its share of
    blocks. Later stages are estimated from the config, before their inputs exist.
    """
    if not run.parts.sources or run.config.corpus is None:
        return None
    full = seconds_per_token(run)
    assert full is not None
    share, _ = blocks_read(run)
    seconds = 0.0
    if not all(is_recorded(run, name) for name in run.parts.sources):
        sequences = run.store.read_sequences()
        seconds += sum(len(s.token_ids) for s in sequences) * full * share * RECORDING_OVERHEAD
    n_units = n_units_of(run)
    n_scores = n_units * len(run.config.explainers)
    n_stored = sum(run.store.count("scores").values())
    left = max(0, n_scores - n_stored) / max(1, n_scores)
    quota = run.design.quotas[Split.TEST]
    windows = quota.total - quota.random
    in_words = sum(e.type not in BASELINE_EXPLAINERS for e in run.config.explainers)
    asked = sum(e.type == "token_activation_pairs" for e in run.config.explainers)
    if run.config.simulator.name == "embedded":
        # A description once, then every token once, through three fifths of a small model.
        per_text = 0.6 * (windows * run.design.window_length * 1.1 + 20)
    else:
        per_text = windows * (run.design.window_length * 3 + 12)
    simulated = any(scorer.type == "simulation" for scorer in run.config.scorers)
    read = n_units * in_words * (1 + run.config.score.shuffled_donors) * per_text * simulated
    read += n_units * asked * 1500 * run.config.llm.model.startswith("local/")
    return seconds + left * read * full * 1.1 + 5


def recording_seconds(
    run: "Run", sample: SampledUnits, seconds_per_token: float | None
) -> float | None:
    """Seconds that recording takes; `None` where nothing was timed."""
    if sample.is_recorded or not run.parts.sources:
        return 0.0
    if seconds_per_token is None:
        return None
    share, _ = blocks_read(run)
    # Every subject reads the whole corpus, about as many tokens as the first.
    passes = len({source.subject for source in run.parts.sources.values()})
    n_tokens = sum(len(s.token_ids) for s in sample.sequences)
    return n_tokens * (seconds_per_token * share * RECORDING_OVERHEAD * passes)


def seconds_per_token(run: "Run") -> float | None:
    """Seconds for a token through all blocks of the first source's subject, in a small batch."""
    source = next(iter(run.parts.sources.values()), None)
    if source is None:
        return None
    import torch

    subject = run.parts.subject(source.subject)
    tokens = torch.zeros((4, min(128, subject.max_tokens or 128)), dtype=torch.long)
    passes: list[float] = []
    for _ in range(3):
        started = time.monotonic()
        subject.run(tokens, [source.read_at])
        passes.append(time.monotonic() - started)
    share, _ = blocks_read(run)
    return min(passes) / tokens.numel() / share


def blocks_read(run: "Run") -> tuple[float, int]:
    """Share and number of the subject's blocks that recording the first source runs through."""
    source = next(iter(run.parts.sources.values()))
    subject = run.parts.subject(source.subject)
    hook = subject.hook(source.read_at)
    blocks = (hook.block if hook.block is not None else subject.n_blocks - 1) + 1
    return blocks / subject.n_blocks, blocks


def duration(seconds: float) -> str:
    """`40 seconds`, `6 minutes`, `2.5 hours`."""
    if seconds < 90:
        return f"{max(5, round(seconds / 5) * 5)} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
