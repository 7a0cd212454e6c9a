"""A finished run of any number of units, written in seconds per hundred thousand.

Every file has the form that a real run's has; the numbers and words are drawn, so that nothing
needs a model. Blocks of units share their windows, which differ in nothing but the unit.
"""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from autointerp.records import (
    ActivationRecord,
    Score,
    Simulation,
    Split,
    SplitStatistics,
    Status,
    Strata,
    TopToken,
    UnitId,
    UnitRecord,
    Window,
)
from autointerp.records import Sequence as TokenSequence
from autointerp.store import RunStore, TokenTable
from autointerp.store.rows import (
    RECORD_SCHEMA,
    UNIT_SCHEMA,
    pack_simulations,
    record_row,
    unit_row,
)

WORDS = (
    *("river", "stone", "bread", "music", "winter", "letters", "numbers", "names", "colours"),
    *("verbs", "code", "brackets", "dates", "cities", "animals", "tools", "doubt", "praise"),
    *("the past", "questions", "quotes", "lists", "laws", "trade", "weather", "birds", "hands"),
)
TOKENS = (
    *(" the", " river", " ran", " over", " old", " stones", ",", " and", " we", " sang", ".", "\n"),
)
WINDOW = 24
BLOCK = 32
"""Units of a row group."""

_EXPLAIN = ("top", "interval_10", "interval_05", "interval_01", "silent")
_TEST = ("top", "interval_09", "interval_07", "interval_05", "interval_03", "interval_01",
         "hard", "silent", "silent", "random")  # fmt: skip
STATUSES = (Status.OK,) * 17 + (
    Status.CONSTANT_PREDICTION, Status.INSUFFICIENT_DATA, Status.FAILED,
)  # fmt: skip


