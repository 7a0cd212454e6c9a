"""Answers from a model on this machine, through transformers.

Requests are answered in left-padded batches; the start that all prompts of a batch share is
computed once. Decoding is a small loop of our own: greedy, or sampled with one generator per
request, so an answer does not depend on what else is in its batch and no global generator is
touched.
"""

import hashlib
import inspect
import itertools
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2
import torch
from torch import Tensor
from transformers import DynamicCache

from autointerp.llm.base import (
    Capabilities,
    Message,
    Request,
    Response,
    ResponseStatus,
    TokenLogprobs,
    Usage,
)
from autointerp.records import content_key, derived_seed
from autointerp.subject import Subject

_log = logging.getLogger(__name__)

_VERSION = 1
"""Raise when the same request gets another answer from the same model."""

_TEMPLATE_FACTS = {"date_string": "26 Jul 2024", "enable_thinking": False}
"""Given to chat templates that ask: today's date would make every day's prompts differ, and an
answer of a few dozen tokens has no room for thoughts."""

DEFAULT_BATCH_TOKENS = 8192


class LocalClient:
    """A causal language model on this machine as a client."""

    def __init__(self, subject: Subject, *, batch_tokens: int = DEFAULT_BATCH_TOKENS) -> None:
        """Use a loaded model.

        Args:
            subject: the model; a chat template is used where its tokenizer has one, else messages
                are joined by empty lines.
            batch_tokens: most tokens in a batch: rows times the longest prompt and answer.
        """
        self.subject = subject
        self.name = f"local/{subject.name}"
        self.batch_tokens = batch_tokens
        self.capabilities = Capabilities(
            logprobs=20,
            seeds=True,
            max_context=getattr(
                subject.model.config.get_text_config(), "max_position_embeddings", None
            ),
        )
        self._prompts = _Prompts(subject.tokenizer)
        self._decoder = _Decoder(subject)
        self.fingerprint = content_key(
            "client", model=subject.fingerprint, tokenizer=self._prompts.digest, version=_VERSION
        )

    def complete(self, requests: Sequence[Request]) -> list[Response]:
        """Answer every request. See `LlmClient.complete`."""
        responses: list[Response | None] = [None] * len(requests)
        rows: list[_Row] = []
        for place, request in enumerate(requests):
            try:
                ids = self._prompts.ids(request.messages) if request.messages else []
                problem = self._problem(request, ids)
            except jinja2.TemplateError as error:
                ids, problem = [], f"the model's chat template refuses the messages: {error}"
            if problem:
                responses[place] = self._failed(problem, len(ids))
            else:
                rows.append(_Row(place, request, ids))
        for batch in _batches(rows, self.batch_tokens):
            self._answer(batch, responses)
        assert all(response is not None for response in responses)
        return [response for response in responses if response is not None]

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """The token ids a conversation becomes, up to where the answer starts."""
        return self._prompts.ids(messages)

    def _problem(self, request: Request, ids: list[int]) -> str:
        limit = self.capabilities.max_context
        if not ids:
            return "the prompt is empty"
        if request.max_tokens < 1:
            return f"max_tokens is {request.max_tokens}: an answer needs at least 1"
        if limit is not None and len(ids) + request.max_tokens > limit:
            return (
                f"{len(ids)} prompt tokens and an answer of {request.max_tokens} do not fit into "
                f"the model's context of {limit} tokens"
            )
        return ""

    def _answer(self, batch: list["_Row"], responses: list[Response | None]) -> None:
        """Answer a batch; where the device's memory does not suffice, its halves."""
        try:
            self._decoder.run(batch)
        except torch.OutOfMemoryError:
            for row in batch:
                row.reset()
            if len(batch) == 1:
                reason = "the device has too little memory for this prompt"
                responses[batch[0].place] = self._failed(reason, len(batch[0].ids))
                return
            _log.warning("out of memory with %d prompts: going on with half of them", len(batch))
            half = len(batch) // 2
            self._answer(batch[:half], responses)
            self._answer(batch[half:], responses)
            return
        for row in batch:
            responses[row.place] = self._response(row)

    def _response(self, row: "_Row") -> Response:
        text, stopped = row.text(self.subject.tokenizer)
        if not text.strip():
            status = ResponseStatus.EMPTY
        elif row.ended or stopped:
            status = ResponseStatus.OK
        else:
            status = ResponseStatus.TRUNCATED
        cut = status is ResponseStatus.TRUNCATED
        return Response(
            text=None if status is ResponseStatus.EMPTY else text,
            status=status,
            usage=Usage(len(row.ids), row.n_shared, len(row.answer) + row.ended),
            reason=f"cut off after {row.request.max_tokens} tokens" if cut else "",
            model=self.subject.name,
            logprobs=tuple(row.logprobs) if row.request.top_logprobs else None,
        )

    def _failed(self, reason: str, n_input: int) -> Response:
        return Response(None, ResponseStatus.FAILED, Usage(n_input), reason, self.subject.name)


