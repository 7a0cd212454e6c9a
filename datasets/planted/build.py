"""Build the planted units from the demo corpus: `python datasets/planted/build.py`.

Documents keep the splits of `autointerp.recording.corpus`; those of `explain` and `test` are cut
into windows of 32 tokens of the embedded model. Per unit and split: up to 8 windows in which the
unit is active, from as many documents as there are, and 4 in which it is silent. The unrelated
explanation of a unit is the true one of another, by a seeded permutation under which the two rules
hardly overlap: so every text is true once and unrelated once.

Writes planted.parquet (unit, tokens, activations, document, split) and units.json beside itself;
needs the embedded model, for its tokenizer.
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
N_SILENT = 4
SEED = 1
SPLITS = (Split.EXPLAIN, Split.TEST)
MAX_OVERLAP = 0.1
"""Largest absolute correlation of a unit with its unrelated explanation's rule, per split."""


@dataclass(frozen=True)
class TextWindow:
    """A window before any rule has seen it."""

    document: str
    split: Split
    tokens: tuple[str, ...]


def load_rules() -> Any:
    """The module `rules.py` beside this file, which is no package."""
    spec = importlib.util.spec_from_file_location("planted_rules", HERE / "rules.py")
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
    corpus = read_corpus(resources.path("datasets/demo/corpus.jsonl"))
    sequences = sequences_of_corpus(
        corpus, tokenizer, length=N_TOKENS, n_masked_start=0, min_length=N_TOKENS, max_tokens=None
    )
    return [
        TextWindow(s.document_id, s.split, tuple(texts[i] for i in s.token_ids))
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


def draw(rule: Any, windows: list[TextWindow], seed: int) -> list[TextWindow]:
    """The windows of one unit in one split: `N_ACTIVE` active ones, then `N_SILENT` silent."""
    generator = np.random.default_rng(seed)
    active = [bool(rule(window.tokens).any()) for window in windows]
    firing = [window for window, on in zip(windows, active, strict=True) if on]
    silent = [window for window, on in zip(windows, active, strict=True) if not on]
    return spread(firing, N_ACTIVE, generator) + spread(silent, N_SILENT, generator)


def overlap(chosen: list[TextWindow], rule: Any, other: Any) -> float:
    """|Pearson r| of two rules over the chosen windows; 0 where one is constant."""
    first = np.concatenate([rule(window.tokens) for window in chosen])
    second = np.concatenate([other(window.tokens) for window in chosen])
    if first.std() == 0 or second.std() == 0:
        return 0.0
    return abs(float(np.corrcoef(first, second)[0, 1]))


def unrelated(overlaps: np.ndarray) -> list[int]:
    """A permutation without fixed points under which all overlaps are small, [n_units]."""
    for attempt in range(100_000):
        order = np.random.default_rng(derived_seed(SEED, "unrelated", attempt)).permutation(
            len(overlaps)
        )
        places = np.arange(len(overlaps))
        if (order != places).all() and overlaps[places, order].max() <= MAX_OVERLAP:
            return [int(place) for place in order]
    raise RuntimeError(f"no permutation keeps all overlaps below {MAX_OVERLAP}")


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=HERE)
    output: Path = parser.parse_args().output
    planted = load_rules().PLANTED
    windows = text_windows()
    chosen: list[dict[Split, list[TextWindow]]] = []
    for unit in planted:
        per_split: dict[Split, list[TextWindow]] = {}
        for split in SPLITS:
            candidates = [window for window in windows if window.split == split]
            per_split[split] = draw(unit.rule, candidates, derived_seed(SEED, unit.name, split))
        chosen.append(per_split)
    overlaps = np.array(
        [
            [max(overlap(per_split[s], unit.rule, other.rule) for s in SPLITS) for other in planted]
            for unit, per_split in zip(planted, chosen, strict=True)
        ]
    )
    donors = unrelated(overlaps)

    columns: dict[str, list[Any]] = defaultdict(list)
    for place, (unit, per_split) in enumerate(zip(planted, chosen, strict=True)):
        for split, picked in per_split.items():
            for window in picked:
                columns["unit"].append(f"planted/{place}")
                columns["tokens"].append(list(window.tokens))
                columns["activations"].append(unit.rule(window.tokens).astype(np.float32))
                columns["document"].append(window.document)
                columns["split"].append(str(split))
    schema = pa.schema(
        [
            ("unit", pa.string()),
            ("tokens", pa.list_(pa.string())),
            ("activations", pa.list_(pa.float32())),
            ("document", pa.string()),
            ("split", pa.string()),
        ]
    )
    pq.write_table(pa.table(columns, schema=schema), output / "planted.parquet", compression="zstd")
    units = [
        {
            "unit": f"planted/{place}",
            "name": unit.name,
            "explanation": unit.explanation,
            "unrelated": planted[donor].explanation,
            "unrelated_unit": f"planted/{donor}",
            "rule": unit.name,
        }
        for place, (unit, donor) in enumerate(zip(planted, donors, strict=True))
    ]
    (output / "units.json").write_text(
        json.dumps(units, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
