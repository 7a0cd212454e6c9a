"""Other processes, to be killed or looked at from outside.

They are forked from one that has imported what a run needs: a Python of its own takes seconds to
import torch and transformers.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([
    "torch._dynamo", "transformers.models.llama.modeling_llama", "pyarrow.parquet", "scipy.stats",
    "matplotlib.figure", "datasketch", "autointerp.cli", "autointerp.runner", "autointerp.train",
    "autointerp.recording.passes",
])  # fmt: skip


class Forked:
    """A process that runs a function, which is given a way to tell what it has come to."""

    def __init__(
        self,
        work: Callable[..., None],
        *args: Any,
        output: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Start it.

        Args:
            work: of a module; called with `tell`, which sends an object to `heard`, and `args`.
            args: for it.
            output: file that stdout and stderr go to.
            env: variables that are added to the environment.
        """
        self._heard, telling = _FORKS.Pipe(duplex=False)
        told = (telling, work, args, output, dict(env or {}), str(Path.cwd()))
        self.process = _FORKS.Process(target=_run, args=told, daemon=True)
        self.process.start()
        telling.close()

    @property
    def pid(self) -> int | None:
        """Its number."""
        return self.process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.process.is_alive()

    def heard(self) -> Any:
        """What the process tells next; an `EOFError` where it has ended."""
        return self._heard.recv()

    def kill(self) -> int:
        """Kill it, and wait for its end."""
        self.process.kill()
        return self.wait()

    def wait(self, seconds: float = 300) -> int:
        """Its exit code once it has ended; -9 where it was killed."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, f"still running after {seconds} s"
        return self.process.exitcode


def command_line(tell: Callable[[Any], None], *arguments: str) -> None:
    """Run a command of autointerp."""
    from autointerp.cli import main

    sys.argv[1:] = arguments
    main()


def _run(
    telling: Any,
    work: Callable[..., None],
    args: tuple[Any, ...],
    output: Path | None,
    env: dict[str, str],
    folder: str,
) -> None:
    import torch

    os.environ.update(env)
    os.chdir(folder)
    torch.set_num_threads(1)
    if output is not None:
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for descriptor in (1, 2):
            os.dup2(file, descriptor)
    work(telling.send, *args)
