"""The types that all rooms speak: units, windows, records, explanations, simulations, scores.

Every stored file carries `SCHEMA_VERSION`; a result's key is a hash of its inputs (`content_key`),
never a position, so that a changed input recomputes only what depends on it.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from numbers import Integral
from typing import Any

import numpy as np

SCHEMA_VERSION = 1
"""Version of every file a run writes. Readers migrate an older one or refuse it by name."""


class AutointerpError(Exception):
    """What the user can mend: the message says what was seen, what was expected, what to do."""


class UsageError(AutointerpError):
    """The command or config cannot work as given: nothing was started. Exit code 2."""


def refuse_text(value: object, wanted: str) -> None:
    """Refuse a string where a list is meant, whose letters would be taken one by one.

    Args:
        value: what was given.
        wanted: what to give instead, such as "texts as a list".
    """
    if isinstance(value, str | bytes):
        raise AutointerpError(f"{value!r:.80} is a string: give {wanted}")


def whole_number(value: object, name: str, lowest: int) -> int:
    """A number of Python or numpy as an int; an `AutointerpError` for any other, or a lower one."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < lowest:
        raise AutointerpError(
            f"{name} must be a whole number of at least {lowest}, not {value!r:.80}"
        )
    return int(value)


def array_facts(value: object) -> str:
    """What an array or tensor is, for messages; of anything else its type."""
    kind, shape = type(value).__name__, getattr(value, "shape", None)
    if shape is None:
        return kind
    return f"{kind} of shape {list(shape)}, {getattr(value, 'dtype', '')}"


class Status(StrEnum):
    """Why a number is there, or why it is not. A missing number is `None` with one of these."""

    OK = "ok"
    UNDEFINED_TRUTH = "undefined_truth"
    """The true activations are constant: no correlation exists. Left out of means, counted."""
    CONSTANT_PREDICTION = "constant_prediction"
    """The simulator said the same everywhere: counts as 0 in headlines, flagged."""
    INSUFFICIENT_DATA = "insufficient_data"
    """Too few documents in which the unit is active in the split that was asked for."""
    DEAD = "dead"
    """The unit never fired in the `explain` split: never explained, counted in the coverage."""
    FAILED = "failed"
    """Retries were used up; shown as worst-case bounds."""
    NOT_RUN = "not_run"
    STAGED = "staged"
    """A cascade or a stopping rule chose what is scored by this scorer: in no mean; `reason` says
    what decided. The unit may have a score all the same."""


class Split(StrEnum):
    """Who may read a document; fixed by its near-duplicate cluster, before any activation."""

    EXPLAIN = "explain"
    CALIBRATE = "calibrate"
    TEST = "test"
    AUDIT = "audit"


SPLITS: tuple[Split, ...] = tuple(Split)

SPLIT_SHARES: Mapping[Split, float] = {
    Split.EXPLAIN: 0.4,
    Split.CALIBRATE: 0.1,
    Split.TEST: 0.4,
    Split.AUDIT: 0.1,
}

FAILED_REQUESTS = "failed_requests"
"""In a score's details: how many of its questions, or simulations, lack an answer because a request
failed for good. The score is of the rest; asked again, it may be of all. In an explanation's: the
same of the scores by which it was chosen among others."""

_UNIT_ID = re.compile(r"^(?P<source>[^/]+)/(?P<index>[0-9]{1,10})(?P<sign>[+-]?)$")

_MAX_INDEX = 2**31 - 1
"""An index is stored in 32 bits."""


