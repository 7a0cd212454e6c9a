"""Revises an explanation by texts that are run (Bills et al. 2023, "Revisions").

The language model explains the unit from highlighted windows. Then, for one to three rounds, it
proposes texts on which a unit so explained should respond and texts, as near as can be, on which it
should not; the subject reads them, and the language model sees what the unit truly did and says
what the unit responds to after all. A round whose answers cannot be used leaves the words as they
are; the explanation's details tell the whole story.
"""

from collections.abc import Generator, Sequence
from typing import Any

import numpy as np

from autointerp.explainers.asking import Template, read_answer, summed_usage
from autointerp.explainers.base import ExplainView
from autointerp.explainers.highlights import Highlights
from autointerp.explainers.windows import highlighted_where
from autointerp.llm import Message, Request, Response, ResponseStatus
from autointerp.llm.capabilities import Needs
from autointerp.llm.schemas import MalformedAnswerError, parse_answer
from autointerp.records import Explanation, Status, UsageError, content_key, derived_seed
from autointerp.subject.requests import Activated, ActivationRequest

_VERSION = 2

MAX_ROUNDS = 3

FIRES_AT = 0.01
"""The unit responds to a text where it passes this share of its maximum in `explain`."""

HIGHLIGHT_AT = 0.3
"""Tokens above this share of a text's maximum stand between `<<` and `>>`."""


def proposal_schema(n: int) -> dict[str, Any]:
    """Texts of both kinds."""
    texts = {"type": "array", "items": {"type": "string", "minLength": 1}, "maxItems": n}
    return {
        "type": "object",
        "properties": {"fires": {**texts, "minItems": n}, "silent": {**texts, "minItems": n}},
        "required": ["fires", "silent"],
        "additionalProperties": False,
    }


class Revision(Highlights):
    """Explains as `highlights` does, then revises by texts that the subject reads."""

    kind = "revision"
    touches_subject = True

    def __init__(
        self,
        name: str = "",
        *,
        n_rounds: int = 2,
        n_texts: int = 5,
        prompt: str | None = None,
        **common: Any,
    ) -> None:
        """Set it up; see `Highlights` for what is shown first.

        Args:
            name: as in the config.
            n_rounds: of proposing, running and revising; 1 to 3.
            n_texts: proposed of either kind.
            prompt: template of the first explanation.
            common: see `Highlights`.

        Raises:
            UsageError: for a number of rounds out of range.
        """
        super().__init__(name, prompt=prompt or "explain_highlights", **common)
        if not 1 <= n_rounds <= MAX_ROUNDS:
            raise UsageError(
                f"explainer {self.name!r}: n_rounds is {n_rounds}; set 1 to {MAX_ROUNDS}"
            )
        self.n_rounds, self.n_texts = n_rounds, n_texts
        self.proposing = Template("explain_revision_propose")
        self.revising = Template("explain_revision_revise")
        self.fingerprint = content_key(
            "explainer",
            first=self.fingerprint,
            version=_VERSION,
            n_rounds=n_rounds,
            n_texts=n_texts,
            prompts=[self.proposing.digest, self.revising.digest],
        )

    @property
    def needs(self) -> Needs:
        """Texts come as JSON."""
        return Needs(json_schema=True)

    def explain(
        self, view: ExplainView, key: str
    ) -> Generator[Sequence[Any], Sequence[Any], Explanation]:
        """Explain, then propose, run and revise. See `Explainer.explain`."""
        shown = self.shown_or_not(view, key)
        if isinstance(shown, Explanation):
            return shown
        responses: list[Response] = list(
            (yield [self.request(view, shown, n) for n in range(self.n_samples)])
        )
        first = self.explained(view, key, shown, responses)
        if first.text is None:
            return first
        text = first.text
        story: list[dict[str, Any]] = [{"text": text}]
        for number in range(self.n_rounds):
            (answer,) = yield [self._propose(view, text, number)]
            responses.append(answer)
            texts = self._texts(answer)
            if texts is None:
                story.append({"problem": "the proposed texts cannot be read"})
                continue
            (found,) = yield [ActivationRequest(view.unit, texts)]
            tests = [
                {"text": text, "level": level, "expected": place < self.n_texts}
                for place, one in enumerate(found)
                for text, level in [outcome(one, view.maximum)]
            ]
            (answer,) = yield [self._revise(view, text, tests, number)]
            responses.append(answer)
            revised, reason = read_answer(answer, self.instructions, marked=False)
            story.append({"tests": tests, "text": revised, "problem": reason})
            text = revised or text
        details = {
            **first.details,
            "usage": summed_usage([one.usage for one in responses]),
            "rounds": story,
        }
        return Explanation(view.unit, self.name, text, Status.OK, key, details=details)

    def _propose(self, view: ExplainView, text: str, number: int) -> Request:
        shown = self.proposing.question(explanation=text, n=self.n_texts)
        messages = _conversation(self.proposing, shown)
        return Request(
            messages,
            max_tokens=100 * self.n_texts,
            temperature=self.temperature,
            seed=derived_seed(self.seed, "propose", view.unit, number) if self.temperature else 0,
            purpose="explain",
            schema=proposal_schema(self.n_texts),
            shared=len(messages) - 1,
        )

    def _revise(
        self, view: ExplainView, text: str, tests: Sequence[dict[str, Any]], number: int
    ) -> Request:
        shown = self.revising.question(explanation=text, tests=tests)
        messages = _conversation(self.revising, shown)
        return Request(
            messages,
            max_tokens=self.max_new_tokens,
            temperature=self.temperature,
            seed=derived_seed(self.seed, "revise", view.unit, number) if self.temperature else 0,
            purpose="explain",
            shared=len(messages) - 1,
        )

    def _texts(self, answer: Response) -> tuple[str, ...] | None:
        """Proposed texts, those that should fire first; `None` where they cannot be read."""
        if answer.status is not ResponseStatus.OK or answer.text is None:
            return None
        try:
            found = parse_answer(answer.text, proposal_schema(self.n_texts))
        except MalformedAnswerError:
            return None
        return tuple(map(str, (*found["fires"], *found["silent"])))


def outcome(found: Activated, maximum: float) -> tuple[str, int]:
    """A text that was run, as a question shows it, and how strongly the unit responded.

    Args:
        found: what the unit did on it.
        maximum: the unit's largest activation in `explain`.

    Returns:
        The text on one line, strong tokens between `<<` and `>>`, and a level: 0 up to `FIRES_AT`
        of the maximum, else min(10, floor(10 · a / maximum)), at least 1.
    """
    values = np.where(found.masked, 0.0, found.activations)
    largest = float(values.max(initial=0.0))
    fired = largest > FIRES_AT * maximum
    strong = (values >= HIGHLIGHT_AT * largest) & (values > 0) & fired
    level = min(10, max(1, int(10 * largest / maximum))) if fired else 0
    return highlighted_where(found.tokens, strong), level


def _conversation(template: Template, question: str) -> tuple[Message, ...]:
    messages = [Message("system", template.instructions())]
    for asked, answer in template.examples({}, marked=False):
        messages += [Message("user", asked), Message("assistant", answer)]
    return (*messages, Message("user", question))
