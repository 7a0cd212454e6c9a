"""A dictionary of 16,384 units through explain, detection and simulation: prints JSON.

Language model and simulator are stubs in this process, so what is measured is our own work:
prompts, driver, cache, ledger, scores, store. The worker process is killed twice (SIGKILL) on the
way and started again; what the stubs were asked in all its lives is counted.

    python benchmarks/dictionary.py --units 16384
    python benchmarks/dictionary.py --real 14000    # no stub: the shipped dictionary, LLM-free

| key | |
|---|---|
| `cpu_ms_per_call` | CPU seconds of all lives of the worker / calls of the stubs |
| `peak_bytes` | largest resident set |
| `bytes_late_over_early` | mean resident set of the last life: its last quarter over its second |
| `bytes_per_simulation` | blobs of a simulation in results.sqlite, mean |
| `repeated_calls` | calls beyond one for each request: what kills cost |
| `eta_error_at_half` | by which share progress's remaining time was wrong when half was done |
"""

import argparse
import hashlib
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SOURCE = "made"
SIMULATOR = "all_at_once"
"""Whose place the stub takes."""
LENGTH = 24
WORDS = tuple(f" word{i}" for i in range(400))


def config(folder: Path, n_units: int) -> Any:
    """A run whose units were recorded elsewhere, so that no subject is needed."""
    from autointerp.config import RunConfig, parse_config

    data = {
        "name": "dictionary",
        "output": str(folder / "run"),
        "sources": {SOURCE: {"type": "recorded", "path": str(folder / "none.jsonl")}},
        "units": {"sample": None, "min_active_documents": 1},
        "explainers": [{"name": "words", "type": "token_activation_pairs", "n_windows": 3}],
        "scorers": [
            {"name": "simulation", "type": "simulation"},
            {"name": "detection", "type": "detection", "n_per_prompt": 10},
        ],
        "score": {"shuffled_donors": 1, "bootstrap": 100, "min_active_documents": 2},
        "llm": {"cache": str(folder / "answers.sqlite")},
        "simulator": SIMULATOR,
    }
    return parse_config(data, RunConfig, "benchmark")


# ---------------------------------------------------------------------- made-up records


def sequences(n: int = 400) -> list[Any]:
    """Documents of one sequence each, shared by all units."""
    from autointerp.records import Sequence as TokenSequence
    from autointerp.records import Split

    generator = np.random.default_rng(0)
    made = []
    ends = np.cumsum([len(WORDS[0])] * LENGTH).astype(np.int32)
    for number in range(n):
        ids = generator.integers(0, len(WORDS), LENGTH).astype(np.int32)
        split = Split.EXPLAIN if number % 2 else Split.TEST
        masked = np.arange(LENGTH) == 0
        made.append(
            TokenSequence(f"s{number:015d}", f"d{number}", split, ids, masked, ends - 6, ends)
        )
    return made


def units(n: int, parents: Sequence[Any]) -> Iterator[Any]:
    """Units with 8 explain and 12 test windows, half of them active."""
    from autointerp.records import ActivationRecord, Split, Strata, UnitId, UnitRecord, Window

    by_split = {split: [p for p in parents if p.split == split] for split in Split}
    for index in range(n):
        generator = np.random.default_rng([1, index])
        unit = UnitId(SOURCE, index)
        records = []
        for split, count in ((Split.EXPLAIN, 8), (Split.TEST, 12)):
            places = generator.choice(len(by_split[split]), count, replace=False)
            for place, at in enumerate(places):
                parent = by_split[split][at]
                active = place < count // 2
                values = np.zeros(LENGTH, np.float32)
                if active:
                    values[generator.integers(1, LENGTH, 3)] = generator.uniform(0.5, 1, 3)
                stratum = Strata.interval(10 - place) if active else Strata.SILENT
                records.append(
                    ActivationRecord(
                        unit, Window(parent.sequence_id, 0, LENGTH), parent.document_id, split,
                        stratum, 0.5, tuple(WORDS[i] for i in parent.token_ids), values,
                        parent.masked,
                    )
                )  # fmt: skip
        yield UnitRecord(unit, tuple(records), {})


# ---------------------------------------------------------------------- stubs


