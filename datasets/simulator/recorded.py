"""Recorded neurons of the embedded model under descriptions that no language model wrote.

Planted concepts are exact and real units are not: they are graded, and their descriptions say a part
of what they do. Neurons of blocks that the demo does not look at are recorded on training windows;
one half of the windows gives the description (tokens by shrunken mean activation, as the explainer
`top_tokens` names them), the other half the levels. Neurons whose tokens tell little of their
activations are left out: under them there is nothing to learn.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

BLOCKS = (3, 7, 14, 19, 24)
"""The demo's are of block 10."""

N_NEURONS = 120
"""Looked at per block."""

N_RECORDED = 2400
"""Windows."""

LEAST_CORRELATION = 0.35
"""Between a neuron and the mean of its described tokens, on the half of the description."""

N_NAMED = 8
SHARE_OF_BEST = 0.2


def activations(ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Activations of neurons drawn from each of `BLOCKS`, [n_neurons, n_windows, n_tokens]."""
    import torch
    from transformers import AutoModelForCausalLM

    from autointerp.subject.embedded import embedded_model_folder

    model: Any = AutoModelForCausalLM.from_pretrained(
        embedded_model_folder(), dtype=torch.bfloat16
    ).model
    model.layers = model.layers[: max(BLOCKS) + 1]
    chosen = {b: rng.choice(model.config.intermediate_size, N_NEURONS, False) for b in BLOCKS}
    seen: dict[int, np.ndarray] = {}

    def watch(block: int) -> Any:
        def hook(_: Any, inputs: Any) -> None:
            seen[block] = inputs[0][..., chosen[block]].to(torch.float16).numpy()

        return hook

    for block in BLOCKS:
        model.layers[block].mlp.down_proj.register_forward_pre_hook(watch(block))
    parts = []
    with torch.inference_mode():
        for first in range(0, len(ids), 64):
            model(input_ids=torch.from_numpy(ids[first : first + 64].astype(np.int64)))
            parts.append(np.concatenate([seen[block] for block in BLOCKS], -1))
    return np.ascontiguousarray(np.moveaxis(np.concatenate(parts), -1, 0))


def described(ids: np.ndarray, values: np.ndarray) -> tuple[list[int], float]:
    """Tokens of the highest shrunken mean, best first, and how much their means tell."""
    flat, found = ids.ravel(), values.ravel()
    totals = np.bincount(flat, found)
    counts = np.bincount(flat)
    shrunken = totals / (counts + 1)
    best = np.argsort(-shrunken, kind="stable")[:N_NAMED]
    named = [int(t) for t in best if shrunken[t] > SHARE_OF_BEST * shrunken[best[0]]]
    told = np.where(np.isin(flat, named), shrunken[flat], 0.0)
    constant = told.std() == 0 or found.std() == 0
    return named, 0.0 if constant else float(np.corrcoef(told, found)[0, 1])


def neurons(
    rng: np.random.Generator,
    ids: Sequence[np.ndarray],
    pool: np.ndarray,
    tokenizer: Any,
    forbidden: frozenset[str],
    n_windows: int,
) -> Iterator[tuple[str, list[int], list[np.ndarray]]]:
    """Description, window numbers and their levels, one neuron at a time.

    Args:
        rng: draws windows and neurons.
        ids: token ids of every window.
        pool: numbers of the windows to draw from.
        tokenizer: turns ids into text.
        forbidden: words that no description may name, lower-case.
        n_windows: of a row.
    """
    numbers = rng.choice(pool, N_RECORDED, replace=False)
    windows = np.stack([ids[n] for n in numbers]).astype(np.int64)
    found = activations(windows, rng)
    half = N_RECORDED // 2
    for recorded in found:
        values = np.maximum(recorded.astype(np.float32), 0)
        named, told = described(windows[:half], values[:half])
        texts = [tokenizer.decode([t]) for t in named]
        plain = {text.strip().lower() for text in texts}
        if told < LEAST_CORRELATION or plain & forbidden or any("\ufffd" in t for t in texts):
            continue
        top = float(np.quantile(values[values > 0], 0.999))
        levels = np.rint(np.minimum(9 * values[half:] / top, 9))
        strongest = np.flatnonzero(levels.max(1) >= 4)
        if len(strongest) < n_windows // 2:
            continue
        own = [int(i) for i in rng.permutation(strongest)[: n_windows // 2]]
        own += [int(i) for i in rng.permutation(len(levels)) if i not in own][
            : n_windows - len(own)
        ]
        # Variants in case or leading space are named once, as the explainer does.
        quoted = list(dict.fromkeys(t.strip().casefold() or t for t in texts))
        shown = ", ".join('"' + t.replace("\n", "\\n").replace('"', '\\"') + '"' for t in quoted)
        yield (
            f"the token{'s' if len(quoted) > 1 else ''} {shown}",
            [int(numbers[half + i]) for i in own],
            [levels[i] for i in own],
        )
