"""Rows placed on a plane: by their principal components, or so that neighbours stay neighbours."""

import importlib.util
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_FITTED = 8_192
"""Rows that principal components are found from."""


def principal_plane(rows: NDArray[Any]) -> tuple[NDArray[np.float64], float]:
    """Scores on the first two principal components.

    With C = (X − μ)ᵀ(X − μ) / n and C v = λ v: place = (x − μ) · [v₁ v₂].

    Args:
        rows: [n, d]. Mean and components are those of evenly spread rows where there are many.

    Returns:
        [n, 2] places, zero along components that there are not; and the share (λ₁ + λ₂) / Σ λ.
    """
    step = max(1, -(-len(rows) // MOST_FITTED))
    fitted = rows[::step].astype(np.float64)
    mean = fitted.mean(axis=0)
    centred = fitted - mean
    if centred.shape[0] < centred.shape[1]:
        values, left = np.linalg.eigh(centred @ centred.T)
        axes = centred.T @ left[:, -1:-3:-1]
        axes /= np.maximum(np.linalg.norm(axes, axis=0), 1e-12)
    else:
        values, vectors = np.linalg.eigh(centred.T @ centred)
        axes = vectors[:, -1:-3:-1]
    # A component without variance is rounding: an axis of it points anywhere.
    axes = axes * (values[-1:-3:-1] > 1e-12 * values[-1])
    # The sign of an axis is free: its largest entry is made positive, so that maps are repeatable.
    signs = np.sign(np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0))
    places = (rows - mean) @ (axes * np.where(signs == 0, 1, signs))
    total = float(values.clip(min=0).sum())
    share = float(values[-2:].clip(min=0).sum() / total) if total > 0 else 0.0
    return np.pad(places, ((0, 0), (0, 2 - places.shape[1]))), share


def has_umap() -> bool:
    """Whether umap-learn is installed."""
    return importlib.util.find_spec("umap") is not None


def umap_plane(
    rows: NDArray[Any], seed: int, *, n_neighbours: int = 15, min_distance: float = 0.1
) -> NDArray[np.float64]:
    """Places by UMAP on cosine distances (McInnes et al. 2018).

    Neighbours stay neighbours; distances between groups mean little.

    Args:
        rows: [n, d], more of them than `n_neighbours`, none zero.
        seed: the same gives the same map.
        n_neighbours: how many of each row's nearest are looked at.
        min_distance: how near points may come.

    Returns:
        [n, 2] places.
    """
    import umap

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: Any = umap.UMAP(
            n_components=2, metric="cosine", random_state=seed % 2**31, n_jobs=1,
            n_neighbors=n_neighbours, min_dist=min_distance,
        )  # fmt: skip
        return np.asarray(model.fit_transform(rows), np.float64)