@dataclass
class _Row:
    """One request on its way through a batch."""

    place: int
    request: Request
    ids: list[int]
    """The prompt."""

    answer: list[int] = field(default_factory=list[int])
    """Tokens of the answer so far, without the end mark."""

    logprobs: list[TokenLogprobs] = field(default_factory=list[TokenLogprobs])
    ended: bool = False
    """Whether the model ended the answer itself."""

    n_shared: int = 0
    """Prompt tokens that were computed once for the whole batch."""

    def reset(self) -> None:
        """Forget the answer."""
        self.answer, self.logprobs, self.ended, self.n_shared = [], [], False, 0

    def text(self, tokenizer: Any) -> tuple[str, bool]:
        """The answer before the first stop string, and whether there was one."""
        text = str(tokenizer.decode(self.answer, skip_special_tokens=True))
        places = [place for stop in self.request.stop if stop and (place := text.find(stop)) >= 0]
        return (text[: min(places)], True) if places else (text, False)

    def done(self, tokenizer: Any) -> bool:
        """Whether no further token is wanted."""
        if self.ended or len(self.answer) >= self.request.max_tokens:
            return True
        return bool(self.request.stop) and self.text(tokenizer)[1]


def _batches(rows: Sequence[_Row], batch_tokens: int) -> list[list[_Row]]:
    """Rows of similar length together, each batch within the token budget or a single row."""
    batches: list[list[_Row]] = []
    longest = 0
    for row in sorted(rows, key=lambda row: (len(row.ids) + row.request.max_tokens, row.place)):
        # Rows come by length, so the new one is the longest of its batch.
        longest = len(row.ids) + row.request.max_tokens
        if batches and longest * (len(batches[-1]) + 1) <= batch_tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


