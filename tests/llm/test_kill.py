"""Killed at random moments under load: at most what was in flight is asked again."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.llm.fake_server import CHAT, FakeServer

ROOT = Path(__file__).parents[2]
KILLS, CONCURRENCY, JOBS = 20, 8, 400


class Nursery:
    """A process that forks workers."""

    def __init__(self, url: str, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.llm.kill_nursery", url, str(folder), str(JOBS),
             str(CONCURRENCY)],
            cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._line() == "ready"

    def start(self) -> int:
        """A new worker's process id."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return int(self._line())

    def ended(self) -> int:
        """Wait for it; its exit code, negative for a signal."""
        return int(self._line())

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


def asked_by(server: FakeServer, worker: int) -> list[str]:
    """Everything a worker asked."""
    key = f"Bearer worker-{worker}"
    return [asked.text for asked in server.asked if asked.headers["authorization"] == key]


def test_twenty_kills_repeat_at_most_what_was_in_flight_and_lose_nothing(tmp_path):
    chance = random.Random(20)
    with FakeServer(latency=0.01, check_bodies=False) as server:
        nursery = Nursery(server.openai_url, tmp_path)
        workers: list[int] = []
        try:
            for _ in range(KILLS):
                start, moment = len(server.asked), chance.randint(1, 30)
                workers.append(nursery.start())
                deadline = time.monotonic() + 30
                while len(server.asked) < start + moment and time.monotonic() < deadline:
                    time.sleep(0.001)
                time.sleep(chance.random() * 0.02)
                os.kill(workers[-1], signal.SIGKILL)
                assert nursery.ended() == -signal.SIGKILL
            workers.append(nursery.start())
            assert nursery.ended() == 0
        finally:
            nursery.process.kill()
            nursery.process.wait()
        assert server.most_in_flight <= CONCURRENCY
        lives = [asked_by(server, worker) for worker in workers]
        assert sum(map(len, lives)) == len(server.asked)
        assert all(len(life) == len(set(life)) for life in lives)
        # Of what a killed process had asked, no more than was in flight is ever asked again.
        lost = [
            len(set(life) & set().union(*lives[number + 1 :])) for number, life in enumerate(lives)
        ]
        assert max(lost) <= CONCURRENCY
        distinct = len({asked.text for asked in server.asked})
        assert distinct == 2 * JOBS
        assert server.count(CHAT) == distinct + sum(lost)
    done = (tmp_path / "done.txt").read_text().split()
    assert sorted(done, key=int) == [str(i) for i in range(JOBS)]
