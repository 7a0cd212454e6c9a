"""Train a reader: AdamW on adapters, norm and head, resumable, the same rows in the same order.

    loss = CE(p, level) + λ · (1 - mean r(E[level], level))

The cross-entropy takes levels as classes, active tokens weighted up; r is the pooled Pearson
correlation over the texts of one description, the number that the simulator will be scored by.
A step on pairs adds how far r of the right description falls short of a margin over r of the
other's, where two rows have the same texts: a concept and a part of it, say.

The learning rate rises, stays, and falls to nothing over the last steps, so that a training can be
made longer from what was saved before the fall.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from autointerp.records import AutointerpError
from autointerp.simulators.reader import N_LEVELS, Reader, trainable

UNKNOWN = 255
"""In place of a level: the token is left out of the loss."""

REPORT_STEPS = 20
MAX_DESCRIPTION_TOKENS = 96
POOL = 128
"""Rows that are sorted by the length of their descriptions before they become batches."""


@dataclass(frozen=True)
class ReaderTraining:
    """How a reader is trained."""

    n_steps: int
    decay_from: int
    """Step from which the learning rate falls linearly to nothing."""

    batch_rows: int = 8
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    weight_decay: float = 0.01
    active_weight: float = 4.0
    """Weight of a token above level 0 in the cross-entropy."""

    correlation_weight: float = 0.5
    """λ."""

    pair_every: int = 0
    """Every so-manyth step is on pairs; 0: none."""

    pair_margin: float = 0.25
    """Wanted difference of the two correlations."""

    bfloat16: bool = True
    """The base's weights and the products in bfloat16; what is trained stays in float32."""

    seed: int = 0
    checkpoint_seconds: float = 120.0

    @property
    def step_pairs(self) -> int:
        """How many pairs a step on pairs takes."""
        return max(1, self.batch_rows // 2)

    def rate(self, step: int) -> float:
        """Learning rate at a step."""
        warm = min(1.0, (step + 1) / self.warmup_steps)
        if step < self.decay_from:
            return self.learning_rate * warm
        left = (self.n_steps - step) / (self.n_steps - self.decay_from)
        return self.learning_rate * warm * max(0.02, left)


@dataclass(frozen=True)
class TrainingRows:
    """What a reader is trained on."""

    descriptions: list[list[int]]
    """[n_rows] token ids, with what stands around."""

    texts: np.ndarray
    """[n_rows, n_texts, n_tokens] ids."""

    levels: np.ndarray
    """[n_rows, n_texts, n_tokens] uint8: 0 … 9, 10 for "does not say", 255 for unknown."""

    def pairs(self) -> np.ndarray:
        """[n] first of two rows after one another with the same texts and other descriptions."""
        same = (self.texts[1:] == self.texts[:-1]).all((1, 2))
        return np.array(
            [i for i in np.flatnonzero(same) if self.descriptions[i] != self.descriptions[i + 1]],
            dtype=np.int64,
        )


@dataclass(frozen=True)
class ReaderProgress:
    """How far a training is; means since the last report."""

    step: int
    n_steps: int
    cross_entropy: float
    correlation: float
    """Mean over descriptions with an active token."""

    tokens_per_second: float


def read_rows(
    path: Path,
    tokenizer: Any,
    before: str,
    after: str,
    repeats: Mapping[str, int] | None = None,
) -> TrainingRows:
    """Read the table that `datasets/simulator/build.py` makes.

    Args:
        path: of the table.
        tokenizer: of the reader's base.
        before: stands before a description.
        after: stands behind it.
        repeats: how often rows of a family are taken; once where it is not named.

    Raises:
        AutointerpError: where the file is no such table, or has no rows of a family named.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = ["description", "ids", "levels", *(["family"] if repeats else [])]
        table = pq.read_table(path, columns=names)
    except (OSError, pa.ArrowException) as error:
        raise AutointerpError(f"{str(path)!r} is no table of training rows: {error}") from error
    n_flat = len(table["ids"][0]) if len(table) else 0
    if not n_flat or n_flat % 32:
        raise AutointerpError(f"{str(path)!r} has no rows of windows of 32 tokens")
    if repeats:
        table = table.take(_repeated(path, table["family"].to_pylist(), repeats))
    descriptions = [
        tokenizer(before + text + after, add_special_tokens=False)["input_ids"]
        for text in table["description"].to_pylist()
    ]

    def windows(column: str) -> np.ndarray:
        flat = table[column].combine_chunks().flatten().to_numpy()
        return flat.reshape(len(table), n_flat // 32, 32)

    short = [ids[:MAX_DESCRIPTION_TOKENS] for ids in descriptions]
    return TrainingRows(short, windows("ids"), windows("levels"))


def _repeated(path: Path, families: Sequence[str], repeats: Mapping[str, int]) -> np.ndarray:
    """Numbers of the rows to take, those of a repeated family several times."""
    missing = sorted(set(repeats) - set(families))
    if missing:
        known = ", ".join(sorted(set(families)))
        raise AutointerpError(f"{str(path)!r} has no rows of the family {missing[0]!r}: {known}")
    return np.repeat(np.arange(len(families)), [repeats.get(name, 1) for name in families])


def train_reader(
    reader: Reader,
    rows: TrainingRows,
    settings: ReaderTraining,
    checkpoint: Path,
    report: Callable[[ReaderProgress], None] | None = None,
) -> None:
    """Train in place, continuing from `checkpoint` where there is one.

    Raises:
        AutointerpError: where there are fewer rows than a pool holds, fewer pairs than a step on
            them takes, or the loss is not finite.
    """
    if len(rows.descriptions) < POOL:
        raise AutointerpError(f"{len(rows.descriptions)} rows are fewer than {POOL}: make more")
    parameters = trainable(reader)
    pairs = rows.pairs() if settings.pair_every else np.zeros(0, np.int64)
    if settings.pair_every and len(pairs) < settings.step_pairs:
        raise AutointerpError(f"the rows have {len(pairs)} pairs: leave out `pair_every`")
    if settings.bfloat16:
        for parameter in reader.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.to(torch.bfloat16)
    optimiser = torch.optim.AdamW(
        [
            {"params": [p for p in parameters.values() if p.dim() > 1]},
            {"params": [p for p in parameters.values() if p.dim() <= 1], "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        betas=(0.9, 0.98),
    )
    lengths = np.array([len(ids) for ids in rows.descriptions])
    step = _restore(checkpoint, parameters, optimiser)
    saved = reported = time.monotonic()
    sums = np.zeros(4)
    order: list[np.ndarray] = []
    epoch = -1
    reader.train()
    while step < settings.n_steps:
        per_epoch = len(lengths) // POOL * (POOL // settings.batch_rows)
        if step // per_epoch != epoch:
            epoch = step // per_epoch
            order = batches_of(lengths, settings.batch_rows, settings.seed, epoch)
        for group in optimiser.param_groups:
            group["lr"] = settings.rate(step)
        paired = settings.pair_every > 0 and step % settings.pair_every == 0
        chosen = _drawn(pairs, settings, step) if paired else order[step % per_epoch]
        sums += _step(reader, rows, chosen, settings, parameters, optimiser, paired=paired)
        step += 1
        now = time.monotonic()
        if step % REPORT_STEPS == 0 or step == settings.n_steps:
            n = (step - 1) % REPORT_STEPS + 1
            if report is not None:
                report(
                    ReaderProgress(
                        step,
                        settings.n_steps,
                        sums[0] / n,
                        sums[1] / max(sums[2], 1),
                        sums[3] / (now - reported),
                    )
                )
            reported, sums = now, np.zeros(4)
        if now - saved > settings.checkpoint_seconds or step == settings.n_steps:
            _save(checkpoint, step, parameters, optimiser)
            saved = now
    reader.eval()


def batches_of(lengths: np.ndarray, batch_rows: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Rows of every batch of an epoch: shuffled, in pools of which a batch is of like length."""
    generator = np.random.default_rng((seed, epoch))
    order = generator.permutation(len(lengths))
    found: list[np.ndarray] = []
    for start in range(0, len(lengths) - POOL + 1, POOL):
        pool = order[start : start + POOL]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches = [pool[i : i + batch_rows] for i in range(0, POOL, batch_rows)]
        found += [batches[i] for i in generator.permutation(len(batches))]
    return found


def _drawn(pairs: np.ndarray, settings: ReaderTraining, step: int) -> np.ndarray:
    """Rows of the pairs drawn for a step, the two of a pair after one another."""
    generator = np.random.default_rng((settings.seed, step, 1))
    first = generator.choice(pairs, settings.step_pairs, replace=False)
    return np.stack([first, first + 1], 1).reshape(-1)


def _step(
    reader: Reader,
    rows: TrainingRows,
    chosen: np.ndarray,
    settings: ReaderTraining,
    parameters: Mapping[str, nn.Parameter],
    optimiser: torch.optim.Optimizer,
    *,
    paired: bool,
) -> np.ndarray:
    """One step; cross-entropy, sum and number of correlations, tokens."""
    device = reader.head.weight.device
    texts = torch.from_numpy(rows.texts[chosen].astype(np.int64)).to(device)
    levels = torch.from_numpy(rows.levels[chosen].astype(np.int64)).to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=settings.bfloat16):
        logits = reader([rows.descriptions[i] for i in chosen], texts)
    entropy, correlation, n = losses(logits.float(), levels, settings.active_weight)
    loss = entropy + settings.correlation_weight * (1 - correlation)
    if paired:
        loss = loss + pair_loss(logits.float(), levels, settings.pair_margin)
    if not math.isfinite(float(loss.detach())):
        raise AutointerpError("the loss is not finite: lower `learning_rate`")
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(parameters.values(), 1.0)
    optimiser.step()
    return np.array([float(entropy.detach()), float(correlation.detach()) * n, n, texts.numel()])


