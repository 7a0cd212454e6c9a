"""A subject: one causal language model, run up to named places inside it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from autointerp.records import AutointerpError
from autointerp.subject import hooks
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
        """
        points = [self.hook(name) for name in dict.fromkeys(hook_points)]
        ids = token_ids.to(self.device, torch.long)
        mask = None if attention_mask is None else attention_mask.to(self.device)
        return self._run_in_parts(points, ids, mask)

    def _run_in_parts(
        self, points: list[hooks.HookPoint], ids: Tensor, mask: Tensor | None
    ) -> dict[str, Tensor]:
        """The whole batch at once; where memory does not suffice, one half after the other."""
        try:
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
            self._run_in_parts(points, ids[part], None if mask is None else mask[part])
            for part in (slice(0, middle), slice(middle, None))
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
