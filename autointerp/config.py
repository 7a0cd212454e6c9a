"""Configuration: one typed model per stage, read from one YAML file.

Unknown keys, wrong types and impossible values are refused with the key's path, the value seen and
what is allowed.
"""

import difflib
import reprlib
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Self, TypeGuard, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from autointerp.records import UsageError

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$")]
"""A name given in the config: letters, digits, `_`, `.`, `-`; it becomes a file name."""


class _Stage(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class SubjectConfig(_Stage):
    """A language model under study."""

    model: str = "smollm2"
    """`smollm2` (embedded), a folder in Hugging Face layout, or a hub id."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda:N` or `mps`."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """`auto` is bfloat16 on CUDA and float32 elsewhere."""
    device_map: str | dict[str, str | int] | None = None
    """For a model larger than one device: `auto`, `balanced`, `sequential`, or module path →
    device, `cpu` or `disk`."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model."""


def _beside_config(given: str, info: ValidationInfo) -> str:
    """A path of a config file, looked for beside the file and then in the working folder.

    Raises:
        ValueError: where both places have it and they differ.
    """
    folder = (info.context or {}).get("folder")
    path = Path(given).expanduser()
    if folder is None or path.is_absolute() or given == "demo":
        return given
    beside = Path(folder) / path
    if not beside.exists():
        return given
    if path.exists() and not path.samefile(beside):
        raise ValueError(
            f"{given!r} is both {beside.resolve()} (beside the config) and {path.resolve()} (in "
            "the working folder): write one of them in full"
        )
    working = Path.cwd()
    found = beside.parent.resolve() / beside.name
    return str(found.relative_to(working)) if found.is_relative_to(working) else str(found)


LocalPath = Annotated[str, AfterValidator(_beside_config)]
"""A path; relative ones are looked for beside the config file, then in the working folder."""


class TextsConfig(_Stage):
    """Where texts come from: a path or a data set."""

    path: LocalPath | None = None
    """A text, .jsonl or .parquet file, or a folder of them; `demo` is the shipped corpus."""
    dataset: LocalPath | None = None
    """Instead of `path`: a Hugging Face data set, streamed (`pip install 'autointerp[hub]'`)."""
    dataset_config: str | None = None
    """The data set's configuration, such as `sample-10BT`."""
    dataset_split: str = "train"
    """The data set's split; it has nothing to do with the splits of a run."""
    text_field: str = "text"
    """The field of a jsonl line, or the column, that holds the text."""
    max_documents: int | None = Field(default=None, ge=1)
    """Reading stops after so many texts."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.dataset is None and (self.dataset_config or self.dataset_split != "train"):
            raise ValueError("dataset_config and dataset_split are of a `dataset`")
        if (self.path is None) == (self.dataset is None) and not getattr(self, "mix", None):
            raise ValueError("give one of `path` and `dataset`, or a `mix` of them")
        return self


class MixPartConfig(TextsConfig):
    """One source of a mix."""

    weight: float = Field(default=1.0, gt=0)
    """Its share of the tokens, against the other weights."""


class CorpusConfig(TextsConfig):
    """Where texts come from and how they are cut."""

    mix: list[MixPartConfig] | None = Field(default=None, min_length=1)
    """Instead of `path`: several sources, each with a weight."""
    seed: int = 0
    """Another seed takes another random part where a limit leaves documents out."""
    bos: Literal["auto", "always", "never"] = "auto"
    """What stands before every sequence: what the tokenizer itself puts before a text, its BOS
    token in any case, or nothing."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Documents are read until the next would pass this many tokens."""
    max_tokens_per_document: int | None = Field(default=None, ge=1)
    """No document is read further than this: many short looks instead of a few long ones."""
    sequence_length: int = Field(default=129, ge=8, le=8192)
    """Tokens the subject sees at once; sequences never cross documents."""
    window_length: int = Field(default=32, ge=4, le=1024)
    """Tokens of a window: what is sampled, shown and scored."""
    n_masked_start: int = Field(default=1, ge=0)
    """Tokens masked at the start of every sequence: attention sinks."""

    @model_validator(mode="after")
    def _sources_fit(self) -> Self:
        if self.mix is not None and (self.path is not None or self.dataset is not None):
            raise ValueError("`mix` stands instead of `path` and `dataset`: move them into it")
        for source in self.mix or [self]:
            if source.dataset and not (source.max_documents or self.max_tokens):
                raise ValueError(
                    f"data set {source.dataset!r} is read without end: set max_tokens or "
                    "max_documents"
                )
        return self

    @model_validator(mode="after")
    def _windows_fit(self) -> Self:
        if self.n_masked_start + self.window_length > self.sequence_length:
            raise ValueError(
                f"sequence_length {self.sequence_length} holds no window of {self.window_length} "
                f"tokens after {self.n_masked_start} masked ones"
            )
        return self


class SparsifyConfig(_Stage):
    """Only the strongest values of every token are kept."""

    l0: int = Field(ge=1)
    """Units kept on every token: those of largest |value|, both signs competing. Take the L0 of
    the dictionary that they are compared with."""


class NeuronsConfig(_Stage):
    """MLP neurons as units, both polarities."""

    type: Literal["neurons"]
    subject: str = "subject"
    hook_point: str
    """Such as `blocks.10.mlp.hook_post`, or a module path such as `model.layers.10.mlp:output`."""
    sparsify: SparsifyConfig | None = None
    """`null`: raw values, active on half of all tokens."""


class DirectionsConfig(_Stage):
    """Directions at any hook point as units, both polarities; random ones and PCA are controls."""

    type: Literal["directions"]
    subject: str = "subject"
    hook_point: str
    """Such as `blocks.10.hook_resid_post`."""
    kind: Literal["basis", "random", "pca", "file"]
    """`basis`: the channels of the place; `random`: of length 1, uniform on the sphere; `pca`:
    principal components of the place on `explain` documents, largest variance first; `file`: the
    rows of a matrix."""
    n: int | None = Field(default=None, ge=1, le=1_000_000)
    """Directions (`random`, `pca`); `null` for as many as the place has channels."""
    seed: int | None = Field(default=None, ge=0)
    """Of `random`; `null` derives it from the run's seed and the source's name."""
    path: LocalPath | None = None
    """Of `file`: a safetensors file with a matrix [n, channels]."""
    tensor: str | None = None
    """Of `file`: the matrix, where the file holds several tensors."""
    centre: bool | None = None
    """Subtract the mean of `explain` documents first; `null`: only for `pca`."""
    fit_tokens: int | None = Field(default=200_000, ge=1)
    """Tokens that mean and components are fitted to; `null` for all of `explain`."""
    sparsify: SparsifyConfig | None = None
    """`null`: raw values, active on half of all tokens."""

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        belongs = {"n": ("random", "pca"), "seed": ("random",), "path": ("file",),
                   "tensor": ("file",)}  # fmt: skip
        for name, kinds in belongs.items():
            if getattr(self, name) is not None and self.kind not in kinds:
                raise ValueError(f"`{name}` is of kind {' or '.join(kinds)}, not {self.kind}")
        if self.kind == "file" and self.path is None:
            raise ValueError("kind file needs `path`, a safetensors file")
        if self.kind == "pca" and self.centre is False:
            raise ValueError("principal components are of centred values: leave `centre` out")
        return self


class AttentionHeadsConfig(_Stage):
    """Attention heads as units: the norm of what each head writes on a token."""

    type: Literal["attention_heads"]
    subject: str = "subject"
    hook_point: str
    """`blocks.L.attn`, or the input of another output projection, such as
    `model.layers.3.self_attn.o_proj:input`."""


class SaeConfig(_Stage):
    """Latents of a sparse autoencoder as units."""

    type: Literal["sae"]
    subject: str = "subject"
    path: LocalPath
    """A folder or file, or `organisation/repository:path/in/it` on the hub; `demo` is shipped."""
    format: str | None = None
    """Such as `saelens` or `gemma_scope` (docs/sae-formats.md); recognised if left out."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    k: int | None = Field(default=None, ge=1)
    """Latents kept per token, where the files do not say."""
    input_scale: float | None = Field(default=None, gt=0)
    """sqrt(d_in) / mean norm of its training data, where it needs that and its files do not say."""
    hook_point: str | None = None
    """Where it is read; taken from its files if left out."""


class RecordedConfig(_Stage):
    """Units whose activations were recorded elsewhere (`autointerp import-records`)."""

    type: Literal["recorded"]
    path: LocalPath
    """A parquet or jsonl file with unit, tokens, activations and, if known, document."""


UnitSourceConfig = Annotated[
    NeuronsConfig | SaeConfig | DirectionsConfig | AttentionHeadsConfig | RecordedConfig,
    Field(discriminator="type"),
]


class QuotaConfig(_Stage):
    """Windows drawn for one split."""

    top: int = Field(ge=0, le=100_000)
    intervals: int = Field(ge=0, le=100_000)
    """Spread evenly over the ten value intervals, the highest first."""
    hard: int = Field(ge=0, le=100_000)
    silent: int = Field(ge=0, le=100_000)
    random: int = Field(default=0, ge=0, le=100_000)

    @property
    def total(self) -> int:
        """All windows of the split."""
        return self.top + self.intervals + self.hard + self.silent + self.random


class DesignConfig(_Stage):
    """The sampling design; the default is written down in `recording/design.py`."""

    name: Name = "default"
    """Stored with every record and score."""
    quotas: dict[Literal["explain", "calibrate", "test", "audit"], QuotaConfig] | None = None
    """Per split; the splits left out keep the default quota."""


class RecordConfig(_Stage):
    """The recording pass."""

    design: DesignConfig = DesignConfig()
    """Which windows are kept."""
    batch_tokens: int = Field(default=2064, ge=8)
    """Tokens per forward pass."""
    shard_tokens: int = Field(default=8256, ge=8)
    """Tokens per work item; a killed run goes on from the last one it saved."""
    unit_range_size: int | None = Field(default=None, ge=1)
    """Units of a source recorded at once, one pass over the corpus for each range; all if left out,
    or as many as `memory_gb` holds."""
    memory_gb: float | None = Field(default=None, gt=0)
    """Memory that recording may take beside the models; without it everything must fit into what
    is free (docs/recording.md has the formula)."""
    output_tokens: int = Field(default=10, ge=0, le=1000)
    """Tokens that each unit promotes and suppresses most, stored with it; 0 leaves them out."""
    neighbours: int = Field(default=5, ge=0, le=1000)
    """Units of the source that write most alike, by cosine, stored with it; 0 leaves them out."""


class UnitsConfig(_Stage):
    """Which units of every source are explained and scored."""

    sample: int | None = Field(default=16, ge=1)
    """Units drawn per source, stratified by firing rate; `null` for all."""
    min_active_documents: int = Field(default=4, ge=1)
    """Units active in fewer `explain` documents are not drawn; they are counted in the coverage."""
    ids: list[str] | None = Field(default=None, min_length=1)
    """These units instead, as `source/index` or `source/index-`."""


BASELINE_EXPLAINERS = ("token_lookup", "n2g")
"""Explainer types that are controls rather than words."""

_ASKING = ("max_new_tokens", "temperature", "n_samples", "language", "prompt")

EXPLAINER_KEYS: dict[str, tuple[str, ...]] = {
    "token_activation_pairs": ("n_windows", "n_explanations", *_ASKING),
    "highlights": ("n_windows", "sampling", "values", "reasoning", *_ASKING),
    "summary": ("n_windows", "form", *_ASKING),
    "max_act_logits": ("n_windows", *_ASKING),
    "contrastive": ("n_windows", "n_contrast", "sampling", *_ASKING),
    "short": ("n_windows", *_ASKING),
    "intervals": ("n_windows", *_ASKING),
    "clusters": ("n_windows", "n_clusters", *_ASKING),
    "top_tokens": ("n_tokens",),
    "promoted_tokens": ("n_tokens",),
    "token_lookup": (),
    "n2g": (),
    "fixed": ("path",),
}
"""Our own explainer types, and the keys that each of them reads."""


class ExplainerConfig(_Stage):
    """One way of explaining; docs/explainers.md compares the types."""

    name: Name
    """As it is called in tables."""
    type: str
    """`token_activation_pairs`, `highlights`, `summary`, `max_act_logits`, `contrastive`, `short`,
    `intervals` or `clusters` ask the language model; `top_tokens`, `token_lookup`,
    `promoted_tokens`, `n2g` and `fixed` need none; or a third party's entry point."""
    n_windows: int | None = Field(default=None, ge=1, le=1000)
    """Most windows shown to the language model; the type's own number if left out."""
    sampling: Literal["interval", "decile", "top"] | None = None
    """How active windows are chosen (`highlights`, `contrastive`): equally from ten value intervals
    (the default), equally from tenths of their ranks, or the most active."""
    values: bool | None = None
    """Whether levels are listed below every text (`highlights`); they are by default."""
    reasoning: bool | None = None
    """Whether the model thinks aloud first (`highlights`); not by default."""
    form: Literal["summary", "highlight", "highlight_summary", "values_summary"] | None = None
    """How texts and tokens are shown (`summary`)."""
    n_contrast: int | None = Field(default=None, ge=1, le=1000)
    """Silent windows shown beside the active ones (`contrastive`); 5 if left out."""
    n_clusters: int | None = Field(default=None, ge=1, le=20)
    """Most clusters of a unit's windows (`clusters`); 4 if left out."""
    n_explanations: int | None = Field(default=None, ge=1, le=20)
    """Explanations in one answer, as a numbered list (`token_activation_pairs`); the first is
    taken, the others are kept beside it."""
    n_samples: int | None = Field(default=None, ge=1, le=100)
    """Answers to the same question, with a temperature above 0; the first that can be read is
    taken, the others are kept beside it."""
    language: str | None = None
    """What the language model is to write in, such as `German`; English if left out."""
    prompt: str | None = None
    """Template in `prompts/`, or the path of a `.j2` file; the type's own if left out."""
    n_tokens: int = Field(default=8, ge=1)
    """Tokens named (`top_tokens`, `promoted_tokens`)."""
    path: LocalPath | None = None
    """A .csv or .jsonl file with `unit` and `explanation` (`fixed`)."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """Longest answer of the language model; the type's own number if left out."""
    temperature: float = Field(default=0.0, ge=0)
    """0 takes the likeliest token."""

    @model_validator(mode="after")
    def _keys_fit_the_type(self) -> Self:
        read = EXPLAINER_KEYS.get(self.type)
        if read is None:  # a third party's reads what it likes
            return self
        for key in sorted(self.model_fields_set - {"name", "type", *read}):
            field = type(self).model_fields[key]
            # A resolved config names every key: what says nothing is no mistake.
            if getattr(self, key) != field.default:
                readers = ", ".join(kind for kind, keys in EXPLAINER_KEYS.items() if key in keys)
                raise ValueError(f"`{key}` is not read by type {self.type}, but by {readers}")
        if self.type == "fixed" and self.path is None:
            raise ValueError("type fixed needs `path`, a .csv or .jsonl file")
        if (self.n_samples or 1) > 1 and self.temperature == 0:
            raise ValueError(
                f"n_samples {self.n_samples} of the likeliest answer are all the same: set "
                "temperature above 0"
            )
        return self

    def options(self) -> dict[str, Any]:
        """What its type reads and the config sets."""
        keys = EXPLAINER_KEYS.get(self.type, ())
        return {key: value for key in keys if (value := getattr(self, key)) is not None}


class SimulatorConfig(_Stage):
    """Who predicts activations from words."""

    name: Literal[
        "all_at_once",
        "one_at_a_time",
        "generated",
        "structured",
        "completions",
        "trained_head",
    ] = "all_at_once"
    """How activations are predicted; docs/simulators.md compares them. `one_at_a_time`,
    `generated`, `structured` and `completions` ask the language model of `llm`."""
    model: str = "smollm2"
    """The model that predicts, for `all_at_once`: `smollm2`, a folder or a hub id; for
    `trained_head`: its folder."""
    prompt: str | None = None
    """Template in `prompts/`, or a `.j2` file; the simulator's own if left out."""
    top_logprobs: int = Field(default=20, ge=5, le=20)
    """Alternatives read at every token, where log-probabilities are asked for."""
    sequences_per_call: int = Field(default=4, ge=1, le=64)
    """Windows in one question of `structured`."""
    mass_floor: float = Field(default=0.01, ge=0, le=1)
    """Tokens on which less probability lies on levels are missing."""
    levels: Literal["auto", "0-9", "0-10"] = "auto"
    """`auto` is 0 to 10 where "10" is one token of the model, else 0 to 9; `0-10` reads "10" as
    two tokens where it must."""
    batch_tokens: int | None = Field(default=None, ge=1)
    """Tokens of a forward pass; 2,048 on a CPU and 16,384 elsewhere if left out."""
    memory_gb: float | None = Field(default=None, gt=0)
    """What simulation may hold beside the model, in 10^9 bytes: lowers `batch_tokens`."""
    keep_few_shot: bool = True
    """Keep the few-shot's keys and values in the user's cache for the next run."""


class BatchConfig(_Stage):
    """How batches are sent and waited for (`llm.mode: batch`)."""

    poll_seconds: float = Field(default=60.0, gt=0)
    """Seconds between two looks at a batch."""
    min_requests: int = Field(default=10, ge=1)
    """Fewer requests are asked live."""
    max_requests: int | None = Field(default=None, ge=1)
    """Most requests in a batch; the provider's limit if left out."""


class LlmConfig(_Stage):
    """The explainer's language model."""

    model: str = "local/smollm2"
    """`local/smollm2`, `local/FOLDER`, `openai/MODEL` or `anthropic/MODEL`; see docs/llm.md. The
    other keys but `cache` and `prices` are for hosted models."""
    base_url: str | None = None
    """Another server that speaks the vendor's protocol: `http://HOST:PORT/v1` for `openai/…`."""
    server: str | None = None
    """A word for what stands behind `base_url`; with it, a server that moved to another address
    keeps its answers."""
    api_key_env: str | None = None
    """Environment variable that holds the key. Left out: `OPENAI_API_KEY` or `ANTHROPIC_API_KEY`
    for the vendor's own address, no key for any other."""
    max_concurrency: int = Field(default=16, ge=1, le=1024)
    """Most requests in flight."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """Your account's limit; none if left out."""
    tokens_per_minute: float | None = Field(default=None, gt=0)
    """Your account's limit, prompts and answers together; none if left out."""
    timeout: float = Field(default=120.0, gt=0)
    """Seconds for one attempt, from the first byte sent to the last received."""
    max_attempts: int = Field(default=8, ge=1)
    """Attempts at a request that fails while others are answered."""
    retry_wait: float = Field(default=1.0, ge=0)
    """Seconds after a first failure; random, up to twice as long after each further one, at most a
    minute. What the provider asks for comes before it."""
    give_up_after: float = Field(default=1800.0, ge=0)
    """Seconds of nothing but errors after which the run stops, to be gone on with later."""
    answer_format: Literal["auto", "schema", "tool", "prompt"] = "auto"
    """How answers are made to follow a JSON schema: by the server's constrained decoding, a forced
    tool call, or words. `auto` is what the model is known to do, words for unknown ones."""
    reasoning_effort: str | None = None
    """Passed on if set: `low`, `medium`, …"""
    extra_body: dict[str, Any] = {}
    """Further fields of every request, as the server knows them."""
    capabilities: dict[str, Any] = {}
    """What a model can do that the table does not know: `logprobs: 20`, `json_schema: true`,
    `prompt_logprobs: true`, `stop: false`, `temperature: false`, `max_context: 8192`."""
    cache: str = "shared"
    """Answers that were paid for: `shared` by all runs in the folder above the run's, `off`,
    `read_only`, or the path of a file."""
    mode: Literal["live", "batch"] = "live"
    """`batch` asks through the provider's batch API: usually half the price, an answer within a
    day; what a batch did not answer is asked live."""
    batch: BatchConfig = BatchConfig()
    prices: str | None = None
    """A file of prices that come before the shipped ones; its form is that of
    `autointerp/llm/prices.yaml`."""

    @model_validator(mode="after")
    def _no_secrets(self) -> Self:
        from autointerp.llm.keys import check_options

        try:
            check_options(self)
        except UsageError as error:
            raise ValueError(str(error)) from None
        return self


class BudgetConfig(_Stage):
    """What a run may spend, over all its invocations; it stops before it would spend more."""

    usd: float | None = Field(default=None, ge=0)
    """US dollars, at the prices of `llm.prices`."""
    tokens: int | None = Field(default=None, ge=0)
    """Tokens of all language models, prompts and answers together."""


class ScoreConfig(_Stage):
    """Scoring by simulation on the `test` split."""

    min_active_documents: int = Field(default=4, ge=1)
    """Sampled `test` documents a unit must be active in; fewer: `insufficient_data`."""
    shuffled_donors: int = Field(default=5, ge=0)
    """Other units' explanations scored on the same windows: the control."""
    calibration: Literal["none", "linear", "percentile", "isotonic"] = "none"
    """How levels become activations for the scores in activation units (R², absolute deviation):
    fitted on the unit's `calibrate` windows, which are simulated as well. The score itself is the
    correlation with the levels as they are."""
    bootstrap: int = Field(default=1000, ge=100, le=100_000)
    """Replicates for the interval of a score."""


class ScorerConfig(_Stage):
    """One way of scoring."""

    name: Name
    """As it is called in tables."""
    type: str
    """`simulation` (with `simulator` and `score`), `detection` (asks the language model), or a
    third party's entry point."""
    n_per_prompt: int = Field(default=5, ge=1, le=100)
    """Texts in one question (`detection`)."""
    prompt: str | None = None
    """Template in `prompts/`, or the path of a `.j2` file; the type's own if left out."""


class RunConfig(_Stage):
    """A whole run."""

    name: Name = "run"
    """Of the run; also of its folder under `results/` unless `output` is set."""
    output: str | None = None
    """The run's folder; `results/NAME` if left out."""
    seed: int = 0
    """All random choices are hashes of this, the unit and the purpose."""
    subjects: dict[Name, SubjectConfig] = {}
    """Language models under study, by a name that sources refer to."""
    corpus: CorpusConfig | None = None
    sources: dict[Name, UnitSourceConfig] = Field(min_length=1)
    """What has units, by name; `type` is `neurons`, `sae`, `directions`, `attention_heads` or
    `recorded`."""
    record: RecordConfig = RecordConfig()
    units: UnitsConfig = UnitsConfig()
    llm: LlmConfig = LlmConfig()
    budget: BudgetConfig = BudgetConfig()
    explainers: list[ExplainerConfig] = Field(min_length=1)
    simulator: SimulatorConfig = SimulatorConfig()
    score: ScoreConfig = ScoreConfig()
    scorers: list[ScorerConfig] = [ScorerConfig(name="simulation", type="simulation")]
    """How explanations are scored; all of them use the windows and donors of `score`."""
    executor: Literal["local"] = "local"
    """Where work items run; `local` is this process."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        for name, source in self.sources.items():
            if name.endswith(".statistics"):
                raise ValueError(f"sources.{name}: no source's name may end in .statistics")
            if isinstance(source, RecordedConfig):
                continue
            if source.subject not in self.subjects:
                known = ", ".join(self.subjects) or "none"
                raise ValueError(
                    f"sources.{name}.subject is {source.subject!r}, but `subjects` has: {known}"
                )
            if self.corpus is None:
                raise ValueError(f"sources.{name} is recorded from a subject: set `corpus:`")
        if self.corpus and all(isinstance(s, RecordedConfig) for s in self.sources.values()):
            raise ValueError("`corpus:` is read by no source: all were recorded elsewhere")
        names = [explainer.name for explainer in self.explainers]
        if len(set(names)) != len(names):
            raise ValueError(f"explainers need different names, not {names}")
        scorers = [scorer.name for scorer in self.scorers]
        if len(set(scorers)) != len(scorers):
            raise ValueError(f"scorers need different names, not {scorers}")
        if sum(scorer.type == "simulation" for scorer in self.scorers) > 1:
            raise ValueError("only one of the scorers can be of type simulation")
        return self


class SaeTrainConfig(_Stage):
    """`autointerp sae train`."""

    subject: SubjectConfig = SubjectConfig()
    hook_point: str
    corpus: CorpusConfig
    exclude: list[LocalPath] = []
    """Corpora none of whose documents may be trained on; `demo` is the shipped one."""
    output: str
    n_latents: int = Field(ge=2)
    k: int = Field(ge=1)
    n_tokens: int = Field(ge=1)
    held_out_share: float = Field(default=0.02, gt=0, lt=0.5)
    """Share of documents kept for the metrics in the card, never trained on."""
    batch_tokens: int = Field(default=1024, ge=2)
    learning_rate: float = Field(default=1e-3, gt=0)
    aux_k: int = Field(default=256, ge=0)
    buffer_chunks: int = Field(default=16, ge=1)
    seed: int = 0
    threads: int | None = Field(default=None, ge=1)
    save_dtype: Literal["float32", "float16"] = "float16"

    @model_validator(mode="after")
    def _k_fits(self) -> Self:
        if self.k > self.n_latents:
            raise ValueError(f"k {self.k} is more than n_latents {self.n_latents}")
        return self


T = TypeVar("T", bound=BaseModel)

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 80, 80


def load_config(path: str | Path, model: type[T]) -> T:
    """Read a YAML file into a config.

    Raises:
        UsageError: naming the file, the key's path, the value and what is allowed.
    """
    place = Path(path).expanduser()
    try:
        data = yaml.safe_load(place.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"config {str(path)!r} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: text that is not UTF-8, a date such as 2024-13-45, an endless number.
        raise UsageError(f"config {str(path)!r} is not YAML: {error}") from error
    if not isinstance(data, dict):
        raise UsageError(f"config {str(path)!r} holds no keys: see the example in the README")
    return parse_config(data, model, str(path), folder=place.parent)


def parse_config(
    data: dict[str, Any], model: type[T], origin: str, *, folder: Path | None = None
) -> T:
    """Check a mapping against a config model; errors as in `load_config`.

    Args:
        folder: where relative paths are looked for before the working folder.
    """
    try:
        return model.model_validate(data, context={"folder": folder})
    except ValidationError as error:
        problems = [_problem(dict(detail), model) for detail in error.errors()]
        raise UsageError(f"{origin}:\n" + "\n".join(f"  {line}" for line in problems)) from None


def _problem(detail: dict[str, Any], model: type[BaseModel]) -> str:
    path, current = _follow(model, detail["loc"])
    where = ".".join(path) or "(the whole file)"
    if detail["type"] == "extra_forbidden":
        known = sorted(current.model_fields) if _is_model(current) else []
        near = difflib.get_close_matches(path[-1], known, n=1)
        hint = f"; did you mean {near[0]}?" if near else "."
        return f"{where}: unknown key{hint} Known here: {', '.join(known)}"
    if detail["type"] == "union_tag_not_found":
        tags = [tag for option in _options(current) for tag in _tags(option)]
        return f"{where}.type: missing; one of {', '.join(tags)}"
    message = str(detail["msg"]).removeprefix("Value error, ")
    if detail["type"] in ("missing", "value_error"):
        return f"{where}: {message}"
    # Not `repr`: a few aliases can stand for more text than memory holds.
    return f"{where}: {message}; found {_SHORT.repr(detail['input'])}"


def _follow(model: type[BaseModel], loc: tuple[Any, ...]) -> tuple[list[str], Any]:
    """The keys of a location as the file writes them, and the annotation at the last known one.

    pydantic adds the `type` of a chosen option to the location; the file does not.
    """
    path: list[str] = []
    current: Any = model
    for part in loc:
        options = _options(current)
        chosen = [option for option in options if part in _tags(option)]
        if chosen and len(options) > 1:
            current = chosen[0]
            continue
        path.append(str(part))
        steps = (_step_into(option, part) for option in options)
        current = next((step for step in steps if step is not None), current)
    models = [option for option in _options(current) if _is_model(option)]
    return path, models[0] if len(models) == 1 else current


def _step_into(annotation: Any, part: Any) -> Any:
    """The annotation of a model's field, or of the items of a dict or list; else `None`."""
    if _is_model(annotation):
        found = annotation.model_fields.get(str(part))
        return found.annotation if found else None
    if get_origin(annotation) in (dict, list):
        return get_args(annotation)[-1]
    return None


def _options(annotation: Any) -> list[Any]:
    """The members of a union, also within `Annotated`; anything else alone."""
    if get_origin(annotation) is Annotated:
        return _options(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [option for member in get_args(annotation) for option in _options(member)]
    return [annotation]


def _tags(option: Any) -> tuple[Any, ...]:
    """The values of `type` that choose a model in a union."""
    field = option.model_fields.get("type") if _is_model(option) else None
    return get_args(field.annotation) if field else ()


def _is_model(annotation: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
