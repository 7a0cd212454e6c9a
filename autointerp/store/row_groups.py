"""A Parquet file of which one row group after another is read: neighbouring units share one."""

import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


class RowGroups:
    """The row groups of a file; the last one read stays in memory. Safe with threads."""

    def __init__(self, path: Path) -> None:
        """Read nothing yet."""
        self._path = path
        self._lock = threading.Lock()
        self._opened: tuple[int, int] | None = None
        """Inode and time of the file that is open: it may be replaced by another."""

    def rows_each(self) -> int:
        """Rows of every row group but the last, as the file was written."""
        with self._lock:
            return self._open().metadata.row_group(0).num_rows

    def read(self, number: int) -> pa.Table:
        """One row group."""
        with self._lock:
            file = self._open()
            if self._number != number:
                self._table = file.read_row_group(number, use_threads=False)
                self._number = number
            return self._table

    def _open(self) -> pq.ParquetFile:
        found = self._path.stat()
        if self._opened != (found.st_ino, found.st_mtime_ns):
            self._file, self._number = pq.ParquetFile(self._path), -1
            self._opened = (found.st_ino, found.st_mtime_ns)
        return self._file
