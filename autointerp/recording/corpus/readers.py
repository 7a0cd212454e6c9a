"""Readers of documents: text files, jsonl, parquet, folders of them.

Corpora come from anywhere, so every reader is bounded: a line or text longer than
`MAX_TEXT_BYTES` is skipped, a compressed file that unfolds without end is refused, a loop of links
is walked once. What cannot be read is counted, not guessed.
"""

import gzip
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from autointerp.names import near_names
from autointerp.recording.corpus.report import CorpusReport
from autointerp.records import AutointerpError

TEXT_SUFFIXES = (".txt", ".md", ".rst", ".py")
LINE_SUFFIXES = (".jsonl", ".ndjson")

MAX_TEXT_BYTES = 64 * 2**20
"""Bytes of one document."""

_NULS_OF_BINARY = 0.05
"""Share of NUL characters from which a text is taken for binary data or UTF-16."""

_GZIP_FREE_BYTES, _GZIP_RATIO = 256 * 2**20, 100
"""A file may unfold to the first number of bytes, and beyond it to so many times its size."""


@dataclass(frozen=True)
class RawDocument:
    """A text as a reader found it."""

    text: str
    name: str
    """For display: a file name, a line or the row's `id`."""

    kind: str = ""


def is_readable(path: Path) -> bool:
    """Whether a file of a folder is one of those that are read."""
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    return suffix in (*LINE_SUFFIXES, *TEXT_SUFFIXES) or path.suffix == ".parquet"


