"""Linear maps of Hugging Face models, whichever way round they keep their weights."""

from torch import Tensor, nn


def projection_rows(module: nn.Module) -> Tensor | None:
    """[d_in, d_out] weight of a linear module: row i is what input i adds to the output.

    `None` for any other module, and where the weight is no matrix of floats (packed 4 bit).
    """
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2 or not weight.is_floating_point():
        return None
    # GPT-2's Conv1D keeps [d_in, d_out]; nn.Linear keeps [d_out, d_in].
    if type(module).__name__ == "Conv1D":
        return weight
    return weight.T if isinstance(module, nn.Linear) else None
