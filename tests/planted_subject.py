"""A subject with planted directions: what its units read and write is known exactly.

A Llama whose attention and MLP write nothing, so that the residual stream is the embedding. Along
direction k the embeddings of category k's words stand out, and along it their logits are read off;
the last directions are neither read from words nor into logits.
"""

import json
import re
from typing import Any

import numpy as np
import torch
import transformers

from autointerp.live import LiveSubject
from autointerp.llm import Request, Response, ResponseStatus
from autointerp.records import (
    ActivationRecord,
    Explanation,
    Split,
    SplitStatistics,
    Status,
    Strata,
    UnitId,
    UnitRecord,
    Window,
)
from autointerp.scorers import ScoreJob
from autointerp.scorers.output_choice import PROMPTS
from autointerp.subject import Subject
from autointerp.units import Directions, DirectionSet

CATEGORIES = {
    "animals": (" dog", " cat", " horse", " bird", " fish"),
    "colours": (" red", " blue", " green", " yellow", " black"),
    "tools": (" hammer", " drill", " knife", " wheel", " rope"),
    "food": (" bread", " rice", " apple", " cheese", " soup"),
    "weather": (" rain", " snow", " wind", " storm", " cloud"),
    "family": (" mother", " father", " sister", " brother", " uncle"),
}
NAMES = tuple(CATEGORIES)
N_ORTHOGONAL = 6
WIDTH = 32
READ, WRITTEN = 3.0, 2.0
PLACE = "blocks.0.hook_resid_post"


FILLERS = (" we saw the", " there was a", " nobody knows this", " at noon some", " they had")


def word_tokenizer() -> Any:
    """A tokenizer of some 200 words, each with the space before it."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    known = [word for words in CATEGORIES.values() for word in words]
    for text in (*PROMPTS, *FILLERS, " so thing near the gate"):
        known += re.findall(r" ?[^ ]+", text)
    known += [f" w{i}" for i in range(100)]
    vocabulary = {"<end>": 0, "<unknown>": 1}
    for word in known:
        vocabulary.setdefault(word, len(vocabulary))
    made = Tokenizer(models.WordLevel(vocabulary, "<unknown>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?[^ ]+"), "isolated")
    made.decoder = decoders.Fuse()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<end>", unk_token="<unknown>"
    )


def planted_subject(tokenizer: Any) -> Subject:
    """The subject."""
    generator = torch.Generator().manual_seed(0)
    n = len(tokenizer)
    config = transformers.LlamaConfig(
        vocab_size=n, hidden_size=WIDTH, intermediate_size=WIDTH, num_hidden_layers=1,
        num_attention_heads=2, tie_word_embeddings=False, bos_token_id=0, eos_token_id=0,
        pad_token_id=0, max_position_embeddings=512,
    )  # fmt: skip
    model = transformers.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    block = model.model.layers[0]
    block.self_attn.o_proj.weight.zero_()
    block.mlp.down_proj.weight.zero_()
    n_planted = len(NAMES) + N_ORTHOGONAL
    for weight in (model.model.embed_tokens.weight, model.lm_head.weight):
        weight.copy_(torch.randn(n, WIDTH, generator=generator) * 0.5)
        weight[:, :n_planted] = 0.0
    for k, words in enumerate(CATEGORIES.values()):
        for word in words:
            (token,) = tokenizer(word, add_special_tokens=False)["input_ids"]
            model.model.embed_tokens.weight[token, k] = READ
            model.lm_head.weight[token, k] = WRITTEN
    return Subject("planted", model, tokenizer, torch.device("cpu"), "planted")


def planted_source() -> Directions:
    """One unit per planted direction, the categories' first, then the orthogonal ones."""
    rows = torch.eye(WIDTH)[: len(NAMES) + N_ORTHOGONAL]
    made = DirectionSet(rows)
    return Directions("d", "s", PLACE, len(rows), WIDTH, lambda: made, torch.device("cpu"))


