"""Config of explainers, and which keys each type reads."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from autointerp.config.base import LocalPath, Name, Stage

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
    "labels": ("path",),
    "best_of": ("of", "by"),
    "revision": ("n_windows", "n_rounds", "n_texts", "sampling", "values", "reasoning", *_ASKING),
    "token_change": ("strength", *_ASKING),
    "agent": ("n_windows", "n_rounds", "n_texts", "text_budget", "sampling", "values",
              *(key for key in _ASKING if key != "n_samples")),
    "ensemble": ("join", "n_windows", "sampling", "values", "strength", *_ASKING),
}  # fmt: skip
"""Our own explainer types, and the keys that each of them reads."""


class ExplainerConfig(Stage):
    """One way of explaining; docs/explainers.md compares the types."""

    name: Name
    """As it is called in tables."""
    type: str
    """`token_activation_pairs`, `highlights`, `summary`, `max_act_logits`, `contrastive`, `short`,
    `intervals` or `clusters` ask the language model; `top_tokens`, `token_lookup`,
    `promoted_tokens`, `n2g`, `fixed` and `labels` need none; `best_of` chooses among the
    explanations of others; `revision`, `agent`, `token_change` and `ensemble` ask the language
    model and run the subject (docs/interventions.md); or a third party's entry point."""
    n_windows: int | None = Field(default=None, ge=1, le=1000)
    """Most windows shown to the language model; the type's own number if left out."""
    sampling: Literal["interval", "decile", "top"] | None = None
    """How active windows are chosen (`highlights`, `contrastive`, `revision`, `agent`,
    `ensemble`): equally from ten value intervals (the default), equally from tenths of their ranks,
    or the most active."""
    values: bool | None = None
    """Whether levels are listed below every text (`highlights`, `revision`, `agent`, `ensemble`);
    they are by default."""
    reasoning: bool | None = None
    """Whether the model thinks aloud first (`highlights`); not by default."""
    form: Literal["summary", "highlight", "highlight_summary", "values_summary"] | None = None
    """How texts and tokens are shown (`summary`)."""
    n_rounds: int | None = Field(default=None, ge=1, le=20)
    """Rounds of proposing texts, running them and revising (`revision`, at most 3; 2 if left out),
    or most rounds of hypotheses and tests (`agent`; 6 if left out)."""
    n_texts: int | None = Field(default=None, ge=1, le=20)
    """Texts of either kind proposed in a round (`revision`; 5 if left out), or most texts run in a
    round (`agent`; 6 if left out)."""
    text_budget: int | None = Field(default=None, ge=1, le=1000)
    """Most texts run for a unit (`agent`); 24 if left out."""
    strength: float | None = Field(default=None, gt=0)
    """Multiple of its largest activation that a unit is clamped to (`token_change`, `ensemble`); 1
    if left out."""
    join: Literal["raw", "concat"] | None = None
    """Whether texts and tokens are shown together, or two explanations stand one after the other
    (`ensemble`); `raw` if left out."""
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
    """A .csv or .jsonl file with `unit` and `explanation` (`fixed`), or the labels that
    `autointerp label` keeps (`labels`; a run adds its own by itself)."""
    of: tuple[Name, ...] | None = Field(default=None, min_length=1)
    """Explainers of this run whose explanations are candidates (`best_of`): all samples, and all
    items of a list."""
    by: Name | None = None
    """The scorer of this run that chooses, on the `calibrate` split (`best_of`); the one called
    `simulation` if left out."""
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
        if self.type == "revision" and (self.n_rounds or 1) > 3:
            raise ValueError(f"n_rounds of type revision is 1 to 3, not {self.n_rounds}")
        if self.type == "best_of" and self.of is None:
            raise ValueError("type best_of needs `of`, the names of other explainers")
        if self.type == "fixed" and self.path is None:
            raise ValueError("type fixed needs `path`, a .csv or .jsonl file")
        if self.type == "labels" and self.path is None:
            raise ValueError("type labels needs `path`, a run's labels.jsonl")
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
