"""What the language model layer costs on top of the bare SDK: prints JSON.

Everything is measured against one stub server on this machine, in a process of its own. The bare
SDK asks with as many tasks as the layer has in flight; the layer does all it does in a run: driver,
cache on disk, ledger, limits, retries.

    python benchmarks/llm_layer.py                   # all parts
    python benchmarks/llm_layer.py --part memory

| key | |
|---|---|
| `share_of_bare_sdk` | requests per second of the layer / of the bare SDK, median over rounds |
| `bare_per_second`, `layer_per_second` | the two, each the median of its rounds |
| `cache_hits_per_second` | requests answered from the cache, through the driver |
| `peak_extra_bytes` | largest resident set over `calls` calls, above that after the first 5 % |
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from autointerp.llm import (
    CachedClient,
    ClientOptions,
    Message,
    Request,
    ResponseCache,
    drive,
    load_client,
)
from autointerp.llm.budget import Meter
from autointerp.llm.openai import chat_body
from autointerp.llm.prices import load_prices
from autointerp.store.ledger import Ledger

ROOT = Path(__file__).parents[1]
MODEL = "stub"


class Stub:
    """The server."""

    def __init__(self, latency: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.llm.fake_server", "--latency", str(latency),
             "--answer", "words about things that farmers say"],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}/v1"

    def close(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()


def request(number: int) -> Request:
    """A question of about 400 tokens, of which most are shared, as an explainer's."""
    shared = "You study units of a language model. " * 30
    table = "\n".join(f"token{i}\t{(i * number) % 11}" for i in range(48))
    return Request(
        (Message("system", shared), Message("user", f"{table}\n{number}")), 40, purpose="explain"
    )


def job(number: int) -> Any:
    (response,) = yield [request(number)]
    return response.text


def layer(url: str, folder: Path, concurrency: int) -> CachedClient:
    """Everything that a run puts around a provider."""
    # Limits that are never reached cost as much as others.
    options = ClientOptions(
        base_url=url, max_concurrency=concurrency, requests_per_minute=1e9, tokens_per_minute=1e12
    )
    client: Any = load_client(f"openai/{MODEL}", options)
    client.guard(Meter(Ledger(folder / "results.sqlite"), load_prices()))
    return CachedClient(client, ResponseCache(folder / "responses.sqlite"))


def run_layer(client: CachedClient, numbers: range) -> float:
    """Requests per second."""
    done: list[int] = []
    failed: list[str] = []

    def jobs() -> Iterator[tuple[int, Any]]:
        return ((number, job(number)) for number in numbers)

    def note(number: int, text: str | None) -> None:
        if text is None:
            failed.append(str(number))
        done.append(1)

    started = time.perf_counter()
    drive(jobs(), {Request: client.handler}, note, lambda n, error: failed.append(str(error)))
    seconds = time.perf_counter() - started
    assert len(done) == len(numbers) and not failed, failed[:3]
    return len(numbers) / seconds


async def bare(url: str, numbers: range, concurrency: int) -> float:
    """Requests per second of the SDK alone."""
    import openai

    options = ClientOptions(base_url=url)
    async with openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0) as client:
        await client.chat.completions.create(**chat_body(request(-1), MODEL, options))
        places = iter(numbers)

        async def work() -> None:
            for number in places:
                body = chat_body(request(number), MODEL, options)
                completion = await client.chat.completions.create(**body)
                assert completion.choices[0].message.content

        started = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(concurrency)))
        return len(numbers) / (time.perf_counter() - started)


def rates(url: str, folder: Path, concurrency: int, calls: int, rounds: int) -> dict[str, Any]:
    """Layer and bare SDK in turn, so that both see the same machine."""
    client = layer(url, folder, concurrency)
    run_layer(client, range(10_000_000, 10_000_000 + 2 * concurrency))
    bares: list[float] = []
    layers: list[float] = []
    for number in range(rounds):
        numbers = range(number * calls, (number + 1) * calls)
        bares.append(asyncio.run(bare(url, numbers, concurrency)))
        layers.append(run_layer(client, numbers))
    hits = [run_layer(client, range(rounds * calls)) for _ in range(3)]
    return {
        "share_of_bare_sdk": round(
            statistics.median(one / other for one, other in zip(layers, bares, strict=True)), 3
        ),
        "bare_per_second": round(statistics.median(bares), 1),
        "layer_per_second": round(statistics.median(layers), 1),
        "cache_hits_per_second": round(statistics.median(hits), 1),
        "concurrency": concurrency,
        "calls_per_round": calls,
        "rounds": rounds,
    }


def memory(url: str, folder: Path, concurrency: int, calls: int) -> dict[str, Any]:
    """Resident set over many calls."""
    client = layer(url, folder, concurrency)
    process = psutil.Process(os.getpid())
    first = calls // 20
    run_layer(client, range(first))
    start = process.memory_info().rss
    peak = start
    part = max(1, (calls - first) // 40)
    for begin in range(first, calls, part):
        run_layer(client, range(begin, min(calls, begin + part)))
        peak = max(peak, process.memory_info().rss)
    return {"peak_extra_bytes": peak - start, "bytes_at_start": start, "memory_calls": calls}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", choices=["rates", "memory"])
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.02)
    parser.add_argument("--calls", type=int, default=2000, help="a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-calls", type=int, default=100_000)
    given = parser.parse_args()
    stub = Stub(given.latency)
    found: dict[str, Any] = {"latency": given.latency}
    try:
        with tempfile.TemporaryDirectory() as folder:
            if given.part != "memory":
                (rates_folder := Path(folder) / "rates").mkdir()
                found |= rates(stub.url, rates_folder, given.concurrency, given.calls, given.rounds)
            if given.part != "rates":
                (memory_folder := Path(folder) / "memory").mkdir()
                found |= memory(stub.url, memory_folder, given.concurrency, given.memory_calls)
    finally:
        stub.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
