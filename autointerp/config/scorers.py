"""Config of scorers, and which keys each type reads."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from autointerp.config.base import LocalPath, Name, Stage

_YES_OR_NO = ("n_per_prompt", "confidence", "mass_floor", "prompt")

SCORER_KEYS: dict[str, tuple[str, ...]] = {
    "simulation": (),
    "detection": ("negatives", *_YES_OR_NO),
    "fuzzing": _YES_OR_NO,
    "intruder": ("n_shown", "n_trials", "within", "n_parts", "negatives", "prompt"),
    "pair": ("n_pairs", "n_per_prompt", "negatives", "prompt"),
    "sort": ("n_pairs", "n_per_prompt", "prompt"),
    "rating": ("n_per_prompt", "n_per_interval", "n_silent", "negatives", "prompt"),
    "logit_weight": ("n_per_prompt", "n_tokens", "prompt"),
    "bricken60": ("n_per_prompt", "n_context", "prompt"),
    "recall_alt": ("prompt",),
    "saebench": ("negatives", "verified", "prompt"),
    "embedding": ("model", "negatives"),
    "surprisal": ("model", "negatives"),
    "generative": ("n_texts", "prompt"),
    "output_choice": ("n_trials", "n_shown", "kl", "prompt"),
    "sensitivity": ("n_windows", "n_per_prompt", "fires_at", "prompt"),
    "responsiveness": ("negatives", *_YES_OR_NO),
    "purity": ("negatives", *_YES_OR_NO),
    "injection": ("n_windows", "fires_at"),
    "intervention_surprisal": ("kl",),
    "ablate_to_simulation": ("n_windows", "calibration"),
}
"""Our own scorer types, and the keys that each of them reads."""

MEASURING_TYPES = ("embedding", "surprisal")
"""Types whose judge is a model of their own on this machine, and not the run's language model."""


class ScorerConfig(Stage):
    """One way of scoring; docs/scorers.md compares the types."""

    name: Name
    """As it is called in tables."""
    type: str
    """`simulation` (with `simulator` and `score`); `detection`, `fuzzing`, `intruder`, `pair`,
    `sort`, `rating`, `logit_weight`, `bricken60`, `recall_alt` and `saebench` ask the language
    model; `responsiveness` and `purity`
    too; `embedding` and `surprisal` a model on this machine; `generative`, `output_choice`,
    `sensitivity`, `injection`, `intervention_surprisal` and `ablate_to_simulation` also touch the
    subject (docs/interventions.md); or a third party's entry point."""
    n_per_prompt: int | None = Field(default=None, ge=1, le=100)
    """Texts, pairs or tokens in one question; the type's own number (5; 20 for `logit_weight`, 60
    for `bricken60`) if left out."""
    negatives: tuple[Literal["silent", "hard", "near"], ...] | None = Field(
        default=None, min_length=1
    )
    """Silent windows that active ones are told from: `silent` by chance, `hard` by a top token or
    the nearest unit, `near` an active window. All for `detection` and `pair`, `silent` for
    `intruder` and `saebench`, if left out."""
    verified: bool | None = None
    """Whether negatives are checked to be silent (`saebench`), as they are if left out; without it
    they are random windows that count as silent whatever the unit does in them."""
    confidence: Literal["answer", "p_yes"] | None = None
    """`answer`: yes or no; `p_yes`: the probability of yes, where the model gives log-probabilities
    (`detection`, `fuzzing`)."""
    mass_floor: float | None = Field(default=None, ge=0, le=1)
    """With `p_yes`: answers on which less probability lies on yes and no are missing; 0.5 if left
    out."""
    n_shown: int | None = Field(default=None, ge=3, le=20)
    """Texts in one question, the intruder among them (`intruder`); 5 if left out."""
    n_trials: int | None = Field(default=None, ge=1, le=1000)
    """Questions about one unit; 20 (`intruder`) or 10 (`output_choice`) if left out."""
    n_texts: int | None = Field(default=None, ge=2, le=50)
    """Texts that the language model writes for each explanation (`generative`); 10 if left out."""
    kl: float | None = Field(default=None, gt=0, le=20)
    """How far steering moves the subject's predictions, in nats (`output_choice`,
    `intervention_surprisal`); 1 if left out."""
    n_windows: int | None = Field(default=None, ge=2, le=1000)
    """Windows rewritten (`sensitivity`, 10), with tokens put in (`injection`, 20) or in which the
    unit is replaced (`ablate_to_simulation`, 12)."""
    fires_at: float | None = Field(default=None, ge=0, lt=1)
    """A unit fires where it passes this share of its largest activation (`sensitivity`,
    `injection`); 0.1 if left out."""
    calibration: Literal["linear", "percentile", "isotonic"] | None = None
    """How levels become activations (`ablate_to_simulation`); `linear` if left out."""
    within: bool | None = None
    """Whether the intruder is active, too, in another part of the unit's range (`intruder`)."""
    n_parts: int | None = Field(default=None, ge=2, le=10)
    """Parts of equally many windows that the range is cut into for `within`; 2 if left out."""
    n_pairs: int | None = Field(default=None, ge=1, le=1000)
    """Most pairs of windows (`pair`, `sort`); 10 if left out."""
    n_per_interval: int | None = Field(default=None, ge=1, le=1000)
    """Most texts of each of ten value intervals (`rating`); 3 if left out."""
    n_silent: int | None = Field(default=None, ge=1, le=1000)
    """Most silent texts (`rating`); 15 if left out."""
    n_tokens: int | None = Field(default=None, ge=4, le=100)
    """Most promoted tokens that are asked about (`logit_weight`); 10 if left out."""
    n_context: int | None = Field(default=None, ge=2, le=64)
    """Tokens of a text (`bricken60`); 9 if left out."""
    model: LocalPath | None = None
    """Who measures: for `embedding` a sentence-transformers folder, or `minilm` (the default) of
    a package; for `surprisal` a causal language model: `smollm2` (the default), a folder or a hub
    id."""
    prompt: str | None = None
    """Template in `prompts/`, or the path of a `.j2` file; the type's own if left out."""

    @model_validator(mode="after")
    def _keys_fit_the_type(self) -> Self:
        read = SCORER_KEYS.get(self.type)
        if read is None:  # a third party's reads what it likes
            return self
        for key in sorted(self.model_fields_set - {"name", "type", *read}):
            # A resolved config names every key: what says nothing is no mistake.
            if getattr(self, key) is not None:
                readers = ", ".join(kind for kind, keys in SCORER_KEYS.items() if key in keys)
                raise ValueError(f"`{key}` is not read by type {self.type}, but by {readers}")
        if self.mass_floor is not None and self.confidence != "p_yes":
            raise ValueError("`mass_floor` is of `confidence: p_yes`")
        if self.n_parts is not None and not self.within:
            raise ValueError("`n_parts` is of `within: true`")
        return self

    def options(self) -> dict[str, Any]:
        """What its type reads and the config sets."""
        keys = SCORER_KEYS.get(self.type, ())
        return {key: value for key in keys if (value := getattr(self, key)) is not None}
