"""A plane on which latents that write alike lie together."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

N_NEIGHBOURS, MIN_DISTANCE = 15, 0.05
"""UMAP's settings, as in Bricken et al. 2023."""


def flat_map(rows: Tensor, seed: int = 0) -> tuple[NDArray[np.float32], str]:
    """Places on a plane for decoder rows, by the cosine between them.

    UMAP (McInnes et al. 2018) where `umap-learn` is installed and there are enough rows; otherwise
    the first two principal components of the rows at length 1, centred.

    Args:
        rows: [n, d], none zero for UMAP to make sense of it.
        seed: of UMAP; the same gives the same map.

    Returns:
        [n, 2] places, and what they are: `umap` or `pca`.
    """
    unit = rows.float() / rows.float().norm(dim=1, keepdim=True).clamp_min(1e-12)
    umap = _umap()
    if umap is None or len(rows) <= 2 * N_NEIGHBOURS:
        return _principal(unit), "pca"
    made = umap.UMAP(
        n_components=2, n_neighbors=N_NEIGHBOURS, min_dist=MIN_DISTANCE, metric="cosine",
        random_state=seed, n_jobs=1,
    )  # fmt: skip
    return np.asarray(made.fit_transform(unit.cpu().numpy()), np.float32), "umap"


def _umap() -> Any:
    """The module, or `None` where it is not installed."""
    try:
        import umap
    except ImportError:
        return None
    return umap


def _principal(unit: Tensor) -> NDArray[np.float32]:
    """Each component has its largest entry positive, so that the map has one orientation."""
    centred = (unit - unit.mean(0)).double()
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    directions = directions[:2]
    largest = directions.abs().argmax(dim=1, keepdim=True)
    directions = directions * directions.gather(1, largest).sign()
    found = (centred @ directions.T).float().cpu().numpy()
    return np.pad(found, ((0, 0), (0, 2 - found.shape[1])))
