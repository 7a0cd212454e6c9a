from collections.abc import Generator
from dataclasses import dataclass

import pytest

from autointerp.llm import drive
from autointerp.records import AutointerpError


@dataclass(frozen=True)
class Ask:
    text: str


@dataclass(frozen=True)
class Count:
    number: int


class Log:
    """Handlers and callbacks that note what happens."""

    def __init__(self) -> None:
        self.batches: list[list] = []
        self.done: dict = {}
        self.errors: dict = {}
        self.order: list = []

    def handlers(self) -> dict:
        return {
            Ask: lambda batch: self._note(batch) or [ask.text.upper() for ask in batch],
            Count: lambda batch: self._note(batch) or [count.number + 1 for count in batch],
        }

    def _note(self, batch: list) -> None:
        self.batches.append(batch)

    def run(self, jobs: dict, batch_size: int = 16) -> None:
        drive(jobs, self.handlers(), self._done, self.errors.__setitem__, batch_size)

    def _done(self, key: object, result: object) -> None:
        self.done[key] = result
        self.order.append(key)


def asking(*rounds: list) -> Generator:
    answers = []
    for requests in rounds:
        answers.append((yield requests))
    return answers


def failing(*rounds: list) -> Generator:
    yield from asking(*rounds)
    raise AutointerpError("this unit cannot be explained")


def test_every_job_gets_its_own_answers_in_its_own_order():
    log = Log()
    jobs = {n: asking([Ask(f"a{n}"), Ask(f"b{n}")], [Ask(f"c{n}")]) for n in range(7)}
    log.run(jobs, batch_size=4)
    assert log.done == {n: [[f"A{n}", f"B{n}"], [f"C{n}"]] for n in range(7)}


def test_requests_of_two_types_go_to_their_own_handlers():
    log = Log()
    jobs = {n: asking([Ask(f"a{n}")], [Count(n), Count(n)], [Ask("b")]) for n in range(5)}
    jobs["other"] = asking([Count(10)])
    log.run(jobs)
    assert log.done["other"] == [[11]]
    assert all(log.done[n] == [[f"A{n}"], [n + 1, n + 1], ["B"]] for n in range(5))
    assert all(len({type(request) for request in batch}) == 1 for batch in log.batches)


def test_requests_of_many_jobs_share_batches():
    log = Log()
    log.run({n: asking([Ask("a")], [Ask("b")]) for n in range(32)}, batch_size=16)
    assert [len(batch) for batch in log.batches] == [16] * 4


def test_batches_never_exceed_their_size_and_long_lists_are_cut():
    log = Log()
    log.run({0: asking([Ask(str(i)) for i in range(10)]), 1: asking([Ask("x")])}, batch_size=4)
    assert [len(batch) for batch in log.batches] == [4, 4, 3]
    assert log.done[0] == [[str(i) for i in range(10)]]


def test_a_job_is_handed_over_before_later_ones_start():
    started = []

    def job(n: int) -> Generator:
        started.append(n)
        yield [Ask("a")]
        return len(started)

    log = Log()
    log.run({n: job(n) for n in range(10)}, batch_size=2)
    assert log.order == list(range(10))
    assert log.done[0] == 2, "only as many jobs run as fill a batch"


def test_jobs_without_requests_end_at_once():
    log = Log()
    log.run({0: asking(), 1: asking([]), 2: asking([], [Ask("a")], [])})
    assert log.done == {0: [], 1: [[]], 2: [[], ["A"], []]}


def test_no_jobs_are_no_trouble():
    Log().run({})


def test_one_jobs_error_fails_that_job_alone():
    log = Log()
    log.run({0: asking([Ask("a")]), 1: failing([Ask("b")]), 2: failing(), 3: asking([Ask("c")])})
    assert log.done == {0: [["A"]], 3: [["C"]]}
    assert sorted(log.errors) == [1, 2]
    assert "cannot be explained" in str(log.errors[1])


def test_a_bug_in_a_job_stops_everything_and_closes_the_others():
    closed = []

    def buggy() -> Generator:
        yield [Ask("a")]
        raise KeyError("bug")

    def patient() -> Generator:
        try:
            yield [Ask("a")]
            yield [Ask("b")]
        finally:
            closed.append(True)

    with pytest.raises(KeyError, match="bug"):
        Log().run({0: patient(), 1: buggy()})
    assert closed == [True]


def test_an_error_of_a_handler_stops_everything():
    def spent(_: list) -> list:
        raise AutointerpError("the budget is spent")

    log = Log()
    with pytest.raises(AutointerpError, match="budget"):
        drive({0: asking([Ask("a")])}, {Ask: spent}, log._done, log.errors.__setitem__)
    assert log.errors == {}


def test_types_without_a_handler_and_mixed_lists_are_bugs():
    with pytest.raises(TypeError, match="handlers for Ask, Count"):
        Log().run({"job": asking(["a string"])})
    with pytest.raises(TypeError, match="several types"):
        Log().run({"job": asking([Ask("a"), Count(1)])})


def test_a_handler_must_answer_every_request():
    with pytest.raises(ValueError, match="0 answers to 1"):
        drive({0: asking([Ask("a")])}, {Ask: lambda _: []}, lambda *_: None, lambda *_: None)
