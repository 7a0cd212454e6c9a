"""Small runs made by hand: every kind of unit, with numbers that can be added up on paper."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from autointerp.analysis.results import RunResults, UnitResult
from autointerp.records import (
    ActivationRecord,
    ControlScore,
    Explanation,
    Interval,
    Score,
    Simulation,
    Split,
    SplitStatistics,
    Status,
    Strata,
    UnitId,
    UnitRecord,
    Window,
)

EXPLAINERS = ("words", "top_tokens", "token_lookup")
TEXT = "The little dog ran over the green hill and barked at 3 cats.\n"


def statistics(density: float, maximum: float = 4.0, n_tokens: int = 10_000) -> SplitStatistics:
    n_active = round(density * n_tokens)
    return SplitStatistics(
        n_tokens=n_tokens,
        n_active=n_active,
        n_documents=100,
        n_active_documents=min(100, n_active),
        maximum=maximum if n_active else 0.0,
        moments=(0.1, 0.1, 0.1, 0.1),
        histogram=(n_active,),
        top_tokens=(),
    )


def spans_of(text: str, tokens: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    ends = np.cumsum([len(token) for token in tokens])
    assert ends[-1] <= len(text)
    return (ends - [len(token) for token in tokens]).astype(np.int32), ends.astype(np.int32)


def tokens_of(text: str) -> list[str]:
    """Words with the space before them, as most vocabularies have them."""
    tokens = [" " + word for word in text.split(" ")]
    return [tokens[0][1:], *tokens[1:]]


def window_of(
    unit: UnitId, activations: Sequence[float], tokens: Sequence[str], stratum: str = Strata.TOP,
    sequence_id: str = "s0", start: int = 0, masked: Sequence[bool] | None = None,
) -> ActivationRecord:  # fmt: skip
    return ActivationRecord(
        unit=unit,
        window=Window(sequence_id, start, start + len(tokens)),
        document_id=f"d-{sequence_id}",
        split=Split.TEST,
        stratum=stratum,
        probability=0.5,
        tokens=tuple(tokens),
        activations=np.asarray(activations, np.float32),
        masked=np.asarray(masked if masked is not None else [False] * len(tokens)),
    )


def score_of(
    unit: UnitId, explainer: str, value: float | None, status: Status = Status.OK,
    control: float | None = 0.1, half_width: float = 0.1, **more: Any,
) -> Score:  # fmt: skip
    counted = 0.0 if status is Status.CONSTANT_PREDICTION else value
    lift = None if counted is None or control is None else counted - control
    interval = (
        None if value is None else Interval(value - half_width, value + half_width, 0.95, "t")
    )
    lift_interval = (
        None if lift is None else Interval(lift - half_width, lift + half_width, 0.95, "t")
    )
    facts: dict[str, Any] = {
        "unit": unit,
        "explanation_key": f"e-{unit}-{explainer}",
        "explainer": explainer,
        "scorer": "simulation",
        "simulator": "token_lookup" if explainer == "token_lookup" else "all_at_once",
        "value": value,
        "status": status,
        "key": f"s-{unit}-{explainer}",
        "interval": interval,
        "controls": ()
        if control is None or counted is None
        else (
            ControlScore("shuffled", control, Status.OK, UnitId(unit.source, unit.index + 1)),
            ControlScore("shuffled", control, Status.OK, UnitId(unit.source, unit.index + 2)),
        ),
        "control_mean": None if counted is None else control,
        "lift": lift,
        "lift_interval": lift_interval,
        "n_tokens": 60,
        "n_windows": 4,
        "n_documents": 4,
        "n_active_documents": 6,
        "design": "default",
    }
    return Score(**{**facts, **more})


def explanation_of(
    unit: UnitId, explainer: str, text: str | None = "words about animals",
    status: Status = Status.OK, reason: str = "",
) -> Explanation:  # fmt: skip
    if explainer == "token_lookup" and status is Status.OK:
        text = '{"token_means": {" dog": 3.2, " cats.": 1.5, " hill": 0.2}, "default": 0.1}'
    text = text if status is Status.OK else None
    return Explanation(unit, explainer, text, status, f"e-{unit}-{explainer}", reason)


def unit_of(
    unit: UnitId, scores: Mapping[str, Score | float | None] | float | None = None, *,
    density: float = 0.01, status: Status = Status.OK, text: str = "words about animals",
    explanations: Mapping[str, Explanation] | None = None,
    windows: Sequence[ActivationRecord] | None = None, level: float = 1.0,
) -> UnitResult:  # fmt: skip
    """A unit; a plain number is an `ok` score of every explainer, with control 0.1."""
    if isinstance(scores, float):
        scores = dict.fromkeys(EXPLAINERS, scores)
    found = {
        name: score_of(unit, name, score) if isinstance(score, float) else score
        for name, score in (scores or {}).items()
        if score is not None
    }
    tokens = tokens_of(TEXT)
    ramp = np.linspace(0, 4, len(tokens))
    if windows is None:
        windows = [
            window_of(unit, ramp, tokens),
            window_of(unit, ramp / 2, tokens, Strata.interval(5), "s1"),
            window_of(unit, 0 * ramp, tokens, Strata.HARD, "s2"),
            window_of(unit, 0 * ramp, tokens, Strata.SILENT, "s3"),
        ]
    simulated = tuple(
        Simulation(
            expected=(level * w.activations).astype(np.float32),
            known=np.ones(len(w.tokens), bool),
            level_mass=np.full(len(w.tokens), 0.9, np.float32),
        )
        for w in windows
    )
    dead = status is Status.DEAD
    given = explanations or {name: explanation_of(unit, name, text) for name in EXPLAINERS}
    return UnitResult(
        unit=unit,
        record=UnitRecord(
            unit,
            tuple(windows),
            {
                Split.EXPLAIN: statistics(0.0 if dead else density),
                Split.TEST: statistics(density),
            },
        ),
        density=0.0 if dead else density,
        explanations={} if dead else given,
        scores=found,
        scored_windows=tuple(windows),
        simulations=dict.fromkeys(found, simulated),
        status=status,
    )


def run_of(
    units: Sequence[UnitResult], sources: Sequence[str] = ("features", "neurons"), **more: Any
) -> RunResults:  # fmt: skip
    starts, ends = spans_of(TEXT, tokens_of(TEXT))
    sequences = {w.window.sequence_id for unit in units for w in unit.scored_windows}
    facts: dict[str, Any] = {
        "name": "synthetic",
        "explainers": EXPLAINERS,
        "baseline_explainers": ("token_lookup",),
        "sources": tuple(sources),
        "units": tuple(units),
        "recorded": {s: {"n_units": 100, "n_dead": 7, "n_too_rare": 20} for s in sources},
        "sequence_texts": {
            s: {"text": TEXT, "document_name": f"book.jsonl:{s}", "kind": "novel"}
            for s in sequences
        },
        "char_spans": dict.fromkeys(sequences, (starts, ends)),
        "provenance": {
            "schema_version": 1,
            "seed": 5,
            "versions": {"numpy": "2.0"},
            "subjects": {"subject": {"model": "smollm2", "fingerprint": "ab12"}},
        },
        "config": {
            "name": "synthetic",
            "seed": 5,
            "subjects": {"subject": {"model": "smollm2"}},
            "corpus": {"path": "demo"},
            "sources": {
                s: {"type": "sae" if s == "features" else "neurons", "subject": "subject"}
                for s in sources
            },
            "explainers": [
                {"name": "words", "type": "token_activation_pairs"},
                {"name": "top_tokens", "type": "top_tokens"},
                {"name": "token_lookup", "type": "token_lookup"},
            ],
            "llm": {"model": "local/smollm2"},
            "simulator": {"name": "all_at_once", "model": "smollm2"},
        },
        "ledger": (
            {"purpose": "simulate", "model": "smollm2", "requests": 96, "input_tokens": 120000,
             "cached_tokens": 20000, "output_tokens": 0, "seconds": 61.5},
        ),
        "seconds": {"record": 40.0, "explain": 20.0, "score": 60.0},
    }  # fmt: skip
    return RunResults(**{**facts, **more})


def every_kind() -> RunResults:
    """Features of every status under `words`, and five plain neurons.

    Under `words`, features: scores 0.5 and 0.3, one constant (0), one undefined, one with too
    little data, one failed score, one failed explanation, one dead, one not run. Control is 0.1.
    """

    def feature(index: int) -> UnitId:
        return UnitId("features", index)

    def special(index: int, status: Status, value: float | None = None, **more: Any) -> UnitResult:
        unit = feature(index)
        words = score_of(unit, "words", value, status, **more)
        return unit_of(unit, {"words": words, "top_tokens": 0.4, "token_lookup": 0.6})

    failed_explanation = {
        name: explanation_of(
            feature(6),
            name,
            status=Status.FAILED if name == "words" else Status.OK,
            reason="the answer repeated the question" if name == "words" else "",
        )
        for name in EXPLAINERS
    }
    features = [
        unit_of(feature(0), 0.5, density=0.004),
        unit_of(feature(1), 0.3, density=0.03),
        special(2, Status.CONSTANT_PREDICTION),
        special(3, Status.UNDEFINED_TRUTH),
        special(4, Status.INSUFFICIENT_DATA, n_active_documents=2),
        special(5, Status.FAILED, reason="the simulator ran out of memory"),
        unit_of(
            feature(6),
            {"top_tokens": 0.4, "token_lookup": 0.6},
            explanations=failed_explanation,
        ),
        unit_of(feature(7), status=Status.DEAD),
        unit_of(feature(8), {"top_tokens": 0.4}),
    ]
    neurons = [
        unit_of(UnitId("neurons", i, -1 if i % 2 else 1), 0.1 + 0.05 * i, density=0.3)
        for i in range(5)
    ]
    return run_of([*features, *neurons])


def judged_run() -> RunResults:
    """Three features that detection scored beside simulation, and a neuron that it did not."""
    features = [UnitId("features", i) for i in range(3)]
    judged = [
        replace(
            unit_of(unit, 0.5),
            judged={
                "detection": {
                    name: score_of(
                        *(unit, name, 0.8 - 0.1 * place),
                        control=0.5,
                        scorer="detection",
                        details={"prevalence": 0.4},
                    )
                    for name in EXPLAINERS
                }
            },
        )
        for place, unit in enumerate(features)
    ]
    results = run_of([*judged, unit_of(UnitId("neurons", 0), 0.3)])
    scorers = [
        {"name": "simulation", "type": "simulation"},
        {"name": "detection", "type": "detection"},
    ]
    return replace(results, config={**results.config, "scorers": scorers})
