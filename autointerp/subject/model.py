"""A subject: one causal language model, run up to named places inside it."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from autointerp.records import AutointerpError, array_facts, refuse_text
from autointerp.subject import generation, hooks
from autointerp.subject.generation import Generation, Sampling
from autointerp.subject.intervene import Edit, Pass, intervening
from autointerp.subject.tokenizers import tokenizer_fingerprint


class _StopForward(Exception):
    """Raised by the deepest hook: nothing after it is wanted."""


@dataclass
class Subject:
    """A language model under study. Never trains, never runs its LM head when recording."""

    name: str
    """The name it was asked for by: `smollm2`, a folder, a hub id."""

    model: Any
    """A transformers model with an LM head."""

    tokenizer: Any
    device: torch.device
    """Where token ids go in and hidden states come out; parts of a model that is spread over
    several devices may lie elsewhere."""

    fingerprint: str
    """Hash of its configuration and weights: enters the key of everything recorded from it."""

    passing: Pass | None = None
    """Where the tokens of the forward pass under way stand; `None` outside of one."""

    _resolved: dict[str, hooks.HookPoint] = field(default_factory=dict)

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def n_blocks(self) -> int:
        """Number of transformer blocks."""
        return int(self.model.config.get_text_config().num_hidden_layers)

    @cached_property
    def tokenizer_name(self) -> str:
        """12 hexadecimal digits: hash of what its tokenizer does; names its tokens in a run."""
        return tokenizer_fingerprint(self.tokenizer)[:12]

    @property
    def max_tokens(self) -> int | None:
        """Tokens it can read at once; `None` where its configuration does not say."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    def hook(self, name: str) -> hooks.HookPoint:
        """The place called `name`; an `AutointerpError` lists near names where there is none."""
        if name not in self._resolved:
            self._resolved[name] = hooks.resolve(self.model, name)
        return self._resolved[name]

    def width_at(self, name: str) -> int:
        """Number of channels at a hook point, found by running a few tokens up to it.

        Raises:
            AutointerpError: where there is not one vector of numbers per token.
        """
        tokens = torch.zeros((2, 3), dtype=torch.long)
        value = self.run(tokens, [name])[name]
        if value.ndim != 3 or value.shape[:2] != tokens.shape or not value.is_floating_point():
            raise AutointerpError(
                f"hook point {name!r} has values of shape {list(value.shape)} for 2 texts of 3 "
                "tokens: units need one vector of numbers per token"
            )
        return int(value.shape[-1])

    def intervene(self, *edits: Edit) -> AbstractContextManager[None]:
        """Change what is at places of the model for as long as a `with` block lasts.

            with subject.intervene(Intervention.clamp(source, unit, 4.0, maximum)):
                subject.generate(["The bridge"])

        Edits act in the order given, each on what the ones before left; blocks may be nested.
        Everything that runs the model sees them: `run`, `next_logits`, `each_logits`, `generate`.

        Args:
            edits: such as `autointerp.units.Intervention`, `subject.intervene.AddVector`.

        Raises:
            AutointerpError: where a place does not exist or cannot be written to.
        """
        return intervening(self, edits)

    @contextmanager
    def pass_of(self, now: Pass) -> Generator[None]:
        """Tell the edits where the tokens of the next forward pass stand."""
        before, self.passing = self.passing, now
        try:
            yield
        finally:
            self.passing = before

    def next_logits(self, texts: Sequence[Sequence[int]], batch_size: int = 16) -> Tensor:
        """Logits of the token that follows each text: [n_texts, vocab] float32, on its device.

        Args:
            texts: token ids, at least one each; of any lengths.
            batch_size: texts run together; halved where memory does not suffice.
        """
        return generation.next_logits(self, texts, batch_size)

    def each_logits(self, texts: Sequence[Sequence[int]], batch_size: int = 16) -> Iterator[Tensor]:
        """Of each text the logits after every token: [n_tokens, vocab] float32, on its device.

        Args:
            texts: token ids, at least one each; of any lengths.
            batch_size: texts run together; halved where memory does not suffice.
        """
        return generation.each_logits(self, texts, batch_size)

    def generate(
        self,
        texts: Sequence[str | Sequence[int]],
        sampling: Sampling | None = None,
        *,
        samples: Sequence[int] | None = None,
        batch_size: int = 16,
    ) -> list[Generation]:
        """Continue texts, under the interventions that are in force.

        A row's continuation depends neither on the texts beside it nor on the batch size.

        Args:
            texts: texts, or their token ids.
            sampling: how tokens are chosen; the likeliest ones if left out.
            samples: number of the sample of each text: the same text with the same number gets the
                same random numbers, so that base and steered text differ by the intervention
                alone. If left out, the occurrences of a text are numbered.
            batch_size: texts run together; halved where memory does not suffice.
        """
        return generation.generate(self, texts, sampling or Sampling(), samples, batch_size)

    @torch.inference_mode()
    def run(
        self, token_ids: Tensor, hook_points: Iterable[str], attention_mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Run the model up to the deepest of `hook_points` and return what is there.

        Args:
            token_ids: [batch, n_tokens], any integer type.
            hook_points: names of places.
            attention_mask: [batch, n_tokens], 1 for tokens, 0 for padding; all 1 if left out.

        Returns:
            name → [batch, n_tokens, width], in the model's dtype, on its device.

        Raises:
            AutointerpError: where there is no such place, or the ids are no such tensor.
        """
        refuse_text(hook_points, "hook points as a list of names")
        is_batch = isinstance(token_ids, Tensor) and token_ids.ndim == 2
        if not is_batch or token_ids.is_floating_point():
            raise AutointerpError(
                "token ids must be a tensor [batch, n_tokens] of an integer type, such as "
                f"torch.tensor([ids]), not {array_facts(token_ids)}"
            )
        points = [self.hook(name) for name in dict.fromkeys(hook_points)]
        ids = token_ids.to(self.device, torch.long)
        mask = None if attention_mask is None else attention_mask.to(self.device)
        return self._run_in_parts(points, ids, mask)

    def _run_in_parts(
        self, points: list[hooks.HookPoint], ids: Tensor, mask: Tensor | None, first_row: int = 0
    ) -> dict[str, Tensor]:
        """The whole batch at once; where memory does not suffice, one half after the other."""
        try:
            with self.pass_of(Pass.of(torch.ones_like(ids) if mask is None else mask, first_row)):
                return self._run_once(points, ids, mask)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            shape = tuple(ids.shape)
        # Outside the handler: the error holds on to the tensors that filled the memory.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if shape[0] < 2:
            raise AutointerpError(
                f"{self.name}: {self.device} has not enough memory for one sequence of {shape[1]} "
                "tokens; shorten corpus.sequence_length, or set the subject's device_map or dtype"
            )
        middle = shape[0] // 2
        halves = [
            self._run_in_parts(
                points, ids[part], None if mask is None else mask[part], first_row + part.start
            )
            for part in (slice(0, middle), slice(middle, shape[0]))
        ]
        return {name: torch.cat([half[name] for half in halves]) for name in halves[0]}

    def _run_once(
        self, points: list[hooks.HookPoint], ids: Tensor, mask: Tensor | None
    ) -> dict[str, Tensor]:
        captured: dict[str, Tensor] = {}

        def capture(point: hooks.HookPoint, value: Tensor) -> None:
            captured[point.name] = value.to(self.device)
            if len(captured) == len(points):
                raise _StopForward

        handles = [_register(point, capture) for point in points]
        try:
            # The base model has no LM head; the last hook stops it before the blocks above.
            self.model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
        except _StopForward:
            pass
        finally:
            for handle in handles:
                handle.remove()
        missing = [point.name for point in points if point.name not in captured]
        if missing:
            raise AutointerpError(
                f"nothing passed hook point {missing[0]!r} of {self.name}: the module exists but "
                "the forward pass does not use it, or it belongs to the LM head, which is not run"
            )
        return captured


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device, or the machine itself, had no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or "t allocate memory" in str(error)


def _register(point: hooks.HookPoint, capture: Any) -> Any:
    if point.side == "input":
        return point.module.register_forward_pre_hook(
            lambda _m, args, kwargs: capture(point, point.value(args, kwargs, None)),
            with_kwargs=True,
        )
    return point.module.register_forward_hook(
        lambda _m, args, output: capture(point, point.value(args, {}, output))
    )
