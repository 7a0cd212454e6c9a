"""Documents of a corpus: read once, each text kept once, on disk rather than in memory.

Splits are fixed here, by text alone, before any activation is seen: a document's split is the hash
of its near-duplicate cluster, so that a copy of a training text is never a test text.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import overload

from autointerp.recording.corpus.hub import read_dataset
from autointerp.recording.corpus.near_duplicates import near_duplicate_clusters
from autointerp.recording.corpus.readers import RawDocument, read_path
from autointerp.recording.corpus.report import CorpusReport
from autointerp.records import SPLIT_SHARES, AutointerpError, Document, Split

CHARACTERS_PER_TOKEN = 16
"""Where tokens are limited, documents of so many characters a token are kept: four times what
English needs, so that the limit is reached in any language."""


@dataclass(frozen=True)
class Source:
    """Where documents come from: a path or a data set."""

    path: str | Path | None = None
    """A text, jsonl or parquet file, or a folder of them."""

    dataset: str | None = None
    """A Hugging Face data set, streamed."""

    dataset_config: str | None = None
    dataset_split: str = "train"
    text_field: str = "text"
    """The field or column that holds the text."""

    max_documents: int | None = None
    """Reading stops after so many texts."""

    weight: float = 1.0
    """Share of the tokens among the sources of a mix."""

    @property
    def name(self) -> str:
        """As it is called in messages."""
        return str(self.dataset or self.path)


def document_id(text: str) -> str:
    """16 hexadecimal digits: hash of the text."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def split_of_cluster(cluster: str) -> Split:
    """The split of a near-duplicate cluster: its hash as a number in [0, 1) against the shares."""
    digest = hashlib.blake2b(f"split:{cluster}".encode(), digest_size=8).digest()
    place = int.from_bytes(digest, "little") / 2**64
    for split, share in SPLIT_SHARES.items():
        if place < share:
            return split
        place -= share
    return Split.AUDIT


class DocumentStore(Sequence[Document]):
    """Documents in the order they were read, in a temporary database that ends with the object."""

    def __init__(self) -> None:
        # An empty name: a private file that SQLite removes itself.
        self._db = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._db.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-32000;"
            "CREATE TABLE seen (id INTEGER PRIMARY KEY);"
            "CREATE TABLE documents (number INTEGER PRIMARY KEY, id TEXT UNIQUE, place TEXT,"
            " part INTEGER, size INTEGER, text BLOB, name TEXT, kind TEXT);"
            "CREATE INDEX by_place ON documents (part, place, size);"
            "BEGIN"
        )
        self._count = 0
        self._numbers: list[int] | None = None

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Document]:
        yield from self._select("ORDER BY number")

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> "list[Document]": ...
    def __getitem__(self, index: int | slice) -> "Document | list[Document]":
        if self._numbers is None:
            rows = self._db.execute("SELECT number FROM documents ORDER BY number")
            self._numbers = [row[0] for row in rows]
        if isinstance(index, slice):
            return [self._at(number) for number in self._numbers[index]]
        return self._at(self._numbers[index])

    def _at(self, number: int) -> Document:
        return next(self._select("WHERE number = ?", number))

    def _select(self, clause: str, *values: object) -> Iterator[Document]:
        rows = self._db.execute(f"SELECT id, text, name, kind FROM documents {clause}", values)
        for name_id, text, name, kind in rows:
            yield Document(name_id, text.decode(), name, kind)

    def get(self, name: str) -> Document:
        """The document with an id; `KeyError` where there is none."""
        for document in self._select("WHERE id = ?", name):
            return document
        raise KeyError(name)

    def in_order(self, part: int) -> Iterator[Document]:
        """The documents of one source by their place in the hashed order."""
        return self._select("WHERE part = ? ORDER BY place", part)

    def parts(self) -> Iterator[tuple[str, int]]:
        """(document_id, number of its source), by document_id."""
        yield from self._db.execute("SELECT id, part FROM documents ORDER BY id")

    def is_new(self, name: str) -> bool:
        """Whether a document_id was never asked about before."""
        number = int(name, 16) - 2**63
        return self._db.execute("INSERT OR IGNORE INTO seen VALUES (?)", (number,)).rowcount == 1

    def add(self, name: str, raw: RawDocument, *, place: str, part: int, size: int) -> None:
        """Keep a document that is new."""
        row = (name, place, part, size, raw.text.encode(), raw.name, raw.kind)
        self._db.execute(
            "INSERT INTO documents (id, place, part, size, text, name, kind)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            row,
        )
        self._count += 1
        self._numbers = None

    def keep_first(self, part: int, total: int) -> tuple[str | None, int, int]:
        """Keep one source's first documents in the hashed order, up to a total of sizes.

        Returns:
            the place from which documents were dropped, `None` where all fit; how many were
            dropped; the total size left.
        """
        left = 0
        limit: str | None = None
        rows = self._db.execute(
            "SELECT place, size FROM documents WHERE part = ? ORDER BY place", (part,)
        )
        for place, size in rows:
            if left >= total:
                limit = place
                break
            left += size
        if limit is None:
            return None, 0, left
        dropped = self._db.execute(
            "DELETE FROM documents WHERE part = ? AND place >= ?", (part, limit)
        ).rowcount
        self._count -= dropped
        self._numbers = None
        return limit, dropped, left


