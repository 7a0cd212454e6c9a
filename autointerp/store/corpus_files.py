"""The corpus of a run on disk: sequences of tokens, and what the ids of every tokenizer spell.

Subjects may have different tokenizers, and imported units bring tokens of their own. Each has a
table of sequences and a vocabulary. On disk ids count on from one vocabulary to the next, so that
one list spells them all; a reader who asks for one table gets ids as its tokenizer gives them.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from autointerp.records import SPLITS, AutointerpError, Sequence
from autointerp.store.files import batched, check_schema, read_table, stamped, write_table
from autointerp.store.rows import CORPUS_SCHEMA

_ROWS_AT_ONCE = 512

_NAMES = ("tokenizer", "sequence_id", "document_id", "split")
_PER_TOKEN: dict[str, Any] = {
    "token_ids": np.int32,
    "masked": bool,
    "char_starts": np.int32,
    "char_ends": np.int32,
}
_FACTS = ("text", "document_name", "kind")

_WRITTEN: dict[str, Any] = {
    "compression": "zstd",
    "use_dictionary": ["tokenizer", "document_id", "document_name", "kind", "split"],
    "column_encoding": dict.fromkeys(
        ("char_starts.list.element", "char_ends.list.element"), "DELTA_BINARY_PACKED"
    ),
}
"""Five bytes a token of English or code."""

DocumentFacts = tuple[str, str, str]
"""Text, name and kind of a document."""


@dataclass(frozen=True)
class TokenTable:
    """Sequences in the ids of one tokenizer."""

    name: str
    """Of the tokenizer: `Subject.tokenizer_name`; of imported units, the source's name."""

    sequences: Iterable[Sequence]
    """With ids below the length of `vocabulary`."""

    vocabulary: list[str]
    """Text of every id."""


def write_corpus_files(
    folder: Path, key: str, tables: Iterable[TokenTable], facts: Callable[[str], DocumentFacts]
) -> None:
    """Write `vocabulary.parquet` and `corpus.parquet`, each whole or not at all.

    Args:
        facts: document_id → its text, name and kind; asked once for documents in a row.
    """
    tables = list(tables)
    folder.mkdir(parents=True, exist_ok=True)
    names = [table.name for table in tables for _ in table.vocabulary]
    spelled = [text for table in tables for text in table.vocabulary]
    write_table(
        folder / "vocabulary.parquet",
        pa.table({"text": pa.array(spelled, pa.string()),
                  "tokenizer": pa.array(names, pa.string()).dictionary_encode()}),
        key,
    )  # fmt: skip
    path = folder / "corpus.parquet"
    partial = path.with_name(f".{path.name}.partial")
    schema = stamped(CORPUS_SCHEMA, key)
    with pq.ParquetWriter(partial, schema, **_WRITTEN) as writer:
        for rows in batched(_rows(tables, facts), _ROWS_AT_ONCE):
            writer.write_table(pa.Table.from_pylist(rows, schema))
    partial.replace(path)


def _rows(
    tables: list[TokenTable], facts: Callable[[str], DocumentFacts]
) -> Iterator[dict[str, Any]]:
    offset = 0
    last_id, last_facts = "", ("", "", "")
    for table in tables:
        for sequence in table.sequences:
            if sequence.document_id != last_id:
                last_id, last_facts = sequence.document_id, facts(sequence.document_id)
            text, name, kind = last_facts
            first, last = int(sequence.char_starts[0]), int(sequence.char_ends.max())
            yield {
                "tokenizer": table.name,
                "sequence_id": sequence.sequence_id,
                "document_id": sequence.document_id,
                "document_name": name,
                "kind": kind,
                "split": str(sequence.split),
                "text": text[first:last],
                "token_ids": sequence.token_ids + offset,
                "masked": sequence.masked,
                "char_starts": sequence.char_starts - first,
                "char_ends": sequence.char_ends - first,
            }
        offset += len(table.vocabulary)


def read_sequences(folder: Path, name: str | None = None) -> list[Sequence]:
    """Sequences in corpus order, about 20 bytes a token.

    Args:
        name: of one tokenizer: its sequences alone, in its own ids; all if left out, in ids of the
            joined vocabulary.
    """
    offset, _ = (0, 0) if name is None else _span(folder, name)
    sequences: list[Sequence] = []
    splits = {str(split): split for split in SPLITS}
    for rows in _rows_of(folder, [*_NAMES, *_PER_TOKEN]):
        names = (rows[column].to_pylist() for column in _NAMES)
        arrays = (_pieces(rows[column], dtype) for column, dtype in _PER_TOKEN.items())
        for row in zip(*names, *arrays, strict=True):
            tokenizer, sequence_id, document_id, split, ids, *spans = row
            if name in (None, tokenizer):
                ids -= np.int32(offset)
                sequences.append(Sequence(sequence_id, document_id, splits[split], ids, *spans))
    return sequences


def read_facts(folder: Path, wanted: Collection[str] | None = None) -> dict[str, dict[str, str]]:
    """For the id of each sequence its `text`, `document_name` and `kind`.

    Args:
        wanted: ids of sequences; all if left out.
    """
    facts: dict[str, dict[str, str]] = {}
    for rows in _rows_of(folder, ["sequence_id", *_FACTS]):
        for row in rows.to_pylist():
            sequence_id = row.pop("sequence_id")
            if wanted is None or sequence_id in wanted:
                facts[sequence_id] = row
    return facts


def _rows_of(folder: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Some rows of `corpus.parquet` at a time: the corpus may be longer than memory as rows."""
    path = folder / "corpus.parquet"
    check_schema(path)
    try:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(_ROWS_AT_ONCE, columns=columns)
    except (pa.ArrowException, OSError) as error:
        said = str(error).partition("\n")[0]
        raise AutointerpError(f"{path} is damaged ({said}): remove it, run again") from error


def _pieces(column: pa.ListArray, dtype: Any) -> list[np.ndarray]:
    """The list of every row, as views of one array of this process."""
    ends = np.cumsum(column.value_lengths().to_numpy(zero_copy_only=False))
    flat = np.array(column.flatten().to_numpy(zero_copy_only=False), dtype)
    return np.split(flat, ends[:-1])


def read_vocabulary(folder: Path, name: str | None = None) -> list[str]:
    """Text of every token id: of one tokenizer, or of all, one after the other."""
    texts = read_table(folder / "vocabulary.parquet", ["text"])["text"].to_pylist()
    if name is None:
        return texts
    first, stop = _span(folder, name)
    return texts[first:stop]


def _span(folder: Path, name: str) -> tuple[int, int]:
    """First id of a tokenizer in the joined vocabulary, and one past its last."""
    column = read_table(folder / "vocabulary.parquet", ["tokenizer"])["tokenizer"].to_numpy()
    places = np.flatnonzero(column == name)
    if not len(places):
        raise AutointerpError(
            f"{folder} holds no sequences of tokenizer {name}: its corpus was made for other "
            "subjects; run the corpus stage again"
        )
    return int(places[0]), int(places[-1]) + 1
