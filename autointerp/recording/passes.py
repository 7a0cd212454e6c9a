"""The recording pass: shards one after the other, merged and checkpointed, then finished."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from autointerp.executor import Executor
from autointerp.progress import Reporter
from autointerp.recording.buffers import Buffers
from autointerp.recording.design import SamplingDesign
from autointerp.recording.finish import finish
from autointerp.recording.recorder import record_shard
from autointerp.recording.windows import Shard, WindowTable, shards_of
from autointerp.records import UnitRecord
from autointerp.store import write_text
from autointerp.subject import Subject
from autointerp.units import UnitSource

_CHECKPOINT_SECONDS = 15.0


def record_corpus(
    windows: WindowTable,
    vocabulary: list[str],
    subject: Subject,
    sources: dict[str, UnitSource],
    design: SamplingDesign,
    *,
    checkpoint: Path,
    shard_tokens: int,
    batch_tokens: int,
    executor: Executor,
    reporter: Reporter,
) -> Iterator[tuple[str, UnitSource, Iterator[UnitRecord]]]:
    """Record several sources of one subject in one pass, going on from `checkpoint`.

    Args:
        sources: by the key of what is recorded; a checkpoint of other keys is not used.
        checkpoint: folder for the unfinished pass; removed when the last source was taken.

    Yields:
        (key, source, its unit records in recording order).
    """
    shards = shards_of(windows.sequences, shard_tokens)
    saved = _Checkpoint(
        checkpoint, {source.name: key for key, source in sources.items()}, shard_tokens
    )
    n_done, buffers = saved.load()
    reporter.stage("record", sum(_n_tokens(windows, shard) for shard in shards), "tokens")
    reporter.advance(sum(_n_tokens(windows, shard) for shard in shards[:n_done]))

    def work(shard: Shard) -> dict[str, Buffers]:
        return record_shard(
            shard,
            windows,
            subject,
            list(sources.values()),
            design,
            batch_tokens=batch_tokens,
            vocabulary_size=len(vocabulary),
            so_far=buffers or None,
        )

    last_save = time.monotonic()
    for shard, found in zip(shards[n_done:], executor.map(work, shards[n_done:]), strict=True):
        for name, part in found.items():
            buffers[name] = buffers[name].merge(part, design) if name in buffers else part
        if time.monotonic() - last_save > _CHECKPOINT_SECONDS:
            saved.save(shard.number + 1, buffers)
            last_save = time.monotonic()
        reporter.advance(_n_tokens(windows, shard))
    for key, source in sources.items():
        yield key, source, finish(buffers[source.name], windows, source, design, vocabulary)
    saved.remove()


def _n_tokens(windows: WindowTable, shard: Shard) -> int:
    return sum(len(s.token_ids) for s in windows.sequences[shard.first : shard.last])


class _Checkpoint:
    """The buffers of an unfinished pass on disk: a folder per save, and a file that names one."""

    def __init__(self, folder: Path, keys: dict[str, str], shard_tokens: int) -> None:
        self.folder = folder
        self.keys = keys
        self.shard_tokens = shard_tokens

    def load(self) -> tuple[int, dict[str, Buffers]]:
        """Shards merged so far and their buffers; nothing, and no file, where it is of no use.

        Of use are the buffers of the same keys, shards counted alike. A pass over more sources
        serves as well: the others were written before it was stopped.
        """
        state_path = self.folder / "state.json"
        if not state_path.exists():
            return 0, {}
        state = json.loads(state_path.read_text())
        if (
            self.keys.items() <= state["keys"].items()
            and state.get("shard_tokens") == self.shard_tokens
        ):
            place = self.folder / str(state["n_done"])
            return state["n_done"], {n: Buffers.load(place / f"{n}.safetensors") for n in self.keys}
        # Left there it would name a folder that this pass writes into.
        self.remove()
        return 0, {}

    def save(self, n_done: int, buffers: dict[str, Buffers]) -> None:
        """Write the buffers, then name them, then remove older ones."""
        place = self.folder / str(n_done)
        place.mkdir(parents=True, exist_ok=True)
        for name, part in buffers.items():
            part.save(place / f"{name}.safetensors")
        state = {"keys": self.keys, "shard_tokens": self.shard_tokens, "n_done": n_done}
        write_text(self.folder / "state.json", json.dumps(state))
        for other in self.folder.iterdir():
            if other.is_dir() and other != place:
                shutil.rmtree(other)

    def remove(self) -> None:
        """The pass is over."""
        shutil.rmtree(self.folder, ignore_errors=True)