def files_below(place: Path, report: CorpusReport) -> list[Path]:
    """The readable files of a folder and its folders by path; links are followed, loops once."""
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    for folder, subfolders, names in os.walk(place, followlinks=True):
        facts = Path(folder).stat()
        if (facts.st_dev, facts.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((facts.st_dev, facts.st_ino))
        subfolders.sort()
        for path in sorted(Path(folder, name) for name in names):
            if is_readable(path) and path.is_file():
                found.append(path)
            elif is_readable(path):
                report.skip("a broken link or no regular file", str(path))
            else:
                report.n_ignored_files += 1
    return sorted(found)


def read_path(place: Path, text_field: str, report: CorpusReport) -> Iterator[RawDocument]:
    """The documents of a file or folder, in the order of paths and lines.

    Raises:
        AutointerpError: where a file is damaged, has no such field, or cannot be opened.
    """
    if place.is_dir():
        for path in files_below(place, report):
            yield from read_path(path, text_field, report)
        return
    suffix = place.with_suffix("").suffix if place.suffix == ".gz" else place.suffix
    try:
        if place.suffix == ".parquet":
            yield from _read_parquet(place, text_field, report)
        elif suffix in LINE_SUFFIXES:
            yield from _read_lines(place, text_field, report)
        else:
            yield from _read_text(place, suffix, report)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise AutointerpError(
            f"{place} is damaged ({error}): fetch it again or remove it"
        ) from error
    except OSError as error:
        raise AutointerpError(f"{place} cannot be read: {error.strerror or error}") from error


class _Opened:
    """A file, unfolded where it is compressed, that refuses to unfold without end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._raw: BinaryIO = path.open("rb")
        self._file: Any = gzip.GzipFile(fileobj=self._raw) if path.suffix == ".gz" else self._raw

    def __enter__(self) -> "_Opened":
        return self

    def __exit__(self, *_: object) -> None:
        self._raw.close()

    def read(self, size: int) -> bytes:
        """At most `size` bytes."""
        return self._checked(self._file.read(size))

    def readline(self, size: int) -> bytes:
        """A line, or `size` bytes of it."""
        return self._checked(self._file.readline(size))

    def _checked(self, data: bytes) -> bytes:
        if self._file is not self._raw:
            size = self._file.tell()
            if size > max(_GZIP_FREE_BYTES, _GZIP_RATIO * self._raw.tell()):
                raise AutointerpError(
                    f"{self._path} unfolds to more than {_GZIP_RATIO} times its size (over "
                    f"{size >> 20} MB): no text does; unpack it yourself if it is meant so"
                )
        return data


def _read_text(path: Path, suffix: str, report: CorpusReport) -> Iterator[RawDocument]:
    with _Opened(path) as file:
        data = file.read(MAX_TEXT_BYTES + 1)
    text = _decoded(data, str(path), report)
    if text is not None:
        # As a file opened for text: one kind of line break.
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        yield RawDocument(text, _whole(path.name), suffix.lstrip("."))


def _decoded(data: bytes, where: str, report: CorpusReport) -> str | None:
    """The text, or `None` where it is too long, not UTF-8 or binary; counted."""
    if len(data) > MAX_TEXT_BYTES:
        report.skip(f"longer than {MAX_TEXT_BYTES >> 20} MB", where)
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        report.skip("not UTF-8 text", where, f"{error.reason} at byte {error.start}")
        return None
    return text if is_text(text, where, report) else None


def is_text(text: str, where: str, report: CorpusReport) -> bool:
    """Whether a string is text and not binary data; counted where it is not."""
    if text.count("\0") > _NULS_OF_BINARY * len(text):
        report.skip("binary data or UTF-16, by its NUL characters", where)
        return False
    return True


def _read_lines(path: Path, text_field: str, report: CorpusReport) -> Iterator[RawDocument]:
    with _Opened(path) as file:
        number = 0
        while line := file.readline(MAX_TEXT_BYTES + 1):
            number += 1
            rest = line
            while len(rest) > MAX_TEXT_BYTES and not rest.endswith(b"\n"):
                rest = file.readline(MAX_TEXT_BYTES + 1)
            if line.strip():
                document = _document_of_line(line, path, number, text_field, report)
                if document is not None:
                    yield document


def _document_of_line(
    line: bytes, path: Path, number: int, text_field: str, report: CorpusReport
) -> RawDocument | None:
    where = f"{path}, line {number}"
    decoded = _decoded(line, where, report)
    if decoded is None:
        return None
    try:
        row: Any = json.loads(decoded)
    except (ValueError, RecursionError) as error:
        report.skip("not JSON", where, str(error)[:80])
        return None
    return document_of_row(row, where, f"line {number}", text_field, report)


def document_of_row(
    row: Any, where: str, name: str, text_field: str, report: CorpusReport
) -> RawDocument | None:
    """A row's text, `id` and `kind`; `None`, counted, where it has no text."""
    if not isinstance(row, dict):
        report.skip(f"no text in field {text_field!r}", where)
        return None
    text = row.get(text_field)
    if not isinstance(text, str):
        keys = ", ".join(str(key)[:40] for key in list(row)[:8])
        found = type(text).__name__ if text_field in row else f"the fields are: {keys}"
        report.skip(f"no text in field {text_field!r}", where, found)
        return None
    if len(text) > MAX_TEXT_BYTES:
        report.skip(f"longer than {MAX_TEXT_BYTES >> 20} MB", where)
        return None
    if not is_text(text, where, report):
        return None
    return RawDocument(_whole(text), _label(row, "id", name), _label(row, "kind", ""))


def _label(row: dict[str, Any], key: str, other: str) -> str:
    value = row.get(key)
    return other if value is None or isinstance(value, dict | list) else _whole(str(value))[:200]


def _whole(text: str) -> str:
    """Without halves of surrogate pairs: they are no characters, no tokenizer could read them."""
    return text.encode("utf-8", "replace").decode()


def _read_parquet(path: Path, text_field: str, report: CorpusReport) -> Iterator[RawDocument]:
    import pyarrow as pa
    import pyarrow.compute
    import pyarrow.parquet as pq

    lengths_of: Any = getattr(pyarrow.compute, "binary_length")  # noqa: B009 - made at import

    try:
        schema = pq.read_schema(path)
        names = schema.names
        if text_field not in names:
            near = ", ".join(near_names(text_field, names, n=8))
            raise AutointerpError(
                f"{path} has no column {text_field!r}; its columns: {near}. Set `text_field`"
            )
        kind = schema.field(text_field).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise AutointerpError(f"{path}: column {text_field!r} holds {kind}, not text")
        # A text repeated a million times is one entry of a dictionary; unfolded it is not read.
        file = pq.ParquetFile(path, read_dictionary=[text_field])
        labels = [name for name in ("id", "kind") if name in names and name != text_field]
        number = 0
        for batch in file.iter_batches(batch_size=256, columns=[text_field, *labels]):
            columns = {label: batch.column(label).to_pylist() for label in labels}
            values = batch.column(text_field)
            if pa.types.is_dictionary(values.type):
                sizes = lengths_of(values.dictionary).to_numpy(zero_copy_only=False)
                places = values.indices.to_pylist()
                sizes = [None if place is None else sizes[place] for place in places]
            else:
                sizes = lengths_of(values).to_pylist()
            for place, size in enumerate(sizes):
                number += 1
                where = f"{path}, row {number}"
                if size is not None and size > MAX_TEXT_BYTES:
                    report.skip(f"longer than {MAX_TEXT_BYTES >> 20} MB", where)
                    continue
                try:
                    row = {text_field: values[place].as_py()}
                except UnicodeDecodeError as error:
                    report.skip("not UTF-8 text", where, f"{error.reason} at byte {error.start}")
                    continue
                row.update({label: column[place] for label, column in columns.items()})
                document = document_of_row(row, where, f"row {number}", text_field, report)
                if document is not None:
                    yield document
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise AutointerpError(
            f"{path} cannot be read as parquet: {str(error).splitlines()[0][:200]}"
        ) from error
