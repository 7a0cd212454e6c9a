"""How well a local simulator tells true explanations of planted units from unrelated ones: JSON.

Per unit, the pooled Pearson correlation of the simulation with the planted activations over its
test windows, once under the true explanation and once under the unrelated one. A simulation that
is constant counts 0. Over units, the AUC of these correlations as a test for being true, with an
interval from resampled units, and what it costs: `auc_excess_per_1000_tokens` is AUC - 0.5 over
the thousands of tokens that the simulator reads for one unit under one explanation. The form is
chosen on the even-numbered units; report it on the odd ones.

    python benchmarks/planted.py
    python benchmarks/planted.py --form simulate_text_first --units odd
"""

import argparse
import json
import time
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from autointerp import resources
from autointerp.records import Simulation
from autointerp.simulators.all_at_once import AllAtOnce
from autointerp.stats import auroc, exact_binomial, pooled_pearson
from autointerp.subject import Subject, load_subject

FORMS = ["simulate_text_first", "simulate_text_inline", "simulate_tab_unknown"]


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


def auc(true: np.ndarray, unrelated: np.ndarray) -> float:
    """Probability that a true explanation scores above an unrelated one, of any two units."""
    labels = np.repeat([True, False], [len(true), len(unrelated)])
    value = auroc(labels, np.concatenate([true, unrelated])).value
    assert value is not None
    return value


def auc_interval(true: np.ndarray, unrelated: np.ndarray) -> list[float]:
    """95 % percentile interval; a unit comes with both its scores."""
    generator = np.random.default_rng(0)
    draws = generator.integers(len(true), size=(2000, len(true)))
    values = [auc(true[draw], unrelated[draw]) for draw in draws]
    return [float(bound) for bound in np.quantile(values, [0.025, 0.975])]


def half(rows: list[dict[str, Any]], tokens: float) -> dict[str, Any]:
    """The figures of some units."""
    true = np.array([row["r_true"] for row in rows])
    unrelated = np.array([row["r_unrelated"] for row in rows])
    count = exact_binomial(int((true > unrelated).sum()), len(rows))
    assert count.interval is not None
    value = auc(true, unrelated)
    return {
        "n_units": len(rows),
        "auc": value,
        "auc_interval_95": auc_interval(true, unrelated),
        "auc_excess_per_1000_tokens": (value - 0.5) / (tokens / 1000),
        "true_above_unrelated": int((true > unrelated).sum()),
        "interval_95": [count.interval.low, count.interval.high],
        "p_value": count.p_value,
        "mean_r_true": float(true.mean()),
        "mean_r_unrelated": float(unrelated.mean()),
    }


def measure(subject: Subject, form: str, units: list[dict[str, Any]], floor: float) -> Any:
    """One form on all chosen units."""
    simulator = AllAtOnce(subject, prompt=form, mass_floor=floor)
    jobs = [
        (unit[which], unit["tokens"]) for unit in units for which in ("explanation", "unrelated")
    ]
    start = time.perf_counter()
    simulations = simulator.simulate_many(jobs)
    seconds = time.perf_counter() - start
    rows = [
        {
            "unit": unit["unit"],
            "name": unit["name"],
            "r_true": correlation(unit["truth"], simulations[2 * place]),
            "r_unrelated": correlation(unit["truth"], simulations[2 * place + 1]),
        }
        for place, unit in enumerate(units)
    ]
    # As a run does it: a unit at a time, so that nothing is shared between units.
    tokens = [simulator.count_tokens(jobs[2 * i : 2 * i + 2]) / 2 for i in range(len(units))]
    n_subject_tokens = sum(len(tokens) for _, sequences in jobs for tokens in sequences)
    everything = [simulation for job in simulations for simulation in job]
    per_unit = float(np.mean(tokens))
    halves = {"chosen_on": rows[::2], "reported_on": rows[1::2], "all": rows}
    return {
        "form": form,
        **{name: half(chosen, per_unit) for name, chosen in halves.items() if len(chosen) > 1},
        "mean_level_mass": float(np.concatenate([s.level_mass for s in everything]).mean()),
        "share_known": float(np.concatenate([s.known for s in everything]).mean()),
        "tokens_per_unit_and_explanation": per_unit,
        "tokens_per_subject_token": 2 * sum(tokens) / n_subject_tokens,
        "n_prefix": simulator.n_prefix,
        "seconds": seconds,
        "units": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2", help="as for load_subject")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--form", nargs="+", default=FORMS, help="prompt templates or .j2 files")
    parser.add_argument("--units", default="all", help="all, even, odd, or numbers: 0,5,7")
    parser.add_argument("--split", default="test", choices=["explain", "test"])
    parser.add_argument("--mass-floor", type=float, default=0.01)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    units = planted_units(options.units, options.split)
    subject = load_subject(options.model, device=options.device)
    reports = [measure(subject, form, units, options.mass_floor) for form in options.form]
    print(json.dumps({"model": options.model, "split": options.split, "forms": reports}, indent=1))


if __name__ == "__main__":
    main()
