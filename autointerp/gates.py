"""The gates: what must hold before a number of this program is believed. Nothing is downloaded.

Engine gates run judges of known skill over the known answers (`datasets/known_answers`) through the
same statistics that score explanations; those of `gates_model` run a small model with planted units
through every stage. Gates that judge a language model are `not run` here: `autointerp check-judge`
runs them for one.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from statistics import fmean
from typing import Any, Literal

import numpy as np

from autointerp import stats
from autointerp.analysis.check_judge import check_judge, correlation
from autointerp.analysis.known_answers import KnownAnswer, known_answers, oracle_of
from autointerp.records import (
    ActivationRecord,
    Document,
    Explanation,
    Score,
    Split,
    Status,
    Strata,
    UnitId,
    UnitRecord,
    Window,
)
from autointerp.scorers.simulation import ScoreJob, SimulationScorer
from autointerp.simulators import Constant, Inverted, NoisyOracle, Oracle

Outcome = Literal["passed", "failed", "not run"]


class NotRunError(Exception):
    """A gate cannot be run here: says why."""


@dataclass(frozen=True)
class Gate:
    """What became of one gate."""

    name: str
    claim: str
    outcome: Outcome
    found: str
    """The numbers, in words."""


_PLANTED_TOKENS = ("token", "set", "pattern", "affix", "previous")
"""Kinds that need no more than a token and the one before it."""


@cache
def _answers() -> tuple[KnownAnswer, ...]:
    return tuple(known_answers())


@cache
def _oracle() -> Oracle:
    return oracle_of(_answers())


def _readable() -> list[KnownAnswer]:
    return [answer for answer in _answers() if answer.readable]


def _record(answer: KnownAnswer, index: int) -> UnitRecord:
    unit = UnitId("planted", index)
    windows = tuple(
        ActivationRecord(
            unit,
            Window(f"{index}.{place}", 0, len(tokens)),
            f"{index}.{place}",
            Split.TEST,
            Strata.interval(10) if truth.max(initial=0) > 0 else Strata.SILENT,
            1.0,
            tokens,
            truth,
            np.zeros(len(tokens), bool),
        )
        for place, (tokens, truth) in enumerate(zip(answer.tokens, answer.truth, strict=True))
    )
    return UnitRecord(unit, windows, {})


def _explanation(answer: KnownAnswer, index: int) -> Explanation:
    text = answer.explanations["true"]
    return Explanation(UnitId("planted", index), "known", text, Status.OK, f"known {index}")


def _scored(answer: KnownAnswer, index: int, texts: list[tuple[Explanation, Any]]) -> Score:
    """A score from simulations that are given: the own explanation first, then the donors'."""
    own, *donors = texts
    explanations = tuple(e for e, _ in donors)
    job = ScoreJob(_record(answer, index), own[0], explanations, "known", "known", "gate")
    steps = SimulationScorer("gate", n_replicates=200).score(job)
    try:
        next(steps)
        steps.send([parts for _, parts in texts])
    except StopIteration as end:
        return end.value
    raise AssertionError("a score by simulation asks once")


def _foreign(answer: KnownAnswer, seed: int) -> Any:
    """What a perfect reader says under another unit's explanation: the own truth, out of place.

    The tokens of all windows in another order: as many of the same levels, none of them where the
    unit fires but by chance. That is a donor of exactly the unit's firing rate.
    """
    parts = _oracle().simulate(answer.explanations["true"], answer.tokens)
    order = np.random.default_rng(seed).permutation(sum(len(part.known) for part in parts))
    levels = np.concatenate([part.expected for part in parts])[order]
    ends = np.cumsum([len(part.known) for part in parts])[:-1]
    return [replace(p, expected=e) for p, e in zip(parts, np.split(levels, ends), strict=True)]


def oracle_scores_high() -> tuple[bool, str]:
    """G1: the right words, read perfectly, score at least 0.8."""
    low = 1.0
    accuracies: list[float] = []
    for index, answer in enumerate(_readable()):
        if answer.kind not in _PLANTED_TOKENS:
            continue
        parts = _oracle().simulate(answer.explanations["true"], answer.tokens)
        score = _scored(answer, index, [(_explanation(answer, index), parts)])
        low = min(low, score.value if score.value is not None else 0.0)
        labels = np.array([t.max(initial=0) > 0 for t in answer.truth])
        said = np.array([p.expected.max(initial=0) > 0 for p in parts], float)
        accuracies.append(stats.balanced_accuracy(labels, said).value or 0.0)
    balanced = min(accuracies)
    return low >= 0.8 and balanced >= 0.9, (
        f"lowest r {low:.3f}, lowest balanced accuracy {balanced:.3f} of {len(accuracies)} units"
    )


