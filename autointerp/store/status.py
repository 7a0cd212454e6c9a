"""How far a run is, read from its folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from autointerp.records import AutointerpError, Status
from autointerp.store.ledger import read_spending
from autointerp.store.lock import RunLock
from autointerp.store.run_store import RunStore


@dataclass(frozen=True)
class RunStatus:
    """How far a run is, read from its folder."""

    folder: Path
    recorded: dict[str, bool]
    explanations: dict[str, int]
    """Stored explanations per status, of all configs this folder has seen."""
    scores: dict[str, int]
    judged_scores: dict[str, dict[str, int]]
    """Stored scores per status, by scorer, of the scorers that ask a language model."""
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
    """How far a run is. Never waits for its lock and writes nothing.

    Raises:
        AutointerpError: where the folder holds no run.
    """
    place = Path(folder)
    config = config_file(place)
    store = RunStore(place)
    names = _source_names(config)
    held = RunLock(place).holder()
    has_results = (place / "results.sqlite").exists()
    try:
        spending, in_flight = read_spending(place / "results.sqlite") if has_results else ([], 0)
        by_scorer = store.count_scores() if has_results else {}
        return RunStatus(
            place,
            {name: store.records_key(name) is not None for name in names},
            store.count("explanations") if has_results else {},
            by_scorer.pop("simulation", {}),
            by_scorer,
            store.count_incomplete() if has_results else {},
            spending,
            in_flight,
            held,
            (place / "report.html").exists(),
        )
    finally:
        store.close()


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