@dataclass(frozen=True)
class Corpus:
    """Documents with their splits, duplicates dropped."""

    documents: DocumentStore
    """In reading order, each text once."""

    clusters: dict[str, str]
    """document_id → id of its near-duplicate cluster: the smallest document_id in it."""

    report: CorpusReport
    """What reading came across."""

    sources: tuple[Source, ...] = field(default=(Source(),))
    """Where the documents came from, with the weights of a mix."""

    @property
    def n_duplicates(self) -> int:
        """Documents dropped because their text had been read already."""
        return self.report.n_duplicates

    def split_of(self, document_id: str) -> Split:
        """The split of a document."""
        return split_of_cluster(self.clusters[document_id])

    def fingerprint(self) -> str:
        """Hash of the set of documents, and of a mix's sources; order and names do not matter."""
        digest = hashlib.blake2b(digest_size=16)
        for name, part in self.documents.parts():
            source = f"{part}:" if len(self.sources) > 1 else ""
            digest.update(f"{source}{name}:{self.clusters[name]};".encode())
        return digest.hexdigest()


def read_corpus(
    path: str | Path,
    *,
    text_field: str = "text",
    max_documents: int | None = None,
) -> Corpus:
    """Read documents from a file or folder, drop repeated texts, cluster near-duplicates.

    Args:
        path: a text file (one document), a `.jsonl` file (an object with `text_field` a line), a
            `.parquet` file (a column `text_field`), each also as `.gz` but parquet, or a folder.
        text_field: the field or column that holds the text; `id` and `kind` are read too.
        max_documents: reading stops after so many texts.

    Raises:
        AutointerpError: where there is nothing to read, or more than a tenth of it cannot be read
            (with the first place).
    """
    source = Source(path, text_field=text_field, max_documents=max_documents)
    return read_sources([source])


def read_sources(
    sources: Iterable[Source],
    *,
    max_tokens: int | None = None,
    max_tokens_per_document: int | None = None,
    seed: int = 0,
) -> Corpus:
    """Read documents from several sources into one corpus; a text belongs to the first with it.

    Where tokens are limited, memory and disk are too: of every source only the first documents in
    the hashed order are kept, up to `CHARACTERS_PER_TOKEN` characters a token of its share; a data
    set is read no further than until it has given as many.

    Args:
        max_tokens: tokens that will be taken, of all sources together.
        max_tokens_per_document: tokens that will be taken of one document.
        seed: chooses another hashed order; 0 is the order of document_ids.

    Raises:
        AutointerpError: as `read_corpus`.
    """
    sources = tuple(sources)
    report = CorpusReport()
    store = DocumentStore()
    weights = sum(source.weight for source in sources)
    for part, source in enumerate(sources):
        before = len(store)
        share = source.weight / weights
        budget = None if max_tokens is None else int(max_tokens * share * CHARACTERS_PER_TOKEN) + 1
        longest = max_tokens_per_document and max_tokens_per_document * CHARACTERS_PER_TOKEN
        _read_into(store, part, source, report, budget, longest, seed)
        report.check()
        if len(store) == before:
            ignored = report.n_ignored_files
            raise AutointerpError(
                f"corpus {source.name!r} holds no text"
                + (f" ({ignored} files of other kinds)" if ignored else "")
                + f": give a .jsonl file with a {source.text_field!r} field, a .parquet file with "
                "such a column, a text file, or a folder of them"
            )
    clusters = near_duplicate_clusters(store)
    sizes: dict[str, int] = {}
    for cluster in clusters.values():
        sizes[cluster] = sizes.get(cluster, 0) + 1
    report.n_near_duplicates = sum(size for size in sizes.values() if size > 1)
    return Corpus(store, clusters, report, sources)


def place_in_order(document_id: str, seed: int) -> str:
    """Where a document stands in the hashed order: what a limit leaves out is a random part."""
    if seed == 0:
        return document_id
    return hashlib.blake2b(f"{seed}:{document_id}".encode(), digest_size=8).hexdigest()


def _read_into(
    store: DocumentStore,
    part: int,
    source: Source,
    report: CorpusReport,
    budget: int | None,
    longest: int | None,
    seed: int,
) -> None:
    """Read one source; with a budget in characters, keep the first of the hashed order only."""
    limit: str | None = None
    kept = read = 0
    for raw in islice(_documents_of(source, report), source.max_documents):
        report.n_read += 1
        if not raw.text.strip():
            report.n_empty += 1
            continue
        name = document_id(raw.text)
        if not store.is_new(name):
            report.n_duplicates += 1
            continue
        place = place_in_order(name, seed)
        size = len(raw.text) if longest is None else min(len(raw.text), longest)
        read += size
        if limit is not None and place >= limit:
            report.n_beyond_limit += 1
        else:
            store.add(name, raw, place=place, part=part, size=size)
            kept += size
        if budget is None:
            continue
        if kept > 2 * budget:
            found, dropped, kept = store.keep_first(part, budget)
            limit = found or limit
            report.n_beyond_limit += dropped
        if source.dataset is not None and read >= budget:
            break
    if budget is not None:
        _, dropped, _ = store.keep_first(part, budget)
        report.n_beyond_limit += dropped


def _documents_of(source: Source, report: CorpusReport) -> Iterator[RawDocument]:
    if source.dataset is not None:
        return read_dataset(
            source.dataset, source.dataset_config, source.dataset_split, source.text_field, report
        )
    place = Path(source.path or "").expanduser()
    if not place.exists():
        raise AutointerpError(
            f"corpus {source.name!r} does not exist: there is no {place.absolute()}; paths in a "
            "config are looked for beside it, then in the working folder"
        )
    return read_path(place, source.text_field, report)
