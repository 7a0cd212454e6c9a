"""How long a run will take, before it starts."""

import time
from typing import TYPE_CHECKING

from autointerp.config import BASELINE_EXPLAINERS
from autointerp.records import Split

if TYPE_CHECKING:
    from autointerp.runner import Run


def estimate_seconds(run: "Run") -> float | None:
    """Seconds the missing work will take, from a timed forward pass; `None` without a subject.

    Tokens through the whole model are what costs; a truncated pass counts by its share of
    blocks. Later stages are estimated from the config, before their inputs exist.
    """
    if not run.parts.sources or run.config.corpus is None:
        return None
    import torch

    source = next(iter(run.parts.sources.values()))
    subject = run.parts.subject(source.subject)
    tokens = torch.zeros((4, min(128, subject.max_tokens or 128)), dtype=torch.long)
    hook = subject.hook(source.read_at)
    blocks = (hook.block if hook.block is not None else subject.n_blocks - 1) + 1
    passes: list[float] = []
    for _ in range(3):
        started = time.monotonic()
        subject.run(tokens, [source.read_at])
        passes.append(time.monotonic() - started)
    per_block_token = min(passes) / tokens.numel() / blocks
    full = per_block_token * subject.n_blocks
    seconds = 0.0
    if any(run.store.records_key(n) != run.records_key(n) for n in run.parts.sources):
        sequences, _ = run.store.read_sequences()
        seconds += sum(len(s.token_ids) for s in sequences) * per_block_token * blocks * 1.25
    n_units = _n_units(run)
    n_scores = n_units * len(run.config.explainers)
    n_stored = sum(run.store.count("scores").values())
    share = max(0, n_scores - n_stored) / max(1, n_scores)
    quota = run.design.quotas[Split.TEST]
    windows = quota.total - quota.random
    in_words = sum(e.type not in BASELINE_EXPLAINERS for e in run.config.explainers)
    asked = sum(e.type == "token_activation_pairs" for e in run.config.explainers)
    per_text = windows * (run.design.window_length * 3 + 12)
    read = n_units * in_words * (1 + run.config.score.shuffled_donors) * per_text
    read += n_units * asked * 1500
    return seconds + share * read * full * 1.1 + 5


def _n_units(run: "Run") -> int:
    """How many units will be explained: at most, where the sample's frame is not known yet."""
    chosen = run.chosen or run.config.units.ids
    if chosen:
        return len(chosen)
    sizes = [source.n_units * len(source.polarities) for source in run.parts.sources.values()]
    sample = run.config.units.sample
    return sum(size if sample is None else min(size, sample) for size in sizes)


def duration(seconds: float) -> str:
    """`40 seconds`, `6 minutes`, `2.5 hours`."""
    if seconds < 90:
        return f"{max(5, round(seconds / 5) * 5)} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
