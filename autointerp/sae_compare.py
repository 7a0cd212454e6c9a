"""`autointerp sae compare`: two dictionaries on the same text.

Needs several rooms (corpus, subject, units), so it stands beside `runner.py`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse

from autointerp.config import CorpusConfig, SubjectConfig
from autointerp.hidden_states import TokenRows, token_rows
from autointerp.recording.corpus import sequences_of
from autointerp.records import AutointerpError, Document, Sequence, Split
from autointerp.sae_eval import (
    States,
    baseline,
    hook_in,
    named,
    no_text,
    placed,
    subject_of,
    unseen_documents,
)
from autointerp.subject import Subject
from autointerp.units.sae.baselines import BASELINES
from autointerp.units.sae.comparison import (
    MIN_ACTIVE,
    MIN_COSINE,
    BestMatches,
    Floats,
    Integers,
    Splitting,
    best_correlations,
    feature_splitting,
    largest_in_groups,
    nearest_in,
    rotated,
    shared_spans,
    sparse_rows,
)
from autointerp.units.sae.load import load_sae
from autointerp.units.sae.model import SparseAutoencoder

_BATCH = 32
_ENCODED_AT_ONCE = 512


@dataclass(frozen=True)
class CompareOptions:
    """On what two dictionaries are compared."""

    subject: SubjectConfig
    corpus: CorpusConfig
    subject_b: SubjectConfig | None = None
    """Of the second dictionary, where that is another one."""

    exclude: tuple[str, ...] = ()
    """Corpora that are left out."""

    n_tokens: int = 65_536
    max_norm: float | None = 10.0
    """Tokens longer than this many times the median are masked: attention sinks."""

    hook_point: str | None = None
    """Where dictionaries read whose files do not say."""

    hook_point_b: str | None = None
    """The same for the second one."""

    min_active: int = MIN_ACTIVE
    """A latent that fires on fewer tokens is not compared."""

    min_cosine: float = MIN_COSINE
    """Least decoder cosine of a latent with the one that it came of."""


@dataclass(frozen=True)
class Side:
    """One of the two dictionaries, at its place in its subject."""

    name: str
    sae: SparseAutoencoder
    subject: Subject


@dataclass(frozen=True)
class Comparison:
    """What was found of two dictionaries, a and b."""

    a: Side
    b: Side
    n_tokens: int
    """Rows that were compared: tokens, or spans of text where tokenizers differ."""

    n_documents: int
    aligned_by: str
    """`tokens`, or `characters`: spans at whose ends both tokenizers cut."""

    matches_a: BestMatches
    """Of a's latents, in b."""

    matches_b: BestMatches
    control_a: BestMatches
    """Of a's latents, in b on other text: what chance finds."""

    control_b: BestMatches
    decoders: "DecoderMatches | None"
    """`None` where the two do not write to the same space."""

    splitting: Splitting | None
    """Of the one with fewer latents in the other; `None` likewise."""

    @property
    def narrow(self) -> Side:
        """The one with fewer latents: a, if they have the same number."""
        return self.a if self.a.sae.n_latents <= self.b.sae.n_latents else self.b

    @property
    def wide(self) -> Side:
        """The other one."""
        return self.b if self.narrow is self.a else self.a

    @property
    def is_mutual(self) -> np.ndarray:
        """[n_a] bool: whether each of a's latents is also its match's best."""
        back = np.append(self.matches_b.latent, -1)[self.matches_a.latent]
        return self.matches_a.known & (back == np.arange(len(back)))


@dataclass(frozen=True)
class DecoderMatches:
    """The nearest rows of the other decoder, by cosine."""

    nearest_a: Integers
    """[n_a] latent of b."""

    cosine_a: Floats
    nearest_b: Integers
    cosine_b: Floats


def compare_saes(
    a: Side,
    b: Side,
    documents: list[Document],
    options: CompareOptions,
    report: Callable[[str], None] | None = None,
) -> Comparison:
    """Compare two dictionaries, each at its place in its subject, on the same documents.

    Args:
        a: one of them, placed.
        b: the other.
        documents: text; full sequences of it are taken, up to `options.n_tokens`.
        options: how much of it, what is masked, and from where on latents are compared.
        report: told what is going on.

    Raises:
        AutointerpError: where no document gives a full sequence.
    """
    rows_a, rows_b, numbers = _activations(a, b, documents, options, report)
    if report is not None:
        report("comparing")
    middle = _boundary(numbers)
    matches = best_correlations(rows_a, rows_b, min_active=options.min_active)
    control = best_correlations(rows_a, rotated(rows_b, middle), min_active=options.min_active)
    decoders = splitting = None
    if share_a_space(a, b):
        decoders = DecoderMatches(
            *nearest_in(a.sae.W_dec, b.sae.W_dec), *nearest_in(b.sae.W_dec, a.sae.W_dec)
        )
        ordered = [(a, rows_a), (b, rows_b)]
        if b.sae.n_latents < a.sae.n_latents:
            ordered.reverse()
        (narrow, narrow_rows), (wide, wide_rows) = ordered
        splitting = feature_splitting(
            narrow.sae.W_dec, wide.sae.W_dec, narrow_rows, wide_rows, min_cosine=options.min_cosine
        )
    return Comparison(
        a, b, rows_a.shape[0], len(np.unique(numbers)),
        "tokens" if _same_tokens(a, b) else "characters",
        *matches, *control, decoders, splitting,
    )  # fmt: skip


