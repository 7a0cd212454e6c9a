"""What a config names, loaded when it is first needed: subjects, sources, corpus, clients."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from autointerp import resources
from autointerp.config import (
    BASELINE_EXPLAINERS,
    CorpusConfig,
    RecordedConfig,
    RunConfig,
)
from autointerp.progress import Reporter, Silent
from autointerp.records import UsageError
from autointerp.simulators import Simulator, load_simulator
from autointerp.store import RunStore

if TYPE_CHECKING:
    from autointerp.explainers import Explainer
    from autointerp.llm import CachedClient, LlmClient
    from autointerp.llm.budget import Meter
    from autointerp.llm.cache import ResponseCache
    from autointerp.recording.corpus import Corpus, Source
    from autointerp.recording.imported import Imported
    from autointerp.scorers.measured import Reader
    from autointerp.subject import Subject
    from autointerp.units import UnitSource


_LLM_BATCH = 8
"""Requests that a model on this machine is given together."""


def corpus_of(settings: CorpusConfig) -> "Corpus":
    """The documents that a config's corpus names."""
    from autointerp.recording.corpus import read_sources

    return read_sources(_corpus_sources(settings), **_reading(settings))


def corpus_files_digest(settings: CorpusConfig) -> str | None:
    """Hash of the files that a config's corpus names, unread; `None` for a streamed data set."""
    from autointerp.recording.corpus.unread import files_digest

    return files_digest(_corpus_sources(settings), **_reading(settings))


def _corpus_sources(settings: CorpusConfig) -> "list[Source]":
    from autointerp.recording.corpus import Source

    return [
        Source(
            path=None if part.path is None else resources.shipped_path(part.path, "corpus.jsonl"),
            dataset=part.dataset,
            dataset_config=part.dataset_config,
            dataset_split=part.dataset_split,
            text_field=part.text_field,
            max_documents=part.max_documents or settings.max_documents,
            weight=getattr(part, "weight", 1.0),
        )
        for part in settings.mix or [settings]
    ]


class _Reading(TypedDict):
    """How much is read, and in which order."""

    max_tokens: int | None
    max_tokens_per_document: int | None
    seed: int


def _reading(settings: CorpusConfig) -> _Reading:
    return {
        "max_tokens": settings.max_tokens,
        "max_tokens_per_document": settings.max_tokens_per_document,
        "seed": settings.seed,
    }


