"""One process writes a run; the next is told who holds it."""

import errno
import json
import os
import platform
import time
from pathlib import Path

from filelock import FileLock, Timeout

from autointerp.records import AutointerpError
from autointerp.store.files import write_text

UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)
"""What a disk or folder says that one may read and not write."""


class RunLock:
    """Holds a run's folder for one process; says who holds it to the next."""

    def __init__(self, folder: Path) -> None:
        self._lock = FileLock(folder / ".lock", timeout=0)
        self._holder = folder / ".lock.json"

    def __enter__(self) -> "RunLock":
        try:
            self._lock.acquire()
        except Timeout:
            raise AutointerpError(
                f"{self._holder.parent} is held by {self._who()}; wait for it or stop it"
            ) from None
        facts = {"pid": os.getpid(), "host": platform.node(), "since": time.strftime("%F %T")}
        write_text(self._holder, json.dumps(facts))
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.unlink(missing_ok=True)
        self._lock.release()

    def holder(self) -> str | None:
        """Who holds the folder now, `None` where nobody does. Writes nothing.

        Where the lock cannot be tried, as on a disk that is read only, a holder is who says so.
        """
        if not Path(self._lock.lock_file).exists():
            return None
        try:
            with self._lock:
                return None
        except Timeout:
            return self._who()
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            return self._who() if self._holder.exists() else None

    def _who(self) -> str:
        try:
            facts = json.loads(self._holder.read_text())
            return f"process {facts['pid']} on {facts['host']}, since {facts['since']}"
        except (OSError, ValueError, KeyError):
            return "another process"
