"""A server that nobody here wrote: llama.cpp's own, on the embedded model, in its own process.

    python -m tests.llm.llama_server PORT

It speaks OpenAI's chat completions. `LlamaServer` starts one, waits until it is up, and ends it.
"""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

MODEL = "smollm2-test"
N_PARALLEL = 4
CONTEXT = 2048


def serve(port: int) -> None:
    """Serve until killed, or until whoever started it is gone: then its standard input ends."""
    import xllamacpp

    from autointerp.subject.embedded import gguf_path

    params = xllamacpp.CommonParams()
    params.model.path = str(gguf_path())
    params.model_alias = {MODEL}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_parallel = N_PARALLEL
    params.n_ctx = N_PARALLEL * CONTEXT
    # Its threads wait for one another by spinning: on a busy machine two are slower than one.
    params.cpuparams.n_threads = 1
    params.warmup = False
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()


class LlamaServer:
    """One server process on a port that stays its own over a restart."""

    def __init__(self, log: Path) -> None:
        self.log = log
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Start the process; it is not up yet."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.llm.llama_server", str(self.port)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parents[2],
            )

    def wait(self, seconds: float = 120) -> None:
        """Wait until the model is loaded."""
        assert self._process is not None
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"the server ended: {self.log.read_text()[-2000:]}")
            try:
                url = f"http://127.0.0.1:{self.port}/health"
                with urllib.request.urlopen(url, timeout=2) as reply:
                    if reply.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.1)
        raise TimeoutError(f"no server after {seconds} s: {self.log.read_text()[-2000:]}")

    def kill(self) -> None:
        """End the process at once, whatever it is doing."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


if __name__ == "__main__":
    serve(int(sys.argv[1]))
