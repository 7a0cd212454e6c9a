"""How far a run is, read from its folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from autointerp.records import AutointerpError
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
    held_by: str | None
    finished: bool
    """Whether the page of results is there."""


def run_status(folder: str | Path) -> RunStatus:
    """How far a run is. Never waits for its lock and writes nothing.

    Raises:
        AutointerpError: where the folder holds no run.
    """
    place = Path(folder)
    if not (place / "config.yaml").exists():
        raise AutointerpError(f"{str(folder)!r} holds no run: there is no config.yaml in it")
    store = RunStore(place)
    names = _source_names(place / "config.yaml")
    held = RunLock(place).holder()
    has_results = (place / "results.sqlite").exists()
    try:
        return RunStatus(
            place,
            {name: store.records_key(name) is not None for name in names},
            store.count("explanations") if has_results else {},
            store.count("scores") if has_results else {},
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
