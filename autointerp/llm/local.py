"""Answers from a model on this machine, through transformers.

Requests are answered in left-padded batches; the start that all prompts of a batch share is
computed once. Decoding is a small loop of our own (`local_decoding`): greedy, or sampled with one
generator per request, so an answer does not depend on what else is in its batch and no global
generator is touched. A request's JSON schema is enforced token by token (`local_grammar`).
"""

import logging
from collections.abc import Callable, Sequence

import jinja2
import torch

from autointerp.llm.base import (
    Capabilities,
    Message,
    Request,
    Response,
    ResponseStatus,
    Usage,
)
from autointerp.llm.local_decoding import Decoder, Row, answer_room, batches
from autointerp.llm.local_prompts import ChatPrompts
from autointerp.llm.local_reading import PromptReader
from autointerp.records import content_key
from autointerp.subject import Subject

_log = logging.getLogger(__name__)

_VERSION = 1
"""Raise when the same request gets another answer from the same model."""

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
        self._prompts = ChatPrompts(subject.tokenizer)
        self._decoder = Decoder(subject)
        self._reader = PromptReader(subject)
        self.capabilities = Capabilities(
            logprobs=20,
            prompt_logprobs=True,
            json_schema=self._decoder.grammars.available,
            seeds=True,
            max_context=getattr(
                subject.model.config.get_text_config(), "max_position_embeddings", None
            ),
        )
        self.fingerprint = content_key(
            "client", model=subject.fingerprint, tokenizer=self._prompts.digest, version=_VERSION
        )

    def complete(self, requests: Sequence[Request]) -> list[Response]:
        """Answer every request. See `LlmClient.complete`."""
        responses: list[Response | None] = [None] * len(requests)
        rows: list[Row] = []
        for place, request in enumerate(requests):
            ids, problem = self._prompt(request)
            if problem:
                responses[place] = self._failed(problem, len(ids))
            else:
                rows.append(Row(place, request, ids))
        for work, chosen in (
            (self._read, [row for row in rows if row.request.echo]),
            (self._decoder.run, [row for row in rows if not row.request.echo]),
        ):
            for batch in batches(chosen, self.batch_tokens):
                self._answer(work, batch, responses)
        assert all(response is not None for response in responses)
        return [response for response in responses if response is not None]

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """The token ids a conversation becomes, up to where the answer starts."""
        return self._prompts.ids(messages)

    def _prompt(self, request: Request) -> tuple[list[int], str]:
        """The ids of a request's prompt, and why it cannot be answered, if so."""
        try:
            if request.echo:
                ids = self._prompts.plain_ids("".join(m.content for m in request.messages))
            else:
                ids = self._prompts.ids(request.messages) if request.messages else []
        except jinja2.TemplateError as error:
            return [], f"the model's chat template refuses the messages: {error}"
        return ids, self._problem(request, ids)

    def _problem(self, request: Request, ids: list[int]) -> str:
        limit, room = self.capabilities.max_context, answer_room(request)
        if not ids:
            return "the prompt is empty"
        if request.max_tokens < 1 and not request.echo:
            return f"max_tokens is {request.max_tokens}: an answer needs at least 1"
        if limit is not None and len(ids) + room > limit:
            return (
                f"{len(ids)} prompt tokens and an answer of {room} do not fit into "
                f"the model's context of {limit} tokens"
            )
        return ""

    def _answer(
        self,
        work: Callable[[list[Row]], None],
        batch: list[Row],
        responses: list[Response | None],
    ) -> None:
        """Answer a batch; where the device's memory does not suffice, its halves."""
        try:
            work(batch)
        except torch.OutOfMemoryError:
            for row in batch:
                row.reset()
            if len(batch) == 1:
                reason = "the device has too little memory for this prompt"
                responses[batch[0].place] = self._failed(reason, len(batch[0].ids))
                return
        else:
            for row in batch:
                responses[row.place] = self._response(row)
            return
        # Outside the handler: the exception holds the batch's tensors.
        _log.warning("out of memory with %d prompts: going on with half of them", len(batch))
        half = len(batch) // 2
        self._answer(work, batch[:half], responses)
        self._answer(work, batch[half:], responses)

    def _read(self, batch: list[Row]) -> None:
        """Fill in the log-probabilities of the prompts of all rows."""
        read = self._reader.read(
            [row.ids for row in batch], [row.request.top_logprobs for row in batch]
        )
        for row, logprobs in zip(batch, read, strict=True):
            row.logprobs = logprobs

    def _response(self, row: Row) -> Response:
        if row.problem:
            return self._failed(row.problem, len(row.ids))
        if row.request.echo:
            return Response(
                text="",
                status=ResponseStatus.OK,
                usage=Usage(len(row.ids)),
                model=self.subject.name,
                logprobs=tuple(row.logprobs),
            )
        text, stopped = row.text(self.subject.tokenizer)
        whole = row.ended or (stopped and row.constraint is None)
        if not text.strip():
            status = ResponseStatus.EMPTY
        else:
            status = ResponseStatus.OK if whole else ResponseStatus.TRUNCATED
        cut = "a stop string" if stopped else f"{row.request.max_tokens} tokens"
        return Response(
            text=None if status is ResponseStatus.EMPTY else text,
            status=status,
            usage=Usage(len(row.ids), row.n_shared, len(row.answer) + row.n_end_marks),
            reason=f"cut off after {cut}" if status is ResponseStatus.TRUNCATED else "",
            model=self.subject.name,
            logprobs=tuple(row.logprobs) if row.request.top_logprobs else None,
        )

    def _failed(self, reason: str, n_input: int) -> Response:
        return Response(None, ResponseStatus.FAILED, Usage(n_input), reason, self.subject.name)
