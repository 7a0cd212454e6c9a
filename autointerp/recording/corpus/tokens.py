"""From documents to sequences of tokens: BOS, places of characters, lengths, mixtures."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np

from autointerp.recording.corpus.alignment import encode
from autointerp.recording.corpus.documents import Corpus
from autointerp.records import AutointerpError, Document, Sequence, Split

BosPolicy = Literal["auto", "always", "never"]
"""What stands before every sequence: what the tokenizer itself puts before a text; in any case a
beginning-of-sequence token; nothing."""

_DOCUMENTS_AT_ONCE = 64

_PROBE = "a"
"""A text to see what a tokenizer puts before texts."""

_CUT_CHARACTERS_PER_TOKEN = 32
"""A document of which few tokens are wanted is cut before it is tokenised, at so many characters a
token: well beyond any of them, so that the cut changes none."""


def bos_ids(tokenizer: Any, policy: BosPolicy) -> list[int]:
    """Ids that stand before every sequence.

    Raises:
        AutointerpError: for `always` where the tokenizer has no such token.
    """
    if policy == "never":
        return []
    plain = list(tokenizer(_PROBE, add_special_tokens=False)["input_ids"])
    dressed = list(tokenizer(_PROBE, add_special_tokens=True)["input_ids"])
    starts = [i for i in range(len(dressed)) if dressed[i : i + len(plain)] == plain]
    before = dressed[: starts[0]] if starts else []
    if before or policy == "auto":
        return before
    if tokenizer.bos_token_id is None:
        raise AutointerpError(
            "corpus.bos is `always`, but the tokenizer has no beginning-of-sequence token; set it "
            "to `auto` (what the tokenizer does) or `never`"
        )
    return [int(tokenizer.bos_token_id)]


@dataclass(frozen=True)
class Cutting:
    """How documents are cut into sequences."""

    length: int
    """Tokens of a sequence at most, those before the text included."""

    n_masked_start: int = 1
    """Tokens masked at the start of every sequence, those before the text included: whatever
    stands there is an attention sink."""

    min_length: int = 1
    """A shorter remainder at the end of a document is dropped."""

    max_tokens_per_document: int | None = None
    """No document is read further."""

    bos: BosPolicy = "auto"
    namespace: str = ""
    """Enters sequence ids: tells apart tokenizers that give the same ids."""


def sequences_of(
    document: Document,
    split: Split,
    tokenizer: Any,
    *,
    length: int,
    n_masked_start: int = 1,
    min_length: int,
    max_tokens: int | None = None,
    bos: BosPolicy = "auto",
) -> list[Sequence]:
    """Cut one document into sequences of at most `length` tokens; none crosses documents.

    Masked are the first tokens of every sequence and every special token, also one that the text
    spells out. Arguments as in `Cutting`; the document is read no further than `max_tokens`.
    """
    cutting = Cutting(length, n_masked_start, min_length, max_tokens, bos)
    return _Cutter(tokenizer, cutting).cut([document], [split])[0]


def sequences_of_corpus(
    corpus: Corpus,
    tokenizer: Any,
    *,
    length: int,
    n_masked_start: int,
    min_length: int,
    max_tokens: int | None,
    max_tokens_per_document: int | None = None,
    bos: BosPolicy = "auto",
) -> list[Sequence]:
    """Sequences of a corpus, up to `max_tokens` tokens, as `cut_corpus` chooses them."""
    cutting = Cutting(length, n_masked_start, min_length, max_tokens_per_document, bos)
    return cut_corpus(corpus, tokenizer, cutting, max_tokens).sequences


class _Cutter:
    """Cuts documents with one tokenizer."""

    def __init__(self, tokenizer: Any, cutting: Cutting) -> None:
        self.tokenizer = tokenizer
        self.cutting = cutting
        self.before = np.asarray(bos_ids(tokenizer, cutting.bos), np.int32)
        self.special = _special_ids(tokenizer)
        self.step = cutting.length - len(self.before)
        if self.step < 1:
            raise AutointerpError(
                f"sequences of {cutting.length} tokens hold no text after the {len(self.before)} "
                "that the tokenizer puts before them; raise corpus.sequence_length"
            )

    def cut(self, documents: list[Document], splits: list[Split]) -> list[list[Sequence]]:
        """The sequences of each document."""
        encoded = encode(self.tokenizer, [self._start_of(d.text) for d in documents])
        return [
            self._sequences(document, split, ids, spans)
            for document, split, (ids, spans) in zip(documents, splits, encoded, strict=True)
        ]

    def _start_of(self, text: str) -> str:
        limit = self.cutting.max_tokens_per_document
        return text if limit is None else text[: (limit + 32) * _CUT_CHARACTERS_PER_TOKEN]

    def _sequences(
        self, document: Document, split: Split, ids: np.ndarray, spans: np.ndarray
    ) -> list[Sequence]:
        limit = self.cutting.max_tokens_per_document
        if limit is not None:
            ids, spans = ids[:limit], spans[:limit]
        special = np.isin(ids, self.special)
        n_before = len(self.before)
        sequences: list[Sequence] = []
        for start in range(0, len(ids), self.step):
            part = slice(start, min(start + self.step, len(ids)))
            token_ids = np.concatenate([self.before, ids[part]])
            if len(token_ids) < self.cutting.min_length:
                break
            masked = np.concatenate([np.ones(n_before, bool), special[part]])
            masked[: self.cutting.n_masked_start] = True
            # What is put before a text has no place in it: an empty span where the text starts.
            empty = np.full(n_before, spans[start, 0], np.int32)
            digest = hashlib.blake2b(self.cutting.namespace.encode(), digest_size=8)
            digest.update(f"{document.document_id}:{start}:".encode() + token_ids.tobytes())
            sequences.append(
                Sequence(
                    sequence_id=digest.hexdigest(),
                    document_id=document.document_id,
                    split=split,
                    token_ids=token_ids,
                    masked=masked,
                    char_starts=np.concatenate([empty, spans[part, 0]]),
                    char_ends=np.concatenate([empty, spans[part, 1]]),
                )
            )
        return sequences


def _special_ids(tokenizer: Any) -> np.ndarray:
    """Ids of all special tokens: those with a role and those that the vocabulary only marks."""
    marked = [i for i, token in tokenizer.added_tokens_decoder.items() if token.special]
    return np.asarray(sorted({*tokenizer.all_special_ids, *marked}), dtype=np.int32)


@dataclass
class CutCorpus:
    """The sequences of a corpus under one tokenizer."""

    sequences: list[Sequence]
    tokens_of_sources: list[int]
    """Tokens taken from every source."""

    n_too_long: int = 0
    """Documents left out because one alone is longer than all tokens asked for."""

    exhausted: int | None = None
    """The source of a mix that ran out first: more would break the weights."""


def cut_corpus(
    corpus: Corpus, tokenizer: Any, cutting: Cutting, max_tokens: int | None = None
) -> CutCorpus:
    """Sequences of a corpus, whole documents until the next would pass `max_tokens` tokens.

    The documents of a source come in the hashed order: what a limit leaves out is a random part of
    it, whatever the order of its files. Of several sources the next document is taken from the
    one whose tokens so far are the least for its weight; where one has no more, the mix ends.
    """
    weights = [source.weight for source in corpus.sources]
    streams = [
        _cut_in_order(corpus, part, tokenizer, cutting) for part in range(len(corpus.sources))
    ]
    found = CutCorpus([], [0] * len(weights))
    while True:
        part = min(range(len(weights)), key=lambda p: found.tokens_of_sources[p] / weights[p])
        sequences = next(streams[part], None)
        if sequences is None:
            found.exhausted = part if len(streams) > 1 else None
            return found
        size = sum(len(sequence.token_ids) for sequence in sequences)
        if max_tokens is not None and size > max_tokens:
            found.n_too_long += 1
            continue
        if max_tokens is not None and sum(found.tokens_of_sources) + size > max_tokens:
            return found
        found.sequences += sequences
        found.tokens_of_sources[part] += size


def _cut_in_order(
    corpus: Corpus, part: int, tokenizer: Any, cutting: Cutting
) -> Iterator[list[Sequence]]:
    cutter = _Cutter(tokenizer, cutting)
    documents = corpus.documents.in_order(part)
    while some := list(islice(documents, _DOCUMENTS_AT_ONCE)):
        yield from cutter.cut(some, [corpus.split_of(d.document_id) for d in some])


def documents_per_split(sequences: Iterable[Sequence]) -> Counter[Split]:
    """How many documents with at least one sequence each split has."""
    return Counter(
        split for _, split in {(sequence.document_id, sequence.split) for sequence in sequences}
    )


def vocabulary(tokenizer: Any) -> list[str]:
    """Text of every token id, decoded once: partial characters are shown as U+FFFD."""
    size = max(len(tokenizer), max(tokenizer.get_vocab().values()) + 1)
    # An array: lists of lists are looked through id by id, which takes longer than decoding.
    ids = np.arange(size)[:, None]
    return tokenizer.batch_decode(
        ids, clean_up_tokenization_spaces=False, skip_special_tokens=False
    )
