"""How far a run is: of the present config, and on a disk that cannot be written."""

import csv
import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from autointerp.cli import app
from autointerp.runner import run
from autointerp.store import run_status
from tests.run_helpers import small_config

EXPLAINERS = [
    {"name": "top_tokens", "type": "top_tokens"},
    {"name": "token_lookup", "type": "token_lookup"},
]


@pytest.fixture(scope="module")
def narrowed(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four units, then of two of them."""
    folder = tmp_path_factory.mktemp("narrowed")
    config = small_config(folder, tiny_folder, explainers=EXPLAINERS)
    run(config)
    run(config.model_copy(update={"units": config.units.model_copy(update={"sample": 2})}))
    return folder / "run"


def test_what_earlier_configs_left_is_counted_apart(narrowed: Path) -> None:
    found = run_status(narrowed)
    with (narrowed / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(found.scores.values()) == sum(found.explanations.values()) == len(rows) == 4
    assert found.earlier is not None
    n = found.earlier["explanations"]
    assert n >= 4 and found.earlier["simulation"] >= 4
    shown = CliRunner().invoke(app, ["status", str(narrowed)]).output
    assert f"explanations: 4 ok (and {n} of earlier configs or single units)\n" in shown


def test_where_the_tables_are_older_than_the_config_everything_is_counted(narrowed: Path) -> None:
    table, config = narrowed / "explanations.jsonl", narrowed / "config.yaml"
    before, apart = table.stat().st_mtime, run_status(narrowed).earlier
    os.utime(table, (before, config.stat().st_mtime - 5))
    found = run_status(narrowed)
    shown = CliRunner().invoke(app, ["status", str(narrowed)]).output
    os.utime(table, (before, before))
    assert found.earlier is None
    assert apart is not None
    assert found.explanations == {"ok": 4 + apart["explanations"]}
    assert "of every config so far" in shown


def test_status_goes_on_where_nothing_can_be_written(
    narrowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    before = run_status(narrowed)
    monkeypatch.setattr("autointerp.store.lock.FileLock.acquire", refuse)
    monkeypatch.setattr("autointerp.store.status.os.access", lambda *_: False)
    assert run_status(narrowed) == before
    facts = {"pid": 7, "host": "elsewhere", "since": "2026-01-01 00:00:00"}
    (narrowed / ".lock.json").write_text(json.dumps(facts))
    held = run_status(narrowed).held_by
    (narrowed / ".lock.json").unlink()
    assert held == "process 7 on elsewhere, since 2026-01-01 00:00:00"
