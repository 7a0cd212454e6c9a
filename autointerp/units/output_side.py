"""What a unit writes into the logits: promoted and suppressed tokens, and its nearest units.

A unit's direction d in the residual stream changes the logits, through the final norm and the
unembedding W_U [vocab, d_model], along W_U (g ⊙ d) (logit lens, nostalgebraist 2020; as in Bills et
al. 2023 and Bricken et al. 2023):

- the norm's gain g is folded in (Gemma's 1 + w too);
- where the norm is a LayerNorm the mean of d is taken off first, as it takes off its input's; an
  RMSNorm does not;
- the norm's division by the size of its input is left out: one positive factor for each token in
  context, which changes no order. So logits here are per unit of activation at residual size 1;
- shifts that are the same for all units (biases of norm and unembedding) and the monotone
  soft-capping of logits (Gemma 2) are left out;
- later blocks are not gone through: this is the direct path.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autointerp.records import AutointerpError
from autointerp.subject import Subject
from autointerp.subject.hooks import hook_names
from autointerp.units.base import UnitSource
from autointerp.units.nearest import Near, NearestUnits
from autointerp.units.projections import projection_rows

_UNIT_CHUNK = 512
_VOCABULARY_CHUNK = 8192


@dataclass(frozen=True)
class Unembedding:
    """The way from the residual stream to the logits."""

    gain: Tensor
    """[d_model] float32: scale of the final norm."""

    is_centred: bool
    """Whether the final norm takes off the mean."""

    weight: Tensor
    """[vocab, d_model], as the model keeps it."""

    def folded(self, rows: Tensor) -> Tensor:
        """Directions [n, d_model] as the unembedding sees them, float32."""
        rows = rows.float()
        if self.is_centred:
            rows = rows - rows.mean(dim=1, keepdim=True)
        return rows * self.gain.to(rows.device)


@dataclass(frozen=True)
class Written:
    """The output side of the units of one index, for polarity +1; −1 writes the opposite."""

    index: int
    promoted: list[tuple[int, float]] | None
    """(token id, logit), largest logit first; `None` where no way to the logits is known."""

    suppressed: list[tuple[int, float]] | None
    """(token id, logit), smallest logit first."""

    neighbours: list[tuple[int, int, float]]
    """(index, polarity, cosine) of the units of the source that write most alike, nearest first;
    fewer where fewer have a positive cosine."""


def unembedding_of(subject: Subject) -> Unembedding | None:
    """The final norm and unembedding of a subject; `None` where they cannot be found for certain.

    The norm is the one module beside the list of blocks whose class is called a norm.
    """
    model = subject.model
    weight = getattr(model.get_output_embeddings(), "weight", None)
    norm = _final_norm(model.base_model, subject.n_blocks)
    if norm is None or not isinstance(weight, Tensor) or not weight.is_floating_point():
        return None
    if weight.ndim != 2 or weight.shape[1] != subject.d_model:
        return None
    found = norm_gain(norm, subject.d_model)
    return None if found is None else Unembedding(*found, weight)


def _final_norm(base: nn.Module, n_blocks: int) -> nn.Module | None:
    for parent in base.modules():
        children = list(parent.children())
        if any(isinstance(c, nn.ModuleList) and len(c) == n_blocks for c in children):
            norms = [c for c in children if "norm" in type(c).__name__.lower()]
            return norms[0] if len(norms) == 1 else None
    return None


@torch.no_grad()
def norm_gain(norm: nn.Module, width: int) -> tuple[Tensor, bool] | None:
    """Scale [width] float32 of a norm, and whether it takes off the mean; `None` if it is no norm.

    Found from what it does rather than from its class: for x of mean 0 and mean square 1,
    norm(c·x) - norm(0) = gain ⊙ x for any large c, under LayerNorm, RMSNorm and Gemma's (1 + w).
    """
    device = next((p.device for p in norm.parameters()), torch.device("cpu"))
    half = width // 2
    x = torch.ones(width, device=device)
    x[half:] = -half / (width - half)
    x = x / x.square().mean().sqrt()
    module = copy.deepcopy(norm).float()

    def applied(value: Tensor) -> Tensor:
        return module(value[None, None])[0, 0].float()

    shift = applied(torch.zeros_like(x))
    gain = (applied(1e3 * x) - shift) / x
    of_constant = (applied(torch.full_like(x, 1e3)) - shift).abs()
    size = gain.abs().max()
    if not bool(gain.isfinite().all()) or size == 0:
        return None
    is_centred = bool((of_constant <= 1e-2 * size).all())
    behaves = is_centred or torch.allclose(of_constant, gain.abs(), rtol=1e-3, atol=1e-5)
    return (gain, is_centred) if behaves else None


def to_residual(subject: Subject, write_at: str | None, rows: Tensor) -> Tensor | None:
    """Directions at a place as what they add to the residual stream.

    Args:
        write_at: hook point at which `rows` are added; `None` where nothing is written.
        rows: [n, width at that place].

    Returns:
        [n, d_model] float32 up to a positive factor a token: the rows themselves in the residual
        stream and at the outputs of attention and MLP; through the projection for its inputs
        (`mlp.hook_post`, `attn.hook_z`); times the gain of the norm where one follows (Gemma 2 and
        3). `None` for any other place, whose way to the residual stream is not linear.
    """
    names = hook_names(subject.model)
    if write_at is None or not names:
        return None
    try:
        hook = subject.hook(write_at)
    except AutointerpError:
        # A place that a dictionary's files name and this model does not have.
        return None
    rows = rows.float()
    place = (hook.module, hook.side)
    for name in names:
        other = subject.hook(name)
        if name.endswith(_RESIDUAL_PLACES) and (other.module, other.side) == place:
            return rows if rows.shape[1] == subject.d_model else None
    if hook.block is None:
        return None
    for inner, outer in (("attn.hook_z", "hook_attn_out"), ("mlp.hook_post", "hook_mlp_out")):
        projection = subject.hook(f"blocks.{hook.block}.{inner}").module
        if hook.module is projection and hook.side == "input":
            weight = projection_rows(projection)
            if weight is None or weight.shape[0] != rows.shape[1]:
                return None
            rows = rows @ weight.float().to(rows.device)
        elif hook.side != "output" or not _holds(hook.module, projection):
            continue
        return _through_norm(subject, f"blocks.{hook.block}.{outer}", projection, rows)
    return None


_RESIDUAL_PLACES = (
    "hook_embed",
    "hook_resid_pre",
    "hook_resid_mid",
    "hook_resid_post",
    "hook_attn_out",
    "hook_mlp_out",
)


def _holds(module: nn.Module, projection: nn.Module) -> bool:
    """Whether a module's output is that of a projection: the projection, or the layer it ends."""
    return any(inner is projection for inner in module.modules())


