"""Data whose features are known, and how many of them a dictionary found.

Features in superposition (Elhage et al. 2022, "Toy Models of Superposition"): more directions than
dimensions, few of them active at once. What a dictionary trained on their sums should find is
known, which of a language model's activations nobody knows.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from autointerp.records import derived_seed

MATCHED_COSINE = 0.9
"""A feature counts as found where its latent's decoder row has a larger cosine with it."""


@dataclass(frozen=True)
class Superposition:
    """x = Σ_i s_i u_i + c: u_i unit directions, s_i zero or uniform on [0.5, 1.5], c a constant."""

    n_features: int = 32
    width: int = 16
    """Dimensions, fewer than features."""

    n_active: float = 2.0
    """Mean features active in a token, each independently."""

    offset: float = 0.3
    """Every entry of c."""

    seed: int = 0

    @cached_property
    def directions(self) -> Tensor:
        """[n_features, width]: u, random on the sphere."""
        generator = self._generator("directions")
        drawn = torch.randn(self.n_features, self.width, generator=generator)
        return drawn / drawn.norm(dim=1, keepdim=True)

    def tokens(self, number: int, n: int) -> Tensor:
        """[n, width]: the tokens of a chunk, the same whenever it is asked for."""
        generator = self._generator("tokens", number)
        shape = (n, self.n_features)
        active = torch.rand(shape, generator=generator) < self.n_active / self.n_features
        strength = 0.5 + torch.rand(shape, generator=generator)
        return (active * strength) @ self.directions + self.offset

    def batches(self, n: int) -> Callable[[int], Iterator[Tensor]]:
        """Batches of `n` tokens without end, as `train_saes` takes them."""

        def batches(skip: int) -> Iterator[Tensor]:
            while True:
                yield self.tokens(skip, n)
                skip += 1

        return batches

    def _generator(self, *purpose: object) -> torch.Generator:
        return torch.Generator().manual_seed(derived_seed(self.seed, "superposition", *purpose))


@dataclass(frozen=True)
class Recovery:
    """How many known features a dictionary has."""

    mean_max_cosine: float
    """Mean over features of the largest cosine with any decoder row (Sharkey et al. 2022). One row
    between two features counts for both."""

    matched: float
    """Share of features whose own row, assigned one to one, has a cosine above
    `MATCHED_COSINE`."""


def recovery(directions: Tensor, W_dec: Tensor) -> Recovery:
    """Compare decoder rows with known features.

    Args:
        directions: [n_features, d] of length 1.
        W_dec: [n_latents, d] of any length.

    Returns:
        Both measures. The assignment is that with the largest sum of cosines (Kuhn 1955).
    """
    from scipy.optimize import linear_sum_assignment

    rows = W_dec / W_dec.norm(dim=1, keepdim=True).clamp_min(1e-12)
    cosines = (directions @ rows.T).double().numpy()
    features, latents = linear_sum_assignment(cosines, maximize=True)
    n_found = int((cosines[features, latents] > MATCHED_COSINE).sum())
    return Recovery(float(cosines.max(axis=1).mean()), n_found / len(cosines))