def losses(logits: Tensor, levels: Tensor, active_weight: float) -> tuple[Tensor, Tensor, int]:
    """Weighted cross-entropy, and mean correlation of expected and true levels.

    Args:
        logits: [n_rows, n_texts, n_tokens, n_classes] float32.
        levels: [n_rows, n_texts, n_tokens] int64.
        active_weight: weight of tokens above 0.

    Returns:
        Both, and how many rows had a correlation.
    """
    known = levels != UNKNOWN
    weight = known * torch.where(levels > 0, active_weight, 1.0)
    target = levels.masked_fill(~known, 0)
    per_token = nn.functional.cross_entropy(
        logits.flatten(0, -2), target.flatten(), reduction="none"
    )
    entropy = (per_token * weight.flatten()).sum() / weight.sum()

    r, varied = _correlations(_expected(logits), levels)
    if not bool(varied.any()):
        return entropy, entropy.detach() * 0 + 1, 0
    return entropy, r[varied].mean(), int(varied.sum())


def pair_loss(logits: Tensor, levels: Tensor, margin: float) -> Tensor:
    """How far the right description falls short of `margin` over the other one of its pair.

    Args:
        logits: [n_rows, n_texts, n_tokens, n_classes] float32, of pairs of rows after one another.
        levels: [n_rows, n_texts, n_tokens] int64.
        margin: wanted difference of two correlations with the levels of a row: of what its own
            description tells, and of what the other one tells.

    Returns:
        Mean over rows with an active token; 0 where there is none.
    """
    expected = _expected(logits)
    own, varied = _correlations(expected, levels)
    other, _ = _correlations(expected.unflatten(0, (-1, 2)).flip(1).flatten(0, 1), levels)
    short = (margin - own + other).clamp_min(0) * varied
    return short.sum() / varied.sum().clamp_min(1)