class Calls:
    """Counts what stubs are asked, over all lives of the worker: a byte a call, and its hash."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def add(self, keys: Sequence[str]) -> None:
        """Note calls, before they are answered."""
        self._file.write(b"".join(bytes.fromhex(key[:16]) for key in keys))


class StubClient:
    """A language model that answers at once, whatever the question."""

    name = "local/stub"
    fingerprint = "stub"

    def __init__(self, calls: Calls) -> None:
        from autointerp.llm import Capabilities

        self.capabilities = Capabilities(json_schema=True)
        self._calls = calls

    def complete(self, requests: Sequence[Any]) -> list[Any]:
        """A phrase, or yes and no in turn."""
        from autointerp.llm import Response, ResponseStatus, Usage, request_key

        self._calls.add([request_key(self, request) for request in requests])
        answers = []
        for number, request in enumerate(requests):
            text = f"words like {request.messages[-1].content[-20:-2]} and others"
            if request.schema is not None:
                n = request.schema["properties"]["answers"]["minItems"]
                text = json.dumps({"answers": [(i + number) % 2 == 0 for i in range(n)]})
            answers.append(Response(text, ResponseStatus.OK, Usage(500, 0, 12), model="stub"))
        return answers


class StubSimulator:
    """Predicts levels that depend on the explanation alone."""

    name = SIMULATOR
    n_levels = 10
    fingerprint = "stub simulator"

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def simulate_many(self, jobs: Sequence[Any]) -> list[Any]:
        """One simulation per window."""
        from autointerp.records import Simulation, content_key

        self._calls.add([content_key("call", job=job) for job in jobs])
        made = []
        for explanation, texts in jobs:
            seed = int.from_bytes(hashlib.blake2b(explanation.encode(), digest_size=4).digest())
            generator = np.random.default_rng(seed)
            levels = generator.random((len(texts), LENGTH)).astype(np.float32) * 9
            known = np.ones(LENGTH, bool)
            made.append([Simulation(row, known, known.astype(np.float32)) for row in levels])
        return made


class Progress:
    """Writes down what progress says, once a second: stage, done, total, remaining, memory."""

    def __init__(self, path: Path) -> None:
        from autointerp.cli import RichReporter

        self._rich = RichReporter(quiet=True)
        self._file = path.open("a", buffering=1)
        self._name, self._done, self._total, self._last = "", 0, 0, 0.0

    def stage(self, name: str, total: int, unit: str) -> None:
        """A stage begins."""
        self._rich.stage(name, total, unit)
        self._name, self._done, self._total = name, 0, total

    def advance(self, done: int) -> None:
        """So many more are done."""
        self._rich.advance(done)
        self._done += done
        if time.time() - self._last > 0.5:
            self._last = time.time()
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            row = (os.getpid(), self._last, self._name, self._done, self._total,
                   self._rich.remaining(), pages * resource.getpagesize())  # fmt: skip
            self._file.write(json.dumps(row) + "\n")

    def note(self, text: str) -> None:
        """Nothing."""


def worker(folder: Path, n_units: int) -> None:
    """One life: goes on until all is scored, or until it is killed."""
    from autointerp.llm import CachedClient, ResponseCache
    from autointerp.llm.budget import MeteredClient
    from autointerp.runner import Run
    from autointerp.store import TokenTable

    class MadeRun(Run):
        """A run over made-up records."""

        def execute(self, until: str) -> None:
            with self.store.lock():
                if self.store.records_key(SOURCE) != "made":
                    parents = sequences()
                    table = TokenTable("made", parents, list(WORDS))
                    facts = ("".join(WORDS[:LENGTH]), "made", "made")
                    self.store.write_corpus("made", [table], lambda _: facts)
                    self.store.write_records(SOURCE, "made", units(n_units, parents))
                self.explain()
                self.score()
                self.store.close()

        def records_key(self, source: str) -> str:
            return "made"

    run = MadeRun(config(folder, n_units), Progress(folder / "progress.jsonl"), None)
    calls = Calls(folder / "calls.bin")
    stub = MeteredClient(StubClient(calls), run.parts.meter)
    cache = ResponseCache(folder / "answers.sqlite")
    run.parts.meter.recover(cache.get)
    run.parts.__dict__["client"] = CachedClient(stub, cache)
    run.parts.__dict__["imported"] = {}
    run.parts.simulators[SIMULATOR] = StubSimulator(calls)
    run.execute("score")
    (folder / "done").touch()


# ---------------------------------------------------------------------- measuring


def lives(folder: Path, n_units: int, kill_at: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """Run the worker, killed at shares of stages; returns CPU seconds and peak memory."""
    waiting = list(kill_at)
    n_lives = 0
    while not (folder / "done").exists():
        n_lives += 1
        command = [sys.executable, __file__, "--worker", str(folder), "--units", str(n_units)]
        process = subprocess.Popen(command)
        while process.poll() is None:
            time.sleep(0.25)
            if waiting and _share(folder, process.pid, waiting[0][0]) >= waiting[0][1]:
                process.send_signal(signal.SIGKILL)
                waiting.pop(0)
        if process.returncode not in (0, -signal.SIGKILL):
            raise SystemExit(f"the worker ended with {process.returncode}")
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu, peak = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
    return {"cpu": cpu, "peak": peak, "lives": n_lives}


def _rows(folder: Path) -> list[list[Any]]:
    path = folder / "progress.jsonl"
    if not path.exists():
        return []
    lines = path.read_text().splitlines()
    return [json.loads(line) for line in lines if line.endswith("]")]


def _share(folder: Path, pid: int, stage: str) -> float:
    own = [row for row in _rows(folder)[-3:] if row[0] == pid and row[2] == stage]
    return own[-1][3] / own[-1][4] if own else 0.0


def eta_errors(rows: Sequence[Sequence[Any]]) -> dict[str, float]:
    """Per stage of the last life: how wrong progress was when half was done."""
    found = {}
    last = rows[-1][0]
    for stage in dict.fromkeys(row[2] for row in rows):
        own = [row for row in rows if row[0] == last and row[2] == stage]
        if len(own) < 8:
            continue
        half = next(row for row in own if row[3] >= row[4] / 2)
        rest = own[-1][1] - half[1]
        if half[5] is not None and rest > 0:
            found[stage] = abs(half[5] / rest - 1)
    return found


def real(folder: Path, max_tokens: int) -> dict[str, Any]:
    """Every latent of the shipped dictionary, by the methods that ask no language model.

    Both explainers explain all latents that fire often enough; the token table is scored.
    """
    from autointerp.config import RunConfig, parse_config
    from autointerp.progress import Silent
    from autointerp.runner import Run

    explainers = [
        {"name": "token_lookup", "type": "token_lookup"},
        {"name": "top_tokens", "type": "top_tokens"},
    ]
    data: dict[str, Any] = {
        "name": "real",
        "output": str(folder / "run"),
        "subjects": {"subject": {"model": "smollm2"}},
        "corpus": {
            "path": "demo", "max_tokens": max_tokens, "max_tokens_per_document": 121,
            "sequence_length": 121, "window_length": 24,
        },
        "sources": {"features": {"type": "sae", "path": "demo"}},
        "units": {"sample": None},
        "score": {"shuffled_donors": 5},
    }  # fmt: skip
    seconds: dict[str, float] = {}
    for chosen, until in ((explainers, "explain"), (explainers[:1], "score")):
        config = parse_config({**data, "explainers": chosen}, RunConfig, "benchmark")
        run = Run(config, Silent(), None)
        run.execute(until)
        for stage, spent in run.seconds.items():
            seconds[stage] = max(spent, seconds.get(stage, 0.0))
    with sqlite3.connect(folder / "run" / "results.sqlite") as db:
        scores = dict(db.execute("SELECT status, COUNT(*) FROM scores GROUP BY status").fetchall())
        (n_explained,) = db.execute(
            "SELECT COUNT(*) FROM explanations WHERE status = 'ok'"
        ).fetchone()
        (mean_lift,) = db.execute("SELECT AVG(lift) FROM scores WHERE status = 'ok'").fetchone()
    return {
        "corpus_tokens": max_tokens,
        "explanations": n_explained,
        "scores": scores,
        "mean_lift_of_token_lookup": mean_lift,
        "seconds": seconds,
        "records_bytes": sum(p.stat().st_size for p in (folder / "run").rglob("*.parquet")),
        "results_bytes": (folder / "run" / "results.sqlite").stat().st_size,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=16384)
    parser.add_argument("--worker", type=Path, default=None)
    about = "every latent of the shipped dictionary instead, on so many tokens"
    parser.add_argument("--real", type=int, metavar="TOKENS", default=None, help=about)
    options = parser.parse_args()
    if options.real is not None:
        with tempfile.TemporaryDirectory() as name:
            print(json.dumps(real(Path(name), options.real), indent=1))
        return
    if options.worker is not None:
        worker(options.worker, options.units)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.monotonic()
        found = lives(folder, options.units, [("explain", 0.5), ("detection", 0.3)])
        seconds = time.monotonic() - started
        called = (folder / "calls.bin").read_bytes()
        keys = {called[i : i + 8] for i in range(0, len(called), 8)}
        n_calls = len(called) // 8
        rows = _rows(folder)
        memory = [row[6] for row in rows if row[0] == rows[-1][0]]
        quarter = max(1, len(memory) // 4)
        late = sum(memory[-quarter:]) / quarter
        early = sum(memory[quarter : 2 * quarter]) / quarter
        with sqlite3.connect(folder / "run" / "results.sqlite") as db:
            size = "length(lengths) + length(expected) + length(known) + length(level_mass)"
            (per_simulation,) = db.execute(f"SELECT AVG({size}) FROM simulations").fetchone()
            (n_scores,) = db.execute("SELECT COUNT(*) FROM scores").fetchone()
            spent = db.execute("SELECT SUM(requests), SUM(lost_requests) FROM spending").fetchone()
        errors = eta_errors(rows)
        report = {
            "units": options.units,
            "lives": found["lives"],
            "seconds": seconds,
            "calls": n_calls,
            "repeated_calls": n_calls - len(keys),
            "scores": n_scores,
            "ledger_requests": spent[0],
            "lost_requests": spent[1],
            "cpu_ms_per_call": 1000 * found["cpu"] / n_calls,
            "peak_bytes": found["peak"],
            "bytes_late_over_early": late / early,
            "bytes_per_simulation": per_simulation,
            "results_bytes": (folder / "run" / "results.sqlite").stat().st_size,
            "eta_error_at_half": errors,
        }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