def truth_beats_every_false_one() -> tuple[bool, str]:
    """G2: the true explanation outranks all false ones of its unit."""
    units = check_judge(_oracle(), _answers()).units
    won = sum(
        u.correlations["true"] > max(v for k, v in u.correlations.items() if k != "true")
        for u in units
    )
    found = stats.exact_binomial(won, len(units), p0=0.25)
    return won >= 0.9 * len(units), (
        f"{won} of {len(units)}, exact p against 1 in 4 = {found.p_value:.2g}"
    )


def judges_are_ranked() -> tuple[bool, str]:
    """Judges of known skill come out in their order."""
    oracle = _oracle()
    judges = {
        "oracle": oracle,
        "noisy": NoisyOracle(oracle, snr=1.0),
        "constant": Constant(3.0),
        "inverted": Inverted(oracle),
    }
    margins = {
        n: check_judge(judge, _answers()).groups[0].margin or 0.0 for n, judge in judges.items()
    }
    values = list(margins.values())
    return values == sorted(values, reverse=True) and len(set(values)) == 4, ", ".join(
        f"{name} {margin:.2f}" for name, margin in margins.items()
    )


def foreign_words_have_no_lift() -> tuple[bool, str]:
    """G4: other units' words have no lift over other units' words."""
    lifts: list[float] = []
    covered = 0
    for index, answer in enumerate(_readable()):
        texts = [(_explanation(answer, place), _foreign(answer, 97 * index + place))
                 for place in range(6)]  # fmt: skip
        score = _scored(answer, index, texts)
        if score.lift is not None and score.lift_interval is not None:
            lifts.append(score.lift)
            covered += score.lift_interval.low <= 0 <= score.lift_interval.high
    share = covered / len(lifts)
    return abs(fmean(lifts)) <= 0.03 and share >= 0.9, (
        f"mean lift {fmean(lifts):+.4f}, interval holds 0 for {share:.0%} of {len(lifts)} units"
    )


def near_misses_score_lower() -> tuple[bool, str]:
    """G5: too broad and too narrow words score lower, where silent windows are scored as well."""
    units = check_judge(_oracle(), _answers()).units
    shares = [
        fmean(u.correlations["true"] > u.correlations[false] for u in units)
        for false in ("broad", "narrow")
    ]
    top = [_top_only(answer) for answer in _readable()]
    return min(shares) >= 0.8, (
        f"above too broad {shares[0]:.0%}, too narrow {shares[1]:.0%}; without the silent windows "
        f"too broad words score {fmean(t for t, _ in top):.2f} instead of "
        f"{fmean(a for _, a in top):.2f}"
    )


def _top_only(answer: KnownAnswer) -> tuple[float, float]:
    """Score of the too broad explanation on active windows alone, and on all."""
    parts = _oracle().simulate(answer.explanations["broad"], answer.tokens)
    active = [i for i, truth in enumerate(answer.truth) if truth.max(initial=0) > 0]
    alone = correlation([answer.truth[i] for i in active], [parts[i] for i in active])
    return alone, correlation(answer.truth, parts)


def degenerate_units_have_no_number() -> tuple[bool, str]:
    """G6: constant and silent units are flagged, and have no number."""
    wrong: list[str] = []
    n = 0
    for index, answer in enumerate(_answers()):
        if answer.expected_status == Status.OK:
            continue
        n += 1
        parts = _oracle().simulate(answer.explanations["true"], answer.tokens)
        score = _scored(answer, index, [(_explanation(answer, index), parts)])
        flagged = (Status.UNDEFINED_TRUTH, Status.INSUFFICIENT_DATA)
        if score.value is not None or score.status not in flagged:
            wrong.append(answer.name)
    return n > 0 and not wrong, f"{n - len(wrong)} of {n} flagged" + (
        f"; not {', '.join(wrong)}" if wrong else ""
    )


def metrics_punish_missing_and_extra_labels() -> tuple[bool, str]:
    """G7: the score drops where labels are missing and where there are too many."""
    dropped = {"missing": 0, "extra": 0}
    units = _readable()
    for index, answer in enumerate(units):
        parts = _oracle().simulate(answer.explanations["true"], answer.tokens)
        generator = np.random.default_rng(index)
        whole = correlation(answer.truth, parts)
        missing = [
            replace(p, expected=p.expected * (generator.random(len(p.expected)) < 0.5))
            for p in parts
        ]
        share = float(np.mean(np.concatenate([p.expected > 0 for p in parts])))
        extra = [
            replace(
                p,
                expected=np.where(
                    (p.expected <= 0) & (generator.random(len(p.expected)) < share), 10, p.expected
                ),
            )
            for p in parts
        ]
        dropped["missing"] += correlation(answer.truth, missing) < whole
        dropped["extra"] += correlation(answer.truth, extra) < whole
    return min(dropped.values()) >= 0.95 * len(units), (
        f"missing labels lower {dropped['missing']}, extra labels {dropped['extra']} of "
        f"{len(units)} units"
    )