def _expected(logits: Tensor) -> Tensor:
    """Expected level of every token, [n_rows, n_texts * n_tokens]."""
    p = logits[..., :N_LEVELS].softmax(-1)
    steps = torch.arange(N_LEVELS, dtype=p.dtype, device=p.device)
    return (p * steps).sum(-1).flatten(1)


def _correlations(expected: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """Pearson correlation of expected and true levels of each row, and whether it has one."""
    inside = (levels < N_LEVELS).flatten(1).to(expected.dtype)
    truth = levels.flatten(1).to(expected.dtype)
    n = inside.sum(1).clamp_min(1)
    x = (expected - ((expected * inside).sum(1) / n)[:, None]) * inside
    y = (truth - ((truth * inside).sum(1) / n)[:, None]) * inside
    varied = (y.pow(2).sum(1) > 1e-6) & (inside.sum(1) > 1)
    r = (x * y).sum(1) / (x.pow(2).sum(1).clamp_min(1e-6) * y.pow(2).sum(1).clamp_min(1e-6)).sqrt()
    return r, varied


def _restore(path: Path, parameters: Mapping[str, nn.Parameter], optimiser: Any) -> int:
    if not path.exists():
        return 0
    state = load_file(path)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state[name])
            optimiser.state[parameter] = {
                "step": state["step"].float(),
                "exp_avg": state[f"{name}|m"].to(parameter.device),
                "exp_avg_sq": state[f"{name}|v"].to(parameter.device),
            }
    return int(state["step"])


def _save(path: Path, step: int, parameters: Mapping[str, nn.Parameter], optimiser: Any) -> None:
    tensors: dict[str, Tensor] = {"step": torch.tensor(step)}
    for name, parameter in parameters.items():
        moments = optimiser.state[parameter]
        tensors[name] = parameter.detach().contiguous()
        tensors[f"{name}|m"], tensors[f"{name}|v"] = moments["exp_avg"], moments["exp_avg_sq"]
    partial = path.with_suffix(".partial")
    save_file(tensors, partial)
    partial.replace(path)
