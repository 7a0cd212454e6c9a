"""How good a dictionary is on hidden states: sparsity, fidelity, and what its latents do.

Definitions follow SAELens' evaluations and dictionary_learning's `evaluate`, which differ in what
they call explained variance: both are here, each under a name of its own. Masked tokens (BOS,
attention sinks) are left out before the hidden states come here.
"""

from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from torch import Tensor

from autointerp.records import AutointerpError
from autointerp.units.sae.model import SparseAutoencoder

DENSITY_EDGES = tuple(np.linspace(-6, 0, 25).tolist())
"""Decimal logarithms of the densities that the histogram's bins begin and end with."""


@dataclass(frozen=True)
class SaeMetrics:
    """What `SaeEvaluation` found."""

    n_tokens: int
    l0: float
    """Mean active latents per token."""

    l1: float
    """Mean sum of a token's latents."""

    mse: float
    """Mean ‖y - ŷ‖², summed over dimensions."""

    l2_loss: float
    """Mean ‖y - ŷ‖: a norm, not its square (dictionary_learning's `l2_loss`)."""

    explained_variance: float
    """1 - E‖y - ŷ‖² / (E‖y‖² - ‖E y‖²), over all tokens at once (SAELens)."""

    explained_variance_centred: float
    """1 - Σ var(y - ŷ) / Σ var(y), variances over all tokens: a constant error is forgiven
    (dictionary_learning's `frac_variance_explained`, per batch there)."""

    cosine: float
    """Mean cosine of y and ŷ."""

    l2_ratio: float
    """Mean ‖ŷ‖ / ‖y‖."""

    relative_reconstruction_bias: float
    """E‖ŷ‖² / E[y · ŷ]: below 1 where ŷ shrinks (Rajamanoharan et al. 2024a, eq. 10)."""

    dead_share: float
    """Share of latents that never fired."""

    density_quantiles: dict[str, float] = field(default_factory=dict[str, float])
    """Of the latents' densities: 5 %, 50 %, 95 %."""

    density_histogram: list[int] = field(default_factory=list[int])
    """Latents per bin of `DENSITY_EDGES`; the dead are in none."""

    dense_share: float = 0.0
    """Share of latents that fire on more than 10 % of tokens."""

    max_decoder_cosine: float = 0.0
    """Mean over latents of the largest cosine with another latent's decoder row."""

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


class SaeEvaluation:
    """Sums over batches, in float64: `add` hidden states, then ask for the `metrics`."""

    def __init__(self, sae: SparseAutoencoder) -> None:
        """Evaluate `sae`."""
        if not sae.has_decoder:
            raise AutointerpError("a dictionary without a decoder reconstructs nothing")
        self.sae = sae
        self._sums: dict[str, float] = {}
        self._vectors = {name: np.zeros(sae.d_out) for name in ("y", "y²", "e", "e²")}
        self._firings = np.zeros(sae.n_latents, np.int64)
        self._n = 0

    @torch.inference_mode()
    def add(self, x: Tensor, y: Tensor | None = None) -> None:
        """Take in hidden states.

        Args:
            x: [n_tokens, d_in].
            y: [n_tokens, d_out] targets of a transcoder; `x` for an autoencoder.
        """
        if not len(x):
            return
        y = x if y is None else y
        f = self.sae.encode(x)
        found = self.sae.decode(f, x)
        y, found = y.double(), found.double()
        error = y - found
        norm, found_norm = y.norm(dim=1), found.norm(dim=1)
        product = (y * found).sum(1)
        terms = {
            "l0": (f != 0).sum(1).double(),
            "l1": f.abs().double().sum(1),
            "mse": error.pow(2).sum(1),
            "l2": error.norm(dim=1),
            "cosine": product / (norm * found_norm).clamp_min(1e-12),
            "ratio": found_norm / norm.clamp_min(1e-12),
            "found²": found_norm.pow(2),
            "product": product,
            "y²": norm.pow(2),
        }
        for name, values in terms.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(values.sum())
        for name, values in (("y", y), ("y²", y.pow(2)), ("e", error), ("e²", error.pow(2))):
            self._vectors[name] += values.sum(0).cpu().numpy()
        self._firings += (f != 0).sum(0).cpu().numpy()
        self._n += len(x)

    def mean_target(self) -> Tensor:
        """[d_out] mean of y so far."""
        return torch.from_numpy(self._vectors["y"] / max(self._n, 1)).float()

    def metrics(self) -> SaeMetrics:
        """What was found on all tokens so far.

        Raises:
            AutointerpError: where there were none.
        """
        n = self._n
        if not n:
            raise AutointerpError("no token to evaluate on: the corpus is too short, or all masked")
        mean = {name: total / n for name, total in self._sums.items()}
        means = {name: total / n for name, total in self._vectors.items()}
        variance = mean["y²"] - float((means["y"] ** 2).sum())
        centred_error = float((means["e²"] - means["e"] ** 2).sum())
        density = self._firings / n
        alive = density[density > 0]
        quantiles = np.quantile(density, [0.05, 0.5, 0.95])
        return SaeMetrics(
            n_tokens=n,
            l0=mean["l0"],
            l1=mean["l1"],
            mse=mean["mse"],
            l2_loss=mean["l2"],
            explained_variance=1 - mean["mse"] / variance,
            explained_variance_centred=1 - centred_error / variance,
            cosine=mean["cosine"],
            l2_ratio=mean["ratio"],
            relative_reconstruction_bias=mean["found²"] / mean["product"],
            dead_share=float((density == 0).mean()),
            density_quantiles=dict(zip(("5%", "50%", "95%"), map(float, quantiles), strict=True)),
            density_histogram=np.histogram(np.log10(alive), DENSITY_EDGES)[0].tolist(),
            dense_share=float((density > 0.1).mean()),
            max_decoder_cosine=max_decoder_cosine(self.sae.W_dec),
        )


def max_decoder_cosine(W_dec: Tensor) -> float:
    """Mean over latents of the largest cosine with another row of W_dec [n_latents, d_out]."""
    from autointerp.units.neighbours import nearest_by_cosine

    return float(nearest_by_cosine(W_dec, 1)[1].mean())


@dataclass(frozen=True)
class LossRecovered:
    """What the subject loses where the reconstruction takes the place of the truth."""

    n_tokens: int
    ce: float
    """Cross-entropy per token of the subject as it is, in nats."""

    ce_reconstructed: float
    ce_zero: float
    """With zero in the place of the activations."""

    ce_mean: float
    """With their mean."""

    kl_reconstructed: float
    """KL(subject ‖ with the reconstruction), per token, its last one too, in nats."""

    kl_zero: float
    kl_mean: float

    @property
    def loss_recovered(self) -> float | None:
        """(CE_zero - CE_reconstructed) / (CE_zero - CE); `None` where zero costs nothing."""
        return _share(self.ce_zero - self.ce_reconstructed, self.ce_zero - self.ce)

    @property
    def loss_recovered_mean(self) -> float | None:
        """The same against mean ablation."""
        return _share(self.ce_mean - self.ce_reconstructed, self.ce_mean - self.ce)

    @property
    def kl_recovered(self) -> float | None:
        """(KL_zero - KL_reconstructed) / KL_zero."""
        return _share(self.kl_zero - self.kl_reconstructed, self.kl_zero)


def _share(part: float, whole: float) -> float | None:
    return part / whole if abs(whole) > 1e-9 else None
