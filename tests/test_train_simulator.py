"""`autointerp simulator train`: a table of rows becomes a simulator that a run can use."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from autointerp import load_simulator
from autointerp.config import SimulatorTrainConfig
from autointerp.records import AutointerpError
from autointerp.simulators.reader import WEIGHTS_FILE
from autointerp.simulators.reader_training import ReaderProgress, pair_loss, read_rows
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


def test_a_step_on_pairs_wants_the_right_description_above_the_other() -> None:
    levels = torch.tensor([[[9, 0, 0, 0, 255]], [[9, 9, 0, 0, 255]]])

    def telling(*rows: list[int]) -> torch.Tensor:
        return 50.0 * torch.nn.functional.one_hot(torch.tensor([[row] for row in rows]), 11)

    both = float(np.corrcoef([9, 0, 0, 0], [9, 9, 0, 0])[0, 1])
    right = pair_loss(telling([9, 0, 0, 0, 5], [9, 9, 0, 0, 1]), levels, 0.5)
    swapped = pair_loss(telling([9, 9, 0, 0, 1], [9, 0, 0, 0, 5]), levels, 0.5)
    alike = pair_loss(telling([9, 9, 0, 0, 1], [9, 9, 0, 0, 5]), levels, 0.5)
    assert float(right) == pytest.approx(0.5 - 1 + both, abs=1e-5)
    assert float(swapped) == pytest.approx(0.5 + 1 - both, abs=1e-5)
    assert float(alike) == pytest.approx(0.5, abs=1e-5)
    silent = torch.zeros_like(levels)
    assert float(pair_loss(telling([9, 0, 0, 0, 0], [0, 0, 0, 0, 0]), silent, 0.5)) == 0


def test_pairs_are_rows_of_the_same_windows_under_other_words(
    rows: Path, tiny_folder: Path, tmp_path: Path, tokenizer: Any
) -> None:
    with pytest.raises(AutointerpError, match="have 0 pairs: leave out `pair_every`"):
        train_simulator(config(rows, tiny_folder, tmp_path / "none", pair_every=2))
    table = pq.read_table(rows)
    ids = table["ids"].to_pylist()
    twins = pa.array([ids[i - i % 2] for i in range(len(ids))], table["ids"].type)
    path = tmp_path / "twins.parquet"
    pq.write_table(table.set_column(2, "ids", twins), path)
    found = read_rows(path, tokenizer, "", "", {"word": 2}).pairs()
    assert found.tolist() == [1, 5, *range(7, 131, 2)]  # rows 0 to 2 stand twice
    paired = train_simulator(config(path, tiny_folder, tmp_path / "paired", pair_every=2))
    plain = train_simulator(config(path, tiny_folder, tmp_path / "plain"))
    first, then = load_file(plain / WEIGHTS_FILE), load_file(paired / WEIGHTS_FILE)
    assert any(not torch.equal(first[name], then[name]) for name in first)


def test_a_folder_with_another_training_is_refused(
    rows: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    train_simulator(config(rows, tiny_folder, tmp_path / "kept"))
    train_simulator(config(rows, tiny_folder, tmp_path / "kept", n_steps=3))
    with pytest.raises(AutointerpError, match="another config"):
        train_simulator(config(rows, tiny_folder, tmp_path / "kept", learning_rate=1e-2))
