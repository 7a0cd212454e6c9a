"""The corpus stage of a run: documents into splits, and into sequences for every tokenizer."""

from functools import cached_property
from typing import Any

from autointerp.config import RunConfig
from autointerp.parts import Parts, corpus_files_digest
from autointerp.progress import Reporter
from autointerp.records import SPLITS, AutointerpError, Sequence, Split, content_key
from autointerp.store import RunStore, TokenTable

_SOURCES = {"path", "dataset", "dataset_config", "dataset_split", "text_field", "max_documents"}
"""Settings that say where texts are: the hash of the texts stands for them."""


class CorpusStage:
    """Fixes splits and sequences, by text alone. `prepare()` is the way in."""

    def __init__(
        self, config: RunConfig, parts: Parts, store: RunStore, reporter: Reporter
    ) -> None:
        self.config = config
        self.parts = parts
        self.store = store
        self.reporter = reporter

    @cached_property
    def subjects(self) -> dict[str, list[str]]:
        """Tokenizer → names of the recorded subjects that have it, both in order of names."""
        found: dict[str, list[str]] = {}
        for name in sorted({source.subject for source in self.parts.sources.values()}):
            found.setdefault(self.parts.subject(name).tokenizer_name, []).append(name)
        return found

    @cached_property
    def fingerprint(self) -> str | None:
        """Hash of the documents; `None` without a corpus.

        They are not read for it where the run has the sequences of the same files already.
        """
        if self.config.corpus is None:
            return None
        known = self._known_fingerprint
        if known is not None and self.store.corpus_key() == self._key_of(known):
            return known
        return self.parts.corpus.fingerprint()

    @property
    def _known_fingerprint(self) -> str | None:
        """Of the documents that the run's corpus was made of, where they came of these files."""
        made_of = (self.store.read_json("corpus.json") or {}).get("made_of") or {}
        digest = self._files_digest
        return made_of.get("documents") if digest and made_of.get("files") == digest else None

    @cached_property
    def _files_digest(self) -> str | None:
        return None if self.config.corpus is None else corpus_files_digest(self.config.corpus)

    @cached_property
    def key(self) -> str:
        """Hash of the texts, the tokenizers and how they are cut, and of imported records."""
        return self._key_of(self.fingerprint)

    def _key_of(self, documents: str | None) -> str:
        imported = {name: i.fingerprint() for name, i in self.parts.imported.items()}
        settings = self.config.corpus
        if settings is None:
            return content_key("corpus", imported=imported)
        weights = [part.weight for part in settings.mix or ()]
        return content_key(
            "corpus",
            documents=documents,
            tokenizers=sorted(self.subjects),
            settings=settings.model_dump(exclude={*_SOURCES, "mix"}),
            weights=weights,
            imported=imported,
        )

    def prepare(self) -> None:
        """Write the run's corpus, unless it is there."""
        if self.store.corpus_key() == self.key:
            return
        texts: dict[str, tuple[str, str, str]] = {}
        tables = [] if self.config.corpus is None else self._tables()
        for name, imported in self.parts.imported.items():
            tables.append(TokenTable(f"imported:{name}", imported.sequences, imported.vocabulary))
            texts.update(imported.texts)
            if imported.rejected:
                self.reporter.note(
                    f"{name}: {len(imported.rejected)} rows refused; the first: "
                    f"{imported.rejected[0]}"
                )

        def facts(document_id: str) -> tuple[str, str, str]:
            if document_id in texts:
                return texts[document_id]
            document = self.parts.corpus.documents.get(document_id)
            return document.text, document.name, document.kind

        self.store.write_corpus(self.key, tables, facts)

    def _tables(self) -> list[TokenTable]:
        """The sequences of the corpus for every tokenizer, and what reading came across."""
        from autointerp.recording.corpus import vocabulary

        corpus = self.parts.corpus
        tables: list[TokenTable] = []
        readings: dict[str, Any] = {}
        for tokenizer_name, subjects in self.subjects.items():
            for subject in subjects:
                self._check_context(subject)
            tokenizer = self.parts.subject(subjects[0]).tokenizer
            sequences, reading = self._cut(tokenizer_name, subjects[0])
            self._check_size(sequences)
            tables.append(TokenTable(tokenizer_name, sequences, vocabulary(tokenizer)))
            readings[subjects[0]] = reading
        for line in corpus.report.notes():
            self.reporter.note(line)
        self.store.write_json(
            "corpus.json",
            {
                "reading": corpus.report.as_json(),
                "subjects": readings,
                "made_of": {"files": self._files_digest, "documents": self.fingerprint},
            },
        )
        return tables

    def _cut(self, tokenizer_name: str, subject: str) -> tuple[list[Sequence], dict[str, Any]]:
        from autointerp.recording.corpus import Cutting, bos_ids, cut_corpus, documents_per_split

        settings, corpus = self.config.corpus, self.parts.corpus
        assert settings is not None
        tokenizer = self.parts.subject(subject).tokenizer
        cutting = Cutting(
            settings.sequence_length,
            settings.n_masked_start,
            settings.n_masked_start + settings.window_length,
            settings.max_tokens_per_document,
            settings.bos,
            # Ids of two tokenizers may be the same numbers.
            namespace=f"{tokenizer_name}:" if len(self.subjects) > 1 else "",
        )
        found = cut_corpus(corpus, tokenizer, cutting, settings.max_tokens)
        if found.n_too_long:
            self.reporter.note(
                f"{found.n_too_long} documents are longer than corpus.max_tokens and were left "
                "out; set corpus.max_tokens_per_document to read their beginnings"
            )
        if found.exhausted is not None:
            self.reporter.note(
                f"the mix ends where {corpus.sources[found.exhausted].name!r} has no more "
                f"documents, at {sum(found.tokens_of_sources)} tokens"
            )
        before = [str(t) for t in tokenizer.convert_ids_to_tokens(bos_ids(tokenizer, settings.bos))]
        splits = documents_per_split(found.sequences)
        return found.sequences, {
            "tokenizer": tokenizer_name,
            "bos": {"policy": settings.bos, "before_every_sequence": before},
            "tokens": {
                f"{place} {source.name}": n
                for place, (source, n) in enumerate(
                    zip(corpus.sources, found.tokens_of_sources, strict=True)
                )
            },
            "sequences": len(found.sequences),
            "documents": {str(split): splits[split] for split in SPLITS},
            "documents_longer_than_max_tokens": found.n_too_long,
        }

    def _check_context(self, name: str) -> None:
        """Refuse sequences longer than a subject can read."""
        assert self.config.corpus is not None
        length, limit = self.config.corpus.sequence_length, self.parts.subject(name).max_tokens
        if limit is not None and length > limit:
            raise AutointerpError(
                f"corpus.sequence_length is {length}, but subject {name!r} reads at most {limit} "
                "tokens at once: lower it"
            )

    def _check_size(self, sequences: list[Sequence]) -> None:
        """Refuse a corpus that cannot give the splits their documents, naming what is missing."""
        from autointerp.recording.corpus import documents_per_split

        assert self.config.corpus is not None
        have = documents_per_split(sequences)
        need = {
            Split.EXPLAIN: self.config.units.min_active_documents,
            Split.TEST: self.config.score.min_active_documents,
        }
        missing = [
            f"{split}: {n - have[split]} more documents ({have[split]} of {n})"
            for split, n in need.items()
            if have[split] < n
        ]
        if missing:
            shares = ", ".join(f"{split} {have[split]}" for split in SPLITS)
            more = (
                "add documents, raise corpus.max_tokens, or set corpus.max_tokens_per_document so "
                "that more of them fit into it"
                if self.config.corpus.max_tokens is not None
                else "add documents"
            )
            if sum(have.values()) < len(SPLITS):
                more += " (a text file is one: put parts of a long one into a .jsonl, one a line)"
            raise AutointerpError(
                f"the corpus is too small for the sampling design; missing in {'; '.join(missing)}."
                f" Documents per split: {shares}. A document must hold at least one window of "
                f"{self.config.corpus.window_length} tokens; 40 % of documents go to explain and "
                f"to test each: {more}, or lower units.min_active_documents and "
                "score.min_active_documents"
            )
