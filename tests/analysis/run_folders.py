"""Folders of finished runs, written from synthetic results."""

import json
from pathlib import Path
from typing import Any

import yaml

from autointerp.analysis.aggregate import summarise
from autointerp.analysis.results import RunResults
from autointerp.analysis.tables import write_explanations


def write_run(folder: Path, results: RunResults, *, records: str = "r1", **config: Any) -> Path:
    """The files that a comparison reads; `records` stands for what the records were made from."""
    folder.mkdir(parents=True, exist_ok=True)
    write_explanations(results, folder / "explanations.jsonl")
    (folder / "summary.json").write_text(json.dumps(summarise(results)))
    merged = {**results.config, "corpus": {"window_length": 32}, **config}
    (folder / "config.yaml").write_text(yaml.safe_dump(merged))
    layers = {"features": 10, "neurons": 3}
    sources = {
        name: {
            "records_key": f"{records}-{name}",
            "facts": {
                "type": "sae" if name == "features" else name,
                "layer": layers.get(name),
                "width": 2048,
            },
        }
        for name in results.sources
    }
    provenance = {**results.provenance, "sources": sources, "corpus_key": "c1"}
    (folder / "provenance.json").write_text(json.dumps(provenance))
    return folder
