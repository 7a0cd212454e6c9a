"""Files that are written whole or not at all, and refused where their schema is another."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from autointerp.records import SCHEMA_VERSION, AutointerpError

_TOP_TOKENS = "statistics.list.element.top_tokens.list.element"
_BY_BYTE = [
    *("statistics.list.element.maximum", "statistics.list.element.moments.list.element"),
    *(f"{_TOP_TOKENS}.mean", f"{_TOP_TOKENS}.mean_upper", f"{_TOP_TOKENS}.maximum"),
    *("promoted.list.element.logit", "suppressed.list.element.logit"),
    "neighbours.list.element.cosine",
    *("maximum", "statistics.list.element.histogram.list.element", f"{_TOP_TOKENS}.count"),
]
"""Numbers that hardly repeat: byte by byte the exponents of floats compress, a tenth of all, and
the zeros of counts, a quarter."""

PARQUET: dict[str, Any] = {
    "compression": "zstd",
    # Columns of a few words or of few places; other numbers and ids compress as well without, in
    # less time.
    "use_dictionary": [
        *("split", "stratum", "kind", "hard_by"),
        *("start", "stop", "positions.list.element"),
    ],
    "column_encoding": {
        "sequence": "DELTA_BINARY_PACKED",
        **dict.fromkeys(_BY_BYTE, "BYTE_STREAM_SPLIT"),
    },
    "write_statistics": False,
}
"""How Parquet files are written: nothing searches them by value."""


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def stamped(schema: pa.Schema, key: str) -> pa.Schema:
    """The schema with the file's key and schema version in its metadata."""
    return schema.with_metadata({"autointerp.key": key, "schema_version": str(SCHEMA_VERSION)})


def write_table(path: Path, table: pa.Table, key: str, row_group_size: int | None = None) -> None:
    """Write a Parquet file whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    table = table.replace_schema_metadata(stamped(table.schema, key).metadata)
    pq.write_table(table, partial, row_group_size=row_group_size, **PARQUET)
    partial.replace(path)


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file of a run, or refuse it by name."""
    check_schema(path)
    try:
        return pq.read_table(path, columns=columns)
    except (pa.ArrowException, OSError) as error:
        said = str(error).partition("\n")[0]
        raise AutointerpError(f"{path} is damaged ({said}): remove it, run again") from error


def file_key(path: Path) -> str | None:
    """The key a file was made from, `None` where there is no file."""
    if not path.exists():
        return None
    check_schema(path)
    return (read_schema(path).metadata or {}).get(b"autointerp.key", b"").decode()


def common_key(paths: Sequence[Path]) -> str | None:
    """The key that files were made from together; `None` where one is missing or has another.

    A process killed between two writes leaves files of different keys. Going back to the config
    of the older one must not pass the mixture for complete.
    """
    keys = {file_key(path) for path in paths}
    return keys.pop() if len(keys) == 1 else None


def check_schema(path: Path) -> None:
    """Refuse a file that is missing, damaged or of another schema version."""
    if not path.exists():
        raise AutointerpError(f"{path} does not exist: run the stage that writes it first")
    found = (read_schema(path).metadata or {}).get(b"schema_version", b"0").decode()
    refuse_version(int(found), path)


def read_schema(path: Path) -> pa.Schema:
    """The schema of a Parquet file of a run, or refuse it by name."""
    try:
        return pq.read_schema(path)
    except pa.ArrowException as error:
        raise AutointerpError(f"{path} is not a Parquet file: remove it, run again") from error


def refuse_version(found: int, path: Path) -> None:
    """Raise where `found` is not the schema version this code reads."""
    if found != SCHEMA_VERSION:
        raise AutointerpError(
            f"{path} has schema version {found}; this autointerp reads version {SCHEMA_VERSION}: "
            "use the version that wrote it, or run again into another folder"
        )


def batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of `size` items in order, the last one shorter."""
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def json_text(value: Any) -> str:
    """JSON for a database column; NaN is refused."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=str)
