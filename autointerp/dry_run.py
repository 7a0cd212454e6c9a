"""Runs explainers and judges without a model: their real prompts, answers that are made up.

Before anything is recorded, units are made up too: windows of the real corpus, as many as the
sampling design keeps, with a few tokens active.
"""

import json
import os
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from autointerp.explainers.windows import MARKER
from autointerp.llm.base import Request, Response, ResponseStatus, Usage
from autointerp.records import (
    ActivationRecord,
    Explanation,
    Simulation,
    Split,
    Status,
    Strata,
    TokenLogit,
    UnitId,
    UnitRecord,
    Window,
    derived_seed,
)
from autointerp.simulators.base import SimulationRequest

if TYPE_CHECKING:
    from autointerp.records import Sequence as TokenSequence
    from autointerp.runner import Run

T = TypeVar("T")

TYPICAL_EXPLANATION = "words and names that have to do with the sea and with ships"
"""As long as explanations usually are: a dozen tokens."""

MADE_ACTIVE = 3
"""Active tokens in a made-up window that is active."""

_PER_MESSAGE = 4
"""Tokens that a chat format puts around a message, usually."""

_PIECES = re.compile(r"\d|[ \t]?[^\W\d_]+|[ ]?[^\w\s]{1,3}|_|\s+")
"""What byte-pair tokenizers rarely merge across: digits, words, marks, white space."""

_LONGEST_PIECE = 7
"""Characters of a word that are one token, usually."""


@dataclass(frozen=True)
class TokenCounter:
    """Counts tokens, exactly or nearly, and says how."""

    how: str
    """For people: which tokenizer, or which rule."""

    is_exact: bool
    text: Callable[[str], int]
    whole: Callable[[Request], int] | None = None
    """Counts a whole prompt, with what the model's chat template adds, where that is known."""

    def prompt(self, request: Request) -> int:
        """Tokens of a request's prompt."""
        if self.whole is not None:
            return self.whole(request)
        return sum(self.text(m.content) + _PER_MESSAGE for m in request.messages)


