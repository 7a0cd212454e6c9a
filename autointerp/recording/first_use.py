"""Whether a dictionary fits the place it is read at, before anything is recorded with it.

A dictionary at the wrong hook point, behind another normalisation or of another model still gives
activations, and everything made from them looks like results. What gives it away on the first few
hundred tokens is that it reconstructs worse than the mean would, or that far more or fewer latents
are active than its files say.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from autointerp.progress import Reporter
from autointerp.records import AutointerpError, Sequence, Split
from autointerp.store import RunStore
from autointerp.subject import Subject
from autointerp.units import SaeLatents, SparseAutoencoder, UnitSource

N_TOKENS = 512
"""Tokens it is tried on, of `explain` documents."""

L0_FACTOR = 3.0
"""How far the active latents per token may be from what the files say, either way."""

FILE = "first_use.json"
"""Of a run: source → what was found, by the names of `FirstUse`."""

_CHUNK = 128
"""Tokens encoded at a time: all latents are held."""


@dataclass(frozen=True)
class FirstUse:
    """What a dictionary did on the first tokens."""

    n_tokens: int
    l0: float
    """Mean active latents per token."""

    expected_l0: float | None
    """What its files say; `None` where they do not."""

    explained_variance: float | None
    """1 - E‖y - ŷ‖² / (E‖y‖² - ‖E y‖²); `None` where it cannot be had: no decoder, or the place it
    writes at is not in this subject."""

    warning: str | None
    """What is wrong, in words; `None` where nothing is."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def try_dictionaries(
    sources: Iterable[UnitSource],
    subject: Subject,
    sequences: list[Sequence],
    store: RunStore,
    reporter: Reporter,
) -> None:
    """Say where a dictionary does not fit its place, and keep what was found in `FILE`."""
    kept: dict[str, Any] = store.read_json(FILE) or {}
    for source in sources:
        found = first_use(source, subject, sequences) if isinstance(source, SaeLatents) else None
        if found is not None:
            kept[source.name] = found.as_dict()
            if found.warning is not None:
                reporter.note(f"WARNING: {found.warning}")
    if kept:
        store.write_json(FILE, kept)


def first_use(source: SaeLatents, subject: Subject, sequences: list[Sequence]) -> FirstUse | None:
    """Try a dictionary on some tokens of the corpus; `None` where there is no token to try it on.

    Args:
        sequences: of the run's corpus; those of `explain` are taken in order.
    """
    parts = [_hidden(source, subject, sequence) for sequence in _few_of(sequences)]
    if not parts:
        return None
    x = torch.cat([part for part, _ in parts])
    targets = [target for _, target in parts if target is not None]
    y = torch.cat(targets) if len(targets) == len(parts) else None
    if not bool(torch.isfinite(x).all()):
        # The pass says so itself, of every token.
        return None
    l0, variance = tried(source.sae, x, y)
    expected = expected_l0(source.sae)
    return FirstUse(
        len(x), l0, expected, variance, _warning(source, len(x), l0, expected, variance)
    )


def expected_l0(sae: SparseAutoencoder) -> float | None:
    """Active latents per token by the files of a dictionary; `None` where they do not say."""
    if sae.k is not None:
        return float(sae.k)
    for name in ("average_l0", "l0", "k"):
        value = sae.metadata.get(name)
        if isinstance(value, int | float) and math.isfinite(value) and value > 0:
            return float(value)
    return None


@torch.inference_mode()
def tried(sae: SparseAutoencoder, x: Tensor, y: Tensor | None) -> tuple[float, float | None]:
    """Mean active latents per token, and the variance explained.

    Args:
        x: [n_tokens, d_in].
        y: [n_tokens, d_out] what is reconstructed; `None` where it is not known.
    """
    n_active, error = 0, 0.0
    for start in range(0, len(x), _CHUNK):
        part = slice(start, start + _CHUNK)
        latents = sae.encode(x[part])
        n_active += int((latents != 0).sum())
        if y is not None:
            error += float((y[part].double() - sae.decode(latents, x[part]).double()).pow(2).sum())
    if y is None:
        return n_active / len(x), None
    spread = float((y.double() - y.double().mean(0)).pow(2).sum())
    explained = 1 - error / spread if spread else math.nan
    return n_active / len(x), explained if math.isfinite(explained) else None


def _few_of(sequences: list[Sequence]) -> list[Sequence]:
    chosen: list[Sequence] = []
    n_tokens = 0
    for sequence in sequences:
        if n_tokens >= N_TOKENS:
            break
        if sequence.split == Split.EXPLAIN and not sequence.masked.all():
            chosen.append(sequence)
            n_tokens += int((~sequence.masked).sum())
    return chosen


def _hidden(
    source: SaeLatents, subject: Subject, sequence: Sequence
) -> tuple[Tensor, Tensor | None]:
    """What the dictionary reads and what it should write on the unmasked tokens of a sequence."""
    ids = torch.from_numpy(sequence.token_ids).long()[None]
    seen = torch.from_numpy(~sequence.masked)
    points = [source.read_at]
    if source.sae.has_decoder and source.write_at is not None:
        points.append(source.write_at)
    try:
        found = subject.run(ids, points)
    except AutointerpError:
        # A transcoder may write at a place that this subject does not have.
        found = subject.run(ids, [source.read_at])
    rows = {point: value[0][seen.to(value.device)].float() for point, value in found.items()}
    target = rows.get(source.write_at) if source.sae.has_decoder and source.write_at else None
    if target is not None and target.shape[1] != source.sae.d_out:
        target = None
    return rows[source.read_at], target


def _warning(
    source: SaeLatents,
    n_tokens: int,
    l0: float,
    expected: float | None,
    variance: float | None,
) -> str | None:
    wrong: list[str] = []
    if variance is not None and variance < 0:
        wrong.append(
            f"its reconstruction explains {variance:.3g} of the variance (below 0: worse than the "
            "mean)"
        )
    if expected is not None and not expected / L0_FACTOR <= l0 <= expected * L0_FACTOR:
        wrong.append(f"{l0:.4g} latents are active per token where its files say {expected:.4g}")
    if not wrong:
        return None
    return (
        f"{source.name}: {' and '.join(wrong)}, on {n_tokens} tokens at {source.read_at}. It is "
        "probably read at the wrong hook point, with another normalisation than it was trained "
        "with, or on another model than it was trained on: check `hook_point`, `input_scale` and "
        "the subject before trusting what follows"
    )
