"""Interventions on units: their values are moved, and everything else at the place is kept.

With a = polarity · x the signed value of a unit (its activation is relu(a)), m its level and s the
strength:

    add       a' = a + s m              m the largest activation in `explain`, s its multiples
    clamp     a' = s m
    scale     a' = a + (s - 1) relu(a)
    replace   a' = a - relu(a) + r      r = 0, the mean, drawn from a pool, or given token by token

(clamping to multiples of the maximum: Templeton et al. 2024; ablation by mean and by simulation:
Bills et al. 2023). All but `clamp` leave the other side of a signed unit as it is. What moves the
values from a to a' is added where the units live:

    dictionary    Δx = decode(f') - decode(f): the error term of the reconstruction stays
    neurons       their own channels
    directions    Δx = Δv pinv(V): the smallest change that moves the projections by exactly Δv
    heads         z_h' = z_h ‖·‖' / ‖·‖: what a head writes, made longer or shorter
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from autointerp.records import AutointerpError, UnitId
from autointerp.subject.intervene import Positions, Tokens, per_text
from autointerp.units.attention_heads import AttentionHeads
from autointerp.units.base import Dense, UnitSource
from autointerp.units.directions import Directions
from autointerp.units.neurons import Neurons
from autointerp.units.sae.latents import SaeLatents
from autointerp.units.sparsified import Sparsified

How = Literal["add", "clamp", "scale", "replace"]

Strength = float | Tensor
"""One number for all texts, or [n_texts]."""

Units = UnitId | str | Sequence[UnitId | str]
"""One unit or several, also as `source/index`."""


@dataclass(frozen=True)
class Intervention:
    """Units of one source set to other values; see the module's docstring for the equations."""

    source: UnitSource
    units: tuple[UnitId, ...]
    how: How
    strength: Strength = 1.0
    """s; not read by `replace`."""

    levels: tuple[float, ...] = ()
    """[n_units] m; not read by `scale` and `replace`."""

    values: Tensor | None = None
    """r of `replace`: [n_units]; or [n_texts, n_tokens, n_units], one for each place in a text."""

    pool: Tensor | None = None
    """r of `replace`, drawn for every token: [n_pool, n_units] activations seen elsewhere."""

    seed: int = 0
    """Of the drawing."""

    positions: Positions = "all"

    def __post_init__(self) -> None:
        wrong = [unit for unit in self.units if unit.source != self.source.name]
        if wrong or not self.units:
            raise AutointerpError(
                f"an intervention on {self.source.name} names "
                f"{wrong[0] if wrong else 'no unit'}: give units of that source"
            )
        for unit in self.units:
            if unit.index >= self.source.n_units or unit.polarity not in self.source.polarities:
                raise AutointerpError(
                    f"unit {unit} does not exist: {unit.source} has indices 0 to "
                    f"{self.source.n_units - 1} and polarities "
                    f"{', '.join(f'{p:+d}' for p in self.source.polarities)}"
                )
        if self.how in ("add", "clamp") and len(self.levels) != len(self.units):
            raise ValueError(f"{len(self.levels)} levels for {len(self.units)} units")
        _check_writes(self.source)

    @classmethod
    def add(
        cls,
        source: UnitSource,
        units: Units,
        strength: Strength,
        maximum: float | Sequence[float],
        positions: Positions = "all",
    ) -> "Intervention":
        """Raise units by `strength` times their maximum activations."""
        return cls(source, _units(units), "add", strength, _levels(maximum), positions=positions)

    @classmethod
    def clamp(
        cls,
        source: UnitSource,
        units: Units,
        strength: Strength,
        maximum: float | Sequence[float],
        positions: Positions = "all",
    ) -> "Intervention":
        """Hold units at `strength` times their maximum activations."""
        return cls(source, _units(units), "clamp", strength, _levels(maximum), positions=positions)

    @classmethod
    def scale(
        cls,
        source: UnitSource,
        units: Units,
        factor: Strength,
        positions: Positions = "all",
    ) -> "Intervention":
        """Multiply the activations of units; 0 is zero ablation."""
        return cls(source, _units(units), "scale", factor, positions=positions)

    @classmethod
    def ablate(
        cls,
        source: UnitSource,
        units: Units,
        to: float | Sequence[float] | Tensor = 0.0,
        positions: Positions = "all",
    ) -> "Intervention":
        """Replace the activations of units.

        Args:
            to: 0; the mean activation of each unit; or values [n_texts, n_tokens, n_units] for
                every place of every text, such as a simulation.
        """
        chosen = _units(units)
        if not isinstance(to, Tensor):
            levels = _levels(to)
            to = torch.tensor(levels * (len(chosen) if len(levels) == 1 else 1))
        if to.ndim not in (1, 3) or to.shape[-1] != len(chosen):
            raise AutointerpError(
                f"ablation of {len(chosen)} units to values of shape {list(to.shape)}: give one "
                "number per unit, or [n_texts, n_tokens, n_units]"
            )
        return cls(source, chosen, "replace", values=to, positions=positions)

    @classmethod
    def resample(
        cls,
        source: UnitSource,
        units: Units,
        pool: Tensor,
        seed: int = 0,
        positions: Positions = "all",
    ) -> "Intervention":
        """Replace the activations of units on every token by some seen elsewhere.

        Args:
            pool: [n_pool, n_units] activations >= 0 on other tokens; a row is drawn as a whole, so
                that units keep their company.
            seed: of the drawing: the same text, place and seed get the same row.
        """
        chosen = _units(units)
        if pool.ndim != 2 or not len(pool) or pool.shape[1] != len(chosen):
            raise AutointerpError(
                f"resampling of {len(chosen)} units from a pool of shape {list(pool.shape)}: give "
                "[n_pool, n_units], at least one row"
            )
        return cls(source, chosen, "replace", pool=pool, seed=seed, positions=positions)

    def at(self, positions: Positions) -> "Intervention":
        """The same at other positions."""
        return replace(self, positions=positions)

    def by(self, strength: Strength) -> "Intervention":
        """The same with another strength."""
        return replace(self, strength=strength)

    @property
    def write_at(self) -> str:
        """Hook point that is changed."""
        source = _inner(self.source)
        if isinstance(source, Neurons | AttentionHeads):
            return source.read_at
        assert source.write_at is not None
        return source.write_at

    @property
    def read_at(self) -> str | None:
        """Hook point whose values are needed; `None` where a constant is added."""
        source = _inner(self.source)
        depends = isinstance(source, AttentionHeads) or (
            isinstance(source, SaeLatents) and source.sae.normalisation != "none"
        )
        return source.read_at if self.how != "add" or depends else None

    def change(self, hidden: Tensor | None, tokens: Tokens) -> Tensor:
        """What is added at `write_at` on tokens whose value at `read_at` is `hidden`."""
        device = tokens.rows.device if hidden is None else hidden.device
        moved = self._moved(hidden, tokens, device)
        moved = moved * self._signs.to(device)
        indices, places = self._indices
        total = moved.new_zeros(len(moved), len(indices))
        total.index_add_(1, places.to(device), moved)
        return written(_inner(self.source), hidden, indices, total)

    @cached_property
    def _signs(self) -> Tensor:
        return torch.tensor([float(unit.polarity) for unit in self.units])

    @cached_property
    def _indices(self) -> tuple[list[int], Tensor]:
        """Indices of the units, each once, and the place of every unit's among them."""
        indices = sorted({unit.index for unit in self.units})
        place = {index: i for i, index in enumerate(indices)}
        return indices, torch.tensor([place[unit.index] for unit in self.units])

    def _moved(self, hidden: Tensor | None, tokens: Tokens, device: torch.device) -> Tensor:
        """a' - a, [n_tokens, n_units] float32."""
        strength = torch.as_tensor(self.strength, dtype=torch.float32)
        strength = per_text(strength, tokens.rows, 0).to(device)[..., None]
        if self.how == "add":
            levels = torch.tensor(self.levels, device=device)
            return (strength * levels).expand(len(tokens.rows), -1)
        assert hidden is not None
        # Clamping is of the value itself, also where a sparsified source shows none.
        source = _inner(self.source) if self.how == "clamp" else self.source
        indices, places = self._indices
        signed = values_of(source, hidden, indices)[:, places.to(device)] * self._signs.to(device)
        if self.how == "clamp":
            return strength * torch.tensor(self.levels, device=device) - signed
        if self.how == "scale":
            return (strength - 1) * signed.relu()
        return self._replacement(tokens).to(device) - signed.relu()

    def _replacement(self, tokens: Tokens) -> Tensor:
        """r, [n_tokens, n_units] or [n_units]."""
        if self.pool is not None:
            drawn = drawn_places(tokens, len(self.pool), self.seed)
            return self.pool.float()[drawn.to(self.pool.device)]
        assert self.values is not None
        values = self.values.float()
        if values.ndim == 1:
            return values
        rows, positions = tokens.rows.to(values.device), tokens.positions.to(values.device)
        if int(rows.max()) >= values.shape[0] or int(positions.max()) >= values.shape[1]:
            raise AutointerpError(
                f"an ablation has values for {values.shape[0]} texts of {values.shape[1]} tokens, "
                f"but text {int(rows.max())} with {int(positions.max()) + 1} is run: give values "
                "for all, or choose positions"
            )
        return values[rows, positions]


