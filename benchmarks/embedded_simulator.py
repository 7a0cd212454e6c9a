"""What the embedded simulator reaches on concepts that it was never trained on: JSON.

    python benchmarks/embedded_simulator.py
    python benchmarks/embedded_simulator.py --model FOLDER --dtype bfloat16
    python benchmarks/embedded_simulator.py --parts none --prompted 12 --dtype bfloat16

`answers`: the planted units of `datasets/known_answers` that a reader of text can know, and whose
concept is not among those trained on (`SEEN`; these are summed up by themselves). Per kind,
mean pooled Pearson correlation with the truth under the true, a broader, a narrower and an
unrelated explanation, and under the true explanations of five other units (`shuffled`).
`categories`: WordNet categories of `datasets/simulator/held_out.parquet`, whose words no training
concept fired on, in documents that were not trained on, under their own name and another's.
`speed`: windows per second beside the prompted engine on the same windows, both in `--dtype`.

Beside it: `similarity`, the cosine of description and word by a sentence model; `token_lookup`, the
mean per token on the unit's `explain` windows (it needs no words, and sees the unit); `prompted`,
SmolLM2 asked in the usual way, on some of the held-out units (slow: with --prompted only).
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from autointerp import load_simulator, resources
from autointerp.analysis.check_judge import correlation
from autointerp.analysis.known_answers import GROUPS, TEXTS, KnownAnswer, known_answers
from autointerp.records import Simulation
from autointerp.simulators import Simulator
from autointerp.simulators.token_lookup import certain
from autointerp.stats import exact_binomial

SEEN = frozenset(
    (
        *("the", "and", "equals_sign", "code_keywords", "ly", "tion", "un_prefix"),
        *("clock_times", "first_token", "after_the", "after_parenthesis", "backticks"),
        *("frequent_words", "topic_code", "topic_scripture"),
    )
)
"""Units whose concept stands in the training rows as well, in the same words or in others."""

N_DONORS = 5
N_WINDOWS = 8

Simulate = Callable[[str, Sequence[Sequence[str]]], list[Simulation]]


def judged(simulate: Simulate, answers: Sequence[KnownAnswer]) -> dict[str, Any]:
    """Means by kind and group and wins of the true explanation, over what was held out; and means
    over what was not."""
    rows: list[dict[str, Any]] = []
    seen: list[dict[str, Any]] = []
    for place, answer in enumerate(answers):
        found = {name: simulate(answer.explanations[name], answer.tokens) for name in TEXTS}
        row: dict[str, Any] = {n: correlation(answer.truth, s) for n, s in found.items()}
        donors = [answers[(place + 7 * (i + 1)) % len(answers)] for i in range(N_DONORS)]
        texts = [donor.explanations["true"] for donor in donors if donor.kind != answer.kind]
        others = [correlation(answer.truth, simulate(text, answer.tokens)) for text in texts]
        row["shuffled"] = float(np.mean(others)) if others else None
        known = np.concatenate([s.known for s in found["true"]])
        row |= {"kind": answer.kind, "known_share": float(known.mean())}
        (seen if answer.name in SEEN else rows).append(row)
    kinds = {kind: [r for r in rows if r["kind"] == kind] for kind in {r["kind"] for r in rows}}
    groups = {name: [r for r in rows if r["kind"] in of] for name, of in GROUPS.items()}
    return {
        "held_out": _means(rows),
        "seen": _means(seen),
        "groups": {name: _means(part) for name, part in groups.items()},
        "kinds": {kind: _means(part) for kind, part in sorted(kinds.items())},
        "true_above": {n: _wins(rows, n) for n in ("broad", "narrow", "unrelated")},
        "shuffled_standard_error": float(
            np.std([r["shuffled"] for r in rows if r["shuffled"] is not None], ddof=1)
            / len(rows) ** 0.5
        ),
    }


def _means(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    names = (*TEXTS, "shuffled", "known_share")
    values = {n: [r[n] for r in rows if r[n] is not None] for n in names}
    return {"n": len(rows)} | {n: round(float(np.mean(v)), 3) for n, v in values.items() if v}


def _wins(rows: Sequence[dict[str, Any]], false: str) -> dict[str, Any]:
    found = exact_binomial(sum(r["true"] > r[false] for r in rows), len(rows))
    ends = found.interval
    return {
        "share": found.share,
        "n": len(rows),
        "interval": [ends.low, ends.high] if ends else None,
    }


def categories(simulate: Simulate) -> dict[str, Any]:
    """Held-out categories of WordNet under their own name and another's."""
    import pyarrow.parquet as pq
    from transformers import AutoTokenizer

    from autointerp.recording.corpus import vocabulary
    from autointerp.subject.embedded import embedded_model_folder

    texts = vocabulary(AutoTokenizer.from_pretrained(embedded_model_folder()))
    file = resources.path("datasets/simulator/held_out.parquet")
    scores: dict[str, list[float]] = defaultdict(list)
    for row in pq.read_table(file).to_pylist():
        windows = [tuple(texts[i] for i in ids) for ids in np.reshape(row["ids"], (N_WINDOWS, -1))]
        levels = np.reshape(row["levels"], (N_WINDOWS, -1)).astype(np.float32)
        for name in ("description", "unrelated"):
            found = simulate(row[name], windows)
            kept = [s.known & (t < 10) for s, t in zip(found, levels, strict=True)]
            truth = np.concatenate([t[k] for t, k in zip(levels, kept, strict=True)])
            said = np.concatenate([s.expected[k] for s, k in zip(found, kept, strict=True)])
            constant = np.ptp(truth) == 0 or np.ptp(said) == 0
            scores[name].append(0.0 if constant else float(np.corrcoef(truth, said)[0, 1]))
    own, other = np.array(scores["description"]), np.array(scores["unrelated"])
    return {
        "n": len(own),
        "true": float(own.mean()),
        "unrelated": float(other.mean()),
        "true_above_unrelated": float((own > other).mean()),
    }


