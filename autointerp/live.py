"""Answers what explainers and scorers ask of the live subject: activations, texts, divergences.

One handler of the driver for each type of request in `subject.requests`. Texts are read as the
recorder reads documents: the same beginning, the same masked tokens. Answers depend on nothing but
request, subject and source, and those that several jobs ask for are kept.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from autointerp.records import AutointerpError, UnitId, Window
from autointerp.subject.requests import (
    AblationRequest,
    Activated,
    ActivationRequest,
    Divergences,
    Generated,
    GenerationRequest,
    InjectionRequest,
    TokenChange,
    TokenChangeRequest,
)

if TYPE_CHECKING:
    from torch import Tensor

    from autointerp.subject import Subject
    from autointerp.units import UnitSource

_BATCH_TOKENS = 2048
_KEPT = 512

Maximum = Callable[[UnitId], float]
Ids = Callable[[str], "Sequence[int]"]


class LiveSubject:
    """The subjects and sources of a run, ready to be asked.

    Attributes are callables, so that a source is loaded when it is first asked about.
    """

    def __init__(
        self,
        source_of: Callable[[str], "UnitSource | None"],
        subject_of: Callable[[str], "Subject"],
        maximum_of: Maximum,
        sequence_of: Ids,
        *,
        bos: str = "auto",
        n_masked_start: int = 1,
    ) -> None:
        """Say where things are.

        Args:
            source_of: a unit source by its name; `None` where it was recorded elsewhere.
            subject_of: a subject by its name.
            maximum_of: the largest activation of a unit in `explain`.
            sequence_of: token ids of a recorded sequence by its id.
            bos: what stands before texts, as in the corpus's config.
            n_masked_start: tokens masked at the start, likewise.
        """
        self._source_of, self._subject_of = source_of, subject_of
        self._maximum_of, self._sequence_of = maximum_of, sequence_of
        self._bos, self._n_masked_start = bos, n_masked_start
        self._kept: OrderedDict[Any, Any] = OrderedDict()

    @cached_property
    def handlers(self) -> Mapping[type, Callable[[list[Any]], list[Any]]]:
        """By type of request, for `llm.drive`."""
        return {
            ActivationRequest: self._each(self.activations),
            InjectionRequest: self._each(self.injected),
            GenerationRequest: self._each(self.generated),
            AblationRequest: self._each(self.divergences),
            TokenChangeRequest: self._each(self.token_change),
        }

    def _each(self, answer: Callable[[Any], Any]) -> Callable[[list[Any]], list[Any]]:
        return lambda requests: [answer(request) for request in requests]

    # ------------------------------------------------------------------ activations

    def activations(self, request: ActivationRequest) -> list[Activated]:
        """A unit's activations on texts."""
        _, subject = self._unit(request.unit)
        before = self._before(subject)
        rows = [[*before, *text_only_ids(subject, text)] for text in request.texts]
        return self._activated(request.unit, rows)

    def injected(self, request: InjectionRequest) -> list[Activated]:
        """A unit's activations on windows with tokens put in."""
        _, subject = self._unit(request.unit)
        rows: list[list[int]] = []
        for window, tokens, places in zip(
            request.windows, request.tokens, request.places, strict=True
        ):
            ids = list(self._sequence_of(window.sequence_id))[: window.stop]
            for token, place in zip(tokens, places, strict=True):
                if 0 <= place < window.stop - window.start:
                    ids[window.start + place] = self._id_of(subject, token)
            rows.append(ids)
        found = self._activated(request.unit, rows)
        return [
            Activated(one.tokens[w.start :], one.activations[w.start :], one.masked[w.start :])
            for one, w in zip(found, request.windows, strict=True)
        ]

    def _activated(self, unit: UnitId, rows: Sequence[list[int]]) -> list[Activated]:
        """What a unit does on token ids, in batches of texts of like length."""
        import torch

        from autointerp.units.interventions import activations_of

        source, subject = self._unit(unit)
        limit = subject.max_tokens
        rows = [row[:limit] for row in rows]
        special = {int(i) for i in subject.tokenizer.all_special_ids}
        found: list[Activated | None] = [None] * len(rows)
        for batch in _batches([len(row) for row in rows], _BATCH_TOKENS):
            longest = max(len(rows[i]) for i in batch)
            ids = torch.zeros((len(batch), longest), dtype=torch.long)
            mask = torch.zeros_like(ids)
            for place, i in enumerate(batch):
                ids[place, : len(rows[i])] = torch.tensor(rows[i], dtype=torch.long)
                mask[place, : len(rows[i])] = 1
            hidden = subject.run(ids, [source.read_at], mask)[source.read_at]
            for place, i in enumerate(batch):
                row = rows[i]
                values = activations_of(source, hidden[place, : len(row)], [unit])[:, 0]
                masked = np.array([token in special for token in row], bool)
                masked[: max(self._n_masked_start, len(self._before(subject)))] = True
                texts = subject.tokenizer.batch_decode(
                    [[token] for token in row], clean_up_tokenization_spaces=False
                )
                found[i] = Activated(
                    tuple(texts), values.float().cpu().numpy().astype(np.float32), masked
                )
        empty = np.zeros(0, np.float32)
        return [one or Activated((), empty, np.zeros(0, bool)) for one in found]

    # ------------------------------------------------------------------ texts

    def generated(self, request: GenerationRequest) -> Generated:
        """Texts of the subject with a unit raised so far that the KL is met, or plain."""
        return self._once(request, lambda: self._generate(request))

    def _generate(self, request: GenerationRequest) -> Generated:
        from autointerp.subject import Sampling
        from autointerp.subject.generation import text_ids
        from autointerp.units import Intervention
        from autointerp.units.strength import strength_for_kl

        source, subject = self._unit(request.unit)
        prompts = [text_ids(subject, prompt) for prompt in request.prompts]
        sampling = Sampling(
            request.max_new_tokens, request.temperature, request.top_p, request.seed
        )
        every = [ids for ids in prompts for _ in range(request.n_samples)]
        numbers = [i for _ in prompts for i in range(request.n_samples)]
        if request.kl <= 0:
            texts = subject.generate(every, sampling, samples=numbers)
            return Generated(tuple(one.text for one in texts), 0.0, 0.0, True)
        edit = Intervention.add(source, request.unit, 1.0, self._level(request.unit))
        matched = strength_for_kl(subject, edit.by, prompts, request.kl, tolerance=0.05)
        with subject.intervene(edit.by(matched.strength)):
            texts = subject.generate(every, sampling, samples=numbers)
        found = tuple(one.text for one in texts)
        return Generated(found, matched.strength, matched.kl, matched.reached)

    # ------------------------------------------------------------------ effects

    def divergences(self, request: AblationRequest) -> Divergences:
        """Jensen-Shannon divergences from the plain predictions on the windows' tokens."""
        mean = [
            np.full(window.stop - window.start, request.mean, np.float32)
            for window in request.windows
        ]
        arms = [mean, *request.replacements]
        found = np.zeros((len(arms), len(request.windows)), np.float32)
        for place, window in enumerate(request.windows):
            found[:, place] = self._divergence(
                request.unit, window, [values[place] for values in arms]
            )
        return Divergences(found[0], tuple(found[1:]))

    def _divergence(self, unit: UnitId, window: Window, arms: Sequence[np.ndarray]) -> list[float]:
        """Mean JS over a window's tokens, for every replacement of the unit on them."""
        import torch

        from autointerp.units import Intervention
        from autointerp.units.strength import jensen_shannon

        source, subject = self._unit(unit)
        ids = [int(i) for i in self._sequence_of(window.sequence_id)[: window.stop]]
        places = tuple(range(window.start, window.stop))
        plain = next(subject.each_logits([ids]))[window.start :]
        values = torch.zeros(len(arms), window.stop, 1)
        for row, replacement in enumerate(arms):
            values[row, window.start :, 0] = torch.tensor(replacement)
        edit = Intervention.ablate(source, unit, values, positions=places)
        with subject.intervene(edit):
            logits = subject.each_logits([ids] * len(arms), batch_size=4)
            return [float(jensen_shannon(one[window.start :], plain).mean()) for one in logits]

    def token_change(self, request: TokenChangeRequest) -> TokenChange:
        """Mean change of every token's logit after the prompts, with the unit clamped."""
        from autointerp.subject.generation import text_ids
        from autointerp.units import Intervention

        source, subject = self._unit(request.unit)
        prompts = [text_ids(subject, prompt) for prompt in request.prompts]
        plain = subject.next_logits(prompts)
        edit = Intervention.clamp(source, request.unit, request.strength, self._level(request.unit))
        with subject.intervene(edit):
            change = (subject.next_logits(prompts) - plain).mean(0)[: len(subject.tokenizer)]

        def named(order: "Tensor") -> tuple[str, ...]:
            return tuple(str(subject.tokenizer.decode([i])) for i in order.tolist())

        n = min(request.n_tokens, len(change))
        return TokenChange(
            named(change.topk(n).indices), named(change.topk(n, largest=False).indices)
        )

    # ------------------------------------------------------------------ parts

    def _unit(self, unit: UnitId) -> tuple["UnitSource", "Subject"]:
        source = self._source_of(unit.source)
        if source is None:
            raise AutointerpError(
                f"unit {unit} was recorded elsewhere: there is no subject to run new texts through"
            )
        return source, self._subject_of(source.subject)

    def _level(self, unit: UnitId) -> float:
        maximum = self._maximum_of(unit)
        if maximum <= 0:
            raise AutointerpError(
                f"unit {unit} never fired in the explain split: there is no activation to raise "
                "it by"
            )
        return maximum

    def _before(self, subject: "Subject") -> list[int]:
        from autointerp.recording.corpus.tokens import bos_ids

        policy: Any = self._bos
        return self._once((subject.fingerprint, policy), lambda: bos_ids(subject.tokenizer, policy))

    def _id_of(self, subject: "Subject", token: str) -> int:
        """The id of a token by its text."""

        def all_tokens() -> dict[str, int]:
            from autointerp.recording.corpus.tokens import vocabulary

            return {text: i for i, text in reversed(list(enumerate(vocabulary(subject.tokenizer))))}

        known = self._once((subject.fingerprint, "vocabulary"), all_tokens)
        if token not in known:
            raise AutointerpError(f"{token!r} is no token of {subject.name}: nothing to put in")
        return known[token]

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._kept:
            self._kept[key] = make()
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return self._kept[key]


def text_only_ids(subject: "Subject", text: str) -> list[int]:
    """Token ids of a text alone; what looks like a special token in it is text all the same."""
    found: Any = subject.tokenizer(text, add_special_tokens=False, split_special_tokens=True)
    return [int(i) for i in found["input_ids"]]


def _batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Places of rows of like length, padded within a budget of tokens; empty rows left out."""
    found: list[list[int]] = []
    for place in sorted((i for i, n in enumerate(lengths) if n), key=lambda i: lengths[i]):
        if found and lengths[place] * (len(found[-1]) + 1) <= budget:
            found[-1].append(place)
        else:
            found.append([place])
    return found
