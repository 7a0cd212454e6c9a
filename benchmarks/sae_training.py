"""How long a training step of a TopK dictionary takes against its matrix products: prints JSON.

The bound is what a dense step multiplies: z, the reconstruction, and the gradients of both weight
matrices and of f, five products of the same size, taken in the same run and precision. A step of
ours takes one of them and sums over active latents, so the ratio can be below 1.

    python benchmarks/sae_training.py
"""

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from autointerp.units.sae.fitting import Schedule, train_saes
from autointerp.units.sae.objectives import SaeSettings


def seconds(work: Callable[[], object], rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return median(taken)


def products(options: argparse.Namespace, dtype: torch.dtype) -> Callable[[], None]:
    x = torch.randn(options.batch, options.width).to(dtype)
    W = torch.randn(options.width, options.latents).to(dtype)
    f = torch.randn(options.batch, options.latents).to(dtype)

    def work() -> None:
        _ = x @ W
        _ = f @ W.T
        _ = x.T @ f
        _ = f.T @ x
        _ = x @ W

    return work


def step_seconds(options: argparse.Namespace, architecture: str, bfloat16: bool) -> float:
    """Median over steps of a training, the first ones left out."""
    times: list[float] = []
    data = torch.randn(options.batch, options.width)

    def batches(_skip: int):
        for _ in itertools.count():
            times.append(time.perf_counter())
            yield data

    settings = SaeSettings(architecture, options.latents, options.k)
    n_tokens = options.batch * (options.rounds + 4)
    schedule = Schedule(n_tokens, batch_tokens=options.batch, bfloat16=bfloat16)
    with tempfile.TemporaryDirectory() as folder:
        train_saes({"a": settings}, schedule, batches, Path(folder) / "checkpoint.safetensors")
    return median(b - a for a, b in itertools.pairwise(times[3:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=576)
    parser.add_argument("--latents", type=int, default=4096)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    found: dict[str, object] = {"setting": vars(options)}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        work = products(options, dtype)
        work()
        bound = seconds(work, options.rounds)
        for architecture in ("topk", "batch_topk"):
            step = step_seconds(options, architecture, dtype == torch.bfloat16)
            found[f"{architecture}_{name}"] = {
                "step_ms": round(1e3 * step, 1),
                "matmul_bound_ms": round(1e3 * bound, 1),
                "ratio": round(step / bound, 3),
                "tokens_per_second": round(options.batch / step),
            }
    found["ratio_to_matmul_bound"] = found["topk_float32"]["ratio"]  # type: ignore[index]
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
