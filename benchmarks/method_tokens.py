"""Tokens per unit of every method that asks, as the ledger of a real run counts them: prints JSON.

    python benchmarks/method_tokens.py [--units 6] [--tokens 16000]

Features of the demo dictionary are recorded over the demo corpus, once; then every explainer, and
every scorer of one explainer's words, runs by itself with its defaults. Prompts are those of real
units; answers are made up by their schemas, and both are counted with SmolLM2's tokenizer and chat
template (`scorer_tokens.CountingJudge`).
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from scorer_tokens import CountingJudge
from transformers import AutoTokenizer

from autointerp.config import RunConfig, parse_config
from autointerp.judging import judged
from autointerp.llm import CachedClient
from autointerp.llm.budget import MeteredClient
from autointerp.progress import Silent
from autointerp.runner import Run
from autointerp.subject.embedded import embedded_model_folder

EXPLAINERS: dict[str, dict[str, Any]] = {
    "token_activation_pairs": {},
    "highlights": {},
    "summary": {},
    "max_act_logits": {},
    "contrastive": {},
    "short": {},
    "intervals": {},
    "clusters": {},
}

SCORERS = (
    "detection", "fuzzing", "intruder", "pair", "sort", "rating", "logit_weight", "bricken60",
    "recall_alt",
)  # fmt: skip


def spent(run: Run) -> dict[str, dict[str, int]]:
    """Requests and tokens of a run so far, by purpose."""
    found: dict[str, dict[str, int]] = {}
    for row in run.store.ledger_totals():
        own = found.setdefault(str(row["purpose"]), {})
        for name in ("requests", "input_tokens", "output_tokens"):
            own[name] = own.get(name, 0) + int(row[name])
    return found


def own_tokens(run: Run, scorer: str) -> dict[str, Any]:
    """Of a scorer's tokens those of the own explanation, without the controls."""
    scores = [by[scorer]["words"] for by in judged(run).values() if scorer in by]
    asked = [score.details for score in scores if score.details.get("requests")]
    names = ("own_input_tokens", "own_output_tokens")
    means = {n: round(sum(d[n] for d in asked) / max(1, len(asked)), 1) for n in names}
    return {"n_units": len(asked), **means}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=16_000)
    parser.add_argument("--only", nargs="*", default=None)
    parser.add_argument("--folder", default=None)
    arguments = parser.parse_args()
    folder = Path(arguments.folder or tempfile.mkdtemp())
    judge = CountingJudge(AutoTokenizer.from_pretrained(embedded_model_folder()))
    base = {
        "name": "tokens",
        "output": str(folder / "run"),
        "subjects": {"subject": {"model": "smollm2"}},
        "corpus": {"path": "demo", "max_tokens": arguments.tokens, "max_tokens_per_document": 258},
        "sources": {"features": {"type": "sae", "path": "demo"}},
        "units": {"sample": arguments.units},
        "llm": {"model": "local/smollm2", "cache": "off"},
        "controls": False,
        "score": {"shuffled_donors": 1, "bootstrap": 100},
        "scorers": [],
    }
    jobs = [(kind, {"name": kind, "type": kind, **keys}, None) for kind, keys in EXPLAINERS.items()]
    words = {"name": "words", "type": "top_tokens"}
    jobs += [(kind, words, {"name": kind, "type": kind}) for kind in SCORERS]
    found: dict[str, Any] = {}
    for kind, explainer, scorer in jobs:
        if arguments.only and kind not in arguments.only:
            continue
        changes = {"explainers": [explainer], "scorers": [scorer] if scorer else []}
        config = parse_config({**base, **changes}, RunConfig, "benchmark")
        run = Run(config, Silent(), None)
        metered = MeteredClient(judge, run.parts.meter)
        run.parts.__dict__["client"] = CachedClient(metered, None)
        before = spent(run)
        run.execute("score" if scorer else "explain")
        after = spent(run)
        totals = {
            name: sum(own.get(name, 0) for own in after.values())
            - sum(own.get(name, 0) for own in before.values())
            for name in ("requests", "input_tokens", "output_tokens")
        }
        n_units = len(run.units)
        found[kind] = {name: round(total / n_units, 1) for name, total in totals.items()}
        if scorer:
            found[kind]["of_it_own"] = own_tokens(run, kind)
        print(kind, found[kind], flush=True)
    print(json.dumps({"n_units": arguments.units, "per_unit": found}, indent=2))


if __name__ == "__main__":
    main()