@dataclass(frozen=True, order=True)
class UnitId:
    """One scalar per token in context: an SAE latent, one side of a neuron, a direction.

    Its activation is relu(polarity · x), x the raw value of `index` in `source`.
    Written `source/index` for polarity +1 and `source/index-` for polarity -1.
    """

    source: str
    """Name of the unit source in the run's config."""

    index: int
    """Position in the source, from 0."""

    polarity: int = 1
    """+1 or -1; -1 only for signed sources such as neurons."""

    def __post_init__(self) -> None:
        if self.polarity not in (1, -1):
            raise AutointerpError(f"a unit's polarity must be +1 or -1, not {self.polarity}")
        if type(self.index) is not int or self.index < 0:
            object.__setattr__(self, "index", whole_number(self.index, "a unit's index", 0))
        if not self.source or "/" in self.source:
            raise AutointerpError(
                f"the name of a unit's source must be non-empty and hold no '/': {self.source!r}"
            )

    def __str__(self) -> str:
        return f"{self.source}/{self.index}{'-' if self.polarity < 0 else ''}"

    @classmethod
    def parse(cls, unit: "str | UnitId") -> "UnitId":
        """Read `source/index`, `source/index+` or `source/index-`; a unit is returned as it is.

        Raises:
            AutointerpError: where the text has another form.
        """
        if isinstance(unit, UnitId):
            return unit
        text = str(unit)
        match = _UNIT_ID.match(text.strip())
        if match is None or int(match["index"]) > _MAX_INDEX:
            shown = text if len(text) <= 80 else text[:80] + "…"
            raise AutointerpError(
                f"{shown!r} is not a unit: write SOURCE/INDEX, and SOURCE/INDEX- for the negative "
                "side of a signed unit, such as features/317 or neurons/42-"
            )
        return cls(match["source"], int(match["index"]), -1 if match["sign"] == "-" else 1)


@dataclass(frozen=True)
class Document:
    """One text of the corpus, as it was read."""

    document_id: str
    """Hash of the text: the same text is the same document wherever it is found."""

    text: str
    name: str
    """The reader's name for it: a file name and line, or the `id` field. For display only."""

    kind: str = ""
    """What sort of text it is, where the corpus says so."""


@dataclass(frozen=True)
class Sequence:
    """A run of one document's tokens that the subject sees at once; never crosses documents."""

    sequence_id: str
    """16 hexadecimal digits: hash of the document, the start and the token ids."""

    document_id: str
    split: Split
    token_ids: np.ndarray
    """[n_tokens] int32, ids in the run's vocabulary."""

    masked: np.ndarray
    """[n_tokens] bool: True where no activation is recorded (special tokens, attention sinks)."""

    char_starts: np.ndarray
    """[n_tokens] int32: first character of every token in the document's text."""

    char_ends: np.ndarray
    """[n_tokens] int32: one past its last character; tokens of one character share their span."""


@dataclass(frozen=True, order=True)
class Window:
    """A slice of a sequence: what is sampled, shown to explainers and scored."""

    sequence_id: str
    start: int
    """First token, inclusive."""
    stop: int
    """One past the last token."""


class Strata:
    """Names of the strata: where a window's maximum lies in the unit's range."""

    TOP = "top"
    SILENT = "silent"
    HARD = "hard"
    RANDOM = "random"
    N_INTERVALS = 10

    @staticmethod
    def interval(number: int) -> str:
        """Name of value interval 1 (just above silent) to 10 (up to the explain maximum)."""
        return f"interval_{number:02d}"

    @classmethod
    def ordered(cls) -> tuple[str, ...]:
        """All strata from the most active to the least: neighbours may be collapsed."""
        intervals = (cls.interval(i) for i in range(cls.N_INTERVALS, 0, -1))
        return (cls.TOP, *intervals, cls.HARD, cls.SILENT, cls.RANDOM)

    @classmethod
    def is_active(cls, stratum: str) -> bool:
        """Whether every window of the stratum holds an activation above the silent bound."""
        return stratum not in (cls.SILENT, cls.HARD, cls.RANDOM)


class HardBy(StrEnum):
    """What makes a silent window a hard negative; the first that holds, in this order."""

    BESIDE = "beside"
    """The unit is active elsewhere in the same sequence."""
    NEIGHBOUR = "neighbour"
    """The unit nearest to it by decoder cosine is active in the window."""
    TOP_TOKEN = "top_token"
    """The window holds one of the tokens with the unit's largest activations."""


