"""Neuronpedia's bulk rows (features, activations, explanations) and bodies of its upload-batch.

    OUTPUT/v1/MODEL/SOURCE/features/batch-0.jsonl.gz      1,024 rows a file; also activations/ and
                                                          explanations/
    OUTPUT/upload-0.json                                  at most 128 features a body

Scores have no place in either: they are in the other formats.
"""

import gzip
import io
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from autointerp.export.rows import FinishedRun, TextChoice, around_peak, examples_of
from autointerp.names import as_name
from autointerp.recording.statistics import bucket_edges
from autointerp.records import (
    ActivationRecord,
    Split,
    TokenLogit,
    UnitId,
    UnitRecord,
    UsageError,
    content_key,
)

ROWS_PER_BATCH = 1024
N_ACTIVATIONS = 20
"""Windows of a unit, as the site shows."""

MAX_FEATURES = 128
MAX_TOKENS = 1024
MAX_EXPLANATION = 512
MAX_LOGITS = 20
MAX_INDEX = 10_000_000


@dataclass(frozen=True)
class Names:
    """How the model, a source and an author are called there."""

    model: str | None = None
    """`modelId`; the last part of the subject's name if `None`."""
    source: str | None = None
    """`sourceId`; LAYER-SOURCE if `None`."""
    author: str = "autointerp"
    """`creatorId` and `authorId`."""


@dataclass
class Uploads:
    """What was written for uploading, and what the limits kept back."""

    n_features: int = 0
    left_out: list[str] = field(default_factory=list)
    """Why, one line each."""


def write_neuronpedia(
    run: FinishedRun, folder: Path, choice: TextChoice, names: Names | None = None
) -> int:
    """Write the bulk rows of a run; returns the number of features."""
    names, n = names or Names(), 0
    with ExitStack() as stack:
        batches: dict[tuple[str, str, str], _Batches] = {}

        def put(where: tuple[str, str], kind: str, row: dict[str, Any]) -> None:
            if (*where, kind) not in batches:
                place = folder / "v1" / where[0] / where[1] / kind
                batches[(*where, kind)] = stack.enter_context(_Batches(place))
            batches[(*where, kind)].write(row)

        models = _Models(run)
        for unit, rows, record in run.units():
            where = _where(run, unit, names)
            own = {"modelId": where[0], "layer": where[1], "index": str(unit.index)}
            put(where, "features", own | _feature(unit, record, names))
            for number, window in enumerate(_windows(record, choice)):
                put(where, "activations", own | _activation(window, choice, number, own, names))
            for row in rows:
                if row["explanation"] is not None and not row["is_baseline"]:
                    put(where, "explanations", own | _explanation(row, models, names))
            n += 1
    return n


def write_uploads(
    run: FinishedRun, folder: Path, choice: TextChoice, names: Names | None = None
) -> Uploads:
    """Write bodies of upload-batch within its limits.

    A text that is too long is left out and said so, never cut; a window is cut around its largest
    activation.
    """
    names, done = names or Names(), Uploads()
    models = _Models(run)
    waiting: dict[tuple[str, str], list[dict[str, Any]]] = {}
    n_files = 0
    folder.mkdir(parents=True, exist_ok=True)

    def flush(where: tuple[str, str]) -> None:
        nonlocal n_files
        body = {"modelId": where[0], "source": where[1], "features": waiting.pop(where)}
        text = json.dumps(body, ensure_ascii=False, allow_nan=False)
        (folder / f"upload-{n_files}.json").write_text(text + "\n", encoding="utf-8")
        n_files += 1

    for unit, rows, record in run.units():
        found = record.statistics.get(Split.EXPLAIN)
        if unit.index > MAX_INDEX or found is None or not found.n_tokens:
            why = f"index above {MAX_INDEX}" if unit.index > MAX_INDEX else "density is not known"
            done.left_out.append(f"{unit}: {why}")
            continue
        where = _where(run, unit, names)
        texts = [_upload_text(row, models) for row in rows
                 if row["explanation"] is not None and not row["is_baseline"]]  # fmt: skip
        long = [t["methodName"] for t in texts if not 1 <= len(t["text"]) <= MAX_EXPLANATION]
        done.left_out += [
            f"{unit}: the text of {name} has not 1 to {MAX_EXPLANATION} characters" for name in long
        ]
        feature = {
            "index": unit.index,
            "density": found.density,
            "topLogits": _logits(record.promoted),
            "bottomLogits": _logits(record.suppressed),
            "explanations": [t for t in texts if 1 <= len(t["text"]) <= MAX_EXPLANATION],
            "activations": [_upload_window(w, choice) for w in _windows(record, choice)],
        }
        waiting.setdefault(where, []).append(feature)
        done.n_features += 1
        if len(waiting[where]) == MAX_FEATURES:
            flush(where)
    for where in list(waiting):
        flush(where)
    return done


