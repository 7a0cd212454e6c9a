"""How far a run is, read from its folder."""

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from autointerp.records import AutointerpError, Split, Status
from autointerp.store.ledger import read_spending
from autointerp.store.lock import RunLock
from autointerp.store.run_store import RunStore


@dataclass(frozen=True)
class RunStatus:
    """How far a run is, read from its folder."""

    folder: Path
    recorded: dict[str, bool]
    explanations: dict[str, int]
    """Stored explanations per status, of the present config where `earlier` tells them apart."""
    scores: dict[str, int]
    """The same of scores by simulation."""
    judged_scores: dict[str, dict[str, int]]
    """Stored scores per status, by scorer, of the scorers that ask a language model."""
    earlier: dict[str, int] | None
    """What is stored beside these, of earlier configs or units asked for singly, as `explanations`
    and by scorer; `None` where the tables are older than the config, and all is counted above."""
    incomplete: dict[str, int]
    """Scores that have not failed, but lack an answer because a request did, by scorer; choices
    made by such scores, by explainer."""
    spending: list[dict[str, Any]]
    """The ledger: requests, tokens and money per purpose, model and mode."""
    in_flight: int
    """Requests that were sent and are not settled."""
    held_by: str | None
    finished: bool
    """Whether the page of results is there."""

    def beside(self, name: str) -> str:
        """The end of a line about `explanations` or a scorer: what earlier configs left."""
        n = (self.earlier or {}).get(name)
        return f" (and {n} of earlier configs or single units)" if n else ""

    def retry_line(self) -> str | None:
        """What failed or is incomplete, and how to ask again; `None` where there is nothing."""
        tables = (self.explanations, self.scores, *self.judged_scores.values())
        counts = {
            "failed": sum(table.get(Status.FAILED, 0) for table in tables),
            "incomplete": sum(self.incomplete.values()),
        }
        told = ", ".join(f"{name}: {n}" for name, n in counts.items() if n)
        return f"{told}; `autointerp retry {self.folder} --failed` asks again" if told else None


def config_file(folder: str | Path) -> Path:
    """The config that a run wrote into its folder.

    Raises:
        AutointerpError: where the folder holds no run; says what it is instead.
    """
    place = Path(folder)
    config = place / "config.yaml"
    if config.exists():
        return config
    said = f"{str(folder)!r} holds no run: there is no config.yaml in it"
    if not place.exists():
        said = f"{str(folder)!r} holds no run: there is no such folder"
    elif not place.is_dir():
        said = f"{str(folder)!r} is a file and no run's folder"
    runs = sorted(path.parent for path in place.glob("*/config.yaml"))
    known = f", or {str(runs[0])!r} in it" if runs else ""
    raise AutointerpError(
        f"{said}; give the folder that `autointerp run` wrote, such as results/demo{known}"
    )


def folder_of_config(config: str | Path) -> Path | None:
    """The run's folder that a config was written into by its run; `None` for any other config.

    Such a config says where the run was; where it lies says where it is, also after a move.
    """
    path = Path(config)
    marks = (".lock", "results.sqlite", "provenance.json")
    is_of_run = path.name == "config.yaml" and any((path.parent / name).exists() for name in marks)
    return path.parent if is_of_run else None


def run_status(folder: str | Path) -> RunStatus:
    """How far a run is. Never waits for its lock and writes nothing: the disk may be read only.

    Raises:
        AutointerpError: where the folder holds no run.
    """
    place = Path(folder)
    config = config_file(place)
    # Where it can be written, files that SQLite makes to read it are removed again by a writer.
    store = RunStore(place, read_only=not os.access(place, os.W_OK))
    names = _source_names(config)
    held = RunLock(place).holder()
    has_results = (place / "results.sqlite").exists()
    try:
        spending, in_flight = read_spending(store.database) if has_results else ([], 0)
        explanations, by_scorer, earlier = {}, {}, {}
        if has_results:
            table = place / "explanations.jsonl"
            explanations, by_scorer, earlier = _counted(store.database, _keys_in(table))
            if earlier and table.stat().st_mtime_ns < config.stat().st_mtime_ns:
                explanations, by_scorer, earlier = _counted(store.database, None)
        return RunStatus(
            place,
            {name: store.records_key(name) is not None for name in names},
            explanations,
            by_scorer.pop("simulation", {}),
            by_scorer,
            earlier,
            store.count_incomplete() if has_results else {},
            spending,
            in_flight,
            held,
            (place / "report.html").exists(),
        )
    finally:
        store.close()


