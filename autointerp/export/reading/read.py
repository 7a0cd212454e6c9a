"""From paths to what is in them: bounded, line by line, whatever the format."""

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from io import BufferedIOBase
from pathlib import Path
from typing import IO, Any

from autointerp.export.reading import neuronpedia, openai, plain
from autointerp.export.reading.found import Found, FoundRow, Refused, RefusedError
from autointerp.export.schema import checked
from autointerp.records import AutointerpError, UsageError

MAX_LINE = 32 * 2**20
"""Bytes of a line."""

MAX_FILE = 512 * 2**20
"""Bytes of a file that is one JSON value and must be read whole."""

MAX_UNPACKED = 64 * 2**30
"""Bytes that a compressed file may hold."""

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet", ".csv", ".txt")
"""What is read; of a folder, only these files."""

_KINDS: tuple[tuple[Callable[[dict[str, Any]], bool], Callable[..., Iterator[Any]]], ...] = (
    (openai.is_results, openai.explanations),
    (openai.is_record, openai.windows),
    (neuronpedia.is_batch, neuronpedia.batch),
    (neuronpedia.is_row, neuronpedia.row),
    (plain.is_row, plain.row),
)


def read_paths(paths: Sequence[str | Path]) -> Iterator[Found]:
    """Everything in files and folders, in the order given, of a folder by name.

    Raises:
        UsageError: where a path does not exist, or its name is of no known form.
    """
    files: list[Path] = []
    for given in paths:
        path = Path(given).expanduser()
        if path.is_dir():
            own = (p for p in sorted(path.rglob("*")) if p.is_file() and not p.is_symlink())
            files += [p for p in own if p.name.endswith(SUFFIXES)]
        elif not path.exists():
            raise UsageError(f"{str(path)!r} does not exist")
        elif not path.name.endswith(SUFFIXES):
            raise UsageError(f"{str(path)!r}: expected one of {', '.join(SUFFIXES)}, or a folder")
        else:
            files.append(path)
    for path in files:
        yield from read_file(path)


def read_file(path: Path) -> Iterator[Found]:
    """Everything in one file; a file that breaks off in its middle is refused from there on."""
    reader = next(read for suffix, read in _READERS.items() if path.name.endswith(suffix))
    source = openai.source_of(path)
    try:
        yield from reader(path) if source is None else openai.called(source, reader(path))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        yield Refused(path.name, f"cannot be read further: {error}")
    except RefusedError as error:
        yield Refused(path.name, str(error))


def _lines(path: Path) -> Iterator[Found]:
    with _opened(path) as file:
        read, number = 0, 0
        while line := file.readline(MAX_LINE + 1):
            number, read = number + 1, read + len(line)
            if len(line) > MAX_LINE:
                raise RefusedError(f"line {number} is longer than {MAX_LINE} bytes: the rest of "
                                   "the file is left")  # fmt: skip
            if read > MAX_UNPACKED:
                raise RefusedError(f"holds more than {MAX_UNPACKED} bytes: the rest is left")
            if line.strip():
                where = f"{path.name}, line {number}"
                yield from _guarded(where, lambda line=line: _value(_json(line)))


def _whole(path: Path) -> Iterator[Found]:
    value = _json(_content(path))
    values: list[Any] = value if isinstance(value, list) else [value]
    for number, one in enumerate(values):
        where = f"{path.name}, entry {number}" if isinstance(value, list) else path.name
        yield from _guarded(where, lambda one=one: _value(one))


def _text(path: Path) -> Iterator[Found]:
    yield from _guarded(path.name, lambda: plain.delphi(path.name, _json(_content(path))))


def _csv(path: Path) -> Iterator[Found]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(_bounded(file), strict=True)
        missing = {"unit", "explanation"} - set(reader.fieldnames or ())
        if missing:
            raise RefusedError(f"its header lacks {', '.join(sorted(missing))}")
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Refused(f"{path.name}, line {reader.line_num}", f"not csv: {error}")
                continue
            where = f"{path.name}, line {reader.line_num}"
            yield from _guarded(where, lambda row=row: plain.csv_row(dict(row)))


def _parquet(path: Path) -> Iterator[Found]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=256):
                for row in batch.to_pylist():
                    number += 1
                    yield from _guarded(f"{path.name}, row {number}", lambda r=row: _value(r))
    except (pa.ArrowException, OSError) as error:
        said = str(error).partition("\n")[0]
        yield Refused(path.name, f"is not a Parquet file, or damaged ({said[:200]})")


_READERS: dict[str, Callable[[Path], Iterator[Found]]] = {
    ".jsonl": _lines,
    ".jsonl.gz": _lines,
    ".json": _whole,
    ".json.gz": _whole,
    ".parquet": _parquet,
    ".csv": _csv,
    ".txt": _text,
}


def _value(value: Any) -> Iterator[Any]:
    """What an object is, by its fields."""
    if not isinstance(value, dict):
        raise RefusedError("not an object")
    if "schema_version" in value and "provenance" in value:
        try:
            row = checked(value)
        except AutointerpError as error:
            raise RefusedError(str(error)) from error
        yield FoundRow(row)
        return
    read = next((read for fits, read in _KINDS if fits(value)), None)
    if read is None:
        names = ", ".join(sorted(map(str, value))[:12])
        raise RefusedError(
            f"of no known form: it has {names[:200] or 'no field'}; expected a row of `autointerp "
            "export`, `unit` and `explanation`, or a file of docs/export.md"
        )
    yield from read(value)


def _guarded(where: str, read: Callable[[], Iterator[Any]]) -> Iterator[Found]:
    """What is found, with the place where something is refused."""
    try:
        for found in read():
            yield Refused(where, str(found)) if isinstance(found, RefusedError) else found
    except RefusedError as error:
        yield Refused(where, str(error))


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"not JSON: {str(error)[:200]}") from error


def _opened(path: Path) -> BufferedIOBase:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _content(path: Path) -> bytes:
    with _opened(path) as file:
        found = file.read(MAX_FILE + 1)
    if len(found) > MAX_FILE:
        raise RefusedError(f"is longer than {MAX_FILE} bytes")
    return found


def _bounded(file: IO[str]) -> Iterator[str]:
    """The lines of a file, none longer than `MAX_LINE`."""
    while line := file.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            raise RefusedError(f"a line is longer than {MAX_LINE} characters")
        yield line
