"""A corpus: documents, their near-duplicate clusters, their splits, and sequences of tokens.

Splits are fixed here, by text alone, before any activation is seen: a document's split is the hash
of its near-duplicate cluster, so that a copy of a training text is never a test text.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autointerp.records import SPLIT_SHARES, AutointerpError, Document, Sequence, Split

NEAR_DUPLICATE_JACCARD = 0.7
"""Documents whose sets of five-word shingles overlap more than this share a cluster."""

_SHINGLE_WORDS = 5
_TEXT_SUFFIXES = {".txt", ".md", ".rst", ".py"}


@dataclass(frozen=True)
class Corpus:
    """Documents with their splits, duplicates dropped."""

    documents: tuple[Document, ...]
    """In reading order, each text once."""

    clusters: dict[str, str]
    """document_id → id of its near-duplicate cluster: the smallest document_id in it."""

    n_duplicates: int
    """Documents dropped because their text had been read already."""

    def split_of(self, document_id: str) -> Split:
        """The split of a document."""
        return split_of_cluster(self.clusters[document_id])

    def fingerprint(self) -> str:
        """Hash of the set of documents; their order and names do not matter."""
        digest = hashlib.blake2b(digest_size=16)
        for document_id in sorted(self.clusters):
            digest.update(f"{document_id}:{self.clusters[document_id]};".encode())
        return digest.hexdigest()


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


def read_corpus(path: str | Path, *, text_field: str = "text") -> Corpus:
    """Read documents from a file or folder, drop repeated texts, cluster near-duplicates.

    Args:
        path: a `.jsonl` file (one object with `text_field` a line), a text file (one document), or
            a folder of either.
        text_field: the field of a jsonl line that holds the text; `id` and `kind` are read too.

    Raises:
        AutointerpError: where there is nothing to read, or a line is malformed (with its number).
    """
    place = Path(path).expanduser()
    if not place.exists():
        raise AutointerpError(
            f"corpus {str(path)!r} does not exist: there is no {place.absolute()}"
        )
    seen: dict[str, Document] = {}
    n_duplicates = 0
    for document in _read(place, text_field):
        if document.document_id in seen:
            n_duplicates += 1
        elif document.text.strip():
            seen[document.document_id] = document
    if not seen:
        raise AutointerpError(
            f"corpus {str(path)!r} holds no text: give a .jsonl file with a {text_field!r} field, "
            "a text file, or a folder of them"
        )
    documents = tuple(seen.values())
    return Corpus(documents, near_duplicate_clusters(documents), n_duplicates)


def _read(place: Path, text_field: str) -> Iterator[Document]:
    if place.is_dir():
        for path in sorted(place.rglob("*")):
            if path.is_file() and (path.suffix == ".jsonl" or path.suffix in _TEXT_SUFFIXES):
                yield from _read(path, text_field)
    elif place.suffix == ".jsonl":
        yield from _read_jsonl(place, text_field)
    else:
        try:
            text = place.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise AutointerpError(f"{place} is not UTF-8 text ({error})") from error
        yield Document(document_id(text), text, place.name, place.suffix.lstrip("."))


def _read_jsonl(path: Path, text_field: str) -> Iterator[Document]:
    with path.open(encoding="utf-8") as file:
        try:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _document_of_line(line, f"{path}, line {number}", number, text_field)
        except UnicodeDecodeError as error:
            raise AutointerpError(f"{path} is not UTF-8 text ({error})") from error


def _document_of_line(line: str, where: str, number: int, text_field: str) -> Document:
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise AutointerpError(f"{where}: not JSON ({error})") from error
    text = row.get(text_field) if isinstance(row, dict) else None
    if not isinstance(text, str):
        raise AutointerpError(f"{where}: no text in field {text_field!r}")
    # Half of a surrogate pair is no character: no tokenizer and no file could hold it.
    text = text.encode("utf-8", "replace").decode()
    name, kind = (
        str(row.get(key, other)).encode("utf-8", "replace").decode()
        for key, other in (("id", f"line {number}"), ("kind", ""))
    )
    return Document(document_id(text), text, name, kind)


def near_duplicate_clusters(documents: Iterable[Document]) -> dict[str, str]:
    """Cluster id of every document: MinHash (Broder 1997) over five-word shingles, union-find.

    The id is the smallest document_id of the cluster, so that it does not depend on the order.
    """
    from datasketch import MinHash, MinHashLSH

    lsh = MinHashLSH(threshold=NEAR_DUPLICATE_JACCARD, num_perm=128)
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for document in documents:
        shingles = _shingles(document.text)
        parent[document.document_id] = document.document_id
        signature = MinHash(num_perm=128, seed=1)
        signature.update_batch(sorted(shingles))
        for near in lsh.query(signature):
            a, b = sorted((root(document.document_id), root(str(near))))
            parent[b] = a
        lsh.insert(document.document_id, signature)
    return {name: root(name) for name in parent}


def _shingles(text: str) -> set[bytes]:
    words = re.findall(r"\w+|[^\w\s]", text)
    count = max(1, len(words) - _SHINGLE_WORDS + 1)
    return {
        " ".join(words[i : i + _SHINGLE_WORDS]).encode("utf-8", "replace") for i in range(count)
    }


def sequences_of(
    document: Document,
    split: Split,
    tokenizer: Any,
    *,
    length: int,
    n_masked_start: int = 1,
    min_length: int,
    max_tokens: int | None = None,
) -> list[Sequence]:
    """Cut one document into sequences of at most `length` tokens; none crosses documents.

    No token is added. The first `n_masked_start` tokens of every sequence are masked: whatever
    stands there is an attention sink. So is every special token that the text spells out.

    Args:
        min_length: a shorter remainder at the end of the document is dropped.
        max_tokens: the document is read no further than this.
    """
    encoding = tokenizer(
        document.text,
        add_special_tokens=False,
        return_offsets_mapping=True,
        verbose=False,
    )
    ids = np.asarray(encoding["input_ids"], dtype=np.int32)
    spans = np.asarray(encoding["offset_mapping"], dtype=np.int32).reshape(-1, 2)
    special = np.isin(ids, _special_ids(tokenizer))
    sequences = []
    n_read = len(ids) if max_tokens is None else min(max_tokens, len(ids))
    for start in range(0, n_read, length):
        part = slice(start, min(start + length, n_read))
        if len(ids[part]) < min_length:
            break
        masked = special[part].copy()
        masked[:n_masked_start] = True
        digest = hashlib.blake2b(digest_size=8)
        digest.update(f"{document.document_id}:{start}:".encode() + ids[part].tobytes())
        sequences.append(
            Sequence(
                sequence_id=digest.hexdigest(),
                document_id=document.document_id,
                split=split,
                token_ids=ids[part],
                masked=masked,
                char_starts=spans[part, 0],
                char_ends=spans[part, 1],
            )
        )
    return sequences


def _special_ids(tokenizer: Any) -> np.ndarray:
    """Ids of all special tokens: those with a role and those that the vocabulary only marks."""
    marked = [i for i, token in tokenizer.added_tokens_decoder.items() if token.special]
    return np.asarray(sorted({*tokenizer.all_special_ids, *marked}), dtype=np.int32)


def sequences_of_corpus(
    corpus: Corpus,
    tokenizer: Any,
    *,
    length: int,
    n_masked_start: int,
    min_length: int,
    max_tokens: int | None,
    max_tokens_per_document: int | None = None,
) -> list[Sequence]:
    """Sequences of a corpus, up to `max_tokens` tokens.

    Documents come in the order of their ids, which are hashes: what a limit leaves out is a random
    part of the corpus, whatever the order of its files.
    """
    chosen: list[Sequence] = []
    n_tokens = 0
    for document in sorted(corpus.documents, key=lambda d: d.document_id):
        found = sequences_of(
            document,
            corpus.split_of(document.document_id),
            tokenizer,
            length=length,
            n_masked_start=n_masked_start,
            min_length=min_length,
            max_tokens=max_tokens_per_document,
        )
        size = sum(len(sequence.token_ids) for sequence in found)
        if max_tokens is not None and n_tokens + size > max_tokens:
            break
        chosen += found
        n_tokens += size
    return chosen


def documents_per_split(sequences: Iterable[Sequence]) -> Counter[Split]:
    """How many documents with at least one sequence each split has."""
    return Counter(
        split for _, split in {(sequence.document_id, sequence.split) for sequence in sequences}
    )


def vocabulary(tokenizer: Any) -> list[str]:
    """Text of every token id, decoded once: partial characters are shown as U+FFFD."""
    size = max(len(tokenizer), max(tokenizer.get_vocab().values()) + 1)
    return tokenizer.batch_decode(
        [[i] for i in range(size)], clean_up_tokenization_spaces=False, skip_special_tokens=False
    )
