"""What the explainers that ask a language model one question share: template, request, answer.

Each of them says what of a unit is shown (`Asking.shown`); a Jinja template in `prompts/` says how.
A template defines

    instructions    a macro of the explainer's settings: the system message
    question        a macro of what is shown: the user's message
    examples        a list of {"shown": {…}, "answer": "…", "reasoning": "…"}: earlier turns, the
                    same for all units, in which `shown` goes through `question`

Whatever the requests of a run have in common stands first.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from autointerp.explainers.base import Explaining, ExplainView, dead
from autointerp.explainers.windows import MARKER, details_of
from autointerp.explainers.words import NotAnExplanationError, parse_explanation
from autointerp.llm import Message, Request, Response, ResponseStatus, Usage
from autointerp.records import (
    ActivationRecord,
    Explanation,
    Status,
    UsageError,
    content_key,
    derived_seed,
)
from autointerp.templates import guarded, read_template

_PROBLEM = "cannot be used for explanations"
_REMEDY = "it must define the macros instructions and question, and examples"
_LANGUAGE = re.compile(r"[^\W\d_][^\W\d_ ()-]*(?:[ ()-]+[^\W\d_]+\)?){0,3}")
_MARKER_LINE = re.compile(
    rf"^[\s*#>_`-]*(?:{re.escape(MARKER[:-1])}[*_`]*:?[*_`]*[ \t]*)+", re.IGNORECASE | re.MULTILINE
)


_POINTED = re.compile(r'<<(.+?)>>|"((?:[^"\\\n]|\\.)*)"')
"""What a question points at."""

Reading = tuple[str | None, str]
"""The words in an answer, or `None` and the reason why it holds none."""


@dataclass(frozen=True)
class Shown:
    """What of a unit is shown to the language model."""

    fields: Mapping[str, Any]
    """For the template's `question`."""

    windows: Sequence[ActivationRecord] = ()
    """The windows among it, for the explanation's details."""

    details: Mapping[str, Any] = field(default_factory=dict)
    """What else the explanation's details should say."""


class Template:
    """A prompt read from a Jinja template; see the module's docstring."""

    def __init__(self, name: str) -> None:
        """Read it.

        Args:
            name: of a template in `prompts/`, or the path of a `.j2` file.

        Raises:
            AutointerpError: where there is no such template, or it lacks a piece.
        """
        self.name = name
        with guarded(name, _PROBLEM, _REMEDY):
            template = read_template(name)
            self.digest, self._pieces = template.digest, template.pieces
            self._examples = [(dict(e["shown"]), dict(e)) for e in self._pieces.examples]
            _ = self._pieces.instructions, self._pieces.question

    def instructions(self, **settings: Any) -> str:
        """The system message under some settings."""
        return " ".join(self._rendered("instructions", settings).split("\n"))

    def question(self, **shown: Any) -> str:
        """The user's message."""
        return self._rendered("question", shown)

    def examples(self, settings: Mapping[str, Any], *, marked: bool) -> list[tuple[str, str]]:
        """Earlier turns: question and answer, the answer after the marker where it is wanted."""
        return [
            (
                self.question(**{**shown, **settings}),
                (f"{example['reasoning']}\n" if settings.get("reasoning") else "")
                + (f"{MARKER} " if marked else "")
                + str(example["answer"]),
            )
            for shown, example in self._examples
        ]

    def _rendered(self, piece: str, values: Mapping[str, Any]) -> str:
        with guarded(self.name, _PROBLEM, _REMEDY):
            macro = getattr(self._pieces, piece)
            known = {name: value for name, value in values.items() if name in macro.arguments}
            return str(macro(**known)).strip("\n")


