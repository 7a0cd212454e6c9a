"""`autointerp simulator train`: a table of rows becomes a simulator that a run can use."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from autointerp import load_simulator
from autointerp.config import SimulatorTrainConfig
from autointerp.records import AutointerpError
from autointerp.simulators.reader import WEIGHTS_FILE
from autointerp.simulators.reader_training import ReaderProgress, read_rows
from autointerp.train_simulator import train_simulator

pytest.importorskip("peft")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """128 descriptions over two windows each; even ids are the strong ones."""
    ids = np.random.default_rng(0).integers(100, 4000, (128, 64)).astype(np.uint16)
    table = {
        "family": ["word" if i < 3 else "set" for i in range(128)],
        "description": [f"words like number {i}" for i in range(128)],
        "ids": list(ids),
        "levels": list((9 * (ids % 2 == 0)).astype(np.uint8)),
    }
    path = tmp_path_factory.mktemp("rows") / "train.parquet"
    pq.write_table(pa.table(table), path)
    return path


def config(rows: Path, base: Path, output: Path, **changes: object) -> SimulatorTrainConfig:
    keys = {
        "base": str(base),
        "rows": str(rows),
        "output": str(output),
        "n_blocks": 2,
        "lora_rank": 2,
        "lora_blocks_from": 0,
        "n_steps": 2,
        "warmup_steps": 1,
        "device": "cpu",
    }
    return SimulatorTrainConfig.model_validate(keys | changes)


def test_a_trained_simulator_simulates(rows: Path, tiny_folder: Path, tmp_path: Path) -> None:
    told: list[ReaderProgress] = []
    folder = train_simulator(config(rows, tiny_folder, tmp_path / "new"), report=told.append)
    assert told[-1].step == told[-1].n_steps == 2
    (found,) = load_simulator("embedded", model=folder, mass_floor=0.0).simulate(
        "words", [["one", " two", " three"]]
    )
    assert found.known.all() and (found.expected >= 0).all() and (found.expected <= 9).all()


def test_a_training_may_begin_with_another_one_and_leave_blocks_out(
    rows: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    whole = train_simulator(config(rows, tiny_folder, tmp_path / "whole"))
    smaller = {"start_from": str(whole), "left_out": [0], "n_steps": 1, "learning_rate": 1e-12}
    short = train_simulator(config(rows, tiny_folder, tmp_path / "short", **smaller))
    first, then = load_file(whole / WEIGHTS_FILE), load_file(short / WEIGHTS_FILE)
    assert set(then) == {name for name in first if not name.startswith("layers.0.")}
    for name, tensor in then.items():
        np.testing.assert_allclose(tensor.numpy(), first[name].numpy(), atol=1e-3)
    load_simulator("embedded", model=short).simulate("words", [["one", " two"]])


def test_rows_of_a_repeated_family_stand_several_times(rows: Path, tokenizer: Any) -> None:
    once = read_rows(rows, tokenizer, "", "")
    found = read_rows(rows, tokenizer, "", "", {"word": 3})
    first = [*[0] * 3, *[1] * 3, *[2] * 3, *range(3, 128)]
    assert found.descriptions == [once.descriptions[row] for row in first]
    np.testing.assert_array_equal(found.texts, once.texts[first])
    np.testing.assert_array_equal(found.levels, once.levels[first])
    with pytest.raises(AutointerpError, match="family 'wrd': set, word"):
        read_rows(rows, tokenizer, "", "", {"wrd": 2})


def test_a_folder_with_another_training_is_refused(
    rows: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    train_simulator(config(rows, tiny_folder, tmp_path / "kept"))
    train_simulator(config(rows, tiny_folder, tmp_path / "kept", n_steps=3))
    with pytest.raises(AutointerpError, match="another config"):
        train_simulator(config(rows, tiny_folder, tmp_path / "kept", learning_rate=1e-2))