def _through_norm(
    subject: Subject, outer: str, projection: nn.Module, rows: Tensor
) -> Tensor | None:
    """What is left of a layer's output after the norm that may follow it."""
    after = subject.hook(outer).module
    if _holds(after, projection):
        return rows
    found = norm_gain(after, subject.d_model)
    if found is None:
        return None
    gain, is_centred = found[0].to(rows.device), found[1]
    return (rows - rows.mean(dim=1, keepdim=True) if is_centred else rows) * gain


@dataclass(frozen=True)
class Ends:
    """The tokens at one end of the vocabulary, the outermost first."""

    logits: Tensor
    """[n_units, n] float32."""

    tokens: Tensor
    """[n_units, n] int64 token ids."""

    @classmethod
    def none(cls, folded: Tensor) -> "Ends":
        """Of no token yet."""
        empty = folded.new_zeros(len(folded), 0)
        return cls(empty, empty.long())

    def merged(self, logits: Tensor, first: int, n: int, *, largest: bool) -> "Ends":
        """With the tokens from `first`, logits [n_units, n_tokens]."""
        found = logits.topk(min(n, logits.shape[1]), dim=1, largest=largest)
        values = torch.cat([self.logits, found.values], dim=1)
        tokens = torch.cat([self.tokens, found.indices + first], dim=1)
        best = values.topk(min(n, values.shape[1]), dim=1, largest=largest)
        return Ends(best.values, tokens.gather(1, best.indices))

    def pairs(self) -> list[list[tuple[int, float]]]:
        """(token id, logit) of every unit."""
        rows = zip(self.tokens.tolist(), self.logits.tolist(), strict=True)
        return [list(zip(tokens, logits, strict=True)) for tokens, logits in rows]