def similarity() -> Simulate:
    """Cosine of the description and each word: what a simulator must beat clearly."""
    from autointerp.scorers.sentence_model import SentenceModel

    model = SentenceModel()
    kept: dict[str, np.ndarray] = {}

    def simulate(text: str, sequences: Sequence[Sequence[str]]) -> list[Simulation]:
        new = sorted({t.strip() for tokens in sequences for t in tokens} - set(kept))
        if new:
            kept.update(zip(new, model.embed(new), strict=True))
        said = model.embed([text])[0]
        return [certain([float(kept[t.strip()] @ said) for t in tokens]) for tokens in sequences]

    return simulate


def token_lookup(answers: Sequence[KnownAnswer]) -> dict[str, float]:
    """Mean correlation of the mean per token on `explain` windows."""
    training = {answer.unit: answer for answer in known_answers("explain")}
    found: dict[str, list[float]] = defaultdict(list)
    for answer in [one for one in answers if one.name not in SEEN]:
        sums: dict[str, list[float]] = defaultdict(list)
        own = training[answer.unit]
        for tokens, values in zip(own.tokens, own.truth, strict=True):
            for token, value in zip(tokens, values, strict=True):
                sums[token].append(float(value))
        default = float(np.mean([v for values in sums.values() for v in values]))
        means = {token: float(np.mean(values)) for token, values in sums.items()}
        told = [certain([means.get(t, default) for t in tokens]) for tokens in answer.tokens]
        score = correlation(answer.truth, told)
        found["held_out"].append(score)
        for name, kinds in GROUPS.items():
            if answer.kind in kinds:
                found[name].append(score)
    return {name: round(float(np.mean(scores)), 3) for name, scores in found.items()}


def beside_prompted(
    simulator: Simulator, answers: Sequence[KnownAnswer], n_units: int
) -> dict[str, Any]:
    """Both simulators on the four explanations of some held-out units, at even distances."""
    held_out = [answer for answer in answers if answer.name not in SEEN]
    places = np.linspace(0, len(held_out) - 1, min(n_units, len(held_out))).round().astype(int)
    chosen = [held_out[place] for place in places]
    engines = {"prompted": load_simulator("all_at_once"), "embedded": simulator}
    found: dict[str, Any] = {"units": [answer.name for answer in chosen]}
    for name, engine in engines.items():
        rows = [
            {
                text: correlation(a.truth, engine.simulate(a.explanations[text], a.tokens))
                for text in TEXTS
            }
            for a in chosen
        ]
        means = {text: round(float(np.mean([row[text] for row in rows])), 3) for text in TEXTS}
        found[name] = means | {"true_above": {n: _wins(rows, n) for n in TEXTS[1:]}}
    return found


def speed(
    simulator: Simulator, answers: Sequence[KnownAnswer], dtype: str, rounds: int = 9
) -> dict[str, Any]:
    """Windows per second of both engines in one dtype on the same windows, in turns, of units at
    even distances."""
    prompted = load_simulator("all_at_once", dtype=dtype)
    rates: dict[str, list[float]] = defaultdict(list)
    for each, place in enumerate(np.linspace(0, len(answers) - 1, rounds + 1).astype(int)):
        answer = answers[place]
        for name, engine in (("embedded", simulator), ("prompted", prompted)):
            started = time.perf_counter()
            engine.simulate(answer.explanations["true"], answer.tokens)
            if each:  # the first round fills caches
                rates[name].append(len(answer.tokens) / (time.perf_counter() - started))
    ratios = np.array(rates["embedded"]) / np.array(rates["prompted"])
    medians = {name: float(np.median(values)) for name, values in rates.items()}
    return {
        "windows_per_second": medians,
        "ratio": float(np.median(ratios)),
        "ratios": ratios.tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="folder of another trained simulator")
    parser.add_argument(
        "--dtype",
        default="auto",
        help="of the embedded simulator, and of the prompted one under speed",
    )
    parser.add_argument("--mass-floor", type=float, help="tokens below are missing")
    parser.add_argument("--prompted", type=int, help="also SmolLM2, prompted, on so many units")
    parser.add_argument("--parts", default="answers,categories,baselines,speed")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    simulator = load_simulator(
        "embedded", model=options.model, dtype=options.dtype, mass_floor=options.mass_floor
    )
    answers = [answer for answer in known_answers() if answer.readable]
    parts = options.parts.split(",")
    found: dict[str, Any] = {}
    if "answers" in parts:
        found["embedded"] = judged(simulator.simulate, answers)
    if "categories" in parts:
        found["categories"] = categories(simulator.simulate)
    if "baselines" in parts:
        cosine = similarity()
        found["similarity"] = judged(cosine, answers)
        found["similarity"]["categories"] = categories(cosine)
        found["token_lookup"] = token_lookup(answers)
    if options.prompted:
        found["beside_prompted"] = beside_prompted(simulator, answers, options.prompted)
    if "speed" in parts:
        found["speed"] = speed(simulator, answers, options.dtype)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
