"""Build the known answers from the demo corpus: `python datasets/known_answers/build.py`.

Documents keep the splits of `autointerp.recording.corpus`; those of `explain` and `test` are cut
into windows of 32 tokens of the embedded model. Per unit and split, each drawn from as many
documents as there are: up to 8 windows in which the unit is active, 2 of them such that the too
narrow explanation predicts something; up to 4 in which it is silent although the too broad one
predicts something, up to 2 in which only the unrelated one does, and 2 other silent ones.

Writes beside itself `known_answers.parquet` (unit, tokens, activations, document, split, and what
the three false explanations predict: broad, narrow, unrelated) and `units.json` (texts, kinds, and
the status that a score must have). Needs the embedded model, for its tokenizer.
"""

import argparse
import importlib.util
import json
import sys
from collections import defaultdict
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from autointerp import resources
from autointerp.recording.corpus import read_corpus, sequences_of_corpus, vocabulary
from autointerp.records import Split, derived_seed
from autointerp.subject.embedded import embedded_model_folder

HERE = Path(__file__).resolve().parent
N_TOKENS = 32
N_ACTIVE = 8
N_NARROW = 2
N_NEAR = 4
N_UNRELATED = 2
N_SILENT = 2
SEED = 1
SPLITS = (Split.EXPLAIN, Split.TEST)
FALSE = ("broad", "narrow", "unrelated")

EXPECTED_STATUS = {"constant": "undefined_truth", "zero": "undefined_truth"}
"""Kind → status that a score of the unit must have; `ok` for the others."""


@dataclass(frozen=True)
class TextWindow:
    """A window before any rule has seen it."""

    document: str
    split: Split
    tokens: tuple[str, ...]
    kind: str


def load_rules() -> Any:
    """The module `rules.py` beside this file, which is no package."""
    spec = importlib.util.spec_from_file_location("known_answer_rules", HERE / "rules.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def text_windows() -> list[TextWindow]:
    """All full windows of the demo corpus, in its order."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(embedded_model_folder())
    texts = vocabulary(tokenizer)
    path = resources.path("datasets/demo/corpus.jsonl")
    kinds = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        kinds[entry["text"]] = entry["kind"]
    corpus = read_corpus(path)
    kind_of = {document.document_id: kinds[document.text] for document in corpus.documents}
    sequences = sequences_of_corpus(
        corpus, tokenizer, length=N_TOKENS, n_masked_start=0, min_length=N_TOKENS, max_tokens=None
    )
    return [
        TextWindow(
            s.document_id, s.split, tuple(texts[i] for i in s.token_ids), kind_of[s.document_id]
        )
        for s in sequences
        if s.split in SPLITS and not s.masked.any()
    ]


def spread(
    windows: list[TextWindow], count: int, generator: np.random.Generator
) -> list[TextWindow]:
    """Draw `count` windows: one from every document in random order, then a second, and so on."""
    by_document: dict[str, list[TextWindow]] = defaultdict(list)
    for place in generator.permutation(len(windows)):
        by_document[windows[place].document].append(windows[place])
    rounds = zip_longest(*by_document.values())
    return [window for turn in rounds for window in turn if window is not None][:count]


def draw(rules: Any, unit: Any, windows: list[TextWindow], seed: int) -> list[TextWindow]:
    """The windows of one unit in one split: active, near, unrelated and silent ones."""
    generator = np.random.default_rng(seed)
    views = [rules.View(window.tokens, window.kind) for window in windows]
    fires = {
        name: np.array([bool(getattr(unit, name).rule(view).any()) for view in views])
        for name in ("true", *FALSE)
    }
    true, silent = fires["true"], ~fires["true"]
    chosen: list[TextWindow] = []

    def take(wanted: np.ndarray, count: int) -> None:
        found = [windows[i] for i in np.flatnonzero(wanted) if windows[i] not in chosen]
        chosen.extend(spread(found, count, generator))

    take(true & fires["narrow"], N_NARROW)
    take(true, N_ACTIVE - len(chosen))
    take(silent & fires["broad"], N_NEAR)
    take(silent & fires["unrelated"] & ~fires["broad"], N_UNRELATED)
    take(silent & ~fires["broad"], N_SILENT)
    return chosen


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=HERE)
    output: Path = parser.parse_args().output
    rules = load_rules()
    windows = text_windows()
    columns: dict[str, list[Any]] = defaultdict(list)
    units: list[dict[str, Any]] = []
    for place, unit in enumerate(rules.PLANTED):
        for split in SPLITS:
            candidates = [window for window in windows if window.split == split]
            for window in draw(rules, unit, candidates, derived_seed(SEED, unit.name, split)):
                view = rules.View(window.tokens, window.kind)
                columns["unit"].append(f"known/{place}")
                columns["tokens"].append(list(window.tokens))
                columns["activations"].append(unit.true.rule(view).astype(np.float32))
                columns["document"].append(window.document)
                columns["split"].append(str(split))
                for false in FALSE:
                    columns[false].append(getattr(unit, false).rule(view).astype(np.float32))
        units.append(
            {
                "unit": f"known/{place}",
                "name": unit.name,
                "kind": unit.kind,
                "readable": unit.kind in rules.READABLE,
                "explanation": unit.true.text,
                **{false: getattr(unit, false).text for false in FALSE},
                "expected_status": EXPECTED_STATUS.get(unit.kind, "ok"),
            }
        )
    numbers = pa.list_(pa.float32())
    schema = pa.schema(
        [
            ("unit", pa.string()),
            ("tokens", pa.list_(pa.string())),
            ("activations", numbers),
            ("document", pa.string()),
            ("split", pa.string()),
            *((false, numbers) for false in FALSE),
        ]
    )
    pq.write_table(
        pa.table(columns, schema=schema), output / "known_answers.parquet", compression="zstd"
    )
    (output / "units.json").write_text(
        json.dumps(units, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