class _Batches:
    """Gzipped files of 1,024 rows each, the same bytes for the same rows."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lines: list[str] = []
        self._number = 0

    def __enter__(self) -> "_Batches":
        self._folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is None:
            self._flush()

    def write(self, row: dict[str, Any]) -> None:
        self._lines.append(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
        if len(self._lines) == ROWS_PER_BATCH:
            self._flush()

    def _flush(self) -> None:
        if not self._lines:
            return
        packed = io.BytesIO()
        with gzip.GzipFile("", "wb", fileobj=packed, mtime=0) as file:
            file.write("".join(self._lines).encode())
        (self._folder / f"batch-{self._number}.jsonl.gz").write_bytes(packed.getvalue())
        self._lines, self._number = [], self._number + 1


class _Models:
    """Which language model an explainer asked: its name after the last slash, "" for none."""

    def __init__(self, run: FinishedRun) -> None:
        from autointerp.explainers import EXPLAINERS

        path = run.folder / "config.yaml"
        config = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
        model = str((config.get("llm") or {}).get("model") or "").rsplit("/", 1)[-1]
        self._of = {
            str(one.get("name")): model
            if getattr(EXPLAINERS.get(one.get("type")), "needs_llm", False)
            else ""
            for one in config.get("explainers") or ()
        }

    def of(self, explainer: str) -> str:
        return self._of.get(explainer, "")


def _where(run: FinishedRun, unit: UnitId, names: Names) -> tuple[str, str]:
    """`modelId` and `sourceId`; the negative side of a unit is a source of its own."""
    facts = run.provenance(unit.source, "")
    subject = str(facts["subject"] or "").rstrip("/").rsplit("/", 1)[-1]
    model = names.model or (as_name(subject) if subject else None)
    if model is None:
        raise UsageError(f"the model of source {unit.source!r} is not known: give --model-id NAME")
    if names.source is None and facts["layer"] is None:
        raise UsageError(f"the layer of source {unit.source!r} is not known: give --source-id NAME")
    source = names.source or f"{facts['layer']}-{unit.source}"
    for name in (model, source):
        if as_name(f"x{name}") != f"x{name}" or name.startswith("."):
            raise UsageError(f"{name!r} is no id: use letters, digits, '_', '-' and '.'")
    return model, source if unit.polarity > 0 else f"{source}__negative"


def _windows(record: UnitRecord, choice: TextChoice) -> Sequence[ActivationRecord]:
    most = N_ACTIVATIONS if choice.examples is None else choice.examples
    return examples_of(record, most) if choice.with_text else ()


def _feature(unit: UnitId, record: UnitRecord, names: Names) -> dict[str, Any]:
    found = record.statistics.get(Split.EXPLAIN)
    values, heights = _histogram(found.histogram) if found else ([], [])
    near = record.neighbours or ()
    return {
        "sourceSetName": unit.source,
        "creatorId": names.author,
        "maxActApprox": found.maximum if found else record.explain_maximum(),
        "frac_nonzero": found.density if found and found.n_tokens else None,
        "freq_hist_data_bar_values": values,
        "freq_hist_data_bar_heights": heights,
        "pos_str": [t.token for t in record.promoted or ()],
        "pos_values": [t.logit for t in record.promoted or ()],
        "neg_str": [t.token for t in record.suppressed or ()],
        "neg_values": [t.logit for t in record.suppressed or ()],
        "topkCosSimIndices": [n.unit.index for n in near],
        "topkCosSimValues": [n.cosine for n in near],
        "hasVector": False,
        "vector": [],
    }


def _histogram(counts: Sequence[int]) -> tuple[list[float], list[int]]:
    """Lower edge and height of every half octave between the first and the last that is hit."""
    hit = np.flatnonzero(counts)
    if not len(hit):
        return [], []
    shown = slice(int(hit[0]), int(hit[-1]) + 1)
    return bucket_edges()[shown].tolist(), [int(n) for n in counts[shown]]


def _activation(
    window: ActivationRecord, choice: TextChoice, number: int, own: dict[str, Any], names: Names
) -> dict[str, Any]:
    shown = around_peak(window.activations, min(choice.max_context or MAX_TOKENS, MAX_TOKENS))
    values = [float(value) for value in window.activations[shown]]
    return {
        "id": content_key("neuronpedia activation", **own, number=number),
        "creatorId": names.author,
        "dataSource": "",
        "tokens": list(window.tokens[shown]),
        "values": values,
        "maxValue": max(values),
        "minValue": min(values),
        "maxValueTokenIndex": values.index(max(values)),
        "dfaValues": [],
        "dfaMaxValue": None,
        "dfaTargetIndex": None,
        # As the dashboards mark a record that was taken for its maximum alone.
        "binMin": -1,
        "binMax": max(values),
        "binContains": -1,
    }


def _explanation(row: dict[str, Any], models: _Models, names: Names) -> dict[str, Any]:
    return {
        "id": row["explanation_key"],
        "authorId": names.author,
        "description": row["explanation"],
        "typeName": row["explainer"],
        "explanationModelName": models.of(row["explainer"]),
        "triggeredById": names.author,
        "notes": "",
    }


def _upload_text(row: dict[str, Any], models: _Models) -> dict[str, str]:
    explainer = row["explainer"]
    return {"text": row["explanation"], "methodName": explainer, "modelName": models.of(explainer)}


def _upload_window(window: ActivationRecord, choice: TextChoice) -> dict[str, Any]:
    found = _activation(window, choice, 0, {}, Names())
    # Quantiles are optional there, and our strata are intervals of value.
    return {"tokens": found["tokens"], "values": found["values"]}


def _logits(tokens: Sequence[TokenLogit] | None) -> list[dict[str, Any]]:
    return [{"token": t.token, "value": t.logit} for t in (tokens or ())[:MAX_LOGITS]]
