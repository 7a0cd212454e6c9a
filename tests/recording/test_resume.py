"""A recording that is killed goes on, and ends as if nothing had happened."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from autointerp.executor import LocalExecutor
from autointerp.progress import Silent
from autointerp.recording import memory, passes
from autointerp.recording.corpus import read_corpus, sequences_of_corpus, vocabulary
from autointerp.recording.design import SamplingDesign
from autointerp.recording.memory import memory_need, range_size
from autointerp.recording.passes import row_ranges
from autointerp.recording.windows import WindowTable
from autointerp.records import AutointerpError
from autointerp.store import RunStore
from autointerp.subject import load_subject
from autointerp.units import Neurons
from tests.processes import Forked
from tests.run_helpers import write_corpus


def record(tell: Callable[[Any], None], model: Path, folder: Path, size: int) -> None:
    """Record two sources, with a checkpoint after every shard; tell of every step."""

    class Loud(Silent):
        def advance(self, done: int) -> None:
            tell(done)

    subject = load_subject(str(model), device="cpu")
    sequences = sequences_of_corpus(
        read_corpus(folder / "corpus.jsonl"), subject.tokenizer, length=33, n_masked_start=1,
        min_length=9, max_tokens=None,
    )  # fmt: skip
    store = RunStore(folder)
    sources = {
        f"key {i}": Neurons.of(f"n{i}", "subject", subject, f"blocks.{i}.mlp.hook_post")
        for i in range(2)
    }
    with mock.patch.object(passes, "_CHECKPOINT_SECONDS", -1.0):
        for key, source, tables in passes.record_corpus(
            WindowTable.of(sequences, 8, 1), vocabulary(subject.tokenizer), subject, sources,
            SamplingDesign("d", 8, 0), checkpoint=folder / "checkpoint", shard_tokens=528,
            batch_tokens=264, executor=LocalExecutor(), reporter=Loud(),
            unit_range_size=size or None,
        ):  # fmt: skip
            store.write_record_tables(source.name, key, tables)


def digests(folder: Path) -> dict[str, str]:
    """Hash of every file of records."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("records/*.parquet"))
    }


@pytest.mark.parametrize("size", [0, 40])
def test_a_killed_recording_ends_with_the_same_bytes(
    size: int, tiny_folder: Path, tmp_path: Path
) -> None:
    """SIGKILL at arbitrary moments, twice; with all units at once, and by ranges of 40."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
        write_corpus(folder / "corpus.jsonl", n_documents=40)
    steps: list[Any] = []
    record(steps.append, tiny_folder, whole, size)
    assert len(steps) >= 6
    for n_shards, seconds in ((3, 0.0), (2, 0.03)):
        process = Forked(record, tiny_folder, killed, size)
        for _ in range(n_shards):
            process.heard()
        time.sleep(seconds)
        assert process.kill() == -9
        assert (killed / "checkpoint" / "state.json").exists()
    record(steps.append, tiny_folder, killed, size)
    expected = digests(whole)
    assert len(expected) == 6 and digests(killed) == expected
    assert not (killed / "checkpoint").exists()


def test_what_was_recorded_by_ranges_is_there_for_the_source_that_was_not_written(
    tiny_folder: Path, tmp_path: Path
) -> None:
    """Killed between two sources of different width: the one left fits into one range."""
    write_corpus(tmp_path / "corpus.jsonl", n_documents=40)
    subject = load_subject(str(tiny_folder), device="cpu")
    sequences = sequences_of_corpus(
        read_corpus(tmp_path / "corpus.jsonl"), subject.tokenizer, length=33, n_masked_start=1,
        min_length=9, max_tokens=None,
    )  # fmt: skip
    wide = Neurons.of("wide", "subject", subject, "blocks.0.mlp.hook_post")
    narrow = Neurons.of("narrow", "subject", subject, "blocks.0.hook_resid_post")
    assert narrow.n_units < wide.n_units

    def pass_over(sources: dict[str, Neurons], folder: Path) -> Any:
        return passes.record_corpus(
            WindowTable.of(sequences, 8, 1), vocabulary(subject.tokenizer), subject, sources,
            SamplingDesign("d", 8, 0), checkpoint=folder, shard_tokens=528, batch_tokens=264,
            executor=LocalExecutor(), reporter=Silent(), unit_range_size=2 * narrow.n_units,
        )  # fmt: skip

    both = pass_over({"one": wide, "two": narrow}, tmp_path / "checkpoint")
    _, _, tables = next(both)
    list(tables)
    both.close()
    ((_, source, tables),) = (
        (key, source, list(tables))
        for key, source, tables in pass_over({"two": narrow}, tmp_path / "checkpoint")
    )
    ((_, _, alone),) = (
        (key, source, list(tables))
        for key, source, tables in pass_over({"two": narrow}, tmp_path / "other")
    )
    assert source is narrow
    assert all(rows.equals(other) for (rows, _), (other, _) in zip(tables, alone, strict=True))
    assert not (tmp_path / "checkpoint").exists()


def neurons(n: int) -> Neurons:
    return Neurons("neurons", "subject", "x", n)


def test_ranges_cover_all_units_in_recording_order() -> None:
    assert row_ranges(neurons(10), None) == [slice(0, 20)]
    assert row_ranges(neurons(10), 20) == [slice(0, 20)]
    found = row_ranges(neurons(10), 4)
    assert [(r.start, r.stop) for r in found] == [
        (0, 4), (4, 8), (8, 10), (10, 14), (14, 18), (18, 20),
    ]  # fmt: skip


def test_what_does_not_fit_is_refused_with_what_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    design = SamplingDesign("d", 32, 0)
    sources = [neurons(1_000_000)]
    need = memory_need(sources, design, 2048)
    assert need.total > 50e9

    def fitting(unit_range_size: int | None, memory_gb: float | None) -> int | None:
        return range_size(
            sources, design, 2048, unit_range_size=unit_range_size, memory_gb=memory_gb
        )

    monkeypatch.setattr(memory, "available_bytes", lambda: 8 * 10**9)
    with pytest.raises(AutointerpError, match="are free: set"):
        fitting(None, None)
    assert fitting(512, None) == 512
    size = fitting(None, 40)
    assert size is not None and need.per_unit * size + need.batch <= 40e9
    with pytest.raises(AutointerpError, match="less than one batch"):
        fitting(None, 0.001)
    monkeypatch.setattr(memory, "available_bytes", lambda: None)
    assert fitting(None, None) is None