def rule_counter() -> TokenCounter:
    """Counts without any tokenizer: within a tenth of a real one's count on English and code."""

    def count(text: str) -> int:
        return sum(-(-len(p.strip()) // _LONGEST_PIECE) or 1 for p in _PIECES.findall(text))

    return TokenCounter("an estimate: words, digits and marks of the text", False, count)


def tokenizer_counter(tokenizer: Any, name: str, *, is_own: bool) -> TokenCounter:
    """Counts with a tokenizer that is loaded: the model's own, or another's as a stand-in."""

    def count(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    how = (
        f"counted with the tokenizer of {name}"
        if is_own
        else f"an estimate: counted with the tokenizer of {name}; others differ by a tenth or so"
    )
    return TokenCounter(how, is_own, count, _whole_prompts(tokenizer) if is_own else None)


def _whole_prompts(tokenizer: Any) -> Callable[[Request], int]:
    """Counts prompts as the local engine builds them, chat template and all."""
    from autointerp.llm.local_prompts import ChatPrompts

    prompts = ChatPrompts(tokenizer)
    return lambda request: len(prompts.ids(request.messages))


def hosted_counter(model: str, tokenizer: Any, subject: str) -> TokenCounter:
    """Counts for a hosted model: by tiktoken where its tables are on this machine, else nearly.

    Args:
        model: as the vendor calls it.
        tokenizer: a subject's, as a stand-in; `None` where there is none.
        subject: its name.
    """
    # Without a folder of its own tiktoken would fetch its tables from the network.
    if os.environ.get("TIKTOKEN_CACHE_DIR"):
        try:
            import tiktoken  # pyright: ignore[reportMissingImports]

            encoding: Any = tiktoken.encoding_for_model(model)
        except (ImportError, KeyError):
            pass
        else:
            return TokenCounter(
                f"counted with tiktoken ({encoding.name})",
                True,
                lambda text: len(encoding.encode(text, disallowed_special=())),
            )
    if tokenizer is None:
        return rule_counter()
    return tokenizer_counter(tokenizer, subject, is_own=False)


@dataclass
class Asked:
    """A request that would be sent, and the answer that was made up for it."""

    request: Request
    answer: str


def drive_dry(steps: Generator[Sequence[Any], Sequence[Any], T]) -> tuple[T, list[Asked]]:
    """Run a generator to its end with made-up answers.

    Returns:
        Its result, and what it asked.
    """
    asked: list[Asked] = []
    answers: list[Any] | None = None
    while True:
        try:
            requests = next(steps) if answers is None else steps.send(answers)
        except StopIteration as end:
            return end.value, asked
        answers = []
        for request in requests:
            # What a live subject is asked costs no tokens of a language model.
            if hasattr(request, "made_up"):
                answers.append(request.made_up())
                continue
            if isinstance(request, SimulationRequest):
                answers.append(_made_up_simulations(request))
                continue
            text = made_up_answer(request)
            asked.append(Asked(request, text))
            answers.append(Response(text, ResponseStatus.OK, Usage()))


def _made_up_simulations(request: SimulationRequest) -> list[Simulation]:
    """Levels that vary, one for every token."""
    found: list[Simulation] = []
    for tokens in request.sequences:
        levels = np.arange(len(tokens), dtype=np.float32) % 10
        known = np.ones(len(tokens), bool)
        found.append(Simulation(levels, known, known.astype(np.float32)))
    return found


def made_up_answer(request: Request) -> str:
    """An answer that can be read: a value of the schema, or an explanation, marked if it must be.

    So an explainer that goes on after its first answer, such as `revision`, goes on here too.
    """
    if request.schema is None:
        is_marked = any(MARKER in m.content for m in request.messages if m.role == "system")
        return f"{MARKER} {TYPICAL_EXPLANATION}" if is_marked else TYPICAL_EXPLANATION
    return json.dumps(_instance(request.schema))


def _instance(schema: Mapping[str, Any]) -> Any:
    """The plainest value that follows a JSON schema."""
    if "enum" in schema:
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    for name in ("anyOf", "oneOf"):
        if name in schema:
            return _instance(schema[name][0])
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        properties = schema.get("properties", {})
        wanted = schema.get("required", list(properties))
        return {name: _instance(properties.get(name, {})) for name in wanted}
    if kind == "array":
        return [_instance(schema.get("items", {}))] * schema.get("minItems", 3)
    return {"boolean": True, "integer": schema.get("minimum", 0), "number": 0.5, "null": None}.get(
        str(kind), TYPICAL_EXPLANATION
    )


def made_up_unit(run: "Run", number: int, sequences: Sequence["TokenSequence"]) -> UnitRecord:
    """A unit with as many windows as the design keeps, cut from the corpus at random.

    Args:
        run: gives the design and the tokenizer.
        number: of the unit; another has other windows.
        sequences: of the corpus.
    """
    source = next(iter(run.parts.sources.values()))
    tokenizer = run.parts.subject(source.subject).tokenizer
    generator = np.random.default_rng(derived_seed(run.config.seed, "dry run", number))
    unit = UnitId(source.name, number)
    records: list[ActivationRecord] = []
    for split in (Split.EXPLAIN, Split.CALIBRATE, Split.TEST):
        own = [one for one in sequences if one.split == split] or list(sequences)
        quota = run.design.quotas[split]
        strata = [Strata.TOP] * quota.top + [Strata.interval(8)] * quota.intervals
        strata += [Strata.HARD] * quota.hard + [Strata.SILENT] * quota.silent
        for stratum in strata:
            records.append(
                _made_up_window(unit, split, stratum, own, run.design.window_length, generator,
                                tokenizer)
            )  # fmt: skip
    return UnitRecord(unit, tuple(records), {}, promoted=_made_up_tokens(records, generator))


def _made_up_tokens(
    records: Sequence[ActivationRecord], generator: np.random.Generator
) -> tuple[TokenLogit, ...]:
    """Ten different tokens out of some windows, as if they were promoted."""
    tokens = sorted({token for record in records for token in record.tokens if token.strip()})
    chosen = generator.permutation(len(tokens))[:10]
    return tuple(TokenLogit(tokens[place], int(place), 1.0) for place in chosen)


def _made_up_window(
    unit: UnitId,
    split: Split,
    stratum: str,
    sequences: Sequence["TokenSequence"],
    length: int,
    generator: np.random.Generator,
    tokenizer: Any,
) -> ActivationRecord:
    place = int(generator.integers(len(sequences)))
    sequence = sequences[place]
    start = int(generator.integers(max(1, len(sequence.token_ids) - length + 1)))
    stop = min(start + length, len(sequence.token_ids))
    ids = sequence.token_ids[start:stop]
    values = np.zeros(len(ids), np.float32)
    if Strata.is_active(stratum):
        active = generator.choice(len(ids), min(MADE_ACTIVE, len(ids)), replace=False)
        values[active] = generator.uniform(0.5, 1.0, len(active))
    return ActivationRecord(
        unit=unit,
        # Made-up places: a document of its own, so that no quota of documents stands in the way.
        window=Window(f"{sequence.sequence_id}", start, stop),
        document_id=f"{sequence.document_id}:{generator.integers(2**31)}",
        split=split,
        stratum=stratum,
        probability=1.0,
        tokens=tuple(tokenizer.decode([int(i)]) for i in ids),
        activations=values,
        masked=np.zeros(len(ids), bool),
    )


def made_up_explanation(unit: UnitId, explainer: str, text: str | None = None) -> Explanation:
    """An explanation to score."""
    return Explanation(unit, explainer, text or TYPICAL_EXPLANATION, Status.OK, "dry run")
