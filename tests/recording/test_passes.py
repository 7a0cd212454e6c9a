"""A pass that was stopped goes on from its checkpoint, or starts over where that is of no use."""

from pathlib import Path
from typing import Any

import pytest

from autointerp.recording import passes
from autointerp.records import SPLITS
from autointerp.runner import run
from autointerp.store import RunStore
from tests.run_helpers import StopAfter, small_config

RECORD = {"design": {"name": "small"}, "batch_tokens": 264}


def recorded(config: Any, source: str = "neurons") -> list[Any]:
    """Statistics and windows of every unit of a run."""
    store = RunStore(config.output)
    units = store.read_units([u.unit for u in store.units(source)])
    return [
        (
            [(unit.statistics[s].n_tokens, unit.statistics[s].histogram) for s in SPLITS],
            sorted((r.window, r.stratum, r.probability) for r in unit.records),
        )
        for unit in units
    ]


def stopped(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Any:
    """A config whose recording was interrupted after a save."""
    monkeypatch.setattr(passes, "_CHECKPOINT_SECONDS", -1.0)
    config = small_config(folder, model, **changes)
    with pytest.raises(KeyboardInterrupt):
        run(config, until="record", reporter=StopAfter(5))
    assert (Path(config.output) / "records" / ".recording" / "state.json").exists()
    return config


@pytest.mark.parametrize("shard_tokens", [528, 1056])
def test_a_checkpoint_serves_only_shards_cut_alike(
    shard_tokens: int, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "whole").mkdir()
    whole = small_config(tmp_path / "whole", tiny_folder, record=RECORD)
    run(whole, until="record")
    config = stopped(tmp_path, tiny_folder, monkeypatch, record={**RECORD, "shard_tokens": 528})
    again = {**RECORD, "shard_tokens": shard_tokens}
    run(small_config(tmp_path, tiny_folder, record=again), until="record")
    assert recorded(config) == recorded(whole)


def test_a_checkpoint_of_another_config_is_removed_before_anything_is_written(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = stopped(tmp_path, tiny_folder, monkeypatch)
    state = Path(config.output) / "records" / ".recording" / "state.json"
    with pytest.raises(KeyboardInterrupt):
        run(
            small_config(tmp_path, tiny_folder, seed=1),
            until="record",
            reporter=StopAfter(1),
        )
    assert not state.exists()
