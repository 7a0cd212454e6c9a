"""Directions at any place: its channels, random ones, principal components, or a file's."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from autointerp.records import content_key
from autointerp.units.base import Dense, range_of


@dataclass(frozen=True)
class DirectionSet:
    """Directions of one place and the point they are measured from."""

    rows: Tensor | None
    """[n_units, width] float32, one direction each; `None` for the channels themselves."""

    centre: Tensor | None = None
    """[width] float32: taken from the hidden state first; `None` for the origin."""

    variance: Tensor | None = None
    """[n_units] float32: variance along each direction, where it was measured."""

    def fingerprint(self) -> str:
        """Hash of the numbers."""
        return content_key("directions", rows=_digest(self.rows), centre=_digest(self.centre))


@dataclass
class Directions:
    """Projections v·(x − c) of the hidden state on directions, both signs.

    Random directions and principal components are controls: units whose explanations should score
    clearly below those of a dictionary.
    """

    name: str
    subject: str
    read_at: str
    n_units: int
    width: int
    """Channels at `read_at`."""

    make: Callable[[], DirectionSet]
    """Gives the directions when they are first needed: components are fitted to a corpus."""

    device: torch.device
    polarities: tuple[int, ...] = (1, -1)

    @property
    def write_at(self) -> str:
        """Where they are read: adding a direction there moves along it."""
        return self.read_at

    @cached_property
    def directions(self) -> DirectionSet:
        """The directions, on the subject's device."""
        made = self.make()
        rows, centre = made.rows, made.centre
        assert rows is None or rows.shape == (self.n_units, self.width)
        return DirectionSet(
            None if rows is None else rows.to(self.device),
            None if centre is None else centre.to(self.device),
            made.variance,
        )

    def encode(self, hidden: Tensor, units: slice | None = None) -> Dense:
        """Projections of hidden states [n_tokens, width]."""
        found, wanted = self.directions, slice(*range_of(units, self.n_units))
        values = hidden.float()
        if found.centre is not None:
            values = values - found.centre
        if found.rows is None:
            return Dense(values[:, wanted])
        return Dense(values @ found.rows[wanted].T)

    def write_directions(self, indices: list[int]) -> Tensor:
        """The directions themselves, [len(indices), width]."""
        rows = self.directions.rows
        if rows is not None:
            return rows[indices]
        chosen = torch.tensor(indices, dtype=torch.long, device=self.device)
        return torch.nn.functional.one_hot(chosen, self.width).float()

    def fingerprint(self) -> str:
        """Hash of the directions and of where they are read."""
        return f"{self.directions.fingerprint()}@{self.read_at}"


def random_directions(n: int, width: int, seed: int) -> Tensor:
    """[n, width] float32 of length 1, uniform on the sphere (normalised Gaussian), from a seed."""
    generator = torch.Generator().manual_seed(seed % 2**63)
    return _unit_length(torch.randn(n, width, generator=generator, dtype=torch.float64)).float()


class StreamingMoments:
    """Mean and covariance of rows that come in batches (Chan, Golub and LeVeque 1979).

    Merging batch b into what came before: with d = mean_b − mean and N = n + n_b,
    M ← M + M_b + d dᵀ n n_b / N. Sums are float64: width² · 8 bytes.
    """

    def __init__(self, width: int, *, covariance: bool) -> None:
        self.n = 0
        self.mean = torch.zeros(width, dtype=torch.float64)
        self.scatter = torch.zeros(width, width, dtype=torch.float64) if covariance else None
        """[width, width] sum of (x − mean)(x − mean)ᵀ; `None` where only the mean is wanted."""

    def add(self, rows: Tensor) -> None:
        """Take in rows [n_rows, width], any float dtype."""
        if not len(rows):
            return
        # Metal has no float64.
        rows = (rows.cpu() if rows.device.type == "mps" else rows).double()
        total = self.n + len(rows)
        delta = rows.mean(dim=0) - self.mean.to(rows.device)
        if self.scatter is not None:
            centred = rows - rows.mean(dim=0)
            between = torch.outer(delta, delta) * (self.n * len(rows) / total)
            self.scatter = self.scatter.to(rows.device) + centred.T @ centred + between
        self.mean = self.mean.to(rows.device) + delta * (len(rows) / total)
        self.n = total

    def components(self, n: int) -> tuple[Tensor, Tensor]:
        """The first principal components and their variances, largest first.

        The sign of a component is free; the entry of largest magnitude is made positive.

        Returns:
            [n, width] float32 of length 1, and [n] float32.
        """
        assert self.scatter is not None and self.n > 1
        variances, vectors = torch.linalg.eigh(self.scatter.cpu() / (self.n - 1))
        rows = vectors.T.flip(0)[:n]
        largest = rows.gather(1, rows.abs().argmax(dim=1, keepdim=True))
        rows = _unit_length(rows * largest.sign())
        return rows.float(), variances.flip(0)[:n].clamp_min(0).float()


def _unit_length(rows: Tensor) -> Tensor:
    return rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True)


def _digest(values: Tensor | None) -> str | None:
    if values is None:
        return None
    data = values.detach().cpu().contiguous().numpy()
    digest = hashlib.blake2b(f"{data.dtype}{data.shape}".encode(), digest_size=16)
    digest.update(data.data)
    return digest.hexdigest()