def _keys_in(table: Path) -> set[str] | None:
    """Keys of explanations and scores in `explanations.jsonl`; `None` where it cannot be read."""
    keys: set[str] = set()
    try:
        for row in _rows(table):
            found = (row["explanation_key"], *(s["key"] for s in row["scores"].values()))
            keys.update(key for key in found if key)
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None  # damaged, or of another version
    return keys


def is_in_tables(folder: str | Path, unit: str) -> bool | None:
    """Whether a run's tables have a unit; `None` where there are none yet, or they are damaged."""
    try:
        return any(row["unit"] == unit for row in _rows(Path(folder) / "explanations.jsonl"))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _rows(table: Path) -> Iterator[Any]:
    with table.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def _counted(
    database: sqlite3.Connection, keys: set[str] | None
) -> tuple[dict[str, int], dict[str, dict[str, int]], dict[str, int] | None]:
    """Explanations per status, scores per scorer and status, and how many there are of others.

    A score on `audit` stands in no table: it counts with its explanation.
    """

    def is_present(key: str) -> bool:
        return keys is None or key in keys

    earlier: Counter[str] = Counter()
    explanations: Counter[str] = Counter()
    for key, status in database.execute("SELECT key, status FROM explanations"):
        if is_present(key):
            explanations[status] += 1
        else:
            earlier["explanations"] += 1
    scores: dict[str, Counter[str]] = {}
    rows = database.execute("SELECT key, explanation_key, scorer, split, status FROM scores")
    for key, explanation, scorer, split, status in rows:
        own = scores.setdefault(scorer, Counter())
        if is_present(explanation if split == Split.AUDIT else key):
            own[status] += 1
        else:
            earlier[scorer] += 1
    counted = {scorer: dict(own) for scorer, own in scores.items()}
    return dict(explanations), counted, None if keys is None else dict(earlier)


def _source_names(path: Path) -> list[str]:
    try:
        config: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        return list(config["sources"])
    except (yaml.YAMLError, ValueError, KeyError, TypeError) as error:
        raise AutointerpError(
            f"{path} is no config of a run ({error}): run again to write it anew"
        ) from error


def spending_lines(spending: list[dict[str, Any]], in_flight: int) -> list[str]:
    """The ledger in lines: one per purpose, model and mode, and the whole."""
    lines: list[str] = []
    for row in spending:
        batch = " in batches" if row["mode"] == "batch" else ""
        free = row["model"].startswith("local/") or not row["output_tokens"]
        money = "" if free and not row["usd"] else f", ${row['usd']:.4f}"
        unpriced = row["unpriced_requests"]
        without = f" (without {unpriced:,} requests of unknown price)" if unpriced else ""
        lines.append(
            f"{row['purpose'] or 'other'}, {row['model']}{batch}: {row['requests']:,} requests, "
            f"{row['input_tokens']:,} tokens in ({row['cached_tokens']:,} cached), "
            f"{row['output_tokens']:,} out{money}{without}"
        )
    lost = sum(row["lost_requests"] for row in spending)
    if lost:
        tokens, usd = (sum(row[name] for row in spending) for name in ("lost_tokens", "lost_usd"))
        lines.append(
            f"lost: {lost:,} requests whose answers never came; the provider may have charged "
            f"{tokens:,} tokens and ${usd:.4f} for them at most"
        )
    if in_flight:
        lines.append(f"in flight: {in_flight:,} requests")
    return lines