def compare_paths(
    path_a: str,
    path_b: str,
    options: CompareOptions,
    report: Callable[[str], None] | None = None,
) -> Comparison:
    """Load two dictionaries and compare them on documents that neither was trained on.

    `path_b` may be `random` or `pca`: that baseline at a's place, fitted to other documents.

    Raises:
        AutointerpError: where a dictionary does not fit its subject, or there is no text.
    """
    subject = subject_of(options.subject)
    is_baseline = path_b in BASELINES and not Path(path_b).exists()
    names = [*named([path_a]), path_b] if is_baseline else list(named([path_a, path_b]))
    a = Side(names[0], placed(names[0], load_sae(path_a), subject, options.hook_point), subject)
    paths = [path_a] if is_baseline else [path_a, path_b]
    corpus, documents = unseen_documents(paths, options.corpus, options.exclude)
    if not documents:
        raise no_text(len(corpus.documents), 0, options.corpus.sequence_length)
    if is_baseline:
        n_fit = max(1, len(documents) // 4)
        fit = token_rows(documents[:n_fit], subject, options.corpus, at_most=64)
        documents = documents[n_fit:]
        b = Side(path_b, _fitted(path_b, a, fit, options), subject)
    else:
        same = options.subject_b in (None, options.subject)
        other = subject if same or options.subject_b is None else subject_of(options.subject_b)
        place = options.hook_point_b or options.hook_point
        b = Side(names[1], placed(names[1], load_sae(path_b), other, place), other)
    return compare_saes(a, b, documents, options, report)


def share_a_space(a: Side, b: Side) -> bool:
    """Whether a cosine between their decoder rows means something.

    It does for one subject and one place, and for any two places of its residual stream.
    """
    if a.subject is not b.subject or not (a.sae.has_decoder and b.sae.has_decoder):
        return False
    places = [side.sae.hook_out or "" for side in (a, b)]
    return places[0] == places[1] or all("hook_resid" in place for place in places)


def _fitted(name: str, like: Side, rows: TokenRows, options: CompareOptions) -> SparseAutoencoder:
    if not len(rows):
        raise AutointerpError(f"the corpus has no text left to fit the baseline {name} to")
    return baseline(name, like.sae, like.subject, rows, options.max_norm)


def _same_tokens(a: Side, b: Side) -> bool:
    return a.subject is b.subject or a.subject.tokenizer_name == b.subject.tokenizer_name


@dataclass(frozen=True)
class _Part:
    """What one dictionary makes of a few documents."""

    latents: Any
    """Sparse [n_tokens, n_latents]."""

    masked: np.ndarray
    """[n_tokens] bool."""

    spans: Integers
    """[n_tokens, 2] characters, those of a document after those of the ones before."""

    documents: Integers
    """[n_tokens] number of the document."""


def _activations(
    a: Side,
    b: Side,
    documents: list[Document],
    options: CompareOptions,
    report: Callable[[str], None] | None,
) -> tuple[Any, Any, Integers]:
    """Sparse rows of both dictionaries for the same text, and the number of each row's document."""
    # One run of a subject serves both dictionaries.
    sides = [[a, b]] if a.subject is b.subject else [[a], [b]]
    states = [States(s[0].subject, [x.sae for x in s], options.max_norm) for s in sides]
    limit = min(options.n_tokens, options.corpus.max_tokens_per_document or options.n_tokens)
    corpus = options.corpus.model_copy(update={"max_tokens_per_document": limit})
    found: list[tuple[Any, Any, Integers]] = []
    n_done = 0
    for some in _batches(documents, a.subject, corpus, options.n_tokens):
        parts = [
            part
            for own, at in zip(sides, states, strict=True)
            for part in _parts(own, at, some, corpus)
        ]
        if len(parts) < 2:
            continue
        aligned = _by_token(*parts) if _same_tokens(a, b) else _by_span(*parts)
        found.append(aligned)
        n_done += aligned[0].shape[0]
        if report is not None:
            report(f"{n_done:,} of about {options.n_tokens:,} tokens")
    if not n_done:
        raise no_text(len(documents), len(documents), options.corpus.sequence_length)
    rows_a, rows_b, numbers = zip(*found, strict=True)
    return (
        sparse.vstack(rows_a, format="csr"),
        sparse.vstack(rows_b, format="csr"),
        np.concatenate(numbers),
    )


def _batches(
    documents: list[Document], subject: Subject, corpus: CorpusConfig, n_tokens: int
) -> Iterator[list[tuple[int, Document]]]:
    """Some documents at a time, numbered, as many as hold `n_tokens` tokens of full sequences."""
    batch: list[tuple[int, Document]] = []
    held = total = 0
    for number, document in enumerate(documents):
        n = len(_sequences(document, subject, corpus))
        batch.append((number, document))
        held, total = held + n, total + n
        if held >= _BATCH:
            yield batch
            batch, held = [], 0
        if total * corpus.sequence_length >= n_tokens:
            break
    if held:
        yield batch


def _sequences(document: Document, subject: Subject, corpus: CorpusConfig) -> list[Sequence]:
    length = corpus.sequence_length
    return sequences_of(
        document,
        Split.EXPLAIN,
        subject.tokenizer,
        length=length,
        n_masked_start=corpus.n_masked_start,
        min_length=length,
        max_tokens=corpus.max_tokens_per_document,
        bos=corpus.bos,
    )


def _parts(
    sides: list[Side], states: States, documents: list[tuple[int, Document]], corpus: CorpusConfig
) -> list[_Part]:
    """Of each dictionary of one subject; nothing where no document has a full sequence."""
    sequences: list[Sequence] = []
    offsets: list[int] = []
    numbers: list[int] = []
    end = 0
    for number, document in documents:
        own = _sequences(document, states.subject, corpus)
        sequences += own
        offsets += [end] * len(own)
        numbers += [number] * len(own)
        end += len(document.text) + 1
    if not sequences:
        return []
    rows = TokenRows(
        np.stack([s.token_ids for s in sequences]), np.stack([s.masked for s in sequences])
    )
    latents: list[list[Any]] = [[] for _ in sides]
    masked: list[np.ndarray] = []
    for some in rows.split(_BATCH):
        hidden, left_out = states.of(some)
        masked.append(left_out.ravel())
        for found, side in zip(latents, sides, strict=True):
            found.append(_latents(side.sae, hidden[hook_in(side.sae)].flatten(0, 1)))
    spans = [
        np.stack([s.char_starts, s.char_ends], 1).astype(np.int64) + offset
        for s, offset in zip(sequences, offsets, strict=True)
    ]
    length = rows.ids.shape[1]
    facts = (
        np.concatenate(masked),
        np.concatenate(spans),
        np.repeat(np.asarray(numbers, np.int64), length),
    )
    return [_Part(sparse.vstack(found, format="csr"), *facts) for found in latents]


@torch.inference_mode()
def _latents(sae: SparseAutoencoder, x: torch.Tensor) -> Any:
    parts = [sparse_rows(sae.encode(part)) for part in x.split(_ENCODED_AT_ONCE)]
    return sparse.vstack(parts, format="csr")


def _by_token(a: _Part, b: _Part) -> tuple[Any, Any, Integers]:
    kept = np.flatnonzero(~(a.masked | b.masked))
    return a.latents[kept], b.latents[kept], a.documents[kept]


def _by_span(a: _Part, b: _Part) -> tuple[Any, Any, Integers]:
    """Rows are spans of text at whose ends both tokenizers cut; none has a masked token."""
    of_a, of_b = shared_spans(a.spans, b.spans)
    n = max(of_a.max(initial=-1), of_b.max(initial=-1)) + 1
    clean = np.ones(n, bool)
    for groups, part in ((of_a, a), (of_b, b)):
        clean[groups[part.masked & (groups >= 0)]] = False
    renumbered = np.append(np.where(clean, np.cumsum(clean) - 1, -1), -1)
    of_a, of_b = renumbered[of_a], renumbered[of_b]
    n = int(clean.sum())
    numbers = np.zeros(n, np.int64)
    numbers[of_a[of_a >= 0]] = a.documents[of_a >= 0]
    return largest_in_groups(a.latents, of_a, n), largest_in_groups(b.latents, of_b, n), numbers


def _boundary(documents: Integers) -> int:
    """The first row of a document, as near the middle as there is one; else the middle."""
    starts = np.flatnonzero(np.diff(documents)) + 1
    middle = len(documents) // 2
    return int(starts[np.abs(starts - middle).argmin()]) if len(starts) else middle
