"""How often a local simulator prefers the true explanation of a planted unit: prints JSON.

Per unit, the pooled Pearson correlation of the simulation with the planted activations over its
test windows, once under the true explanation and once under the unrelated one. A simulation that
is constant counts 0. The even-numbered units were used to choose the prompt, the odd ones were not:
report those.

    python benchmarks/planted.py --form simulate_text_first --units odd
"""

import argparse
import json
import time
from statistics import mean
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from autointerp import resources
from autointerp.records import Simulation
from autointerp.simulators.all_at_once import DEFAULT_PROMPT, AllAtOnce
from autointerp.stats import exact_binomial, pooled_pearson
from autointerp.subject import load_subject


def planted_units(choice: str, split: str) -> list[dict[str, Any]]:
    """The chosen units with the windows of one split.

    Args:
        choice: `all`, `even`, `odd`, or numbers separated by commas.
        split: `explain` or `test`.
    """
    units = json.loads(resources.path("datasets/planted/units.json").read_text("utf-8"))
    rows = pq.read_table(resources.path("datasets/planted/planted.parquet")).to_pylist()
    wanted = {
        "all": range(len(units)),
        "even": range(0, len(units), 2),
        "odd": range(1, len(units), 2),
    }
    numbers = wanted[choice] if choice in wanted else [int(n) for n in choice.split(",")]
    chosen = []
    for number in numbers:
        unit = units[number]
        own = [row for row in rows if row["unit"] == unit["unit"] and row["split"] == split]
        tokens = [row["tokens"] for row in own]
        chosen.append(unit | {"tokens": tokens, "truth": [row["activations"] for row in own]})
    return chosen


def correlation(truth: list[list[float]], simulations: list[Simulation]) -> float:
    """Pooled Pearson correlation over known tokens; 0 where the prediction is constant."""
    pairs = zip(truth, simulations, strict=True)
    known = [(np.asarray(t)[s.known], s.expected[s.known]) for t, s in pairs]
    return pooled_pearson([t for t, _ in known], [s for _, s in known]).value or 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2", help="as for load_subject")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--form", default=DEFAULT_PROMPT, help="prompt template, or a .j2 file")
    parser.add_argument("--units", default="all", help="all, even, odd, or numbers: 0,5,7")
    parser.add_argument("--split", default="test", choices=["explain", "test"])
    parser.add_argument("--mass-floor", type=float, default=0.01)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    units = planted_units(options.units, options.split)
    simulator = AllAtOnce(
        load_subject(options.model, device=options.device),
        prompt=options.form,
        mass_floor=options.mass_floor,
    )
    jobs = [
        (unit[which], unit["tokens"]) for unit in units for which in ("explanation", "unrelated")
    ]
    start = time.perf_counter()
    simulations = simulator.simulate_many(jobs)
    seconds = time.perf_counter() - start

    rows = []
    for place, unit in enumerate(units):
        own, other = simulations[2 * place], simulations[2 * place + 1]
        rows.append(
            {
                "unit": unit["unit"],
                "name": unit["name"],
                "r_true": correlation(unit["truth"], own),
                "r_unrelated": correlation(unit["truth"], other),
            }
        )
    wins = sum(row["r_true"] > row["r_unrelated"] for row in rows)
    count = exact_binomial(wins, len(rows))
    assert count.interval is not None
    n_subject_tokens = sum(len(tokens) for _, sequences in jobs for tokens in sequences)
    everything = [simulation for job in simulations for simulation in job]
    report = {
        "model": options.model,
        "form": options.form,
        "split": options.split,
        "n_units": len(rows),
        "true_above_unrelated": wins,
        "share": count.share,
        "interval_95": [count.interval.low, count.interval.high],
        "p_value": count.p_value,
        "mean_r_true": mean(row["r_true"] for row in rows),
        "mean_r_unrelated": mean(row["r_unrelated"] for row in rows),
        "mean_level_mass": float(np.concatenate([s.level_mass for s in everything]).mean()),
        "share_known": float(np.concatenate([s.known for s in everything]).mean()),
        "tokens_per_subject_token": simulator.count_tokens(jobs) / n_subject_tokens,
        "n_prefix": simulator.n_prefix,
        "seconds": seconds,
        "units": rows,
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
