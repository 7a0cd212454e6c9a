"""The model: a Llama of two blocks whose residual stream is known along the planted directions.

With u_k the orthonormal planted directions, a_k(w) the strength of word w along u_k, n(w) noise
orthogonal to all of them, and every embedding of the same length R:

    embedding     e = Σ_k a_k(w) u_k + n(w),                        r0² = R² / d + ε
    attention     head 0 of block 0 attends to all that came before alike:
                  s_t = (c / r0) mean_{i ≤ t} a_sea(w_i),           written along u_share
    MLP           neuron 0 of block 0: h = silu(g a_animals / r1) · s / r1,
                  r1² = (R² + s²) / d + ε;                          b h is written along u_both
    all else      the other head and neurons, and all of block 1, read everything and write
                  orthogonally to the planted directions
    logits        L(w) = W_w x / sqrt(|x|² / d + ε),  W_w = 2 Σ_k [w written by k] u_k + noise

So the value of unit k on a token is u_k x = a_k(w), s_t or b h_t at every place from the first
block's output on, and adding v u_k to x changes a logit by a computed amount.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from torch import Tensor

from autointerp.planted.units import CONSTANT_LEVEL, GATE, INDEX, SOURCE, UNITS
from autointerp.planted.words import word_tokenizer
from autointerp.records import UnitId
from autointerp.subject import Subject
from autointerp.units import Directions, DirectionSet, Neurons, SparseAutoencoder

PLACE = "blocks.1.hook_resid_post"
"""Where the planted units are read and written: the last residual stream."""

NEURON_PLACE = "blocks.0.mlp.hook_post"
"""Where neuron 0 is the planted `both`, before it is written."""

WIDTH, N_HEADS, N_NEURONS = 48, 2, 24
LENGTH = 6.0
"""R: of every embedding."""

EPSILON = 1e-6
SHARE_SCALE, GATE_SCALE, BOTH_SCALE = 12.0, 2.0, 0.3
"""c, g and b above."""

LOGIT_SCALE, LOGIT_NOISE = 2.0, 0.3
THRESHOLD = 0.05
"""Latents of the dictionary are 0 up to here."""

N_NOISE_LATENTS = 8
"""Latents that read noise: dense, and about nothing."""


@dataclass(frozen=True)
class PlantedModel:
    """The model and all that is known of it."""

    subject: Subject
    basis: Tensor
    """[n_units, width] float32: the planted directions, orthonormal, in the order of `UNITS`."""

    noise: Tensor
    """[width - n_units, width] float32: what they are orthogonal to."""

    def activations(self, token_ids: Sequence[int]) -> npt.NDArray[np.float64]:
        """[n_tokens, n_units] the value of every unit on a text from its beginning, in closed form.

        Signed: a direction's positive unit has relu(x), its negative one relu(-x).
        """
        values = self._strengths[np.asarray(token_ids, np.int64)].copy()
        first = np.sqrt(LENGTH**2 / WIDTH + EPSILON)
        mean = np.cumsum(values[:, INDEX[SOURCE]]) / np.arange(1, len(values) + 1)
        share = SHARE_SCALE / first * mean
        values[:, INDEX["share of sea"]] = share
        values[:, INDEX["both"]] = BOTH_SCALE * self._neuron(values[:, INDEX[GATE]], share)
        return values

    def neuron(self, token_ids: Sequence[int]) -> npt.NDArray[np.float64]:
        """[n_tokens] h: activations of neuron 0 at `NEURON_PLACE`."""
        return self.activations(token_ids)[:, INDEX["both"]] / BOTH_SCALE

    @staticmethod
    def _neuron(gate: npt.NDArray[Any], share: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        second = np.sqrt((LENGTH**2 + share**2) / WIDTH + EPSILON)
        opened = GATE_SCALE * gate / second
        return opened / (1 + np.exp(-opened)) * share / second

    @cached_property
    def _strengths(self) -> npt.NDArray[np.float64]:
        """[vocabulary, n_units] a_k(w)."""
        return strengths_of(self.subject.tokenizer)

    def logits(self, residual: Tensor) -> Tensor:
        """[..., vocabulary] what the model makes of the residual stream [..., width] at `PLACE`."""
        x = residual.double()
        scale = (x.pow(2).mean(-1, keepdim=True) + EPSILON).sqrt()
        return (x / scale) @ self.subject.model.lm_head.weight.double().T

    def directions(self, name: str = "directions", subject: str = "planted") -> Directions:
        """The planted directions as a unit source, both polarities."""
        made = DirectionSet(self.basis)
        rows, width = self.basis.shape
        return Directions(name, subject, PLACE, rows, width, lambda: made, self.subject.device)

    def neurons(self, name: str = "neurons", subject: str = "planted") -> Neurons:
        """The MLP neurons of the first block; the first of them is planted."""
        return Neurons.of(name, subject, self.subject, NEURON_PLACE)

    def dictionary(self) -> SparseAutoencoder:
        """A JumpReLU dictionary: a latent for every side of every unit, then some of noise.

        f = z where z = W_enc x > 0.05. `latent_units` says which latent is which.
        """
        sides = torch.tensor([float(unit.polarity) for unit in latent_units()])
        rows = torch.tensor([unit.index for unit in latent_units()])
        decoder = torch.cat([sides[:, None] * self.basis[rows], self.noise[:N_NOISE_LATENTS]])
        n = len(decoder)
        zeros = torch.zeros(WIDTH)
        return SparseAutoencoder(
            "jumprelu", decoder.T.contiguous(), torch.zeros(n), zeros, decoder.contiguous(),
            zeros.clone(), threshold=torch.full((n,), THRESHOLD), hook_in=PLACE, hook_out=PLACE,
        )  # fmt: skip

    def latents(self, token_ids: Sequence[int]) -> npt.NDArray[np.float64]:
        """[n_tokens, n_planted_latents] what the dictionary's planted latents are on a text."""
        values = self.activations(token_ids)
        found = np.stack([u.polarity * values[:, u.index] for u in latent_units()], axis=1)
        return np.where(found > THRESHOLD, found, 0.0)