@dataclass(frozen=True)
class ActivationRecord:
    """One window of one unit, with how it came to be chosen."""

    unit: UnitId
    window: Window
    document_id: str
    split: Split
    stratum: str
    """One of `Strata.ordered()`."""

    probability: float
    """Chance of this window entering the record under the sampling design, in (0, 1]."""

    tokens: tuple[str, ...]
    """[n_tokens] token texts, for display and prompts; partial characters are shown as U+FFFD."""

    activations: np.ndarray
    """[n_tokens] float32 >= 0, in the unit's own units, as stored (rounded to float16)."""

    masked: np.ndarray
    """[n_tokens] bool: tokens that are neither shown as active nor scored."""

    kind: str = "token"
    """`token`, or `token_pair` for attention records."""

    hard_by: HardBy | None = None
    """What makes it hard; `None` in every stratum but `hard`, and where that is not known."""

    @property
    def maximum(self) -> float:
        """Largest activation in the window."""
        return float(self.activations.max(initial=0.0))


@dataclass(frozen=True)
class TopToken:
    """A token and how strongly the unit responds to it over a whole split."""

    token: str
    mean: float
    """Mean activation over its occurrences: a lower bound where `mean_upper` is larger."""

    mean_upper: float
    """Upper bound of the mean; equals `mean` where the bounded sketch missed nothing."""

    count: int
    """Occurrences of the token in the split, masked ones excluded."""

    maximum: float


@dataclass(frozen=True)
class SplitStatistics:
    """What one unit did on all unmasked tokens of one split."""

    n_tokens: int
    n_active: int
    """Tokens with activation > 0."""

    n_documents: int
    n_active_documents: int
    """Documents with an activation > 0."""

    maximum: float
    moments: tuple[float, float, float, float]
    """Mean of x, x², x³, x⁴ over all tokens, zeros included."""

    histogram: tuple[int, ...]
    """Tokens per half octave of activation; edges in `recording.statistics.bucket_edges`."""

    top_tokens: tuple[TopToken, ...]
    """Highest mean first; kept by a bounded sketch (`recording.statistics`)."""

    @property
    def density(self) -> float:
        """Share of tokens on which the unit is active."""
        return self.n_active / self.n_tokens if self.n_tokens else 0.0


@dataclass(frozen=True)
class TokenLogit:
    """A token and what a unit adds to its logit."""

    token: str
    token_id: int
    logit: float
    """Per unit of activation where the residual stream has size 1: comparable among the tokens of a
    unit, and among units of one place (`autointerp.units.output_side`)."""


@dataclass(frozen=True)
class Neighbour:
    """A unit of the same source that writes in a similar direction."""

    unit: UnitId
    cosine: float
    """Of the two directions, in (0, 1]."""


@dataclass(frozen=True)
class UnitRecord:
    """Everything known of one unit: its sampled windows and its statistics per split."""

    unit: UnitId
    records: tuple[ActivationRecord, ...]
    statistics: Mapping[Split, SplitStatistics]
    """Empty for units whose activations were recorded elsewhere and came without statistics."""

    neighbour: UnitId | None = None
    """The unit with the nearest direction, that makes windows hard; `None` where none is near."""

    neighbour_cosine: float | None = None
    """Cosine of the two directions."""

    promoted: tuple[TokenLogit, ...] | None = None
    """Tokens whose logits it raises most, first the most; `None` where it writes nothing or no way
    from there to the logits is known."""

    suppressed: tuple[TokenLogit, ...] | None = None
    """Tokens whose logits it lowers most, first the most."""

    neighbours: tuple[Neighbour, ...] | None = None
    """Units that write most alike, nearest first; `None` where it writes nothing."""

    def of(self, split: Split) -> tuple[ActivationRecord, ...]:
        """The records of one split, most active stratum first, then by descending maximum."""
        order = {name: place for place, name in enumerate(Strata.ordered())}
        chosen = [record for record in self.records if record.split == split]
        return tuple(sorted(chosen, key=lambda r: (order[r.stratum], -r.maximum, r.window)))

    def explain_maximum(self) -> float:
        """Largest activation in the `explain` split: the only maximum that scales anything."""
        if Split.EXPLAIN in self.statistics:
            return self.statistics[Split.EXPLAIN].maximum
        return max((record.maximum for record in self.of(Split.EXPLAIN)), default=0.0)


@dataclass(frozen=True)
class Explanation:
    """Words for one unit, or the reason why there are none."""

    unit: UnitId
    explainer: str
    text: str | None
    """The words; `None` unless status is ok."""

    status: Status
    key: str
    """Hash of everything it was made from."""

    reason: str = ""
    """Where status is not ok: what happened, in a sentence."""

    details: Mapping[str, Any] = field(default_factory=dict)
    """The explainer's own numbers: tokens used, raw answer, windows shown."""


