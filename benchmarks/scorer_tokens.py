"""Tokens per unit of the scorers that show windows, in the designs of others: prints JSON.

    python benchmarks/scorer_tokens.py [--units 8] [--active 3] [--each 50]

A real run, counted by its ledger. Units are made up: `--each` active and as many silent test
windows of 32 tokens of the demo corpus, with `--active` tokens active in each active one, as
records from elsewhere. The judge is a tiny random model with SmolLM2's tokenizer and chat template:
prompts are the real ones, answers are noise that follows the schema. Controls are left out.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from autointerp import resources
from autointerp.config import RunConfig, parse_config
from autointerp.recording.corpus import read_corpus
from autointerp.runner import run
from autointerp.subject.embedded import embedded_model_folder

LENGTH = 32


def designs(each: int) -> list[dict[str, Any]]:
    """The scorers, with as many questions as others ask."""
    return [
        {"name": "detection, 5 a question", "type": "detection"},
        {"name": "detection, 1 a question", "type": "detection", "n_per_prompt": 1},
        {"name": "fuzzing, 5 a question", "type": "fuzzing"},
        {"name": "intruder, 50 trials of 5", "type": "intruder", "n_trials": 50},
        {"name": "intruder, 20 trials of 5", "type": "intruder"},
        {"name": "pair, 50 pairs", "type": "pair", "n_pairs": each},
        {"name": "pair, 1 a question", "type": "pair", "n_pairs": each, "n_per_prompt": 1},
        {"name": "sort, 25 pairs", "type": "sort", "n_pairs": each // 2},
    ]


def write_units(path: Path, n_units: int, each: int, n_active: int, tokenizer: Any) -> None:
    """Windows of the demo corpus with made-up activations, every one a document of its own."""
    corpus = read_corpus(resources.path("datasets/demo/corpus.jsonl"))
    text = "\n".join(document.text for document in corpus.documents[:200])
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    generator = np.random.default_rng(0)
    with path.open("w") as file:
        for unit in range(n_units):
            for number in range(2 * each + 6):
                start = int(generator.integers(len(ids) - LENGTH))
                values = np.zeros(LENGTH)
                if number < each + 6:
                    places = generator.choice(LENGTH, n_active, replace=False)
                    values[places] = (1 + number % 10) * generator.uniform(0.4, 1, n_active)
                row = {
                    "unit": f"made/{unit}",
                    "tokens": [tokenizer.decode([i]) for i in ids[start : start + LENGTH]],
                    "activations": values.tolist(),
                    "document": f"{unit} {number}",
                    "split": "explain" if each <= number < each + 6 else "test",
                }
                file.write(json.dumps(row) + "\n")


def tiny_model(folder: Path, tokenizer: Any) -> Path:
    """A random model of one block with SmolLM2's tokenizer."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=8192,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=8)
    parser.add_argument("--active", type=int, default=3)
    parser.add_argument("--each", type=int, default=50)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    tokenizer: Any = AutoTokenizer.from_pretrained(embedded_model_folder())
    write_units(
        folder / "units.jsonl", arguments.units, arguments.each, arguments.active, tokenizer
    )
    model = tiny_model(folder / "tiny", tokenizer)
    found: dict[str, Any] = {}
    for number, scorer in enumerate(designs(arguments.each)):
        name = scorer["name"]
        config = {
            "output": str(folder / f"run{number}"),
            "sources": {"made": {"type": "recorded", "path": str(folder / "units.jsonl")}},
            "units": {"sample": None, "min_active_documents": 1},
            "llm": {"model": f"local/{model}", "cache": "off"},
            "explainers": [{"name": "words", "type": "top_tokens"}],
            "score": {"shuffled_donors": 0, "bootstrap": 100},
            "scorers": [{**scorer, "name": "one"}],
            "controls": False,
        }
        results = run(parse_config(config, RunConfig, "benchmark"))
        assert results is not None
        rows = [row for row in results.ledger if not str(row["purpose"]).endswith(".repair")]
        scores = [unit.judged["one"]["words"] for unit in results.units]
        found[name] = {
            "n": round(float(np.mean([score.details.get("n", 0) for score in scores])), 1),
            **{
                key: round(sum(int(row[key]) for row in rows) / arguments.units, 1)
                for key in ("requests", "input_tokens", "output_tokens")
            },
        }
    facts = {"n_units": arguments.units, "n_active": arguments.active, "each": arguments.each}
    print(json.dumps({**facts, "per_unit": found}, indent=2))


if __name__ == "__main__":
    main()
