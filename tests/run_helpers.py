"""A small real run: a random Llama's neurons over synthetic texts."""

import json
import random
from pathlib import Path
from typing import Any

import torch

from autointerp.config import RunConfig, parse_config
from autointerp.units.sae.formats.saelens import write_topk
from autointerp.units.sae.model import SparseAutoencoder

WORDS = (
    *("the", "river", "ran", "past", "old", "stone", "walls", "where", "seven", "farmers"),
    *("kept", "bees", "and", "talked", "of", "rain", "while", "children", "threw", "paper"),
    *("boats", "into", "cold", "water", "near", "mill", "every", "spring", "morning"),
)


def write_corpus(path: Path, n_documents: int = 60, n_words: int = 60, seed: int = 0) -> Path:
    """Documents of random common words, as jsonl."""
    generator = random.Random(seed)
    with path.open("w") as file:
        for number in range(n_documents):
            text = " ".join(generator.choice(WORDS) for _ in range(n_words))
            file.write(json.dumps({"id": f"d{number}", "kind": "made", "text": text}) + "\n")
    return path


def small_config(folder: Path, model: Path, **changes: Any) -> RunConfig:
    """A config whose run takes seconds; `changes` replace top-level keys."""
    corpus = folder / "corpus.jsonl"
    if not corpus.exists():
        write_corpus(corpus)
    data = {
        "name": "small",
        "output": str(folder / "run"),
        "subjects": {"subject": {"model": str(model), "device": "cpu"}},
        "corpus": {"path": str(corpus), "sequence_length": 33, "window_length": 8},
        "sources": {"neurons": {"type": "neurons", "hook_point": "blocks.0.mlp.hook_post"}},
        "record": {
            "design": {"name": "small", "quotas": {"test": {"top": 1, "intervals": 4, "hard": 0,
                                                            "silent": 2}}},
            "batch_tokens": 264,
            "shard_tokens": 528,
        },
        "units": {"sample": 4},
        "llm": {"model": f"local/{model}"},
        "explainers": [
            {"name": "words", "type": "token_activation_pairs", "n_windows": 2,
             "max_new_tokens": 4},
            {"name": "top_tokens", "type": "top_tokens"},
            {"name": "token_lookup", "type": "token_lookup"},
        ],
        "simulator": {"name": "all_at_once", "model": str(model), "mass_floor": 0.0},
        "score": {"shuffled_donors": 2, "bootstrap": 100},
    }  # fmt: skip
    return parse_config({**data, **changes}, RunConfig, "test")


def write_dictionary(folder: Path, width: int = 32, n_latents: int = 24) -> Path:
    """A random TopK dictionary of the tiny subject's residual stream."""
    generator = torch.Generator().manual_seed(3)
    decoder = torch.randn(n_latents, width, generator=generator)
    bias = torch.zeros(width)
    sae = SparseAutoencoder(
        *("topk", decoder.T.contiguous(), torch.zeros(n_latents), bias, decoder, bias), k=4
    )
    write_topk(folder, sae, {"hook_name": "blocks.1.hook_resid_post"}, torch.float32)
    return folder


class StopAfter:
    """A reporter that interrupts the run at its n-th step."""

    def __init__(self, n: int) -> None:
        self.left = n

    def stage(self, name: str, total: int, unit: str) -> None:
        """A stage begins."""
        self._step()

    def advance(self, done: int) -> None:
        """Something is done."""
        self._step()

    def note(self, text: str) -> None:
        """Nothing."""

    def _step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