class Asking:
    """An explainer that shows a language model something of a unit and reads a short phrase.

    Subclasses set `kind`, `version` and `marked` and implement `shown`.
    """

    kind: str
    """The type in the config; also names the template `explain_KIND`."""

    version = 1
    """Raise when the same view and template give another request or another reading."""

    marked = False
    """Whether the explanation stands after `MARKER`, anything before it being left aside."""

    needs_llm = True

    touches_subject = False
    """Whether the live subject is asked."""

    def __init__(
        self,
        name: str = "",
        *,
        max_new_tokens: int = 40,
        temperature: float = 0.0,
        seed: int = 0,
        n_samples: int = 1,
        language: str | None = None,
        prompt: str | None = None,
        **settings: Any,
    ) -> None:
        """Set it up.

        Args:
            name: as in the config.
            max_new_tokens: longest answer.
            temperature: 0 for the likeliest answer.
            seed: of the sampling and of the choice of windows, together with the unit.
            n_samples: answers to the same question; the first that holds words is the explanation,
                all are kept in its details.
            language: that the explanation is written in; what the template is written in if `None`.
            prompt: name of a template, or the path of a `.j2` file.
            settings: the subclass's own; they reach the template and the fingerprint.

        Raises:
            UsageError: for a language that is none, or samples that would all be the same.
            AutointerpError: where the template cannot be used.
        """
        self.name = name or self.kind
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature
        self.seed = seed
        self.n_samples = checked_samples(self.name, n_samples, temperature)
        self.language = checked_language(self.name, language)
        self.settings = settings
        self.template = Template(prompt or f"explain_{self.kind}")
        self.instructions = self.template.instructions(**settings) + asked_language(language)
        self.examples = self.template.examples(settings, marked=self.marked)
        self.fingerprint = content_key(
            "explainer",
            type=self.kind,
            version=self.version,
            prompt=self.template.digest,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
            n_samples=n_samples,
            language=language,
            **settings,
        )

    def shown(self, view: ExplainView) -> Shown | str:
        """What is shown of a living unit, or the reason why there is too little to show."""
        raise NotImplementedError

    def shown_or_not(self, view: ExplainView, key: str) -> Shown | Explanation:
        """What is shown, or the explanation that says why there is none."""
        unexplained = dead(view, self.name, key)
        if unexplained is not None:
            return unexplained
        shown = self.shown(view)
        if isinstance(shown, str):
            return Explanation(view.unit, self.name, None, Status.INSUFFICIENT_DATA, key, shown)
        return shown

    def explain(self, view: ExplainView, key: str) -> Explaining:
        """Ask for a short phrase. See `Explainer.explain`."""
        shown = self.shown_or_not(view, key)
        if isinstance(shown, Explanation):
            return shown
        responses = yield [self.request(view, shown, n) for n in range(self.n_samples)]
        return self.explained(view, key, shown, responses)

    def question(self, shown: Shown) -> str:
        """What the user's last message says."""
        return self.template.question(**{**shown.fields, **self.settings})

    def request(self, view: ExplainView, shown: Shown, sample: int = 0) -> Request:
        """The request about a unit."""
        messages = [Message("system", self.instructions)]
        for asked, answer in self.examples:
            messages += [Message("user", asked), Message("assistant", answer)]
        sampled = self.temperature > 0
        return Request(
            messages=(*messages, Message("user", self.question(shown))),
            max_tokens=self.max_new_tokens,
            temperature=self.temperature,
            sample=sample,
            seed=derived_seed(self.seed, "explain", view.unit) if sampled else 0,
            purpose="explain",
            shared=len(messages),
        )

    def explained(
        self, view: ExplainView, key: str, shown: Shown, responses: Sequence[Response]
    ) -> Explanation:
        """The first explanation among the answers, or why there is none."""
        readings = [self.read(response, shown) for response in responses]
        details = {
            **details_of_answers([[reading] for reading in readings], responses),
            "sequences": details_of(shown.windows),
            **shown.details,
        }
        text, reason = first_readable(readings)
        status = Status.FAILED if text is None else Status.OK
        return Explanation(view.unit, self.name, text, status, key, reason, details)

    def read(self, response: Response, shown: Shown) -> Reading:
        """The words in one answer, or `None` and the reason why there are none."""
        text, reason = read_answer(response, self.instructions, marked=self.marked)
        examples = [(asked, answer.split(MARKER)[-1]) for asked, answer in self.examples]
        return own_words((text, reason), self.question(shown), examples)


