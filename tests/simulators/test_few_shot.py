"""The few-shot is read once: kept in memory, found on disk, and read again where damaged."""

import gc
from dataclasses import replace

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from autointerp.simulators import few_shot, prefix_model
from autointerp.simulators.all_at_once import AllAtOnce

JOBS = [("cats", [[" the", " cat", " sat"], [" a", " dog"]])]


@pytest.fixture
def subject(tiny_subject, tokenizer):
    made = tiny_subject("gemma3_text", vocabulary=len(tokenizer))
    return replace(made, tokenizer=tokenizer)


@pytest.fixture
def reads(monkeypatch):
    """How often a few-shot was computed."""
    counted = []
    real = prefix_model.sharing_model

    def counting(*given):
        counted.append(given)
        return real(*given)

    monkeypatch.setattr(few_shot, "sharing_model", counting)
    return counted


def levels(subject, folder):
    gc.collect()
    simulator = AllAtOnce(subject, cache=folder)
    return np.concatenate([s.expected for s in simulator.simulate_many(JOBS)[0]])


def test_a_second_process_finds_it_on_disk(subject, tmp_path, reads):
    first = levels(subject, tmp_path)
    again = levels(subject, tmp_path)
    assert len(reads) == 1
    np.testing.assert_array_equal(first, again)
    (file,) = tmp_path.iterdir()
    assert file.suffix == ".safetensors"


def test_two_simulators_of_one_process_share_it(subject, reads):
    first, second = AllAtOnce(subject), AllAtOnce(subject, mass_floor=0.5)
    first.simulate_many(JOBS)
    second.simulate_many(JOBS)
    assert len(reads) == 1
    assert first._few_shot is second._few_shot


def test_another_model_prompt_or_dtype_has_a_file_of_its_own(subject, tmp_path, reads):
    levels(subject, tmp_path)
    levels(replace(subject, fingerprint="another"), tmp_path)
    AllAtOnce(subject, cache=tmp_path, prompt="simulate_tab_unknown").simulate_many(JOBS)
    assert len(reads) == 3
    assert len(list(tmp_path.iterdir())) == 3


def damage_bytes(file):
    data = bytearray(file.read_bytes())
    data[-5] ^= 64
    file.write_bytes(data)


def cut_off(file):
    file.write_bytes(file.read_bytes()[:-100])


def empty(file):
    file.write_bytes(b"")


def lose_a_block(file):
    with safe_open(str(file), framework="pt") as opened:
        facts = opened.metadata()
    tensors = load_file(file)
    save_file(dict(list(tensors.items())[1:]), file, metadata=facts)


@pytest.mark.parametrize("harm", [damage_bytes, cut_off, empty, lose_a_block])
def test_a_damaged_file_is_read_again_and_written_anew(subject, tmp_path, reads, harm):
    right = levels(subject, tmp_path)
    (file,) = tmp_path.iterdir()
    harm(file)
    np.testing.assert_array_equal(levels(subject, tmp_path), right)
    assert len(reads) == 2
    np.testing.assert_array_equal(levels(subject, tmp_path), right)
    assert len(reads) == 2
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_a_folder_that_cannot_be_written_costs_only_time(subject, tmp_path, reads):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    levels(subject, blocked / "few_shot")
    assert len(reads) == 1