def drawn_places(tokens: Tokens, n: int, seed: int) -> Tensor:
    """[n_tokens] int64 in [0, n): a mixed hash of text, place and seed (SplitMix-like)."""
    state = tokens.rows.cpu() * 1_000_003 + tokens.positions.cpu() * 7_919 + (seed % 2**31) * 31
    state = (state ^ (state >> 15)) * 0x2C1B3C6D & 0x7FFFFFFF
    state = (state ^ (state >> 12)) * 0x297A2D39 & 0x7FFFFFFF
    return (state ^ (state >> 15)) % n


def values_of(source: UnitSource, hidden: Tensor, indices: Sequence[int]) -> Tensor:
    """Raw values of some indices of a source, [n_tokens, n_indices] float32.

    Args:
        hidden: [n_tokens, width at `read_at`].
    """
    if len(indices) == 1:
        units = slice(indices[0], indices[0] + 1)
        columns = [0]
    else:
        units, columns = None, list(indices)
    encoded = source.encode(hidden, units)
    chosen = torch.tensor(columns, device=hidden.device)
    if isinstance(encoded, Dense):
        return encoded.values[:, chosen]
    n = source.n_units if units is None else 1
    place = torch.full((n,), -1, dtype=torch.long, device=hidden.device)
    place[chosen] = torch.arange(len(columns), device=hidden.device)
    column = place[encoded.units]
    wanted = column >= 0
    found = torch.zeros(len(hidden), len(columns), device=hidden.device)
    found[encoded.tokens[wanted], column[wanted]] = encoded.values[wanted].float()
    return found