def write_run(
    folder: Path,
    n_units: int,
    *,
    sources: Sequence[str] = ("features", "neurons"),
    explainers: Sequence[str] = ("words", "token_lookup"),
    vocabulary: Sequence[str] = TOKENS,
    texts: Sequence[str] = (),
    seed: int = 0,
) -> Path:
    """Write a run whose units are split evenly over its sources.

    Args:
        folder: the run's.
        n_units: explained units, of all sources together.
        sources: their names.
        explainers: their names; `token_lookup` is a baseline.
        vocabulary: texts of the tokens.
        texts: explanations of the first units; drawn words follow.
        seed: of what is drawn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    store = RunStore(folder)
    sequences = _write_corpus(store, vocabulary)
    each = -(-n_units // len(sources))
    sizes = [min(each, n_units - i * each) for i in range(len(sources))]
    for source, size in zip(sources, sizes, strict=True):
        tables = _tables(source, size, sequences, vocabulary, seed)
        store.write_record_tables(source, f"records of {source}", tables)
    units = [(source, size) for source, size in zip(sources, sizes, strict=True)]
    _write_results(folder, store, units, explainers, texts, seed)
    _write_facts(folder, units, explainers)
    store.close()
    return folder


def density_of(index: int) -> float:
    """Firing rate of a unit: from 1e-5 to 0.1, in no order."""
    return 10 ** (-5 + 4 * ((index * 7919) % 10007) / 10007)


def _write_corpus(store: RunStore, vocabulary: Sequence[str]) -> list[TokenSequence]:
    sequences: list[TokenSequence] = []
    facts: dict[str, tuple[str, str, str]] = {}
    for number in range(40):
        split = (Split.EXPLAIN, Split.TEST, Split.CALIBRATE, Split.TEST)[number % 4]
        ids = (np.arange(2 * WINDOW) * (number + 1) + number) % len(vocabulary)
        spelled = [vocabulary[i] for i in ids]
        ends = np.cumsum([len(text) for text in spelled]).astype(np.int32)
        starts = np.concatenate([[0], ends[:-1]]).astype(np.int32)
        masked = np.zeros(len(ids), bool)
        masked[0] = True
        document = f"{number:016x}"
        name = f"{number:08x}" * 2
        sequences.append(
            TokenSequence(name, document, split, ids.astype(np.int32), masked, starts, ends)
        )
        facts[document] = ("".join(spelled), f"made-{number}", "made")
    table = TokenTable("made", sequences, list(vocabulary))
    store.write_corpus("corpus", [table], facts.__getitem__)
    return sequences


def _template(
    unit: UnitId, sequences: Sequence[TokenSequence], vocabulary: Sequence[str], place: int
) -> UnitRecord:
    """A unit whose windows fire on one token of the vocabulary."""
    favourite = (place * 5) % len(vocabulary)
    records: list[ActivationRecord] = []
    for split, strata in ((Split.EXPLAIN, _EXPLAIN), (Split.TEST, _TEST)):
        own = [s for s in sequences if s.split == split]
        for number, stratum in enumerate(strata):
            sequence = own[(place + number) % len(own)]
            start = WINDOW * (number % 2)
            ids = sequence.token_ids[start : start + WINDOW]
            height = 8.0 * _height(stratum)
            values = np.where(ids == favourite, height, 0.0).astype(np.float32)
            if height and not values.any():
                values[WINDOW // 2] = height
            records.append(
                ActivationRecord(
                    unit, Window(sequence.sequence_id, start, start + WINDOW),
                    sequence.document_id, split, stratum, 0.5,
                    tuple(vocabulary[i] for i in ids), values,
                    sequence.masked[start : start + WINDOW],
                )
            )  # fmt: skip
    histogram = [0] * 128
    histogram[66:72] = [300, 200, 90, 30, 8, 2]
    statistics = {
        split: SplitStatistics(
            20_000, 630, 200, 90, 8.0, (0.1, 0.6, 3.0, 20.0), tuple(histogram),
            (TopToken(vocabulary[favourite], 6.0, 6.0, 100, 8.0),
             TopToken(vocabulary[0], 0.2, 0.3, 900, 1.0)),
        )
        for split in (Split.EXPLAIN, Split.TEST)
    }  # fmt: skip
    return UnitRecord(unit, tuple(records), statistics)


def _height(stratum: str) -> float:
    if stratum == Strata.TOP:
        return 1.0
    return int(stratum.removeprefix("interval_")) / 10 if stratum.startswith("interval") else 0.0


def _tables(
    source: str,
    n: int,
    sequences: Sequence[TokenSequence],
    vocabulary: Sequence[str],
    seed: int,
) -> Iterator[tuple[pa.Table, pa.Table]]:
    made = [_template(UnitId(source, i), sequences, vocabulary, i) for i in range(min(BLOCK, n))]
    rows = pa.Table.from_pylist([record_row(r) for u in made for r in u.records], RECORD_SCHEMA)
    units = pa.Table.from_pylist([unit_row(u, -1) for u in made], UNIT_SCHEMA)
    places = rows["index"].to_numpy()
    for first in range(0, n, BLOCK):
        size = min(BLOCK, n - first)
        own = rows.filter(pa.array(places < size)) if size < BLOCK else rows
        index = pa.array((own["index"].to_numpy() + first).astype(np.int32))
        few = units.slice(0, size)
        densities = [density_of(first + i) for i in range(size)]
        few = few.set_column(0, "index", pa.array(range(first, first + size), pa.int32()))
        few = few.set_column(2, "explain_density", pa.array(densities))
        yield own.set_column(0, "index", index), few


def _write_results(
    folder: Path,
    store: RunStore,
    units: Sequence[tuple[str, int]],
    explainers: Sequence[str],
    texts: Sequence[str],
    seed: int,
) -> None:
    """explanations.jsonl and the scores behind it."""
    generator = np.random.default_rng(seed)
    database = store.database
    for number in range(8):
        values = generator.uniform(0, 9, (len(_TEST) - 1, WINDOW))
        parts = [
            Simulation(v.astype(np.float32), np.ones(WINDOW, bool), np.ones(WINDOW, np.float32))
            for v in values
        ]
        database.execute(
            "INSERT OR REPLACE INTO simulations VALUES (?, ?, ?, ?, ?, ?, ?)",
            (f"simulation {number}", "made", "made", *pack_simulations(parts)),
        )
    with (folder / "explanations.jsonl").open("w", encoding="utf-8") as file:
        total = 0
        for source, n in units:
            for index in range(n):
                draws = generator.random(8)
                kept: list[tuple[Any, ...]] = []
                for place, explainer in enumerate(explainers):
                    row, score = _result(source, index, explainer, place, draws, texts, total)
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                    kept.append(score)
                database.executemany(
                    "INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", kept
                )
                total += 1
    database.commit()


def _result(
    source: str,
    index: int,
    explainer: str,
    place: int,
    draws: np.ndarray,
    texts: Sequence[str],
    total: int,
) -> tuple[dict[str, Any], tuple[Any, ...]]:
    status = STATUSES[int(draws[0] * len(STATUSES))]
    scored = status is Status.OK
    value = round(float(draws[1] ** 2 * 0.9 + 0.05 * place), 6) if scored else None
    others = 0.1 * float(draws[2])
    lift = None if value is None else round(value - others, 6)
    words = [WORDS[int(d * d * len(WORDS))] for d in draws[3:7]]
    text = texts[total] if total < len(texts) else f"{words[0]} near {words[1]}, or {words[2]}"
    key = f"{source}/{index}/{explainer}"
    interval = None if lift is None else {"low": lift - 0.2, "high": lift + 0.2, "level": 0.95,
                                          "method": "made"}  # fmt: skip
    control = {"name": "shuffled", "score": others, "status": "ok", "donor": f"{source}/0",
               "explanation_key": f"{source}/0/{explainer}"}  # fmt: skip
    own = {
        "metric": "correlation", "status": str(status), "stage": "score",
        "reason": "" if scored else "made so", "score": value, "score_interval": interval,
        "chance": 0.0, "lift": lift, "lift_interval": interval, "control_mean": others,
        "controls": [control], "lookup_score": 0.4, "n_windows": 9, "n_documents": 9,
        "n_active_documents": 6, "n_tokens": 200, "n_unknown_tokens": 0, "simulator": "made",
        "design": "made", "split": "test", "key": f"score of {key}",
    }  # fmt: skip
    row = {
        "schema_version": 2, "run": "made", "unit": f"{source}/{index}", "source": source,
        "index": index, "polarity": 1, "firing_rate": density_of(index), "explainer": explainer,
        "is_baseline": explainer == "token_lookup",
        "explanation": None if status is Status.FAILED else text, "explanation_key": key,
        "author": None, "status": "failed" if status is Status.FAILED else "ok",
        "reason": "made so" if status is Status.FAILED else "", "scores": {"simulation": own},
    }  # fmt: skip
    body = {
        "explanation_key": key, "explainer": explainer, "scorer": "simulation",
        "simulator": "made", "value": value, "status": str(status), "key": own["key"],
        "split": "test", "interval": interval,
        "controls": [{"name": "shuffled", "value": others, "status": "ok",
                      "donor": {"source": source, "index": 0, "polarity": 1},
                      "explanation_key": control["explanation_key"]}],
        "control_mean": others, "lift": lift, "lift_interval": interval, "n_tokens": 200,
        "n_windows": 9, "n_documents": 9, "n_active_documents": 6, "n_unknown_tokens": 0,
        "design": "made", "reason": own["reason"],
        "details": {"simulation_key": f"simulation {index % 8}", "mean_level_mass": 0.98},
    }  # fmt: skip
    stored = (own["key"], row["unit"], key, explainer, "simulation", "made", "test", value,
              str(status), lift, json.dumps(body))  # fmt: skip
    return row, stored


def _write_facts(folder: Path, units: Sequence[tuple[str, int]], explainers: Sequence[str]) -> None:
    none = {"mean": None, "interval": None}
    group = {
        "lift": None, "score": {"excluded": none}, "controls": {"mean": None},
        "counts": {"scored": 0, "selected": 0}, "lookup": {}, "chance": 0.0,
    }  # fmt: skip
    found = {
        source: {
            "recorded": {"n_units": n},
            "explainers": {e: {"is_baseline": e == "token_lookup", **group} for e in explainers},
        }
        for source, n in units
    }
    scorer = {"type": "simulation", "metric": "correlation", "low": -1.0, "high": 1.0,
              "chance": 0.0, "best_explainer": explainers[0], "sources": found}  # fmt: skip
    summary = {
        "schema_version": 2, "run": "made", "level": 0.95, "n_units": sum(n for _, n in units),
        "scorer": "simulation", "best_explainer": explainers[0], "sources": found,
        "scorers": {"simulation": scorer}, "comparisons": [],
    }  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    (folder / "provenance.json").write_text(json.dumps({"sources": {}}), encoding="utf-8")
    config = {
        "name": "made", "output": str(folder), "seed": 0,
        "sources": {source: {"type": "recorded", "path": "nowhere.jsonl"} for source, _ in units},
        "explainers": [
            {"name": e, "type": "token_lookup" if e == "token_lookup" else "top_tokens"}
            for e in explainers
        ],
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


def lifts_of(folder: Path, explainer: str) -> dict[str, float | None]:
    """Unit → lift, as the run's table has it: for what a list must be in the order of."""
    found: dict[str, float | None] = {}
    for line in (folder / "explanations.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["explainer"] == explainer:
            lift = row["scores"]["simulation"]["lift"]
            found[row["unit"]] = None if lift is None or not math.isfinite(lift) else lift
    return found


__all__ = ["STATUSES", "TOKENS", "Score", "density_of", "lifts_of", "write_run"]