def latent_units() -> tuple[UnitId, ...]:
    """The side of a planted unit that every latent of the dictionary is, in order."""
    sides = [(place, (1, -1) if unit.other_side else (1,)) for place, unit in enumerate(UNITS)]
    return tuple(UnitId("directions", place, side) for place, both in sides for side in both)


def explanations_of_latents() -> tuple[str, ...]:
    """What is true of every planted latent of the dictionary, in order."""
    return tuple(
        UNITS[unit.index].explanation if unit.polarity > 0 else UNITS[unit.index].other_side
        for unit in latent_units()
    )


def strengths_of(tokenizer: Any) -> npt.NDArray[np.float64]:
    """[vocabulary, n_units] a_k(w), which the embedding is made of."""
    found = np.zeros((len(tokenizer), len(UNITS)))
    found[:, INDEX["constant"]] = CONSTANT_LEVEL
    for place, unit in enumerate(UNITS):
        for word, strength in unit.strengths.items():
            found[tokenizer.convert_tokens_to_ids(word), place] = strength
    return found


def build(seed: int = 0, tokenizer: Any = None) -> PlantedModel:
    """Make the model.

    Args:
        seed: of the directions and of all noise.
        tokenizer: of `word_tokenizer`, made if left out.
    """
    tokenizer = tokenizer or word_tokenizer()
    generator = torch.Generator().manual_seed(seed)
    square = torch.randn(WIDTH, WIDTH, generator=generator, dtype=torch.float64)
    rows = torch.linalg.qr(square)[0].T.contiguous()
    basis, noise = rows[: len(UNITS)], rows[len(UNITS) :]
    n = len(tokenizer)
    config = transformers.LlamaConfig(
        vocab_size=n, hidden_size=WIDTH, intermediate_size=N_NEURONS, num_hidden_layers=2,
        num_attention_heads=N_HEADS, num_key_value_heads=N_HEADS, tie_word_embeddings=False,
        rms_norm_eps=EPSILON, bos_token_id=None, eos_token_id=0, pad_token_id=0,
        max_position_embeddings=512,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.LlamaForCausalLM(config).eval().requires_grad_(False)
    _write_embedding(model, strengths_of(tokenizer), basis, noise, generator)
    for block in model.model.layers:
        _write_into_noise(block, noise, generator)
    _plant_share(model.model.layers[0].self_attn, basis)
    _plant_both(model.model.layers[0].mlp, basis)
    _write_unembedding(model.lm_head.weight, tokenizer, basis, noise, generator)
    subject = Subject("planted", model, tokenizer, torch.device("cpu"), f"planted {seed}")
    return PlantedModel(subject, basis.float(), noise.float())


def _write_embedding(
    model: Any, strengths: npt.NDArray[Any], basis: Tensor, noise: Tensor, generator: Any
) -> None:
    planted = torch.from_numpy(strengths) @ basis
    drawn = torch.randn(len(strengths), len(noise), generator=generator, dtype=torch.float64)
    rest = (LENGTH**2 - planted.pow(2).sum(1, keepdim=True)).sqrt()
    model.model.embed_tokens.weight.copy_(
        planted + rest * drawn / drawn.norm(dim=1, keepdim=True) @ noise
    )


def _write_into_noise(block: Any, noise: Tensor, generator: Any) -> None:
    """Random weights that read everything and write orthogonally to the planted directions."""
    attention, mlp = block.self_attn, block.mlp
    for layer in (attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj, mlp.up_proj):
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * WIDTH**-0.5)
    onto_noise = noise.T @ noise
    for layer in (attention.o_proj, mlp.down_proj):
        drawn = torch.randn(layer.weight.shape, generator=generator, dtype=torch.float64)
        layer.weight.copy_(onto_noise @ drawn * WIDTH**-0.5)


def _plant_share(attention: Any, basis: Tensor) -> None:
    """Head 0 attends alike to all that came before, and writes what it reads of `sea`.

    The other head writes nothing here: what follows needs the length of the residual stream.
    """
    size = WIDTH // N_HEADS
    for layer in (attention.q_proj, attention.k_proj, attention.v_proj):
        layer.weight[:size] = 0
    attention.v_proj.weight[0] = basis[INDEX[SOURCE]].float()
    attention.o_proj.weight.zero_()
    attention.o_proj.weight[:, 0] = SHARE_SCALE * basis[INDEX["share of sea"]].float()


def _plant_both(mlp: Any, basis: Tensor) -> None:
    """Neuron 0 opens on animals and lets through how much of the text is about the sea."""
    mlp.gate_proj.weight[0] = GATE_SCALE * basis[INDEX[GATE]].float()
    mlp.up_proj.weight[0] = basis[INDEX["share of sea"]].float()
    mlp.down_proj.weight[:, 0] = BOTH_SCALE * basis[INDEX["both"]].float()


def _write_unembedding(
    weight: Tensor, tokenizer: Any, basis: Tensor, noise: Tensor, generator: Any
) -> None:
    drawn = torch.randn(len(weight), len(noise), generator=generator, dtype=torch.float64)
    rows = LOGIT_NOISE * drawn @ noise
    for place, unit in enumerate(UNITS):
        for word in unit.writes:
            rows[tokenizer.convert_tokens_to_ids(word)] += LOGIT_SCALE * basis[place]
    weight.copy_(rows)