class Parts:
    """The models, sources and texts of one run; each is loaded once."""

    def __init__(
        self, config: RunConfig, store: RunStore, reporter: Reporter | None = None
    ) -> None:
        self.config = config
        self.store = store
        self.reporter = reporter or Silent()
        self.subjects: dict[str, Subject] = {}
        """Loaded subjects by their name in the config."""
        self.models: dict[str, Subject] = {}
        """Other loaded language models by what they were loaded from: two names, two tables."""
        self.simulators: dict[str, Simulator] = {}
        self.readers: dict[tuple[str, str], Reader] = {}
        """Loaded models that measure texts, by type of scorer and model."""

    def subject(self, name: str) -> "Subject":
        """The loaded subject called `name` in the config."""
        from autointerp.subject import load_subject

        if name not in self.subjects:
            settings = self.config.subjects[name]
            self.subjects[name] = load_subject(
                settings.model,
                device=settings.device,
                dtype=settings.dtype,
                device_map=settings.device_map,
                trust_remote_code=settings.trust_remote_code,
                random_weights=settings.random_weights,
            )
        return self.subjects[name]

    def language_model(self, name: str, device: str = "auto", dtype: str = "auto") -> "Subject":
        """A language model that explains or simulates; a subject of the same name is shared, unless
        another device or dtype is asked for than it has."""
        from autointerp.subject import load_subject

        for subject_name, settings in self.config.subjects.items():
            same = device in ("auto", settings.device) and dtype in ("auto", settings.dtype)
            if settings.model == name and settings.random_weights is None and same:
                return self.subject(subject_name)
        key = " ".join([name, *(one for one in (device, dtype) if one != "auto")])
        if key not in self.models:
            self.models[key] = load_subject(name, device=device, dtype=dtype)
        return self.models[key]

    @cached_property
    def sources(self) -> dict[str, "UnitSource"]:
        """The unit sources that are recorded from a subject."""
        from autointerp.sources import make_source

        made = {
            name: make_source(name, self.config, self.subject, self.store, self.reporter)
            for name in self.config.sources
        }
        return {name: source for name, source in made.items() if source is not None}

    @cached_property
    def imported(self) -> dict[str, "Imported"]:
        """The unit sources that were recorded elsewhere."""
        from autointerp.recording.imported import import_records

        return {
            name: import_records(source.path, name)
            for name, source in self.config.sources.items()
            if isinstance(source, RecordedConfig)
        }

    @cached_property
    def corpus(self) -> "Corpus":
        """The documents of the config's corpus."""
        assert self.config.corpus is not None
        return corpus_of(self.config.corpus)

    @cached_property
    def client(self) -> "CachedClient":
        """The explainer's language model behind its cache, every call of it metered."""
        from autointerp.llm import CachedClient, ClientOptions, load_client
        from autointerp.llm.budget import MeteredClient
        from autointerp.llm.cache import open_cache
        from autointerp.llm.hosted import HostedClient

        settings = self.config.llm
        name = settings.model
        if name.startswith("local/"):
            subject = self.language_model(
                name.removeprefix("local/"), settings.device, settings.dtype
            )
            client: LlmClient = MeteredClient(load_client(name, subject=subject), self.meter)
        else:
            client = load_client(name, ClientOptions.of(settings))
            assert isinstance(client, HostedClient)
            client.guard(self.meter, self.reporter.note)
        cache = open_cache(settings.cache, self.store.folder.absolute().parent)
        if cache is not None:
            self.meter.recover(cache.get)
        if settings.mode == "batch":
            client = self._in_batches(client, cache)
        return CachedClient(client, cache)

    def _in_batches(self, client: "LlmClient", cache: "ResponseCache | None") -> "LlmClient":
        """A client that asks through the provider's batch API."""
        from autointerp.llm.batch import BatchClient, BatchOptions
        from autointerp.llm.hosted import HostedClient

        if not isinstance(client, HostedClient):
            raise UsageError(
                f"llm.mode is batch, but {client.name} has no batch API: set it to live"
            )
        if cache is None or cache.read_only:
            raise UsageError(
                "llm.mode is batch, which keeps answers in the cache as they are fetched: set "
                "llm.cache to a cache that is written"
            )
        batch = self.config.llm.batch
        options = BatchOptions(
            poll_seconds=batch.poll_seconds,
            min_requests=batch.min_requests,
            max_requests=batch.max_requests,
            give_up_after=self.config.llm.give_up_after,
        )
        return BatchClient(client, cache, self.meter, options, on_notice=self.reporter.note)

    @property
    def llm_batch(self) -> int:
        """Requests that are put together for the language model: in batches, all there are."""
        return 2**31 if self.config.llm.mode == "batch" else _LLM_BATCH

    def reader(self, kind: str, model: str) -> "Reader":
        """The model that measures texts for a scorer (`embedding`, `surprisal`)."""
        from autointerp.scorers.sentence_model import SentenceModel
        from autointerp.scorers.surprisal import SurprisalReader

        if (kind, model) not in self.readers:
            self.readers[kind, model] = (
                SentenceModel(model)
                if kind == "embedding"
                else SurprisalReader(self.language_model(model))
            )
        return self.readers[kind, model]

    @cached_property
    def meter(self) -> "Meter":
        """What the run may spend and has spent."""
        from autointerp.llm.budget import Limits, Meter
        from autointerp.llm.prices import load_prices

        budget = self.config.budget
        limits = Limits(budget.usd, budget.tokens)
        return Meter(self.store.ledger, load_prices(self.config.llm.prices), limits)

    @cached_property
    def explainers(self) -> list["Explainer"]:
        """The explainers in config order."""
        from autointerp.explainers import load_explainer

        return [load_explainer(settings, self.config.seed) for settings in self.config.explainers]

    def simulator(self, explainer: str) -> Simulator:
        """Who simulates the explanations of one explainer: tables and patterns are looked up."""
        kind = self._explainer_type(explainer)
        name = kind if kind in BASELINE_EXPLAINERS else self.config.simulator.name
        if name not in self.simulators:
            options = {} if name in BASELINE_EXPLAINERS else self._simulator_options()
            self.simulators[name] = load_simulator(name, **options)
        return self.simulators[name]

    def _simulator_options(self) -> dict[str, Any]:
        """What the config's simulator is made with."""
        settings = self.config.simulator
        floor = 0.01 if settings.mass_floor is None else settings.mass_floor
        read = {"mass_floor": floor, "top_logprobs": settings.top_logprobs}
        here: dict[str, Any] = {
            "device": settings.device,
            "dtype": settings.dtype,
            "batch_tokens": settings.batch_tokens,
        }
        if settings.name == "all_at_once":
            return {
                "subject": self.language_model(settings.model, settings.device, settings.dtype),
                "prompt": settings.prompt,
                "mass_floor": floor,
                "levels": settings.levels,
                "batch_tokens": settings.batch_tokens,
                "memory_gb": settings.memory_gb,
                "keep_few_shot": settings.keep_few_shot,
            }
        if settings.name == "embedded":
            shipped = settings.model == type(settings).model_fields["model"].default
            return {
                "model": None if shipped else settings.model,
                "mass_floor": settings.mass_floor,
                **here,
            }
        if settings.name == "trained_head":
            return {"model": settings.model, **here}
        if settings.name == "structured":
            read = {"sequences_per_call": settings.sequences_per_call}
        return {"client": self.client, "prompt": settings.prompt, **read}

    def check_simulator(self) -> None:
        """Refuse a prompt or a language model that the config's simulator cannot use.

        Raises:
            AutointerpError: naming what is missing and what could be used instead.
        """
        settings = self.config.simulator
        if settings.name == "all_at_once":
            from autointerp.simulators.prompt import load_prompt

            if settings.prompt is not None:
                load_prompt(settings.prompt)
        elif settings.name in ("embedded", "trained_head"):
            folder = self._simulator_options()["model"]
            if folder is not None and not Path(folder).expanduser().is_dir():
                raise UsageError(
                    f"simulator.model {folder!r} is no folder; {settings.name} needs one with a "
                    "trained simulator"
                )
        else:
            load_simulator(settings.name, **self._simulator_options())

    def _explainer_type(self, name: str) -> str:
        return next(e.type for e in self.config.explainers if e.name == name)
