"""Interventions: what is at a place of a subject, changed on chosen tokens while it runs.

    x' = x + Δ(y)        x at `write_at`, y at `read_at` of the same token

Adding the difference, and not the new value, keeps what an edit knows nothing of: the error term of
a dictionary (x + decode(f') - decode(f)), the other half of a neuron. Hooks are placed on entry and
removed on exit, whatever happened in between.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor

from autointerp.records import AutointerpError
from autointerp.subject.hooks import INPUT, NORMALIZED, HookPoint

if TYPE_CHECKING:
    from autointerp.subject.model import Subject

Positions = Literal["all", "prompt", "new", "last"] | tuple[int, ...] | Tensor
"""Tokens that an edit touches, counted in each text from its own first token (padding is no token):
`all`; those of the `prompt`; those `new` in a generation; the `last` of the prompt; places, where
negative ones count from the prompt's end; or a mask [n_texts, n_tokens] of the prompts' tokens."""


@dataclass(frozen=True)
class Pass:
    """Where the tokens of one forward pass stand in their texts."""

    rows: Tensor
    """[n_rows] int64: which of the caller's texts each row is."""

    positions: Tensor
    """[n_rows, n_tokens] int64: place in the text from 0; negative for padding."""

    prompt_lengths: Tensor
    """[n_rows] int64: tokens of the text as it was given, without generated ones."""

    @classmethod
    def of(cls, mask: Tensor, first_row: int = 0) -> "Pass":
        """Of whole texts.

        Args:
            mask: [n_rows, n_tokens] 1 for tokens, 0 for padding.
            first_row: which of the caller's texts the first row is.
        """
        own = mask.long()
        positions = (own.cumsum(1) - 1).masked_fill(own == 0, -1)
        rows = torch.arange(len(own), device=own.device) + first_row
        return cls(rows, positions, own.sum(1))

    def chosen(self, positions: Positions) -> Tensor:
        """[n_rows, n_tokens] bool: the tokens meant by `positions`."""
        places, ends = self.positions, self.prompt_lengths[:, None]
        is_token = places >= 0
        if isinstance(positions, Tensor):
            if int(self.rows.max()) >= len(positions):
                raise AutointerpError(
                    f"a mask of positions has {len(positions)} rows, but text "
                    f"{int(self.rows.max())} is run: give a row per text"
                )
            wide = positions.to(places.device).bool()
            inside = is_token & (places < wide.shape[1]) & (places < ends)
            within = places.clamp(0, wide.shape[1] - 1)
            return inside & wide[self.rows].gather(1, within)
        if positions == "all":
            return is_token
        if positions == "prompt":
            return is_token & (places < ends)
        if positions == "new":
            return places >= ends
        if positions == "last":
            return is_token & (places == ends - 1)
        if isinstance(positions, str):
            raise AutointerpError(
                f"positions {positions!r}: write all, prompt, new, last, or places as numbers"
            )
        wanted = torch.tensor(positions, dtype=torch.long, device=places.device)
        absolute = torch.where(wanted < 0, wanted + ends, wanted)
        return is_token & (places[:, :, None] == absolute[:, None, :]).any(2)


@dataclass(frozen=True)
class Tokens:
    """The tokens that an edit changes in one forward pass."""

    rows: Tensor
    """[n_tokens] int64: which of the caller's texts each token is of."""

    positions: Tensor
    """[n_tokens] int64: place in its text, from 0."""


class Edit(Protocol):
    """One change of what passes a place."""

    @property
    def read_at(self) -> str | None:
        """Hook point whose value the change depends on; `None` where it depends on none."""
        ...

    @property
    def write_at(self) -> str:
        """Hook point to whose value the change is added."""
        ...

    @property
    def positions(self) -> Positions:
        """The tokens that are changed."""
        ...

    def change(self, hidden: Tensor | None, tokens: Tokens) -> Tensor:
        """What is added on some tokens.

        Args:
            hidden: [n_tokens, width at `read_at`]; `None` where nothing is read.
            tokens: where they stand.

        Returns:
            [n_tokens, width at `write_at`], or [width] for all alike; any float dtype.
        """
        ...


@dataclass(frozen=True)
class AddVector:
    """The same vector on every chosen token, of all texts or one for each of them."""

    write_at: str
    vector: Tensor
    """[width], or [n_texts, width]."""

    positions: Positions = "all"

    @property
    def read_at(self) -> None:
        """Nothing is read."""
        return None

    def change(self, hidden: Tensor | None, tokens: Tokens) -> Tensor:
        """The vector of each token's text."""
        return per_text(self.vector, tokens.rows, 1)


@dataclass(frozen=True)
class SetTo:
    """The value at a place replaced: by zero, a mean, or what another text has there."""

    write_at: str
    value: Tensor
    """[width], or [n_texts, width]."""

    positions: Positions = "all"

    @property
    def read_at(self) -> str:
        """Where it writes."""
        return self.write_at

    def change(self, hidden: Tensor | None, tokens: Tokens) -> Tensor:
        """The value less what is there."""
        assert hidden is not None
        return per_text(self.value, tokens.rows, 1).to(hidden.device).float() - hidden.float()