def copies_stay_in_one_split() -> tuple[bool, str]:
    """G8: a copy of a text with a few words changed never lies in another split."""
    from autointerp.recording.corpus.documents import split_of_cluster
    from autointerp.recording.corpus.near_duplicates import near_duplicate_clusters

    generator = np.random.default_rng(0)
    documents: list[Document] = []
    pairs: list[tuple[str, str]] = []
    for number in range(40):
        words = [f"w{k}" for k in generator.integers(0, 5000, 200)]
        changed = [*words[:100], "another", *words[101:]]
        names = f"original {number}", f"copy {number}"
        texts = " ".join(words), " ".join(changed)
        documents += [Document(name, t, name) for name, t in zip(names, texts, strict=True)]
        pairs.append(names)
    clusters = near_duplicate_clusters(documents)
    leaked = sum(
        split_of_cluster(clusters[a]) is not split_of_cluster(clusters[b]) for a, b in pairs
    )
    apart = sum(split_of_cluster(a) is not split_of_cluster(b) for a, b in pairs)
    return leaked == 0, (
        f"{leaked} of {len(pairs)} planted copies in another split; {apart} would be without "
        "clusters"
    )


def same_seed_same_numbers() -> tuple[bool, str]:
    """G10: the same inputs and seed give the same score, interval and all."""
    answer = _readable()[0]
    noisy = NoisyOracle(_oracle(), snr=1.0, seed=3)
    text = answer.explanations["true"]
    first, again = (
        _scored(answer, 0, [(_explanation(answer, 0), noisy.simulate(text, answer.tokens))])
        for _ in range(2)
    )
    return first == again, f"r {first.value:.6f} twice" if first == again else "they differ"


ENGINE: dict[str, Callable[[], tuple[bool, str]]] = {
    "G1": oracle_scores_high,
    "G2": truth_beats_every_false_one,
    "judges": judges_are_ranked,
    "G4": foreign_words_have_no_lift,
    "G5": near_misses_score_lower,
    "G6": degenerate_units_have_no_number,
    "G7": metrics_punish_missing_and_extra_labels,
    "G8": copies_stay_in_one_split,
    "G10": same_seed_same_numbers,
}
"""Gates that need no model, by name."""


def _of_model(name: str) -> Callable[[], tuple[bool, str]]:
    """A gate of `gates_model`, which is read when the gate is run: it loads torch."""

    def check() -> tuple[bool, str]:
        from autointerp import gates_model

        return getattr(gates_model, name)()

    return check


MODEL: dict[str, tuple[str, Callable[[], tuple[bool, str]]]] = {
    "planted": (
        "what is recorded of units planted in a model is what was computed",
        _of_model("planted_units_are_recorded"),
    ),
    "G3": (
        "explainers without a language model find what was planted in a model; two rules judge",
        _of_model("explainers_find_what_was_planted"),
    ),
    "G11": (
        "a planted direction is told from others by what steering along it does",
        _of_model("steering_is_told_apart"),
    ),
    "G12": (
        "tokens that were counted before are those that are used, within 2 %",
        _of_model("tokens_are_as_counted"),
    ),
}
"""Gates that run a small model with planted units: claim and check."""

NOT_HERE = {
    "G1, G2, G5 of an LLM": (
        "a language model reads planted units",
        "needs a language model: autointerp check-judge --model NAME",
    ),
    "G3 of an LLM": (
        "a language model's explanations of planted units score 0.8 of the oracle's",
        "needs a language model: autointerp plant FOLDER, then run its config with `llm.model`",
    ),
    "G9": (
        "a trained subject's units score above those of one with random weights",
        "needs minutes: autointerp run datasets/demo/random_weights.yaml, then autointerp compare",
    ),
}
"""Gates that need more than the program itself: claim and what runs them."""


def run_gates(on_gate: Callable[[Gate], None] | None = None) -> list[Gate]:
    """Run all gates that need no language model; the others are `not run`, with the reason.

    Args:
        on_gate: called with each gate as soon as it is known.
    """
    gates: list[Gate] = []

    def add(gate: Gate) -> None:
        gates.append(gate)
        if on_gate is not None:
            on_gate(gate)

    for name, check in ENGINE.items():
        claim = (check.__doc__ or "").strip().removeprefix(f"{name}: ").rstrip(".")
        add(_checked(name, claim, check))
    for name, (claim, check) in MODEL.items():
        add(_checked(name, claim, check))
    for name, (claim, why) in NOT_HERE.items():
        add(Gate(name, claim, "not run", why))
    return gates


def _checked(name: str, claim: str, check: Callable[[], tuple[bool, str]]) -> Gate:
    try:
        passed, found = check()
    except NotRunError as why:
        return Gate(name, claim, "not run", str(why))
    return Gate(name, claim, "passed" if passed else "failed", found)
