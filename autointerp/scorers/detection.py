"""Score an explanation by detection (Paulo et al. 2024): a judge says which texts it fits.

A judge sees the explanation and windows of the unit's `test` split, without any marks, and answers
yes or no for each. Positives are the windows of the active strata, negatives the silent and the
hard ones, which recording has verified to be silent. All windows are shuffled and shown in groups,
so that a group's number of positives varies and its order says nothing.

    score = average precision (AUPRC) of the answers; chance is the share of positives
    lift  = score(own explanation) - mean over donors of score(donor's explanation)

on the same windows in the same groups. An answer that cannot be used leaves its windows without a
prediction; they are left out of own score and controls alike, and counted.
"""

import hashlib
import json
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt

from autointerp import resources, stats
from autointerp.explainers.words import shown_token
from autointerp.llm import Message, Request, Response, ResponseStatus
from autointerp.llm.schemas import MalformedAnswerError, parse_answer
from autointerp.records import (
    ActivationRecord,
    AutointerpError,
    ControlScore,
    Explanation,
    Interval,
    Score,
    Split,
    Status,
    Strata,
    content_key,
    derived_seed,
)
from autointerp.scorers.simulation import ScoreJob

VERSION = 1
"""Raise when the same answers give another score, or the same windows other questions."""

MIN_KNOWN_SHARE = 0.5
"""A donor must have answers for this share of the windows that the own explanation has."""

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DetectionPrompt:
    """The pieces of a detection prompt, from a Jinja template that defines them by these names."""

    digest: str
    """Hash of the template's source."""

    instructions: str
    question: Callable[[str, Sequence[str]], str]
    """Shows an explanation and texts."""

    examples: tuple[tuple[str, tuple[str, ...], tuple[bool, ...]], ...]
    """The few-shot: explanation, texts, answers."""


