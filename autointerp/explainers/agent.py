"""Explains by experiments: hypotheses, texts that test them on the live subject, a budget.

The form of SAGE (arXiv 2511.20820: hypotheses, targeted tests, refinement, at most 14 rounds) and
of MAIA: in every round the language model says what it holds possible and which texts would tell;
the subject reads them, and what the unit truly did joins the evidence. When nothing is left to
test, or the budget of rounds or of texts is spent, it is asked for the explanation, which is what
follows the last `[EXPLANATION]:` that begins a line.

It sees windows of `explain`, and its own texts. Hypotheses and evidence stay in the details.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from autointerp.explainers.asking import Shown, read_answer, summed_usage
from autointerp.explainers.base import ExplainView
from autointerp.explainers.highlights import Highlights
from autointerp.explainers.revision import outcome
from autointerp.explainers.windows import details_of, escaped
from autointerp.explainers.words import shown_token
from autointerp.llm import Message, Request, Response, ResponseStatus
from autointerp.llm.capabilities import Needs
from autointerp.llm.schemas import MalformedAnswerError, parse_answer
from autointerp.records import Explanation, Status, UsageError, content_key, derived_seed
from autointerp.subject.requests import Activated, ActivationRequest

_VERSION = 1

MAX_ROUNDS = 20

MAX_UNREADABLE = 2
"""So many unusable answers in a row end the experiments."""

MAX_HYPOTHESES = 5

_LONGEST_SHOWN = 300
"""Characters of a hypothesis or a problem that are shown again."""


def experiment_schema(n_texts: int) -> dict[str, Any]:
    """Hypotheses with verdicts, and tests, perhaps none."""
    hypothesis = {
        "says": {"type": "string", "minLength": 1},
        "verdict": {"type": "string", "enum": ["open", "supported", "refuted"]},
    }
    test = {
        "text": {"type": "string", "minLength": 1},
        "hypothesis": {"type": "integer", "minimum": 1, "maximum": MAX_HYPOTHESES},
        "fires": {"type": "boolean"},
    }
    return _object(
        {
            "hypotheses": {
                "type": "array",
                "items": _object(hypothesis),
                "minItems": 1,
                "maxItems": MAX_HYPOTHESES,
            },
            # A few more than asked for are no reason to throw all away.
            "tests": {"type": "array", "items": _object(test), "maxItems": max(3, 2 * n_texts)},
        }
    )


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


@dataclass
class _Notebook:
    """What one unit's experiments have come to."""

    shown: Shown
    """The windows that every turn begins with."""

    hypotheses: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Of the last answer that could be read."""

    evidence: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Every text that was run, with what was expected and what happened."""

    rounds: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Per round its hypotheses, the numbers of its tests, or why its answer was of no use."""

    responses: list[Response] = field(default_factory=list[Response])

    problem: str = ""
    """Why the last answer could not be used."""

    n_unreadable: int = 0
    """Unusable answers in a row."""

    stopped: str = ""
    """Why the experiments ended."""


class Agent(Highlights):
    """Tests hypotheses on texts of its own until its budget is spent, then explains."""

    kind = "agent"
    touches_subject = True
    version = _VERSION

    def __init__(
        self,
        name: str = "",
        *,
        n_rounds: int = 6,
        n_texts: int = 6,
        text_budget: int = 24,
        n_windows: int = 20,
        **common: Any,
    ) -> None:
        """Set it up; see `Highlights` for what is shown first.

        Args:
            name: as in the config.
            n_rounds: most rounds of hypotheses and tests; 1 to 20.
            n_texts: most texts run in one round.
            text_budget: most texts run in all.
            n_windows: most windows shown.
            common: see `Highlights`.

        Raises:
            UsageError: for a number of rounds out of range.
        """
        super().__init__(name, n_windows=n_windows, reasoning=True, **common)
        if not 1 <= n_rounds <= MAX_ROUNDS:
            raise UsageError(
                f"explainer {self.name!r}: n_rounds is {n_rounds}; set 1 to {MAX_ROUNDS}"
            )
        self.n_rounds, self.n_texts, self.text_budget = n_rounds, n_texts, text_budget
        self.fingerprint = content_key(
            "explainer",
            first=self.fingerprint,
            n_rounds=n_rounds,
            n_texts=n_texts,
            text_budget=text_budget,
        )

    @property
    def needs(self) -> Needs:
        """Hypotheses and tests come as JSON."""
        return Needs(json_schema=True)

    def explain(
        self, view: ExplainView, key: str
    ) -> Generator[Sequence[Any], Sequence[Any], Explanation]:
        """Experiment, then explain. See `Explainer.explain`."""
        shown = self.shown_or_not(view, key)
        if isinstance(shown, Explanation):
            return shown
        book = _Notebook(shown)
        while not book.stopped:
            (answer,) = yield [self._turn(view, book)]
            tests = self._noted(book, answer)
            if tests:
                texts = tuple(test["text"] for test in tests)
                (found,) = yield [ActivationRequest(view.unit, texts)]
                self._observed(view, book, tests, found)
            book.stopped = book.stopped or self._spent(book)
        request = self._last_turn(view, book)
        (answer,) = yield [request]
        book.responses.append(answer)
        text, reason = read_answer(answer, self.instructions, marked=True)
        if text is None and answer.status is ResponseStatus.OK and answer.text:
            (answer,) = yield [_asked_again(request, answer.text, reason)]
            book.responses.append(answer)
            text, reason = read_answer(answer, self.instructions, marked=True)
        status = Status.FAILED if text is None else Status.OK
        details = _details(book, answer)
        return Explanation(view.unit, self.name, text, status, key, reason, details)

    # ------------------------------------------------------------------ what is asked

    def _turn(self, view: ExplainView, book: _Notebook) -> Request:
        return replace(
            self._asked(view, book, final=False),
            max_tokens=200 + 60 * self.n_texts,
            schema=experiment_schema(self.n_texts),
        )

    def _last_turn(self, view: ExplainView, book: _Notebook) -> Request:
        return self._asked(view, book, final=True)

    def _asked(self, view: ExplainView, book: _Notebook, *, final: bool) -> Request:
        texts_left = self.text_budget - len(book.evidence)
        question = self.template.question(
            **book.shown.fields,
            values=self.values,
            tests=book.evidence,
            hypotheses=[
                {"shown": _one_line(one["says"]), "verdict": one["verdict"]}
                for one in book.hypotheses
            ],
            n_texts=min(self.n_texts, texts_left),
            rounds_left=self.n_rounds - len(book.rounds),
            texts_left=texts_left,
            problem=_one_line(book.problem),
            final=final,
        )
        number = len(book.rounds)
        return Request(
            (Message("system", self.instructions), Message("user", question)),
            max_tokens=self.max_new_tokens,
            temperature=self.temperature,
            seed=derived_seed(self.seed, "agent", view.unit, number) if self.temperature else 0,
            purpose="explain",
            shared=1,
        )

    # ------------------------------------------------------------------ what is made of it

    def _noted(self, book: _Notebook, answer: Response) -> list[dict[str, Any]]:
        """Take down a round's hypotheses; returns the tests that are to be run."""
        book.responses.append(answer)
        try:
            said = self._read(answer)
        except MalformedAnswerError as error:
            book.problem = str(error)
            book.n_unreadable += 1
            book.rounds.append({"problem": book.problem})
            return []
        book.problem, book.n_unreadable = "", 0
        book.hypotheses = said["hypotheses"]
        left = min(self.n_texts, self.text_budget - len(book.evidence))
        tests = [test for test in said["tests"] if test["text"].strip()][:left]
        first = len(book.evidence) + 1
        numbers = list(range(first, first + len(tests)))
        book.rounds.append({"hypotheses": book.hypotheses, "tests": numbers})
        if not tests:
            book.stopped = "nothing was left to test"
        return tests

    def _read(self, answer: Response) -> dict[str, Any]:
        if answer.status is not ResponseStatus.OK or answer.text is None:
            raise MalformedAnswerError(answer.reason or f"the answer is {answer.status}")
        return parse_answer(answer.text, experiment_schema(self.n_texts))

    def _observed(
        self,
        view: ExplainView,
        book: _Notebook,
        tests: Sequence[dict[str, Any]],
        found: Sequence[Activated],
    ) -> None:
        """Add what the unit did to the evidence."""
        for test, one in zip(tests, found, strict=True):
            shown, level = outcome(one, view.maximum)
            place = test["hypothesis"] - 1
            known = place < len(book.hypotheses)
            book.evidence.append(
                {
                    "number": len(book.evidence) + 1,
                    "round": len(book.rounds),
                    "hypothesis": book.hypotheses[place]["says"] if known else None,
                    "text": test["text"],
                    "shown": shown,
                    "expected": test["fires"],
                    "level": level,
                    "as_expected": test["fires"] == (level > 0),
                }
            )

    def _spent(self, book: _Notebook) -> str:
        """Why no further round is allowed; nothing where one is."""
        if book.n_unreadable >= MAX_UNREADABLE:
            return f"{MAX_UNREADABLE} answers in a row could not be used"
        if len(book.evidence) >= self.text_budget:
            return "the budget of texts was spent"
        return "the budget of rounds was spent" if len(book.rounds) >= self.n_rounds else ""


def _asked_again(request: Request, answer: str, reason: str) -> Request:
    """The last turn once more, after an answer without an explanation."""
    again = (
        f"That cannot be used: {_one_line(reason)}. Answer with one line that begins with "
        "[EXPLANATION]: and goes on with a short phrase that says what the unit responds to."
    )
    turns = (Message("assistant", answer[:4000]), Message("user", again))
    return replace(request, messages=(*request.messages, *turns))


def _details(book: _Notebook, last: Response) -> dict[str, Any]:
    return {
        "answer": last.text,
        "usage": summed_usage([response.usage for response in book.responses]),
        "model": last.model,
        "sequences": details_of(book.shown.windows),
        **book.shown.details,
        "rounds": book.rounds,
        "evidence": book.evidence,
        "stopped": book.stopped,
    }


def _one_line(text: str) -> str:
    """What a language model said, as a question repeats it."""
    return escaped(shown_token(" ".join(text.split())))[:_LONGEST_SHOWN]