@dataclass(frozen=True)
class Simulation:
    """Predicted activations of one unit on one sequence, under one explanation."""

    expected: np.ndarray
    """[n_tokens] float32: expected level per token. Meaningless where `known` is False."""

    known: np.ndarray
    """[n_tokens] bool: whether the simulator put enough mass on levels for `expected` to count."""

    level_mass: np.ndarray
    """[n_tokens] float32: probability on any level at all; low: the format was not understood."""


@dataclass(frozen=True)
class Interval:
    """A confidence interval and how it was made."""

    low: float
    """Lower end, in the units of the estimate."""

    high: float
    """Upper end."""

    level: float
    """Nominal coverage in (0, 1)."""

    method: str
    """How it was made, in words for a table's footnote."""


@dataclass(frozen=True)
class ControlScore:
    """The score of something that should not work, on the same unit and windows."""

    name: str
    """`shuffled`: the explanation of another unit."""

    value: float | None
    status: Status
    donor: UnitId | None = None
    explanation_key: str = ""


@dataclass(frozen=True)
class Score:
    """One number about one explanation, with everything needed to judge it."""

    unit: UnitId
    explanation_key: str
    explainer: str
    scorer: str
    simulator: str
    value: float | None
    status: Status
    key: str
    split: Split = Split.TEST
    interval: Interval | None = None
    controls: tuple[ControlScore, ...] = ()
    control_mean: float | None = None
    """Mean of the controls; a constant prediction counts 0, an undefined or failed one does not."""

    lift: float | None = None
    """value − control_mean, paired on the same windows: the headline. `None` also where no other
    unit of the source has an explanation by this explainer."""

    lift_interval: Interval | None = None
    n_tokens: int = 0
    n_windows: int = 0
    n_documents: int = 0
    n_active_documents: int = 0
    n_unknown_tokens: int = 0
    """Tokens left out because the simulator put too little mass on levels, under the own or a used
    donor's explanation."""

    design: str = ""
    """Name of the sampling design whose windows were scored."""

    reason: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Other metrics of the same simulation, and cost."""

    @property
    def n_failed_requests(self) -> int:
        """Questions, or simulations, that lack an answer under the own or a control's words."""
        return int(self.details.get(FAILED_REQUESTS, 0))

    @classmethod
    def failed(
        cls,
        explanation: Explanation,
        *,
        scorer: str,
        simulator: str,
        key: str,
        design: str,
        reason: str,
    ) -> "Score":
        """A score that could not be made, and why."""
        return cls(
            unit=explanation.unit,
            explanation_key=explanation.key,
            explainer=explanation.explainer,
            scorer=scorer,
            simulator=simulator,
            value=None,
            status=Status.FAILED,
            key=key,
            design=design,
            reason=reason,
        )


def content_key(kind: str, **inputs: Any) -> str:
    """Key of a result: BLAKE2b-128 of its kind, the schema version and its inputs as JSON.

    Args:
        kind: what the key is for; keys of two kinds never meet.
        inputs: values that determine the result: what JSON knows, arrays, paths, units.

    Raises:
        TypeError: for a value that would give another key in another process.
    """
    canonical = json.dumps(
        [kind, SCHEMA_VERSION, inputs], sort_keys=True, ensure_ascii=False, default=_spelled
    )
    return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()


def _spelled(value: Any) -> Any:
    """What stands for an input that JSON does not know: numbers for arrays, else its text."""
    if isinstance(value, np.ndarray | np.generic):
        # The text of a long array leaves out its middle: two arrays would share a key.
        return value.tolist()
    shows_address = (
        type(value).__repr__ is object.__repr__ and type(value).__str__ is object.__str__
    )
    if shows_address or isinstance(value, set | frozenset):
        raise TypeError(f"a {type(value).__name__} has no fixed text to make a key of")
    return str(value)


def derived_seed(seed: int, *purpose: Any) -> int:
    """A seed for one purpose, below 2^63: hash(run seed, purpose). No global generator is used."""
    digest = hashlib.blake2b(repr((int(seed), *map(str, purpose))).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
