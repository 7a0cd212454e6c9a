import numpy as np
import pytest
import torch

from autointerp.records import AutointerpError
from autointerp.units.sae.evaluation import SaeEvaluation
from autointerp.units.sae.model import SparseAutoencoder


def dictionary(seed: int = 0, d: int = 6, n: int = 10) -> SparseAutoencoder:
    g = torch.Generator().manual_seed(seed)
    W = torch.randn(n, d, generator=g)
    W = W / W.norm(dim=1, keepdim=True)
    zeros = torch.zeros(d)
    return SparseAutoencoder(
        "relu", W.T.contiguous(), torch.full((n,), -0.3), zeros, W, zeros + 0.1
    )


def states(n: int = 400) -> torch.Tensor:
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(3)) + 0.5


def test_metrics_are_those_of_their_definitions_written_out():
    sae, x = dictionary(), states()
    evaluation = SaeEvaluation(sae)
    evaluation.add(x)
    found = evaluation.metrics()
    X = x.double().numpy()
    F = sae.encode(x).numpy()
    R = sae.decode(torch.from_numpy(F)).double().numpy()
    E = X - R
    assert found.n_tokens == 400
    assert found.l0 == pytest.approx((F != 0).sum(1).mean())
    assert found.l1 == pytest.approx(np.abs(F).sum(1).mean(), rel=1e-6)
    assert found.mse == pytest.approx((E**2).sum(1).mean())
    assert found.l2_loss == pytest.approx(np.linalg.norm(E, axis=1).mean())
    assert found.explained_variance == pytest.approx(
        1 - (E**2).sum() / ((X - X.mean(0)) ** 2).sum()
    )
    assert found.explained_variance_centred == pytest.approx(1 - E.var(0).sum() / X.var(0).sum())
    norms = np.linalg.norm(X, axis=1) * np.linalg.norm(R, axis=1)
    assert found.cosine == pytest.approx(((X * R).sum(1) / norms).mean())
    assert found.relative_reconstruction_bias == pytest.approx((R**2).sum() / (X * R).sum())
    assert found.dead_share == (F == 0).all(0).mean()
    assert sum(found.density_histogram) == (F != 0).any(0).sum()


def test_batches_add_up_to_the_whole():
    whole, parts, x = SaeEvaluation(dictionary()), SaeEvaluation(dictionary()), states()
    whole.add(x)
    for part in x.split(37):
        parts.add(part)
    ours, theirs = parts.metrics().as_dict(), whole.metrics().as_dict()
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, rel=1e-5), name


def test_a_constant_error_is_forgiven_by_the_centred_variance_alone():
    x = states()
    W = torch.eye(6)
    both = torch.cat([W, -W])
    exact = SparseAutoencoder(
        "relu", both.T.contiguous(), torch.zeros(12), torch.zeros(6), both, torch.full((6,), 2.0)
    )
    evaluation = SaeEvaluation(exact)
    evaluation.add(x)
    found = evaluation.metrics()
    assert found.explained_variance_centred == pytest.approx(1.0)
    assert found.explained_variance < 0


def test_nothing_to_evaluate_on_is_refused():
    with pytest.raises(AutointerpError, match="no token to evaluate on"):
        SaeEvaluation(dictionary()).metrics()
