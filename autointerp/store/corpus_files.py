"""The corpus of a run on disk: sequences of tokens, and what the ids of every tokenizer spell.

Subjects may have different tokenizers, and imported units bring tokens of their own. Each has a
table of sequences and a vocabulary. On disk ids count on from one vocabulary to the next, so that
one list spells them all; a reader who asks for one table gets ids as its tokenizer gives them.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from autointerp.records import AutointerpError, Sequence, Split
from autointerp.store.files import batched, read_table, stamped, write_table
from autointerp.store.rows import CORPUS_SCHEMA

_ROWS_AT_ONCE = 512

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
    with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
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


def read_sequences(
    folder: Path, name: str | None = None
) -> tuple[list[Sequence], dict[str, dict[str, str]]]:
    """Sequences in corpus order, and for each id its `text`, `document_name` and `kind`.

    Args:
        name: of one tokenizer: its sequences alone, in its own ids; all if left out, in ids of the
            joined vocabulary.
    """
    offset, _ = (0, 0) if name is None else _span(folder, name)
    sequences: list[Sequence] = []
    facts: dict[str, dict[str, str]] = {}
    for row in read_table(folder / "corpus.parquet").to_pylist():
        if name is not None and row["tokenizer"] != name:
            continue
        sequences.append(
            Sequence(
                row["sequence_id"],
                row["document_id"],
                Split(row["split"]),
                np.asarray(row["token_ids"], np.int32) - np.int32(offset),
                np.asarray(row["masked"], bool),
                np.asarray(row["char_starts"], np.int32),
                np.asarray(row["char_ends"], np.int32),
            )
        )
        facts[row["sequence_id"]] = {k: row[k] for k in ("text", "document_name", "kind")}
    return sequences, facts


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