def sequence(tokenizer: Any, k: int, number: int) -> tuple[str, np.ndarray]:
    """A text with one word of a category (of none for an orthogonal direction)."""
    word = CATEGORIES[NAMES[k]][number % 5] if k < len(NAMES) else " thing"
    text = f" so{FILLERS[number % 5]}{word} near the gate"
    return text, np.array(tokenizer(text, add_special_tokens=False)["input_ids"])


class Planted:
    """The subject, its units' records, and what a scorer needs."""

    def __init__(self) -> None:
        self.tokenizer = tokenizer = word_tokenizer()
        self.subject, self.source = planted_subject(tokenizer), planted_source()
        self.sequences: dict[str, np.ndarray] = {}
        self.live = LiveSubject(
            lambda name: self.source if name == "d" else None,
            lambda _: self.subject,
            lambda unit: READ,
            lambda name: self.sequences[name].tolist(),
        )

    def record(self, index: int) -> UnitRecord:
        """A unit with active windows of its category and silent ones of the next, in each split."""
        unit, records = UnitId("d", index), []
        for split in (Split.EXPLAIN, Split.CALIBRATE, Split.TEST):
            for number in range(16):
                other = (index + 1) % len(NAMES)
                active = number < 8
                _, ids = sequence(self.tokenizer, index if active else other, number)
                name = f"{split}{index}.{number}"
                self.sequences[name] = ids
                tokens = tuple(self.tokenizer.decode([int(i)]) for i in ids)
                values = np.zeros(len(ids), np.float32)
                if active and index < len(NAMES):
                    values[[t in CATEGORIES[NAMES[index]] for t in tokens]] = READ
                elif active:
                    values[3] = READ
                stratum = Strata.interval(10 - number % 10) if active else Strata.SILENT
                records.append(
                    ActivationRecord(
                        unit,
                        Window(name, 0, len(ids)),
                        name,
                        split,
                        stratum,
                        1.0,
                        tokens,
                        values,
                        np.arange(len(ids)) == 0,
                    )
                )
        share = 0.05
        statistics = SplitStatistics(
            1000, 50, 50, 40, READ, (share * READ, share * READ**2, 0.0, 0.0), (), ()
        )
        every = dict.fromkeys((Split.EXPLAIN, Split.CALIBRATE, Split.TEST), statistics)
        return UnitRecord(unit, tuple(records), every)

    def job(self, index: int, own: str | None = None, donors: tuple[int, ...] = ()) -> ScoreJob:
        """A score of a unit's explanation; donors are units of categories."""
        words = own or (NAMES[index] if index < len(NAMES) else NAMES[0])
        return ScoreJob(
            self.record(index),
            Explanation(UnitId("d", index), "words", words, Status.OK, f"key {words}"),
            tuple(
                Explanation(UnitId("d", d), "words", NAMES[d], Status.OK, f"key {d}")
                for d in donors
            ),
            "judge", "judge", "key",
            tuple(self.record(d) for d in donors),
        )  # fmt: skip

    def score(self, scorer: Any, job: ScoreJob, judge: Any, **handlers: Any) -> Any:
        """Run a scorer to its end with a judge given as a function of a request."""

        def answered(request: Any) -> Any:
            if isinstance(request, Request):
                text = judge(request)
                return text if isinstance(text, Response) else Response(text, ResponseStatus.OK)
            if type(request).__name__ in handlers:
                return handlers[type(request).__name__](request)
            return self.live.handlers[type(request)]([request])[0]

        steps = scorer.score(job)
        try:
            requests = next(steps)
            while True:
                requests = steps.send([answered(request) for request in requests])
        except StopIteration as end:
            return end.value


def explained(request: Request) -> str:
    """The explanation in a question."""
    return request.messages[-1].content.splitlines()[0].removeprefix("Explanation: ")


def count_words(text: str, category: str) -> int:
    """How many words of a category a text has."""
    return sum(text.count(word) for word in CATEGORIES.get(category, ()))


def answers(*values: Any) -> str:
    """An answer as JSON."""
    return json.dumps({"answers": list(values)})
