"""Serves a run's pages until it is interrupted."""

import importlib.util
import socket
import sys
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autointerp.progress import Reporter
from autointerp.records import UsageError

if TYPE_CHECKING:
    from autointerp.browser.app import Browser


class Server:
    """A run's pages on a socket that is open already."""

    def __init__(self, browser: "Browser", listening: socket.socket) -> None:
        import uvicorn

        from autointerp.browser.app import make_app

        self.browser, self._socket = browser, listening
        settings = uvicorn.Config(
            make_app(browser), log_level="warning", access_log=False, server_header=False,
            date_header=False, timeout_graceful_shutdown=2, ws="none",
        )  # fmt: skip
        self._server: Any = uvicorn.Server(settings)

    @property
    def address(self) -> str:
        """Where the pages are, without the token."""
        host = self.browser.access.host
        if host in ("0.0.0.0", "::"):
            host = socket.gethostname()
        return f"http://{f'[{host}]' if ':' in host else host}:{self.browser.access.port}/"

    @property
    def entrance(self) -> str:
        """The address to open first: with the token in its fragment."""
        return f"{self.address}#token={self.browser.access.token}"

    def run(self, *, open_browser: bool = False) -> None:
        """Serve until interrupted."""
        print(f"{self.browser.run.name}: {self.entrance}", flush=True)
        if not self.browser.access.is_local:
            print(
                "autointerp: this run can be read by everybody who reaches this address; there is "
                "no encryption: rate and try from this machine, or through ssh -L",
                file=sys.stderr,
            )
        else:
            print("Stop with Ctrl-C.", flush=True)
        if open_browser and sys.stdout.isatty():
            threading.Timer(0.5, webbrowser.open, [self.entrance]).start()
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self.browser.close()

    def stop(self) -> None:
        """End `run`, from another thread."""
        self._server.should_exit = True


def serve(
    folder: str | Path,
    reporter: Reporter,
    *,
    host: str = "127.0.0.1",
    port: int = 8321,
    spend: bool = False,
) -> Server:
    """A server of a run's pages, ready to run.

    Args:
        folder: of a finished run.
        reporter: hears of the index being made.
        host: address to listen on.
        port: any free one if 0.
        spend: whether trying may ask a hosted model.

    Raises:
        UsageError: where the server's packages are missing or the address cannot be listened on.
        AutointerpError: where the folder holds no finished run.
    """
    for package in ("fastapi", "uvicorn"):
        if importlib.util.find_spec(package) is None:
            raise UsageError(
                f"`autointerp view` needs {package}, which is not installed: pip install "
                "'autointerp[view]'; --static DIR writes pages without it"
            )
    from autointerp.browser.app import Browser
    from autointerp.browser.opened import OpenedRun
    from autointerp.browser.security import Access

    run = OpenedRun(folder, reporter)
    listening = _listen(host, port)
    found = listening.getsockname()[1]
    return Server(Browser(run, Access(found, host), spend=spend), listening)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        listening.close()
        raise UsageError(
            f"cannot listen on {host}:{port} ({error}): give another --port, or 0 for any"
        ) from error
    return listening