def per_text(values: Tensor, rows: Tensor, n_dims: int) -> Tensor:
    """What belongs to each token, of values for all texts alike or with a first axis of texts.

    Args:
        values: [...] of `n_dims` axes, or [n_texts, ...].
        rows: [n_tokens] int64, on any device.
        n_dims: axes of a value.

    Returns:
        `values` itself, or [n_tokens, ...].

    Raises:
        AutointerpError: where there is not a value for each text.
    """
    if values.ndim == n_dims:
        return values
    if len(rows) and int(rows.max()) >= len(values):
        raise AutointerpError(
            f"an intervention has values for {len(values)} texts, but text {int(rows.max())} is "
            "run: give one for all, or one for each text"
        )
    return values[rows.to(values.device)]


@contextmanager
def intervening(subject: "Subject", edits: Sequence[Edit]) -> Generator[None]:
    """Place the hooks of edits on a subject's model, and take them away at the end."""
    with ExitStack() as stack:
        for edit in edits:
            for handle in _install(subject, edit):
                stack.callback(handle.remove)
        yield


def _install(subject: "Subject", edit: Edit) -> list[Any]:
    write = subject.hook(edit.write_at)
    if write.side == NORMALIZED:
        raise AutointerpError(
            f"nothing can be written at {edit.write_at!r}, which is computed inside a norm: write "
            "at the norm's input or output, as MODULE:input or MODULE:output"
        )
    if edit.read_at is None:
        return _write(subject, write, lambda value: _changed(subject, edit, value, None))
    read = subject.hook(edit.read_at)
    if (read.module, read.side) == (write.module, write.side):
        return _write(subject, write, lambda value: _changed(subject, edit, value, value))
    held: list[Tensor] = []

    def hold(value: Tensor) -> None:
        held[:] = [value]

    def write_held(value: Tensor) -> Tensor:
        if not held:
            raise AutointerpError(
                f"an intervention reads at {edit.read_at!r} and writes at {edit.write_at!r}, which "
                "comes first in the model: choose a place to write that comes later"
            )
        return _changed(subject, edit, value, held.pop())

    return [_listen(read, hold), *_write(subject, write, write_held)]


def _write(subject: "Subject", point: HookPoint, change: Callable[[Tensor], Tensor]) -> list[Any]:
    """The hooks that replace what is at a place, for all that reads it.

    The residual stream in the middle of a block has a name as the input of the second norm; the
    stream itself goes past that norm, so what is written has to be added at the block's end too.
    """
    if not point.name.endswith("hook_resid_mid"):
        return [_rewrite(point, change)]
    added: list[Tensor] = []

    def before_norm(value: Tensor) -> Tensor:
        new = change(value)
        added[:] = [] if new is value else [new - value]
        return new

    def after_block(value: Tensor) -> Tensor:
        return value + added.pop().to(value.device) if added else value

    end = subject.hook(f"blocks.{point.block}.hook_resid_post")
    return [_rewrite(point, before_norm), _rewrite(end, after_block)]


def _changed(subject: "Subject", edit: Edit, value: Tensor, read: Tensor | None) -> Tensor:
    """The value at `write_at` [n_rows, n_tokens, width] with the change of the chosen tokens."""
    if value.ndim != 3:
        raise AutointerpError(
            f"hook point {edit.write_at!r} has values of shape {list(value.shape)}: an "
            "intervention needs one vector per token, [n_texts, n_tokens, width]"
        )
    now = subject.passing
    if now is None:
        if isinstance(edit.positions, Tensor) or edit.positions != "all":
            raise AutointerpError(
                "an intervention at chosen positions works in subject.run, next_logits, "
                "each_logits and generate, which know where every token stands; a bare call of the "
                "model does not"
            )
        now = Pass.of(torch.ones(value.shape[:2], dtype=torch.long, device=value.device))
    chosen = now.chosen(edit.positions).to(value.device)
    if not bool(chosen.any()):
        return value
    tokens = Tokens(
        now.rows.to(value.device)[:, None].expand(value.shape[:2])[chosen],
        now.positions.to(value.device)[chosen],
    )
    hidden = None if read is None else read[chosen.to(read.device)]
    change = edit.change(hidden, tokens).to(value.device).float()
    out = value.clone()
    out[chosen] = (value[chosen].float() + change).to(value.dtype)
    return out


def _listen(point: HookPoint, heard: Callable[[Tensor], None]) -> Any:
    """A hook that hands on what is at a place, and changes nothing."""
    if point.side == INPUT:
        return point.module.register_forward_pre_hook(
            lambda _m, args, kwargs: heard(point.value(args, kwargs, None)), with_kwargs=True
        )
    return point.module.register_forward_hook(
        lambda _m, args, kwargs, output: heard(point.value(args, kwargs, output)), with_kwargs=True
    )


def _rewrite(point: HookPoint, change: Callable[[Tensor], Tensor]) -> Any:
    """A hook that replaces what is at a place."""
    if point.side == INPUT:

        def before(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            new = change(point.value(args, kwargs, None))
            if args:
                return (new, *args[1:]), kwargs
            return args, {**kwargs, next(iter(kwargs)): new}

        return point.module.register_forward_pre_hook(before, with_kwargs=True)

    def after(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        new = change(point.value(args, kwargs, output))
        return (new, *output[1:]) if isinstance(output, tuple) else new

    return point.module.register_forward_hook(after, with_kwargs=True)
