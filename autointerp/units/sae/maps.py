"""A plane on which latents that write alike lie together."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from autointerp.stats.plane import has_umap, principal_plane, umap_plane

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
    values = unit.cpu().numpy()
    if not has_umap() or len(rows) <= 2 * N_NEIGHBOURS:
        return principal_plane(values)[0].astype(np.float32), "pca"
    places = umap_plane(values, seed, n_neighbours=N_NEIGHBOURS, min_distance=MIN_DISTANCE)
    return places.astype(np.float32), "umap"