def load_prompt(name: str) -> DetectionPrompt:
    """Read a detection prompt.

    Args:
        name: of a template in `prompts/`, or the path of a `.j2` file.

    Raises:
        AutointerpError: where there is no such template, or it lacks a piece.
    """
    file = Path(name) if name.endswith(".j2") else resources.path(f"prompts/{name}.j2")
    try:
        source = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AutointerpError(f"prompt {name!r} cannot be read: {error}") from error
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    try:
        pieces: Any = environment.from_string(source).module
        return DetectionPrompt(
            digest=hashlib.blake2b(source.encode(), digest_size=16).hexdigest(),
            instructions=str(pieces.instructions).strip(),
            question=lambda text, texts: str(pieces.question(text, texts)).strip("\n"),
            examples=tuple(
                (str(e["explanation"]), tuple(map(str, e["texts"])), tuple(map(bool, e["answers"])))
                for e in pieces.examples
            ),
        )
    except (jinja2.TemplateError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise AutointerpError(
            f"prompt {name!r} is not a detection prompt: {error}; it must define instructions, "
            "question(explanation, texts) and examples"
        ) from error


def answer_schema(n: int) -> dict[str, Any]:
    """What an answer about `n` texts looks like."""
    items = {"type": "array", "items": {"type": "boolean"}, "minItems": n, "maxItems": n}
    return {
        "type": "object",
        "properties": {"answers": items},
        "required": ["answers"],
        "additionalProperties": False,
    }


@dataclass(frozen=True)
class DetectionScorer:
    """Scores by detection on the `test` windows of the partition (`random` is left out)."""

    design: str
    """Name of the sampling design the windows came from."""

    name: str = "detection"
    n_per_prompt: int = 5
    """Texts in one question."""

    min_active_documents: int = 4
    n_replicates: int = 1000
    seed: int = 0
    split: Split = Split.TEST
    prompt_name: str = "detection"

    @cached_property
    def prompt(self) -> DetectionPrompt:
        """The template."""
        return load_prompt(self.prompt_name)

    def identity(self) -> dict[str, Any]:
        """What a score depends on besides its inputs."""
        return {
            "version": VERSION,
            "prompt": self.prompt.digest,
            "design": self.design,
            "n_per_prompt": self.n_per_prompt,
            "min_active_documents": self.min_active_documents,
            "n_replicates": self.n_replicates,
            "seed": self.seed,
            "split": str(self.split),
            "name": self.name,
        }

    def windows(self, job: ScoreJob) -> tuple[ActivationRecord, ...]:
        """The windows that are scored, neighbouring strata adjacent."""
        own = job.record.of(self.split)
        return tuple(r for r in own if r.stratum != Strata.RANDOM and not r.masked.all())

    def score(self, job: ScoreJob) -> Generator[Sequence[Request], Sequence[Response], Score]:
        """Ask about every window under the own and the donors' explanations; return the score."""
        windows = self.windows(job)
        positive = np.array([Strata.is_active(w.stratum) for w in windows], bool)
        active = {w.document_id for w in windows if Strata.is_active(w.stratum)}
        problem = self._problem(job, len(active), positive)
        if problem is not None:
            return self._missing(job, windows, *problem)
        groups = self._groups(job, len(windows))
        texts = [job.explanation.text or "", *(donor.text or "" for donor in job.donors)]
        requests = [
            self.request(text, [windows[i] for i in group]) for text in texts for group in groups
        ]
        answers = yield requests
        predicted, reasons = _predictions(requests, answers, groups, len(texts), len(windows))
        return self._score(job, windows, positive, predicted, reasons, answers)

    def request(self, explanation: str, windows: Sequence[ActivationRecord]) -> Request:
        """The question about some windows."""
        messages = [Message("system", self.prompt.instructions)]
        for words, texts, answers in self.prompt.examples:
            messages += [
                Message("user", self.prompt.question(words, texts)),
                Message("assistant", json.dumps({"answers": list(answers)})),
            ]
        n_shared = len(messages)
        texts = [_shown(window) for window in windows]
        messages.append(Message("user", self.prompt.question(explanation, texts)))
        return Request(
            messages=tuple(messages),
            max_tokens=24 + 8 * len(windows),
            purpose="detect",
            schema=answer_schema(len(windows)),
            shared=n_shared,
        )

    def _groups(self, job: ScoreJob, n: int) -> list[list[int]]:
        """Places of windows, shuffled and cut: the same for own explanation and donors."""
        generator = np.random.default_rng(derived_seed(self.seed, "detection", job.record.unit))
        order = generator.permutation(n).tolist()
        return [order[i : i + self.n_per_prompt] for i in range(0, n, self.n_per_prompt)]

    def _problem(
        self, job: ScoreJob, n_active: int, positive: npt.NDArray[np.bool_]
    ) -> tuple[Status, str] | None:
        if job.explanation.status != Status.OK or job.explanation.text is None:
            return job.explanation.status, job.explanation.reason
        if n_active < self.min_active_documents:
            return (
                Status.INSUFFICIENT_DATA,
                f"active in {n_active} sampled {self.split} documents, "
                f"{self.min_active_documents} needed",
            )
        if positive.all():
            return Status.INSUFFICIENT_DATA, f"no silent window among {len(positive)} to tell apart"
        return None

    def _missing(
        self, job: ScoreJob, windows: Sequence[ActivationRecord], status: Status, reason: str
    ) -> Score:
        return Score(**self._identity(job, windows), value=None, status=status, reason=reason)

    def _identity(self, job: ScoreJob, windows: Sequence[ActivationRecord]) -> dict[str, Any]:
        return {
            "unit": job.record.unit,
            "explanation_key": job.explanation.key,
            "explainer": job.explanation.explainer,
            "scorer": self.name,
            "simulator": job.simulator,
            "key": job.key,
            "split": self.split,
            "design": self.design,
            "n_windows": len(windows),
            "n_documents": len({w.document_id for w in windows}),
            "n_active_documents": len(
                {w.document_id for w in windows if Strata.is_active(w.stratum)}
            ),
        }

    def _score(
        self,
        job: ScoreJob,
        windows: Sequence[ActivationRecord],
        positive: npt.NDArray[np.bool_],
        predicted: list[FloatArray],
        reasons: list[str],
        answers: Sequence[Response],
    ) -> Score:
        known = [~np.isnan(one) for one in predicted]
        usable = [
            int((k & known[0]).sum()) >= MIN_KNOWN_SHARE * max(1, int(known[0].sum()))
            for k in known[1:]
        ]
        kept = np.logical_and.reduce([known[0], *(k for k, u in zip(known[1:], usable, strict=True)
                                                  if u)])  # fmt: skip
        n_unknown = int((~kept).sum())
        facts = self._identity(job, windows)
        labels = positive[kept]
        if not labels.any() or labels.all():
            reason = (
                f"{n_unknown} of {len(windows)} windows have no usable answer and the others do "
                f"not differ; the first reason: {reasons[0] if reasons else 'unknown'}"
            )
            return Score(**facts, value=None, status=Status.FAILED, reason=reason)
        own = predicted[0][kept]
        donors = [one[kept] if u else None for one, u in zip(predicted[1:], usable, strict=True)]
        controls = tuple(
            _control(labels, one, donor) for one, donor in zip(donors, job.donors, strict=True)
        )
        values = [c.value for c in controls if c.value is not None]
        result = stats.auprc(labels, own)
        assert result.value is not None
        lift = result.value - float(np.mean(values)) if values else None
        interval, lift_interval = self._intervals(
            job, [w for w, k in zip(windows, kept, strict=True) if k], labels, own,
            [one for one in donors if one is not None],
        )  # fmt: skip
        spent = [answer.usage for answer in answers]
        return Score(
            **facts,
            value=result.value,
            status=result.status,
            interval=interval,
            controls=controls,
            control_mean=float(np.mean(values)) if values else None,
            lift=lift,
            lift_interval=lift_interval if values else None,
            reason="the judge gave the same answer for every text"
            if result.status == Status.CONSTANT_PREDICTION
            else "",
            details={
                "auprc": result.value,
                "f1": stats.f1(labels, own).value,
                "auroc": stats.auroc(labels, own).value,
                "balanced_accuracy": stats.balanced_accuracy(labels, own).value,
                "prevalence": result.prevalence,
                "n_positive": int(labels.sum()),
                "n_negative": int((~labels).sum()),
                "n_hard": sum(w.stratum == Strata.HARD for w in windows),
                "n_unanswered_windows": n_unknown,
                "reasons": sorted(set(reasons))[:3],
                "input_tokens": sum(u.input_tokens for u in spent),
                "output_tokens": sum(u.output_tokens for u in spent),
            },
        )

    def _intervals(
        self,
        job: ScoreJob,
        windows: Sequence[ActivationRecord],
        labels: npt.NDArray[np.bool_],
        own: FloatArray,
        donors: Sequence[FloatArray],
    ) -> tuple[Interval | None, Interval | None]:
        """Intervals of score and lift: documents are resampled within strata (Rao-Wu)."""
        strata = [w.stratum for w in windows]
        clusters = [w.document_id for w in windows]
        seed = derived_seed(self.seed, "bootstrap", job.record.unit)
        options: dict[str, Any] = {"n_replicates": self.n_replicates, "seed": seed}
        score = stats.stratified_bootstrap(
            lambda w: weighted_auprc(w, labels, own), strata, clusters, bounds=(0, 1), **options
        )
        if not donors:
            return _plain(score), None

        def lift(w: FloatArray) -> FloatArray:
            others = np.mean([weighted_auprc(w, labels, one) for one in donors], axis=0)
            return weighted_auprc(w, labels, own) - others

        return _plain(score), _plain(
            stats.stratified_bootstrap(lift, strata, clusters, bounds=(-1, 1), **options)
        )


def weighted_auprc(
    weights: FloatArray, labels: npt.NDArray[np.bool_], answers: FloatArray
) -> FloatArray:
    """Average precision of yes-or-no answers to weighted items.

    There are two thresholds only: AP = R P + (1 - R) π, R and P recall and precision of the yes
    answers and π the share of positives.

    Args:
        weights: [n_replicates, n_items] >= 0.
        labels: [n_items].
        answers: [n_items] 0 or 1.

    Returns:
        [n_replicates]; 0 where no positive has weight.
    """
    yes = answers > 0.5
    total = weights.sum(1)
    positives = weights @ labels
    true_yes, all_yes = weights @ (labels & yes), weights @ yes
    recall = np.divide(true_yes, positives, out=np.zeros_like(total), where=positives > 0)
    precision = np.divide(true_yes, all_yes, out=np.zeros_like(total), where=all_yes > 0)
    share = np.divide(positives, total, out=np.zeros_like(total), where=total > 0)
    return recall * precision + (1 - recall) * share


def detection_key(scorer: DetectionScorer, explanation: Explanation, donors: Sequence[Explanation],
                  llm: str) -> str:  # fmt: skip
    """Key of a score: explanation, donors, judge, and everything that shapes the questions."""
    return content_key(
        "score",
        scorer=scorer.identity(),
        explanation=explanation.key,
        donors=[donor.key for donor in donors],
        llm=llm,
    )


def _shown(window: ActivationRecord) -> str:
    """A window as the judge sees it: on one line, and unable to end its own fence."""
    text = "".join(shown_token(token) for token in window.tokens)
    return text.replace("<text", "< text").replace("</text", "< /text")


def _predictions(
    requests: Sequence[Request],
    answers: Sequence[Response],
    groups: Sequence[Sequence[int]],
    n_texts: int,
    n_windows: int,
) -> tuple[list[FloatArray], list[str]]:
    """Per explanation [n_windows]: 1 yes, 0 no, NaN where no answer can be used; and why not."""
    predicted = [np.full(n_windows, np.nan) for _ in range(n_texts)]
    reasons: list[str] = []
    place = 0
    for one in predicted:
        for group in groups:
            request, answer = requests[place], answers[place]
            place += 1
            try:
                one[list(group)] = _read(request, answer)
            except MalformedAnswerError as error:
                reasons.append(str(error))
    return predicted, reasons


def _read(request: Request, answer: Response) -> list[bool]:
    if answer.status is not ResponseStatus.OK or answer.text is None or request.schema is None:
        reason = f": {answer.reason}" if answer.reason else ""
        raise MalformedAnswerError(f"the judge's answer is {answer.status}{reason}")
    return parse_answer(answer.text, request.schema)["answers"]


def _control(
    labels: npt.NDArray[np.bool_], answers: FloatArray | None, donor: Explanation
) -> ControlScore:
    if answers is None:
        return ControlScore("shuffled", None, Status.FAILED, donor.unit, donor.key)
    found = stats.auprc(labels, answers)
    return ControlScore("shuffled", found.value, found.status, donor.unit, donor.key)


def _plain(interval: Any) -> Interval | None:
    if interval is None:
        return None
    return Interval(
        float(interval.low), float(interval.high), float(interval.level), interval.method
    )
