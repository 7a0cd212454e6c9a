"""Config of texts: where they come from and how they are cut."""

from typing import Literal, Self

from pydantic import Field, model_validator

from autointerp.config.base import LocalPath, Stage


class TextsConfig(Stage):
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
