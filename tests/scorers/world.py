"""Units whose windows show what they respond to, judges that see it, and how scorers are driven.

An active window holds " ANIMAL" where the unit is active, and a word that says how strongly. So a
judge can be written that knows every right answer from the text of the question alone.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from autointerp.llm import Request, Response, ResponseStatus, Usage
from autointerp.llm.repair import repairing
from autointerp.records import (
    ActivationRecord,
    Explanation,
    HardBy,
    Score,
    Split,
    SplitStatistics,
    Status,
    Strata,
    UnitId,
    UnitRecord,
    Window,
)
from autointerp.scorers import (
    DetectionScorer,
    FuzzingScorer,
    IntruderScorer,
    PairScorer,
    ScoreJob,
    SortScorer,
)

UNIT = UnitId("made", 0)

LENGTH = 12

SCORERS: dict[str, Callable[..., Any]] = {
    "detection": lambda **k: DetectionScorer("made", n_replicates=100, **k),
    "detection_alone": lambda **k: DetectionScorer("made", n_replicates=100, n_per_prompt=1, **k),
    "fuzzing": lambda **k: FuzzingScorer("made", n_replicates=100, **k),
    "intruder": lambda **k: IntruderScorer("made", n_replicates=100, **k),
    "intruder_within": lambda **k: IntruderScorer("made", n_replicates=100, within=True, **k),
    "pair": lambda **k: PairScorer("made", n_replicates=100, **k),
    "sort": lambda **k: SortScorer("made", n_replicates=100, **k),
}
"""Every scorer here by a name, in each of its forms."""

_FENCED = r"^<(text|first|second) \d+>(.*)</\1 \d+>$"

Judge = Callable[[Request], Response | str]

_WORDS = ("stone", "river", "a", "the", "Paris", "walked", "12", "of", "lamp", "into", "seven", ",")


def window(
    number: int,
    strength: float,
    *,
    unit: UnitId = UNIT,
    split: Split = Split.TEST,
    word: str = " ANIMAL",
    hard_by: HardBy | None = None,
    length: int = LENGTH,
) -> ActivationRecord:
    """A window of random words; with a strength one of them is `word`, and active."""
    generator = np.random.default_rng([unit.index, number, len(split)])
    tokens = [f" {_WORDS[i]}" for i in generator.integers(0, len(_WORDS), length)]
    tokens[0] = f" w{number:05d}" + "x" * int(generator.integers(0, 9))
    values = np.zeros(length, np.float32)
    if strength > 0:
        place = int(generator.integers(2, length))
        tokens[place], values[place] = word, strength
        tokens[1] = f" level{round(100 * strength):05d}"
        stratum = Strata.interval(min(10, max(1, int(np.ceil(strength)))))
    else:
        tokens[1] = " level00000"
        stratum = Strata.SILENT if hard_by is None else Strata.HARD
    masked = np.arange(length) == 0
    return ActivationRecord(
        unit, Window(f"{unit.index}.{number}.{split}", 0, length), f"d{unit.index}.{number}", split,
        stratum, 1.0, tuple(tokens), values, masked, hard_by=hard_by,
    )  # fmt: skip


def statistics(maximum: float = 10.0) -> dict[Split, SplitStatistics]:
    """Of `explain`: the maximum that scales everything."""
    found = SplitStatistics(1000, 10, 100, 10, maximum, (0.0, 0.0, 0.0, 0.0), (), ())
    return {Split.EXPLAIN: found}


def record(
    n_active: int = 12, n_silent: int = 10, unit: UnitId = UNIT, word: str = " ANIMAL", **k: Any
) -> UnitRecord:
    """A unit with active windows over its whole range and silent ones of every kind."""
    kinds = (None, None, HardBy.BESIDE, HardBy.TOP_TOKEN)
    windows = [
        window(i, 0.5 + 9.5 * (i + 1) / n_active, unit=unit, word=word, **k)
        for i in range(n_active)
    ]
    windows += [
        window(10_000 + i, 0.0, unit=unit, hard_by=kinds[i % 4], **k) for i in range(n_silent)
    ]
    return UnitRecord(unit, tuple(windows), statistics())


def explanation(text: str = "animals", index: int = 0) -> Explanation:
    return Explanation(UnitId("made", index), "words", text, Status.OK, f"key {index}")


def job(unit: UnitRecord | None = None, *donors: str, n_others: int = 0) -> ScoreJob:
    """The own explanation is "animals"; the other units respond to other things."""
    names = ("HORN", "GLASS", "SNOW", "IRON", "SILK", "MOON")
    others = tuple(
        record(unit=UnitId("made", 1 + i), word=f" {names[i % 6]}") for i in range(n_others)
    )
    return ScoreJob(
        unit or record(),
        explanation(),
        tuple(explanation(text, 1 + i) for i, text in enumerate(donors)),
        *("judge", "judge", "key"),
        others,
    )


def asked(scorer: Any, what: ScoreJob) -> list[Request]:
    """The questions; none where there is nothing to ask."""
    try:
        return list(next(scorer.score(what)))
    except StopIteration:
        return []


def scored(scorer: Any, what: ScoreJob, judge: Judge) -> Score:
    """The score by a judge; malformed answers are asked for once more, as in a run."""
    steps = repairing(scorer.score(what))
    try:
        requests = next(steps)
        while True:
            requests = steps.send([response(judge(request)) for request in requests])
    except StopIteration as end:
        return end.value


def response(answer: Response | str) -> Response:
    if isinstance(answer, Response):
        return answer
    return Response(answer, ResponseStatus.OK, Usage(10, 0, 3), model="judge")


def question(request: Request) -> str:
    return request.messages[-1].content


def texts(request: Request) -> list[str]:
    """The texts in a question, in order."""
    return [
        text
        for _, text in re.findall(
            r"^<(text|first|second) \d+>(.*)</\1 \d+>$", question(request), re.M
        )
    ]


def things(request: Request) -> list[tuple[str, ...]]:
    """What one answer each is wanted about: texts, pairs of texts, or all texts of a trial."""
    found = texts(request)
    if "<first 1>" in question(request):
        return list(zip(found[::2], found[1::2], strict=True))
    if request.purpose == "intruder":
        return [tuple(found)]
    return [(text,) for text in found]


def level(text: str) -> int:
    found = re.search(r"level(\d+)", text)
    assert found is not None
    return int(found[1])


def truth(request: Request, thing: tuple[str, ...]) -> int:
    """The right answer, from the text alone."""
    if request.purpose == "detection":
        return int("ANIMAL" in thing[0])
    if request.purpose == "fuzzing":
        return int("<<ANIMAL>>" in thing[0])
    if request.purpose == "intruder":
        strange = [i for i, text in enumerate(thing, 1) if "ANIMAL" not in text]
        if strange:  # in a mixture, all of them
            return strange[0]
        levels = [level(text) for text in thing]
        return 1 + int(np.argmax([abs(v - np.median(levels)) for v in levels]))
    return 1 + int(level(thing[1]) > level(thing[0]))


def says(answers: Sequence[Any]) -> str:
    """An answer as JSON."""
    return json.dumps({"answers": list(answers)})


def options(request: Request) -> list[Any]:
    """All that can be answered about one thing."""
    assert request.schema is not None
    one = request.schema["properties"]["answers"]["items"]
    if one["type"] == "boolean":
        return [True, False]
    return list(range(one["minimum"], one["maximum"] + 1))


def judge_of(answer: Callable[[Request, tuple[str, ...], int], Any]) -> Judge:
    """A judge that answers about each thing by a rule of request, thing and place."""
    return lambda r: says([answer(r, thing, i) for i, thing in enumerate(things(r))])
