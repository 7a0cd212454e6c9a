"""Starts workers that are going to be killed, without importing everything for each of them.

Reads a line per worker from standard input, forks it, prints its number and, once it has ended,
how. A worker asks a server many questions through the whole layer, with a cache.
"""

import os
import sys
from pathlib import Path

from autointerp.llm import (
    CachedClient,
    ClientOptions,
    Message,
    Request,
    ResponseCache,
    drive,
    load_client,
)


def work(url: str, folder: Path, n_jobs: int, concurrency: int) -> None:
    """Ask two questions a job; what is done is written down, a line a job.

    Its key tells the server who asked: what a killed worker sent may arrive after its end.
    """
    import openai  # noqa: F401

    def job(i: int):
        (first,) = yield [Request((Message("user", f"job {i} first"),), 8)]
        (second,) = yield [Request((Message("user", f"job {i} then {first.text}"),), 8)]
        return second.text

    os.environ["WORKER"] = f"worker-{os.getpid()}"
    done = folder / "done.txt"
    finished = set(done.read_text().splitlines()) if done.exists() else set()
    options = ClientOptions(base_url=url, max_concurrency=concurrency, api_key_env="WORKER")
    client = CachedClient(
        load_client("openai/m", options), ResponseCache(folder / "responses.sqlite")
    )
    jobs = ((i, job(i)) for i in range(n_jobs) if str(i) not in finished)
    with done.open("a") as file:

        def write(i: int, _: str) -> None:
            file.write(f"{i}\n")
            file.flush()

        drive(jobs, {Request: client.handler}, write, lambda i, error: sys.exit(f"{i}: {error}"))


def main() -> None:
    import openai.resources.chat.completions  # noqa: F401

    url, folder, n_jobs, concurrency = sys.argv[1:]
    print("ready", flush=True)
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                work(url, Path(folder), int(n_jobs), int(concurrency))
                os._exit(0)
            except BaseException as error:
                print(repr(error), file=sys.stderr, flush=True)
                os._exit(1)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
