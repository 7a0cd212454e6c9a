"""The row that `autointerp export` writes: a unit under an explainer, with all that is known of it.

The JSON Schema of it is `schemas/explanations-1.json`, written from these types. Every row is
checked against them before it is written and after it is read.
"""

import json
from collections.abc import Mapping
from importlib import resources
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from autointerp.records import AutointerpError, Split, Status

EXPORT_VERSION = 1
"""`schema_version` of exported rows; theirs alone, apart from that of a run's own files."""

MAX_TEXT = 100_000
"""Characters of a text that no row passes."""

MAX_ITEMS = 10_000
"""Items of a list that no row passes."""


def as_float32(value: float) -> float:
    """The shortest number that stands for the same float32: JSON and Parquet then agree."""
    if value == 0:
        return 0.0  # most of them, and no -0.0
    with np.errstate(over="raise"):
        try:
            return float(str(np.float32(value)))
        except FloatingPointError:
            raise ValueError("is beyond 3.4e38, the range of 32 bits") from None


Text = Annotated[str, Field(max_length=MAX_TEXT)]
Name = Annotated[str, Field(max_length=1000)]
Activation = Annotated[float, AfterValidator(as_float32)]
Long = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
"""An integer of 64 bits, as Parquet holds it."""
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
Index = Annotated[int, Field(ge=0, le=2**31 - 1)]
Rows = Field(max_length=MAX_ITEMS)


class _Row(BaseModel):
    # A docstring under a field is its description in the schema.
    model_config = ConfigDict(
        extra="forbid", allow_inf_nan=False, frozen=True, use_attribute_docstrings=True
    )


class ExportedInterval(_Row):
    """A confidence interval."""

    low: float
    high: float
    level: float
    """Nominal coverage."""
    method: Text


class ExportedControl(_Row):
    """The score of something that should not work, on the same unit and windows."""

    name: Name
    """`shuffled`: the explanation of another unit."""
    score: float | None
    status: Status
    donor: Name | None
    """The unit whose explanation it is."""
    explanation_key: Name


class ExportedScore(_Row):
    """One scorer's number about one explanation."""

    scorer: Name
    metric: Name
    status: Status
    """Why the number is there, or why it is not."""
    stage: Name
    """Where the status was decided: record, explain or score."""
    reason: Text
    score: float | None
    score_interval: ExportedInterval | None
    chance: float | None
    """What an explanation without content scores on the same windows."""
    lift: float | None
    """Score minus the mean of the controls."""
    lift_interval: ExportedInterval | None
    control_mean: float | None
    controls: Annotated[list[ExportedControl], Rows]
    lookup_score: float | None
    """Score of the token look-up table on the same windows."""
    n_windows: Count | None
    n_documents: Count | None
    n_active_documents: Count | None
    n_tokens: Count | None
    n_unknown_tokens: Count | None
    simulator: Name | None
    design: Name | None
    """Sampling design of the windows that were scored."""
    split: Split
    """Split of the documents that were scored."""
    key: Name | None
    """Hash of everything the score was made from."""


class ExportedToken(_Row):
    """A token and how strongly the unit responds to it."""

    token: Text
    mean: float
    mean_upper: float
    """Equals `mean` where the bounded sketch missed nothing."""
    count: Count
    maximum: float


class ExportedStatistics(_Row):
    """What the unit did on all unmasked tokens of the `explain` split."""

    n_tokens: Count
    n_active: Count
    n_documents: Count
    n_active_documents: Count
    maximum: float
    moments: Annotated[list[float], Field(min_length=4, max_length=4)]
    """Means of x, x², x³ and x⁴ over all tokens, zeros included."""
    top_tokens: Annotated[list[ExportedToken], Rows]


class ExportedLogit(_Row):
    """A token and what the unit adds to its logit."""

    token: Text
    token_id: Long
    logit: Activation


class ExportedNeighbour(_Row):
    """A unit that writes in a similar direction."""

    unit: Name
    cosine: Activation


class ExportedExample(_Row):
    """A window of the `explain` split."""

    stratum: Name
    probability: Activation
    """Chance of the window entering the records under the sampling design."""
    document_id: Name
    tokens: Annotated[list[Text], Rows] | None
    """Texts of its tokens; null where texts were left out."""
    activations: Annotated[list[Activation], Rows]


class ExportedProvenance(_Row):
    """What the row was made from."""

    run: Name
    autointerp: Name
    seed: Long | None
    subject: Name | None
    subject_fingerprint: Name | None
    source_type: Name | None
    hook_point: Name | None
    layer: Long | None
    width: Count | None
    source_fingerprint: Name | None
    records_key: Name | None
    corpus_key: Name | None
    corpus_licence: Text | None
    design: Name | None
    design_key: Name | None
    explainer_fingerprint: Text | None


class ExportedRow(_Row):
    """A unit under an explainer; exists whatever became of it."""

    schema_version: Literal[1]
    unit: Name
    """SOURCE/INDEX, and SOURCE/INDEX- for the negative side of a signed unit."""
    source: Name
    index: Index
    polarity: Literal[1, -1]
    firing_rate: float | None
    """Share of tokens of the `explain` split on which it is active."""
    token_entropy: float | None = None
    """Bits: how evenly its activation in the `explain` split is spread over different tokens."""
    explainer: Name
    is_baseline: bool
    """Whether the explainer is a control rather than words."""
    explanation: Text | None
    explanation_key: Name | None
    author: Text | None
    """Who wrote it, where it was written by hand."""
    status: Status
    """Of the explanation."""
    reason: Text
    scores: Annotated[list[ExportedScore], Rows]
    statistics: ExportedStatistics | None
    promoted: Annotated[list[ExportedLogit], Rows] | None
    suppressed: Annotated[list[ExportedLogit], Rows] | None
    neighbours: Annotated[list[ExportedNeighbour], Rows] | None
    examples: Annotated[list[ExportedExample], Rows]
    provenance: ExportedProvenance


def checked(row: Any) -> dict[str, Any]:
    """The row in the form that is written, or a refusal.

    Raises:
        AutointerpError: naming the field that does not fit the schema.
    """
    if isinstance(row, Mapping) and row.get("schema_version") != EXPORT_VERSION:
        raise AutointerpError(
            f"has schema_version {str(row.get('schema_version'))[:40]}; this autointerp reads "
            f"rows of version {EXPORT_VERSION}"
        )
    try:
        return ExportedRow.model_validate(row).model_dump(mode="json")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))[:200] or "the row"
        raise AutointerpError(f"{where}: {first['msg']}") from error


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a row, from its types."""
    found = ExportedRow.model_json_schema()
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {**head, **found, "title": "autointerp explanations, version 1"}


def packaged_schema() -> dict[str, Any]:
    """The JSON Schema as it is shipped."""
    path = resources.files("autointerp.export").joinpath("schemas", "explanations-1.json")
    return json.loads(path.read_text(encoding="utf-8"))
