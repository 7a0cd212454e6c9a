"""Writes the planted model to a folder that `autointerp run` can use as it is."""

import csv
import io
import json
from pathlib import Path

import yaml

from autointerp.planted.model import PLACE, PlantedModel, build, explanations_of_latents
from autointerp.planted.words import planted_texts
from autointerp.records import UnitId, UsageError
from autointerp.store import write_text

SOURCE = "latents"
"""Name of the dictionary's source in the config that is written."""


def write_folder(folder: str | Path, *, seed: int = 0, n_texts: int = 300) -> PlantedModel:
    """Write model, dictionary, texts, true explanations and a config.

    Args:
        folder: to make, or empty.
        seed: of the model's directions and noise, and of the texts.
        n_texts: how many texts.

    Raises:
        UsageError: where the folder holds anything.
    """
    from autointerp.units.sae.convert import write_saelens

    place = Path(folder).expanduser()
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise UsageError(f"{str(place)!r} exists and is not empty; give another folder")
    place.mkdir(parents=True, exist_ok=True)
    planted = build(seed)
    planted.subject.model.save_pretrained(place / "model")
    planted.subject.tokenizer.save_pretrained(place / "model")
    write_saelens(planted.dictionary(), place / "dictionary")
    lines = [
        json.dumps({"id": f"planted {number}", "kind": "made", "text": text})
        for number, text in enumerate(planted_texts(n_texts, seed=seed))
    ]
    write_text(place / "corpus.jsonl", "\n".join(lines) + "\n")
    write_text(place / "explanations.csv", _explanations())
    write_text(place / "config.yaml", _config(place.resolve()))
    return planted


def _explanations() -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("unit", "explanation"))
    for index, words in enumerate(explanations_of_latents()):
        rows.writerow((str(UnitId(SOURCE, index)), words))
    return text.getvalue()


def _config(folder: Path) -> str:
    config = {
        "name": "planted",
        "output": str(folder / "run"),
        "subjects": {"planted": {"model": str(folder / "model"), "device": "cpu"}},
        "corpus": {
            "path": str(folder / "corpus.jsonl"),
            "sequence_length": 65,
            "window_length": 16,
        },
        "sources": {
            SOURCE: {"type": "sae", "path": str(folder / "dictionary"), "subject": "planted"}
        },
        "units": {"sample": None, "min_active_documents": 1},
        "explainers": [
            {"name": "true", "type": "fixed", "path": str(folder / "explanations.csv")},
            {"name": "top_tokens", "type": "top_tokens"},
            {"name": "token_lookup", "type": "token_lookup"},
        ],
        "score": {"shuffled_donors": 3},
    }
    head = (
        "# Units planted in a model: what they respond to is known. `true` has the right words;\n"
        "# add an explainer or a scorer of yours and see how near it comes.\n"
        f"# Planted at {PLACE}.\n"
    )
    return head + yaml.safe_dump(config, sort_keys=False)