class _Prompts:
    """Conversations as token ids; what looks like a special token in a message stays text."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._template: str | None = tokenizer.chat_template
        marks = self._marks()
        pattern = "|".join(re.escape(mark) for mark in sorted(marks, key=len, reverse=True))
        # A lookahead finds overlapping ones too.
        self._mark = re.compile(f"(?=({pattern}))") if marks else None
        start = tokenizer("", add_special_tokens=True)["input_ids"]
        self._start = [i for i in start if i == tokenizer.bos_token_id]
        backend = getattr(tokenizer, "backend_tokenizer", None)
        vocabulary = backend.to_str() if backend is not None else sorted(tokenizer.get_vocab())
        facts = repr((self._template, sorted(marks), vocabulary))
        self.digest = hashlib.blake2b(facts.encode(), digest_size=16).hexdigest()

    def _marks(self) -> set[str]:
        """Texts that the tokenizer would read as control tokens."""
        added = self._tokenizer.added_tokens_decoder.values()
        marks = {token.content for token in added if token.special}
        marks |= set(self._tokenizer.all_special_tokens)
        if self._template:
            marks |= {token.content for token in added if token.content in self._template}
        return {mark for mark in marks if len(mark.strip()) > 1}

    def ids(self, messages: Sequence[Message]) -> list[int]:
        """Token ids up to where the answer starts.

        Look-alikes of control tokens within a message are cut in two after their first character,
        and the parts of the prompt are tokenised one by one. A prompt without any is one part.
        """
        text, spans = self._rendered(messages)
        cuts = [0, *self._cuts(text, spans), len(text)]
        ids = [] if self._template else list(self._start)
        for start, stop in itertools.pairwise(cuts):
            ids += self._tokenizer(text[start:stop], add_special_tokens=False)["input_ids"]
        return ids

    def _cuts(self, text: str, spans: Sequence[tuple[int, int]]) -> list[int]:
        if self._mark is None:
            return []
        starts = [match.start() for match in self._mark.finditer(text)]
        return [
            start + 1 for start in starts if any(first <= start < last for first, last in spans)
        ]

    def _rendered(self, messages: Sequence[Message]) -> tuple[str, list[tuple[int, int]]]:
        """The prompt's text, and where the messages' contents lie in it."""
        if not self._template:
            contents = [message.content for message in messages]
            return _joined(["", *["\n\n"] * (len(contents) - 1), ""], contents)
        # The template sees stand-ins, so contents can neither steer it nor be mistaken for it.
        stand_ins = [f"STANDIN{number}CONTENT" for number in range(len(messages))]
        turns = [
            {"role": message.role, "content": stand_in}
            for message, stand_in in zip(messages, stand_ins, strict=True)
        ]
        rendered = self._apply(turns)
        pieces = re.split(r"STANDIN(\d+)CONTENT", rendered)
        contents = [messages[int(number)].content for number in pieces[1::2]]
        return _joined(pieces[::2], contents)

    def _apply(self, turns: list[dict[str, str]]) -> str:
        def apply(turns: list[dict[str, str]]) -> str:
            return self._tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=True, **_TEMPLATE_FACTS
            )

        try:
            return apply(turns)
        except jinja2.TemplateError:
            if len(turns) < 2 or turns[0]["role"] != "system":
                raise
            # Some templates (Gemma's) know no system message: it opens the first turn instead.
            first = {**turns[1], "content": f"{turns[0]['content']}\n\n{turns[1]['content']}"}
            return apply([first, *turns[2:]])


def _joined(frame: Sequence[str], contents: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """frame[0] contents[0] frame[1] … as one text, and the spans of the contents."""
    text, spans = frame[0], []
    for content, after in zip(contents, frame[1:], strict=True):
        spans.append((len(text), len(text) + len(content)))
        text += content + after
    return text, spans


class _Decoder:
    """Runs a batch of rows to their ends."""

    def __init__(self, subject: Subject) -> None:
        self._model = subject.model
        self._tokenizer = subject.tokenizer
        self._device = subject.device
        accepted = inspect.signature(subject.model.forward).parameters
        self._takes_positions = "position_ids" in accepted
        self._last_only: dict[str, Any] = (
            {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
        )
        self._ends = _end_ids(subject)

    @torch.inference_mode()
    def run(self, rows: list[_Row]) -> None:
        """Fill in the answers of all rows."""
        cache: Any = DynamicCache()
        n_shared = _shared_start([row.ids for row in rows])
        if n_shared:
            shared = torch.tensor([rows[0].ids[:n_shared]], device=self._device)
            self._model.base_model(input_ids=shared, past_key_values=cache, use_cache=True)
            cache.batch_repeat_interleave(len(rows))
            for row in rows:
                row.n_shared = n_shared
        rest = [row.ids[n_shared:] for row in rows]
        longest = max(len(ids) for ids in rest)
        tokens = torch.tensor([[0] * (longest - len(ids)) + ids for ids in rest])
        own = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in rest])
        tokens, own = tokens.to(self._device), own.to(self._device)
        mask = torch.cat([own.new_ones(len(rows), n_shared), own], 1)
        positions = (mask.cumsum(1) - 1).clamp_(min=0)[:, n_shared:]

        generators = [_generator(row.request) for row in rows]
        active = rows
        while True:
            logits = self._logits(tokens, mask, positions, cache)
            drawn = [
                self._take(row, row_logits, generator)
                for row, row_logits, generator in zip(active, logits, generators, strict=True)
            ]
            going = [i for i, row in enumerate(active) if not row.done(self._tokenizer)]
            if not going:
                return
            if len(going) < len(active):
                kept = torch.tensor(going, device=self._device)
                cache.batch_select_indices(kept)
                mask, positions = mask[kept], positions[kept]
                active = [active[i] for i in going]
                generators = [generators[i] for i in going]
            tokens = torch.tensor([[drawn[i]] for i in going], device=self._device)
            mask = torch.cat([mask, mask.new_ones(len(active), 1)], 1)
            positions = positions[:, -1:] + 1

    def _logits(self, tokens: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:
        """[n_rows, vocab] float32 logits of the next token, on the CPU."""
        output = self._model(
            input_ids=tokens,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            **({"position_ids": positions} if self._takes_positions else {}),
            **self._last_only,
        )
        return output.logits[:, -1].float().cpu()

    def _take(self, row: _Row, logits: Tensor, generator: torch.Generator | None) -> int:
        """Choose a row's next token and note it."""
        if generator is None:
            chosen = int(logits.argmax())
        else:
            weights = (logits.double() / row.request.temperature).softmax(0)
            chosen = int(torch.multinomial(weights, 1, generator=generator))
        if chosen in self._ends:
            row.ended = True
            return chosen
        row.answer.append(chosen)
        if row.request.top_logprobs:
            row.logprobs.append(self._logprobs(logits, chosen, row.request.top_logprobs))
        return chosen

    def _logprobs(self, logits: Tensor, chosen: int, n: int) -> TokenLogprobs:
        logprobs = logits.log_softmax(0)
        values, ids = logprobs.topk(n)
        texts = [str(self._tokenizer.decode([int(i)])) for i in (chosen, *ids)]
        top = tuple(zip(texts[1:], map(float, values), strict=True))
        return TokenLogprobs(texts[0], float(logprobs[chosen]), top)


def _shared_start(prompts: Sequence[Sequence[int]]) -> int:
    """Tokens with which all prompts start; every prompt keeps one of its own. 0 for one prompt."""
    if len(prompts) < 2:
        return 0
    n = 0
    for column in zip(*prompts, strict=False):
        if len(set(column)) > 1:
            break
        n += 1
    return min(n, min(map(len, prompts)) - 1)


def _generator(request: Request) -> torch.Generator | None:
    """The source of a request's chance; `None` where it is greedy."""
    if request.temperature <= 0:
        return None
    generator = torch.Generator()
    generator.manual_seed(derived_seed(request.seed, "sample", request.sample))
    return generator


def _end_ids(subject: Subject) -> set[int]:
    """Ids that end an answer."""
    generation = getattr(subject.model, "generation_config", None)
    found = {subject.tokenizer.eos_token_id}
    ends = getattr(generation, "eos_token_id", None)
    found |= set(ends) if isinstance(ends, list | tuple) else {ends}
    return {int(i) for i in found if i is not None}
