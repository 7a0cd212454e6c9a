"""Any dense source with only its strongest units kept on every token."""

from dataclasses import dataclass

import torch
from torch import Tensor

from autointerp.records import AutointerpError, content_key
from autointerp.units.base import Dense, Sparse, UnitSource, range_of


@dataclass
class Sparsified:
    """The `l0` units of largest |x| on every token; all others are silent there.

    s_i = x_i where |x_i| is among the `l0` largest of the token's |x|, else 0. The sign is kept, so
    both polarities of a neuron compete for the same `l0` places: at most `l0` units, both sides
    counted together, are active on any token. That makes neurons comparable with a dictionary of
    the same L0 (top-k-sparsified neurons, Paulo et al. 2024): raw ones are active on half of all
    tokens.
    """

    name: str
    subject: str
    read_at: str
    write_at: str | None
    polarities: tuple[int, ...]
    source: UnitSource
    """What is sparsified; gives `Dense` values."""

    l0: int
    """Units kept on every token."""

    @classmethod
    def of(cls, source: UnitSource, l0: int) -> "Sparsified":
        """`source` with `l0` units a token.

        Raises:
            AutointerpError: where the source has fewer units than that.
        """
        if not 1 <= l0 <= source.n_units:
            raise AutointerpError(
                f"unit source {source.name!r}: sparsify.l0 is {l0}, but there are "
                f"{source.n_units} values per token at {source.read_at}: set 1 to {source.n_units}"
            )
        return cls(
            source.name,
            source.subject,
            source.read_at,
            source.write_at,
            source.polarities,
            source,
            l0,
        )

    @property
    def n_units(self) -> int:
        """As many as the source has."""
        return self.source.n_units

    def encode(self, hidden: Tensor, units: slice | None = None) -> Sparse:
        """The kept values of hidden states [n_tokens, d_in]; all units compete in any range."""
        encoded = self.source.encode(hidden)
        assert isinstance(encoded, Dense)
        kept = encoded.values.abs().topk(self.l0, dim=1, sorted=False).indices
        values = encoded.values.gather(1, kept)
        tokens = torch.arange(len(kept), device=kept.device)[:, None].expand_as(kept)
        first, last = range_of(units, self.n_units)
        wanted = (values != 0) & (kept >= first) & (kept < last)
        return Sparse(tokens[wanted], kept[wanted] - first, values[wanted])

    def write_directions(self, indices: list[int]) -> Tensor | None:
        """Those of the source."""
        return self.source.write_directions(indices)

    def fingerprint(self) -> str:
        """Hash of the source and `l0`."""
        return content_key("sparsified", source=self.source.fingerprint(), l0=self.l0)
