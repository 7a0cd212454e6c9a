"""Tokens per unit of every method that asks, as the ledger of a real run counts them: prints JSON.

    python benchmarks/method_tokens.py [--units 6] [--tokens 16000] [--only agent ensemble]
    python benchmarks/method_tokens.py --presets delphi saebench

Features of the demo dictionary are recorded over the demo corpus, once; then every explainer, and
every scorer of one explainer's words, runs by itself with its defaults. Prompts are those of real
units; answers are made up by their schemas, and both are counted with SmolLM2's tokenizer and chat
template (`scorer_tokens.CountingJudge`). With `--presets` every preset is recorded, explained and
scored by itself, with its own numbers but for the corpus's size; only what asks is counted.
"""

import argparse
import json
import tempfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from scorer_tokens import CountingJudge
from transformers import AutoTokenizer

from autointerp.config import RunConfig, parse_config
from autointerp.judging import judged
from autointerp.llm import CachedClient, Request, Response
from autointerp.llm.budget import MeteredClient
from autointerp.presets import PRESETS
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
    "revision": {},
    "token_change": {},
    "agent": {},
    "ensemble": {},
    "ensemble, concat": {"join": "concat"},
}

SCORERS = (
    "detection", "fuzzing", "intruder", "pair", "sort", "rating", "logit_weight", "bricken60",
    "recall_alt", "saebench",
)  # fmt: skip


class MarkingJudge(CountingJudge):
    """Explains every prompt in other words."""

    def _answer(self, request: Request) -> Response:
        found = super()._answer(request)
        if request.schema is not None:
            return found
        # Words that are the same for two units would be asked about only once.
        own = zlib.crc32(request.messages[-1].content.encode()) % 1000
        return replace(found, text=f"{found.text} of {own}")


def spent(run: Run) -> dict[str, dict[str, int]]:
    """Requests and tokens of a run so far, by purpose."""
    found: dict[str, dict[str, int]] = {}
    for row in run.store.ledger_totals():
        own = found.setdefault(str(row["purpose"]), {})
        for name in ("requests", "input_tokens", "output_tokens"):
            own[name] = own.get(name, 0) + int(row[name])
    return found


def own_tokens(run: Run, scorer: str, explainer: str = "words") -> dict[str, Any]:
    """Of a scorer's tokens those of the own explanation, without the controls."""
    scores = [by[scorer][explainer] for by in judged(run).values() if scorer in by]
    asked = [score.details for score in scores if score.details.get("requests")]
    names = ("own_input_tokens", "own_output_tokens")
    means = {n: round(sum(d[n] for d in asked) / max(1, len(asked)), 1) for n in names}
    return {"n_units": len(asked), **means}


def counted(run: Run, judge: CountingJudge, until: str) -> dict[str, float]:
    """Requests and tokens per unit that a run takes up to a stage."""
    run.parts.__dict__["client"] = CachedClient(MeteredClient(judge, run.parts.meter), None)
    before = spent(run)
    run.execute(until)
    after = spent(run)
    return {
        name: round(
            sum(own.get(name, 0) - before.get(purpose, {}).get(name, 0)
                for purpose, own in after.items()) / len(run.units), 1)
        for name in ("requests", "input_tokens", "output_tokens")
    }  # fmt: skip


def of_preset(name: str, base: dict[str, Any], folder: Path, judge: CountingJudge) -> Any:
    """What a preset takes per unit: explaining, and the own explanation's scores by scorer."""
    kept = {k: v for k, v in base.items() if k not in ("explainers", "scorers", "controls")}
    given = {**kept, "preset": name, "output": str(folder / name)}
    whole = parse_config(given, RunConfig, "benchmark")
    words = [e.model_dump(mode="json") for e in whole.explainers if e.type != "best_of"]
    given |= {"explainers": words, "scorers": []}
    run = Run(parse_config(given, RunConfig, "benchmark"), Silent(), None)
    counted(run, judge, "explain")
    total = spent(run).get("explain", {})
    found: dict[str, Any] = {
        "explain": {name: round(count / len(run.units), 1) for name, count in total.items()}
    }
    for scorer in whole.scorers:
        if scorer.type == "simulation":  # models on this machine, no tokens of a language model
            continue
        alone = {**given, "scorers": [scorer.model_dump(mode="json")]}
        run = Run(parse_config(alone, RunConfig, "benchmark"), Silent(), None)
        counted(run, judge, "score")
        explainer = next(e.name for e in whole.explainers if e.type != "token_lookup")
        found[scorer.name] = own_tokens(run, scorer.name, explainer)
    print(name, json.dumps(found), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=16_000)
    parser.add_argument("--only", nargs="*", default=None)
    parser.add_argument("--folder", default=None)
    parser.add_argument("--presets", nargs="*", default=None)
    arguments = parser.parse_args()
    folder = Path(arguments.folder or tempfile.mkdtemp())
    judge = MarkingJudge(AutoTokenizer.from_pretrained(embedded_model_folder()))
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
    if arguments.presets is not None:
        presets = arguments.presets or PRESETS
        per_unit = {name: of_preset(name, base, folder, judge) for name in presets}
        print(json.dumps({"n_units": arguments.units, "per_unit": per_unit}, indent=2))
        return
    jobs = [
        (kind, {"name": "words", "type": kind.split(",")[0], **keys}, None)
        for kind, keys in EXPLAINERS.items()
    ]
    words = {"name": "words", "type": "top_tokens"}
    jobs += [(kind, words, {"name": kind, "type": kind}) for kind in SCORERS]
    found: dict[str, Any] = {}
    for kind, explainer, scorer in jobs:
        if arguments.only and kind not in arguments.only:
            continue
        changes = {"explainers": [explainer], "scorers": [scorer] if scorer else []}
        config = parse_config({**base, **changes}, RunConfig, "benchmark")
        run = Run(config, Silent(), None)
        found[kind] = counted(run, judge, "score" if scorer else "explain")
        if scorer:
            found[kind]["of_it_own"] = own_tokens(run, kind)
        print(kind, found[kind], flush=True)
    print(json.dumps({"n_units": arguments.units, "per_unit": found}, indent=2))


if __name__ == "__main__":
    main()
