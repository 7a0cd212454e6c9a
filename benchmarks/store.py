"""How long one unit takes to read from a large store: prints JSON.

A store of `--units` units with `--windows` windows of `--tokens` tokens each is made, every window
with `--active` of its tokens active (all of them: the worst case). Units are read in random order.
`read_unit_ms_median` is with the file handle cold: both Parquet files are opened anew for every
read, their footers read and parsed; the corpus and the list of units stay in memory, as in a
viewer. `read_unit_open_ms_median` is with the files kept open, as a run keeps them. `first_read_ms`
is a read by a process that knows nothing yet. Times are on the wall, and in CPU time of the process
where the name says so, which other work on the machine changes less.

    python benchmarks/store.py
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa

from autointerp.records import Sequence, Split, UnitId
from autointerp.store import RunStore
from autointerp.store.corpus_files import TokenTable
from autointerp.store.rows import RECORD_SCHEMA, UNIT_SCHEMA

N_VOCABULARY = 49_152


def tables(
    options: argparse.Namespace, sequences: list[Sequence]
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Rows of random windows and activations, 1,024 units at a time."""
    generator = np.random.default_rng(0)
    for start in range(0, options.units, 1024):
        n = min(1024, options.units - start)
        n_rows = n * options.windows
        chosen = generator.integers(0, len(sequences), n_rows)
        n_active = round(options.active * options.tokens)
        ends = np.arange(0, n_rows * n_active + 1, n_active, dtype=np.int32)
        places = np.arange(options.tokens, dtype=np.uint16)[:n_active]
        shares = generator.random(n_rows * n_active, np.float32).astype(np.float16)
        words = {"split": "explain", "stratum": "top", "kind": "token"}
        columns = {
            "index": np.repeat(np.arange(start, start + n, dtype=np.int32), options.windows),
            "polarity": np.ones(n_rows, np.int8),
            **{
                name: pa.DictionaryArray.from_arrays(np.zeros(n_rows, np.int8), [word])
                for name, word in words.items()
            },
            "probability": generator.random(n_rows, np.float32),
            "sequence_id": pa.array([s.sequence_id for s in sequences]).take(pa.array(chosen)),
            "start": np.ones(n_rows, np.int32),
            "stop": np.full(n_rows, 1 + options.tokens, np.int32),
            "maximum": generator.random(n_rows, np.float32),
            "positions": pa.ListArray.from_arrays(ends, pa.array(np.tile(places, n_rows))),
            "shares": pa.ListArray.from_arrays(ends, pa.array(shares)),
            "hard_by": pa.nulls(n_rows, pa.string()).dictionary_encode(),
        }
        rows = pa.Table.from_arrays(
            [pa.array(columns[name]).cast(RECORD_SCHEMA.field(name).type)
             for name in RECORD_SCHEMA.names],
            schema=RECORD_SCHEMA,
        )  # fmt: skip
        units = pa.Table.from_pylist(
            [
                dict.fromkeys(UNIT_SCHEMA.names)
                | {
                    "index": index,
                    "polarity": 1,
                    "explain_density": 0.01,
                    "explain_active_documents": 9,
                    "explain_maximum": 1.0,
                    "statistics": [],
                }
                for index in range(start, start + n)
            ],
            UNIT_SCHEMA,
        )
        yield rows, units


@dataclass(frozen=True)
class ReadTimes:
    """Milliseconds of every read."""

    wall_ms: list[float]
    cpu_ms: list[float]


def read_times(
    store: RunStore, order: list[int], options: argparse.Namespace, *, cold: bool
) -> ReadTimes:
    """Read units one by one, each time with the files closed before, or kept open."""
    times = ReadTimes([], [])
    for index in order:
        if cold:
            store.close()
        wall, cpu = time.perf_counter(), time.process_time()
        unit = next(store.read_units([UnitId("made", index)]))
        times.wall_ms.append(1e3 * (time.perf_counter() - wall))
        times.cpu_ms.append(1e3 * (time.process_time() - cpu))
        assert len(unit.records) == options.windows
        assert len(unit.records[0].activations) == options.tokens
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=16_384)
    parser.add_argument("--windows", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--active", type=float, default=1.0)
    parser.add_argument("--reads", type=int, default=100)
    options = parser.parse_args()
    generator = np.random.default_rng(1)
    length = options.tokens + 1
    sequences = [
        Sequence(
            f"{i:016x}", f"d{i}", Split.EXPLAIN,
            generator.integers(0, N_VOCABULARY, length).astype(np.int32), np.zeros(length, bool),
            np.arange(length, dtype=np.int32), np.arange(1, length + 1, dtype=np.int32),
        )
        for i in range(2000)
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        store = RunStore(folder)
        texts = {s.document_id: ("x" * length, "made up", "") for s in sequences}
        vocabulary = [f"token{i}" for i in range(N_VOCABULARY)]
        store.write_corpus("key", [TokenTable("made", sequences, vocabulary)], texts.__getitem__)
        started = time.perf_counter()
        store.write_record_tables("made", "key", tables(options, sequences))
        write_seconds = time.perf_counter() - started
        size = sum(path.stat().st_size for path in Path(folder, "records").iterdir())
        order = generator.permutation(options.units)[: options.reads].tolist()

        started = time.perf_counter()
        next(store.read_units([UnitId("made", order[0])]))
        first = time.perf_counter() - started
        cold = read_times(store, order, options, cold=True)
        kept_open = read_times(store, order, options, cold=False)
        report = {
            **{k: getattr(options, k) for k in ("units", "windows", "tokens", "active", "reads")},
            "read_unit_ms_median": median(cold.wall_ms),
            "read_unit_cpu_ms_median": median(cold.cpu_ms),
            "read_unit_ms_p95": sorted(cold.wall_ms)[int(0.95 * len(cold.wall_ms))],
            "read_unit_open_ms_median": median(kept_open.wall_ms),
            "read_unit_open_cpu_ms_median": median(kept_open.cpu_ms),
            "first_read_ms": 1e3 * first,
            "write_seconds": write_seconds,
            "bytes_on_disk": size,
        }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
