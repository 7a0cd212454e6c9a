"""Linear layers by the faster of two libraries, measured on the machine at hand.

PyTorch multiplies float32 matrices on a CPU by MKL, which leaves half of an AVX-512 machine idle
where the maker is not Intel; oneDNN, which PyTorch carries too, does not. On one such machine
(AMD EPYC, one thread, 2048 x 576 by 576 x 1536) the first did 92 and the second 205 GFLOP/s.
"""

import time
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

_GAIN = 1.1
"""The other library is taken where it is faster by this factor."""


class OneDnnLinear(nn.Module):
    """y = x W^T + b by oneDNN, with the weights of a `torch.nn.Linear`: no copy is made."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.weight = linear.weight
        self.bias = linear.bias
        self.in_features = linear.in_features
        self.out_features = linear.out_features

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_features] → [..., out_features]."""
        return _one_dnn(x, self.weight, self.bias)


def use_fast_linears(model: nn.Module) -> int:
    """Put `OneDnnLinear` for every `torch.nn.Linear` in `model` where that is faster.

    Returns:
        How many were changed: 0 on other devices, for other dtypes, and where it is no faster.
    """
    changed = 0
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            # Not for subclasses: they compute something else.
            if type(child) is nn.Linear and is_faster(child.weight):
                setattr(module, name, OneDnnLinear(child))
                changed += 1
    return changed


def is_faster(weight: Tensor) -> bool:
    """Whether oneDNN multiplies by `weight` faster than PyTorch's choice, and just as exactly."""
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return False
    return _measured()


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x W^T + b by the faster library."""
    multiply = _one_dnn if is_faster(weight) else nn.functional.linear
    return multiply(x, weight, bias)


def _one_dnn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    kernels: Any = torch.ops.mkldnn
    return kernels._linear_pointwise(x, weight, bias, "none", [], "")


@cache
def _measured() -> bool:
    """One comparison a process, some ten milliseconds."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 512, generator=generator)
    weight = torch.randn(512, 512, generator=generator)
    try:
        ours, theirs = _one_dnn(x, weight, None), nn.functional.linear(x, weight)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    if not torch.allclose(ours, theirs, atol=1e-3, rtol=1e-4):
        return False
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(5):
        start = time.perf_counter()
        _one_dnn(x, weight, None)
        middle = time.perf_counter()
        nn.functional.linear(x, weight)
        times["ours"].append(middle - start)
        times["theirs"].append(time.perf_counter() - middle)
    return min(times["theirs"]) > _GAIN * min(times["ours"])
