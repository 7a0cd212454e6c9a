"""What each architecture of sparse autoencoder minimises: one file each, its equation on top."""

from autointerp.units.sae.objectives.base import Buffers, Loss, Objective, Parameters, SaeSettings
from autointerp.units.sae.objectives.batch_topk import BatchTopK, Matryoshka
from autointerp.units.sae.objectives.gated import Gated
from autointerp.units.sae.objectives.jumprelu import JumpRelu
from autointerp.units.sae.objectives.relu_l1 import ReluL1, ReluL1April, resample
from autointerp.units.sae.objectives.topk import TopK

OBJECTIVES: dict[str, Objective] = {
    "relu_l1": ReluL1(),
    "relu_l1_april": ReluL1April(),
    "topk": TopK(),
    "batch_topk": BatchTopK(),
    "gated": Gated(),
    "jumprelu": JumpRelu(),
    "matryoshka": Matryoshka(),
}
"""Architecture's name in configs → its objective."""

__all__ = [
    "OBJECTIVES",
    "Buffers",
    "Loss",
    "Objective",
    "Parameters",
    "SaeSettings",
    "resample",
]
