"""Tokens per unit of every explainer that asks, on real text: prints JSON.

    python benchmarks/explainer_tokens.py [--units 20] [--active 3]

Units are made up: windows of the demo corpus of 32 tokens (64 for the designs that use 64), with
`--active` tokens active in each active one. Prompts are the real ones, counted with SmolLM2's
tokenizer and chat template.
"""

import argparse
import json
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from autointerp import resources
from autointerp.explainers import (
    Clusters,
    Contrastive,
    ExplainView,
    Highlights,
    Intervals,
    MaxActLogits,
    Short,
    Summary,
    TokenActivationPairs,
)
from autointerp.llm import Request
from autointerp.recording.corpus import read_corpus
from autointerp.records import (
    ActivationRecord,
    HardBy,
    Split,
    Strata,
    TokenLogit,
    UnitId,
    UnitRecord,
    Window,
)
from autointerp.subject.embedded import embedded_model_folder

FORMS: dict[str, tuple[Any, int]] = {
    "token_activation_pairs, 5 x 64": (TokenActivationPairs(n_windows=5), 64),
    "token_activation_pairs, 5 x 64, list of 3": (TokenActivationPairs(n_explanations=3), 64),
    "summary: summary, 5 x 64": (Summary(form="summary"), 64),
    "summary: highlight, 5 x 64": (Summary(form="highlight"), 64),
    "summary: highlight_summary, 5 x 64": (Summary(form="highlight_summary"), 64),
    "summary: values_summary, 5 x 64": (Summary(form="values_summary"), 64),
    "highlights, 40 x 32": (Highlights(), 32),
    "highlights without values, 40 x 32": (Highlights(values=False), 32),
    "highlights, reasoning, 40 x 32": (Highlights(reasoning=True), 32),
    "contrastive, (15 + 5) x 32": (Contrastive(), 32),
    "short, 15 x 21": (Short(), 32),
    "intervals, 49 x 32": (Intervals(), 32),
    "max_act_logits, 10 x 17": (MaxActLogits(), 32),
    "clusters, 40 x 32": (Clusters(), 32),
}


def made_up(number: int, length: int, n_active: int, ids: list[int], tokenizer: Any) -> UnitRecord:
    """A unit with 60 active windows over its whole range, 15 hard and 10 silent ones."""
    generator = np.random.default_rng(number)
    top = [int(i) for i in generator.choice(ids, 3)]
    records: list[ActivationRecord] = []
    for place in range(85):
        start = int(generator.integers(len(ids) - length))
        window = np.array(ids[start : start + length])
        values = np.zeros(length, np.float32)
        stratum, hard_by = Strata.TOP, None
        if place < 60:
            where = generator.choice(length, n_active, replace=False)
            values[where] = (1 - place / 60) * generator.uniform(0.4, 1.0, n_active)
            values[where[0]] = 1 - place / 60
            window[where[0]] = top[place % 3]
        elif place < 75:
            stratum, hard_by = Strata.HARD, HardBy.TOP_TOKEN
            window[int(generator.integers(length))] = top[place % 3]
        else:
            stratum = Strata.RANDOM
        records.append(
            ActivationRecord(
                UnitId("made", number),
                Window(f"{place:016x}", start, start + length),
                f"d{place}",
                Split.EXPLAIN,
                stratum,
                1.0,
                tuple(tokenizer.decode([int(i)]) for i in window),
                values,
                np.zeros(length, bool),
                hard_by=hard_by,
            )
        )
    promoted = tuple(
        TokenLogit(tokenizer.decode([int(i)]), int(i), 1.0) for i in generator.choice(ids, 10)
    )
    return UnitRecord(UnitId("made", number), tuple(records), {}, promoted=promoted)


def n_tokens(request: Request, n_messages: int, tokenizer: Any) -> int:
    """Tokens of the first messages of a request, chat template included."""
    turns = [{"role": m.role, "content": m.content} for m in request.messages[:n_messages]]
    whole = n_messages == len(request.messages)
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=whole)
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=20)
    parser.add_argument("--active", type=int, default=3)
    arguments = parser.parse_args()
    n_units = arguments.units
    tokenizer: Any = AutoTokenizer.from_pretrained(embedded_model_folder())
    corpus = read_corpus(resources.path("datasets/demo/corpus.jsonl"))
    text = "\n".join(document.text for document in corpus.documents[:200])
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    found = {}
    for name, (explainer, length) in FORMS.items():
        totals, shared, asked = [], [], []
        for number in range(n_units):
            view = ExplainView.of(made_up(number, length, arguments.active, ids, tokenizer))
            requests = next(explainer.explain(view, "key"))
            asked.append(len(requests))
            totals.append(sum(n_tokens(r, len(r.messages), tokenizer) for r in requests))
            shared.append(sum(n_tokens(r, max(1, r.shared), tokenizer) for r in requests))
        found[name] = {
            "prompt_tokens": round(float(np.mean(totals))),
            "shared_tokens": round(float(np.mean(shared))),
            "requests": float(np.mean(asked)),
            "most_answer_tokens": requests[0].max_tokens * round(float(np.mean(asked))),
        }
    print(json.dumps({"n_units": n_units, "n_active": arguments.active, "tokens": found}, indent=2))


if __name__ == "__main__":
    main()
