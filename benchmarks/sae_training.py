"""How long a training step of a dictionary takes against its matrix products: prints JSON.

The bound is what a dense step multiplies: z, the reconstruction, and the gradients of both weight
matrices and of f, five products of the same size. A step of TopK or BatchTopK takes one of them and
sums over active latents, so its ratio can be below 1; the other architectures take all five, and
Gated seven: it decodes twice.

Steps and products take turns in one run, and both are measured in seconds of processor time as well
as of the clock, so that what else the machine does falls on both. Where SAELens or
dictionary_learning is installed, its trainer takes turns with the others: TopK of the same width, k
and batch on the same data.

    python benchmarks/sae_training.py
    python benchmarks/sae_training.py --peers           # needs sae-lens, dictionary-learning
"""

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import torch

from autointerp.units.sae.fitting import Schedule, train_saes
from autointerp.units.sae.objectives import OBJECTIVES, SaeSettings

Work = Callable[[], object]


def products(options: argparse.Namespace, architecture: str, dtype: torch.dtype) -> Work:
    """The products of a dense step."""
    x = torch.randn(options.batch, options.width).to(dtype)
    W = torch.randn(options.width, options.latents).to(dtype)
    f = torch.randn(options.batch, options.latents).to(dtype)

    def work() -> None:
        _ = x @ W
        _ = f @ W.T
        _ = x.T @ f
        _ = f.T @ x
        _ = x @ W
        if architecture == "gated":
            _ = f @ W.T
            _ = x @ W

    return work


class Steps:
    """The steps of one training, each when it is asked for: a generator inside the loop's data."""

    def __init__(self, options: argparse.Namespace, architecture: str, bfloat16: bool) -> None:
        data = torch.randn(options.batch, options.width)
        self.times: list[tuple[float, float]] = []
        self.others: list[tuple[Work, list[tuple[float, float]]]] = []

        def batches(_skip: int) -> Iterator[torch.Tensor]:
            for _ in itertools.count():
                for work, times in self.others:
                    times.append(timed(work))
                self.start = now()
                yield data
                self.times.append(since(self.start))

        settings = SaeSettings(architecture, options.latents, options.k, l0_target=options.k)
        n_tokens = options.batch * (options.rounds + 4)
        schedule = Schedule(n_tokens, batch_tokens=options.batch, bfloat16=bfloat16)
        self.arguments = ({"a": settings}, schedule, batches)

    def run(self) -> None:
        """All steps."""
        with tempfile.TemporaryDirectory() as folder:
            train_saes(*self.arguments, Path(folder) / "checkpoint.safetensors")


def now() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


def since(start: tuple[float, float]) -> tuple[float, float]:
    end = now()
    return end[0] - start[0], end[1] - start[1]


def timed(work: Work) -> tuple[float, float]:
    start = now()
    work()
    return since(start)


def medians(times: list[tuple[float, float]]) -> tuple[float, float]:
    """Of processor and clock, the first rounds left out."""
    kept = times[3:]
    return median(cpu for cpu, _ in kept), median(clock for _, clock in kept)


def saelens_step(options: argparse.Namespace) -> Work | None:
    try:
        from sae_lens import SAETrainer, TopKTrainingSAE, TopKTrainingSAEConfig
        from sae_lens.config import SAETrainerConfig
    except ImportError:
        return None
    sae = TopKTrainingSAE(
        TopKTrainingSAEConfig(d_in=options.width, d_sae=options.latents, k=options.k)
    )
    config = SAETrainerConfig(10**9, options.batch, lr_end=3e-5)
    data = torch.randn(options.batch, options.width)
    trainer = SAETrainer(config, sae, itertools.repeat(data))
    return lambda: trainer.step(data)


def dictionary_learning_step(options: argparse.Namespace) -> Work | None:
    try:
        from dictionary_learning.trainers.top_k import TopKTrainer
    except ImportError:
        return None
    trainer = TopKTrainer(
        10**6, options.width, options.latents, options.k, layer=0, lm_name="", device="cpu"
    )
    data = torch.randn(options.batch, options.width)
    counter = itertools.count(1)
    return lambda: trainer.update(next(counter), data)


PEERS = {"sae_lens": saelens_step, "dictionary_learning": dictionary_learning_step}


def measured(
    options: argparse.Namespace, architecture: str, dtype: torch.dtype, peers: dict[str, Work]
) -> dict[str, object]:
    """One architecture's step against the products, and against others' steps, in one run."""
    steps = Steps(options, architecture, dtype == torch.bfloat16)
    bound: list[tuple[float, float]] = []
    theirs: dict[str, list[tuple[float, float]]] = {name: [] for name in peers}
    steps.others = [(products(options, architecture, dtype), bound)]
    steps.others += [(work, theirs[name]) for name, work in peers.items()]
    steps.run()
    cpu, clock = medians(steps.times)
    cpu_bound, clock_bound = medians(bound)
    found: dict[str, object] = {
        "step_ms": round(1e3 * clock, 1),
        "step_cpu_ms": round(1e3 * cpu, 1),
        "matmul_bound_ms": round(1e3 * clock_bound, 1),
        "matmul_bound_cpu_ms": round(1e3 * cpu_bound, 1),
        "ratio": round(clock / clock_bound, 3),
        "cpu_ratio": round(cpu / cpu_bound, 3),
        "tokens_per_second": round(options.batch / clock),
    }
    for name, times in theirs.items():
        cpu_theirs, clock_theirs = medians(times)
        found[f"{name}_step_ms"] = round(1e3 * clock_theirs, 1)
        found[f"{name}_step_cpu_ms"] = round(1e3 * cpu_theirs, 1)
        found[f"cpu_time_of_{name}"] = round(cpu / cpu_theirs, 3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=576)
    parser.add_argument("--latents", type=int, default=4096)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--architectures", default=",".join(OBJECTIVES))
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--peers", action="store_true", help="time other libraries' TopK too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    found: dict[str, object] = {"setting": vars(options)}
    ratios: dict[str, float] = {}
    for dtype in options.dtypes.split(","):
        for architecture in options.architectures.split(","):
            with_peers = options.peers and (architecture, dtype) == ("topk", "float32")
            made = {name: make(options) for name, make in PEERS.items()} if with_peers else {}
            peers = {name: work for name, work in made.items() if work is not None}
            each = measured(options, architecture, getattr(torch, dtype), peers)
            found[f"{architecture}_{dtype}"] = each
            ratios[f"{architecture}_{dtype}"] = float(each["cpu_ratio"])  # type: ignore[arg-type]
    shipped = found.get("topk_float32")
    if isinstance(shipped, dict):
        found["ratio_to_matmul_bound"] = shipped["ratio"]
        found["cpu_ratio_to_matmul_bound"] = shipped["cpu_ratio"]
    found["largest_cpu_ratio"] = max(ratios.items(), key=lambda item: item[1])
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