@torch.no_grad()
def output_tokens(
    rows: Tensor, unembedding: Unembedding, n: int, n_tokens: int, chunk: int = _VOCABULARY_CHUNK
) -> tuple[Ends, Ends]:
    """The tokens whose logits directions raise and lower most; never more than a chunk of logits.

    Args:
        rows: [n_units, d_model] in the residual stream.
        n: tokens wanted at each end.
        n_tokens: ids from here on are padding of the unembedding, and left out.
        chunk: tokens at a time; changes memory and speed, not the result.

    Returns:
        Promoted and suppressed tokens.
    """
    folded = unembedding.folded(rows.to(unembedding.weight.device))
    n_tokens = min(n_tokens, len(unembedding.weight))
    promoted = suppressed = Ends.none(folded)
    for first in range(0, n_tokens, chunk):
        weight = unembedding.weight[first : min(first + chunk, n_tokens)].float()
        logits = folded @ weight.T
        promoted = promoted.merged(logits, first, n, largest=True)
        suppressed = suppressed.merged(logits, first, n, largest=False)
    return promoted, suppressed


def output_side(
    source: UnitSource,
    subject: Subject,
    *,
    n_tokens: int,
    n_neighbours: int,
    vocabulary_size: int,
    nearest: NearestUnits | None = None,
) -> Iterator[Written] | None:
    """The output side of every index of a source, in order; `None` where it writes no direction.

    Memory: two copies of the source's directions, while neighbours are looked for, and blocks of
    512 x 8,192 logits.

    Args:
        n_tokens: tokens wanted at each end; 0 for none.
        n_neighbours: neighbours wanted; 0 for none.
        vocabulary_size: tokens that exist; what lies beyond in the unembedding is padding.
        nearest: of at least so many neighbours, which may have found them already.
    """
    if source.write_at is None or source.write_directions([0]) is None:
        return None
    near = (nearest or NearestUnits(n_neighbours)).of(source) if n_neighbours else None
    if near is not None:
        near = Near(near.indices[:, :n_neighbours], near.cosines[:, :n_neighbours])
    return _output_side(source, subject, n_tokens, near, vocabulary_size)


def _output_side(
    source: UnitSource, subject: Subject, n_tokens: int, near: Near | None, vocabulary_size: int
) -> Iterator[Written]:
    unembedding = unembedding_of(subject) if n_tokens else None
    for first in range(0, source.n_units, _UNIT_CHUNK):
        last = min(first + _UNIT_CHUNK, source.n_units)
        promoted = suppressed = [None] * (last - first)
        if unembedding is not None:
            rows = to_residual(subject, source.write_at, _directions(source, first, last))
            if rows is not None:
                ends = output_tokens(rows, unembedding, n_tokens, vocabulary_size)
                promoted, suppressed = (end.pairs() for end in ends)
        units = range(first, last)
        neighbours = [_neighbours(near, unit, -1 in source.polarities) for unit in units]
        yield from map(Written, units, promoted, suppressed, neighbours)


def _directions(source: UnitSource, first: int, last: int) -> Tensor:
    found = source.write_directions(list(range(first, last)))
    assert found is not None
    return found


def _neighbours(near: Near | None, unit: int, is_signed: bool) -> list[tuple[int, int, float]]:
    """(index, polarity, cosine) of the nearest units of a polarity +1 unit, cosines above 0."""
    if near is None:
        return []
    return [
        (index, 1 if cosine > 0 else -1, abs(cosine))
        for index, cosine in zip(
            near.indices[unit].tolist(), near.cosines[unit].tolist(), strict=True
        )
        if cosine > 0 or (is_signed and cosine < 0)
    ]