def activations_of(source: UnitSource, hidden: Tensor, units: Sequence[UnitId]) -> Tensor:
    """Activations of units, relu(polarity · x): [n_tokens, n_units] float32."""
    indices = sorted({unit.index for unit in units})
    values = values_of(source, hidden, indices)
    columns = torch.tensor([indices.index(unit.index) for unit in units], device=hidden.device)
    signs = torch.tensor([float(unit.polarity) for unit in units], device=hidden.device)
    return (values[:, columns] * signs).relu()


def written(source: UnitSource, hidden: Tensor | None, indices: list[int], moved: Tensor) -> Tensor:
    """What moves the raw values of a source's indices.

    Args:
        hidden: [n_tokens, width at `read_at`]; `None` where it is not needed.
        indices: each once.
        moved: [n_tokens, n_indices] float32 by how much.

    Returns:
        [n_tokens, width at the place that is written to] float32.
    """
    if isinstance(source, SaeLatents):
        rows = source.sae.W_dec[indices].to(moved.device)
        return source.sae.rescaled(moved @ rows, hidden)
    if isinstance(source, AttentionHeads):
        assert hidden is not None
        return _heads(source, hidden, indices, moved)
    if isinstance(source, Neurons):
        return _columns(moved, indices, source.n_units)
    if isinstance(source, Directions):
        rows = source.directions.rows
        if rows is None:
            return _columns(moved, indices, source.width)
        # On the CPU: not every device can decompose.
        inverse = torch.linalg.pinv(rows[indices].float().cpu())
        return moved @ inverse.T.to(moved.device)
    rows = source.write_directions(indices)
    assert rows is not None
    return moved @ rows.float().to(moved.device)


def _columns(moved: Tensor, indices: list[int], width: int) -> Tensor:
    found = moved.new_zeros(len(moved), width)
    found[:, indices] = moved
    return found


def _heads(source: AttentionHeads, hidden: Tensor, indices: list[int], moved: Tensor) -> Tensor:
    """What makes heads write more or less in the direction they write in; nothing stays nothing."""
    norms = values_of(source, hidden, indices)
    factor = torch.where(norms > 0, moved.clamp(min=-norms) / norms.clamp_min(1e-30), 0.0)
    by_head = hidden.float().reshape(len(hidden), source.n_units, -1)
    found = torch.zeros_like(by_head)
    found[:, indices] = by_head[:, indices] * factor[:, :, None]
    return found.reshape(hidden.shape)


def _inner(source: UnitSource) -> UnitSource:
    return source.source if isinstance(source, Sparsified) else source


def _check_writes(source: UnitSource) -> None:
    inner = _inner(source)
    if isinstance(inner, Neurons | AttentionHeads | Directions):
        return
    if isinstance(inner, SaeLatents) and not inner.sae.has_decoder:
        raise AutointerpError(
            f"{source.name}: this dictionary's files hold no decoder, so its units write nothing "
            "and cannot be intervened on; use a checkpoint with one"
        )
    if inner.write_at is None or inner.write_directions([0]) is None:
        raise AutointerpError(f"{source.name}: its units write nothing: none can be intervened on")


def _units(units: Units) -> tuple[UnitId, ...]:
    return tuple(map(UnitId.parse, [units] if isinstance(units, UnitId | str) else units))


def _levels(maximum: float | Sequence[float]) -> tuple[float, ...]:
    return tuple(map(float, maximum)) if isinstance(maximum, Sequence) else (float(maximum),)