def own_words(reading: Reading, question: str, examples: Sequence[tuple[str, str]]) -> Reading:
    """A reading, refused where it is a worked example's answer: small models copy them.

    A unit that shares a token with the example may be explained so.

    Args:
        reading: of an answer.
        question: about the unit.
        examples: question and answer of each worked example.
    """
    text, _ = reading
    if text is None:
        return reading
    own = _pointed_at(question)
    if any(
        text.casefold() == answer.strip().casefold() and not own & _pointed_at(asked)
        for asked, answer in examples
    ):
        return None, "the answer repeats that of a worked example"
    return reading


def _pointed_at(question: str) -> set[str]:
    """The words between highlights' delimiters or quotation marks."""
    found = _POINTED.findall(question)
    return {word for parts in found for part in parts for word in part.casefold().split()}


def read_answer(response: Response, asked: str, *, marked: bool = False) -> Reading:
    """The explanation in an answer, or `None` and the reason why there is none."""
    if response.text is None or response.status not in (
        ResponseStatus.OK,
        ResponseStatus.TRUNCATED,
    ):
        known = response.reason or "nothing else is known"
        return None, f"the model's answer is {response.status}: {known}"
    truncated = response.status is ResponseStatus.TRUNCATED
    try:
        text = response.text
        if marked or _MARKER_LINE.search(text):
            text = after_marker(text)
        return parse_explanation(text, asked, truncated=truncated), ""
    except NotAnExplanationError as error:
        return None, str(error)


def after_marker(answer: str) -> str:
    """What follows the last marker that begins a line.

    The first would do no better than the last: a model that thinks aloud rejects explanations, too.

    Raises:
        NotAnExplanationError: where there is no marker; then nothing says which part is meant.
    """
    if not answer.strip():
        raise NotAnExplanationError("the answer is empty")
    ends = [match.end() for match in _MARKER_LINE.finditer(answer)]
    if not ends:
        raise NotAnExplanationError(f"no line of the answer begins with {MARKER}")
    return answer[ends[-1] :]


def first_readable(readings: Sequence[Reading]) -> Reading:
    """The first words among readings, or the reason why the first has none."""
    return next((reading for reading in readings if reading[0] is not None), readings[0])


def details_of_answers(
    readings: Sequence[Sequence[Reading]], responses: Sequence[Response]
) -> dict[str, Any]:
    """What an explanation's details say of the answers: their texts, tokens and model.

    Args:
        readings: per answer the explanations in it; several in a numbered list.
        responses: the answers.
    """
    texts = [any(text is not None for text, _ in found) for found in readings]
    chosen = texts.index(True) if True in texts else 0
    details: dict[str, Any] = {
        "answer": responses[chosen].text,
        "usage": summed_usage([response.usage for response in responses]),
        "model": responses[chosen].model,
    }
    if sum(map(len, readings)) > 1:
        details["candidates"] = [
            {"text": text, "reason": reason, "answer": response.text}
            for found, response in zip(readings, responses, strict=True)
            for text, reason in found
        ]
    return details


def summed_usage(parts: Sequence[Usage]) -> dict[str, int]:
    """Tokens of several answers together."""
    counts = [asdict(part) for part in parts]
    return {name: sum(count[name] for count in counts) for name in asdict(Usage())}


def checked_samples(name: str, n_samples: int, temperature: float) -> int:
    """A number of samples.

    Raises:
        UsageError: where the samples would all be the same.
    """
    if n_samples > 1 and temperature <= 0:
        raise UsageError(
            f"explainer {name!r}: n_samples {n_samples} of the likeliest answer are all the same: "
            "set temperature above 0"
        )
    return n_samples


def checked_language(name: str, language: str | None) -> str | None:
    """A language's name.

    Raises:
        UsageError: where it is none: it becomes a part of the instructions.
    """
    if language is not None and (len(language) > 40 or not _LANGUAGE.fullmatch(language)):
        raise UsageError(
            f"explainer {name!r}: language {language[:60]!r} is not the name of a language: write "
            "one such as German or Brazilian Portuguese"
        )
    return language


def asked_language(language: str | None) -> str:
    """The sentence that asks for a language; nothing where none is asked for."""
    if language is None:
        return ""
    return f" Write the explanation in {language}, whatever language the examples are in."
