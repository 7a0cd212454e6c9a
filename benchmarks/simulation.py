"""How fast all-at-once simulation is, and that it gives what the plain way gives: prints JSON.

Every unit has an explanation and several sequences; the few-shot and the explanation stand before
each sequence. Three ways to get the same levels take turns in one process, a few units each, so
that a machine that slows down slows all of them:

| way | what it does |
|---|---|
| ours | `AllAtOnce`: the few-shot once, the explanation once a unit, no copies, slot logits only |
| plain | one full prompt a sequence, logits of all tokens |
| batched cache | few-shot and explanation once, their keys copied for every row, slot logits only |

`share_of_flop_limit` is our rate of floating-point operations over that of one long forward of the
same model without its head: by transformers or by our own engine, whichever is faster. Operations
are counted from the model's sizes: 2 per weight and token, and 4 per query, key and channel of
attention, the masked half left out.

    python benchmarks/simulation.py
    python benchmarks/simulation.py --scaling
    python benchmarks/simulation.py --model random-llama-8b --device cuda --dtype bfloat16
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from autointerp import resources
from autointerp.records import Simulation
from autointerp.simulators.all_at_once import AllAtOnce
from autointerp.simulators.levels import expected_levels
from autointerp.simulators.linear import is_faster
from autointerp.simulators.prefix_model import CopiedPrefixModel, KeysValues, Row, SharedPrefixModel
from autointerp.subject import Subject, load_subject

FORM = """{# version 1 #}
{% macro opening(top) %}FILLING{% endmacro %}
{% macro unit(explanation) %}{{ explanation }}:{% endmacro %}
{% macro sequence(text) %}{% endmacro %}
{% macro token(text) %}{{ text }}{% endmacro %}
{% set mark = "\\t" %}
{% set unknown = "unknown" %}
{% set separator = "\\n" %}
{% set text_before_unit = false %}
{% set branches = false %}
{% set closing = "\\n" %}
{% set examples = [] %}
"""
"""The form of Bills et al. 2023, its few-shot replaced by text of the wanted length."""

N_EXPLANATION = 30
"""Tokens of the prefix that are a unit's own."""


@dataclass(frozen=True)
class Work:
    """What there is to simulate."""

    simulator: AllAtOnce
    jobs: list[tuple[str, list[list[str]]]]
    """Per unit its explanation and the tokens of its sequences."""

    def prompt_ids(self, unit: int, sequence: int) -> tuple[list[int], list[int], list[int]]:
        """Ids of few-shot and explanation, ids of the sequence, and its slots."""
        sequences = self.jobs[unit][1]
        own, slots, _ = self.simulator._own([], sequences[sequence])
        return [*self.simulator._prefix_ids, *self.head_ids(unit)], own.ids, slots

    def head_ids(self, unit: int) -> list[int]:
        """Ids of a unit's explanation as the prompt shows it."""
        head = list(self.simulator._ids(self.simulator.prompt.unit(self.jobs[unit][0])))
        assert len(head) == N_EXPLANATION, len(head)
        return head


def work(
    subject: Subject, folder: Path, n_prefix: int, n_own: int, n_sequences: int, n_units: int
) -> Work:
    """Units over real text, of exactly the wanted lengths.

    Args:
        subject: the model.
        folder: where the prompt's file is written.
        n_prefix: tokens of few-shot and explanation together.
        n_own: tokens of a sequence with its slots.
        n_sequences: of a unit.
        n_units: how many units.
    """
    words = iter(_tokens(subject))
    text = " the" * (n_prefix - N_EXPLANATION)
    path = folder / f"form-{n_prefix}.j2"
    path.write_text(FORM.replace("FILLING", text), encoding="utf-8")
    simulator = AllAtOnce(subject, prompt=str(path))
    assert simulator.n_prefix == n_prefix - N_EXPLANATION, simulator.n_prefix
    jobs = [
        (
            "".join(next(words) for _ in range(N_EXPLANATION - 1)),
            [_sequence(simulator, words, n_own) for _ in range(n_sequences)],
        )
        for _ in range(n_units)
    ]
    return Work(simulator, jobs)


def _tokens(subject: Subject) -> Iterator[str]:
    """Words of the demo corpus that are one token each and stay so side by side."""
    lines = resources.path("datasets/demo/corpus.jsonl").read_text("utf-8").splitlines()
    while True:
        for line in lines:
            for word in json.loads(line)["text"].split():
                ids = subject.tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
                if word.isalpha() and len(ids) == 1:
                    yield f" {word}"


def _sequence(simulator: AllAtOnce, words: Iterator[str], n_own: int) -> list[str]:
    per_token = len(simulator._items([" the"], [None])[0])
    tokens = [next(words) for _ in range((n_own - 2) // per_token + 1)]
    own, _, _ = simulator._own([], tokens)
    # The few tokens that are missing are added to the first one's text.
    tokens[0] = "".join([tokens[0], *(next(words) for _ in range(n_own - len(own.ids)))])
    own, _, _ = simulator._own([], tokens)
    assert len(own.ids) == n_own, len(own.ids)
    return tokens


def ours(task: Work, units: range) -> list[list[Simulation]]:
    """The levels of some units by the simulator."""
    return task.simulator.simulate_many([task.jobs[unit] for unit in units])


@torch.inference_mode()
def plain(task: Work, unit: int, sequence: int) -> np.ndarray:
    """The levels of one sequence by one full prompt."""
    before, own, slots = task.prompt_ids(unit, sequence)
    model = task.simulator._subject.model
    tokens = torch.tensor([[*before, *own]], device=model.device)
    logits = model(input_ids=tokens, use_cache=False).logits[0]
    return _levels(task, logits[torch.tensor(slots, device=logits.device) + len(before)])


@torch.inference_mode()
def batched_cache(
    task: Work, model: CopiedPrefixModel, few_shot: KeysValues, unit: int
) -> list[np.ndarray]:
    """The levels of one unit, all its sequences in one batch with copies of the shared keys."""
    heads = model.heads(few_shot, [task.head_ids(unit)])
    rows: list[Row] = []
    for tokens in task.jobs[unit][1]:
        own, slots, _ = task.simulator._own([], tokens)
        rows.append(Row(0, own, slots))
    hidden = model.hidden(few_shot, heads, rows)
    levels = [_levels(task, task.simulator._logits(part)) for part in hidden.split(256)]
    ends = np.cumsum([len(row.reads) for row in rows])[:-1]
    return np.split(np.concatenate(levels), ends)


def _levels(task: Work, logits: torch.Tensor) -> np.ndarray:
    ids = torch.tensor(task.simulator._levels.ids, device=logits.device)
    return expected_levels(logits, ids)[0].cpu().numpy()


@torch.inference_mode()
def long_forward(subject: Subject, n_tokens: int) -> None:
    """One long text through the model without its head."""
    tokens = torch.arange(n_tokens, device=subject.device)[None] % 1000 + 1000
    subject.model.base_model(input_ids=tokens, use_cache=False)


@torch.inference_mode()
def engine_forward(engine: SharedPrefixModel, n_tokens: int) -> None:
    """The same text by our own engine, nothing shared."""
    engine.prefix([1000 + place % 1000 for place in range(n_tokens)])


class Operations:
    """Floating-point operations, from the sizes of a model."""

    def __init__(self, subject: Subject):
        config = subject.model.config
        head = subject.model.get_output_embeddings().weight.numel()
        embedded = subject.model.get_input_embeddings().weight.numel()
        everything = sum(p.numel() for p in subject.model.base_model.parameters())
        self.per_token = 2 * (everything - embedded)
        self.per_logits = 2 * head
        width = config.num_attention_heads * (
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        )
        self.per_pair = 4 * width * config.num_hidden_layers

    def forward(self, n_tokens: int, n_before: int = 0) -> float:
        """Of `n_tokens` in a row after `n_before`, without the head."""
        pairs = n_tokens * n_before + n_tokens * (n_tokens + 1) / 2
        return n_tokens * self.per_token + pairs * self.per_pair

    def of_units(self, task: Work, units: range, with_few_shot: bool) -> float:
        """Of simulating some units our way."""
        total = self.forward(task.simulator.n_prefix) if with_few_shot else 0.0
        for unit in units:
            n_sequences = len(task.jobs[unit][1])
            total += self.forward(N_EXPLANATION, task.simulator.n_prefix)
            for sequence in range(n_sequences):
                before, own, slots = task.prompt_ids(unit, sequence)
                total += self.forward(len(own), len(before)) + len(slots) * self.per_logits
        return total


def seconds(device: torch.device, work: Callable[[], Any]) -> tuple[float, Any]:
    """How long something takes, the device's work included, and what it gives."""
    _finish(device)
    start = CLOCKS[_clock]()
    result = work()
    _finish(device)
    return CLOCKS[_clock]() - start, result


CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
_clock = "wall"


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def compare(subject: Subject, task: Work, rounds: int, n_plain: int, long: int) -> dict[str, Any]:
    """All ways in turns; the numbers asked of the simulator."""
    operations = Operations(subject)
    device = subject.device
    n_units = len(task.jobs)
    n_sequences = len(task.jobs[0][1])
    copied = CopiedPrefixModel(subject.model)
    with torch.inference_mode():
        few_shot = copied.prefix(task.simulator._prefix_ids)
    engine = SharedPrefixModel(subject.model)
    long_forward(subject, 64)
    engine_forward(engine, 64)

    took: dict[str, list[float]] = {
        way: [] for way in ("ours", "plain", "cache", "long", "long_engine")
    }
    rates: list[float] = []
    difference = 0.0
    for number in range(rounds):
        units = range(n_units * number // rounds, n_units * (number + 1) // rounds)
        second, answers = seconds(device, lambda units=units: ours(task, units))
        took["ours"].append(second)
        flop = operations.of_units(task, units, with_few_shot=number == 0)

        unit = units[0]
        second, _ = seconds(device, lambda: long_forward(subject, long))
        took["long"].append(second)
        second, _ = seconds(device, lambda: engine_forward(engine, long))
        took["long_engine"].append(second)
        limit = operations.forward(long) / min(took["long"][-1], took["long_engine"][-1])
        rates.append(flop / took["ours"][-1] / limit)

        second, levels = seconds(
            device, lambda unit=unit: batched_cache(task, copied, few_shot, unit)
        )
        took["cache"].append(second)
        difference = max(difference, _difference(answers[0], levels))
        for sequence in range(n_plain):
            second, level = seconds(device, lambda u=unit, s=sequence: plain(task, u, s))
            took["plain"].append(second)
            difference = max(difference, _difference([answers[0][sequence]], [level]))

    total = sum(took["ours"])
    per_unit = total / n_units
    plain_unit = float(np.mean(took["plain"])) * n_sequences
    cache_unit = float(np.mean(took["cache"]))
    long_rates = {
        "transformers": operations.forward(long) / float(np.mean(took["long"])),
        "engine": operations.forward(long) / float(np.mean(took["long_engine"])),
    }
    long_rate = max(long_rates.values())
    flop = operations.of_units(task, range(n_units), with_few_shot=True)
    return {
        "speedup_vs_plain": plain_unit / per_unit,
        "speedup_vs_batched_cache": cache_unit / per_unit,
        "share_of_flop_limit": flop / total / long_rate,
        "max_level_difference": difference,
        "seconds_ours": total,
        "seconds_ours_by_round": took["ours"],
        "seconds_per_unit": per_unit,
        "seconds_per_unit_plain": plain_unit,
        "seconds_per_unit_batched_cache": cache_unit,
        "plain_sequences_timed": len(took["plain"]),
        "batched_cache_units_timed": len(took["cache"]),
        "share_of_flop_limit_by_round": [round(rate, 3) for rate in rates],
        "gflop_per_second": flop / total / 1e9,
        "gflop_per_second_long_forward": {k: rate / 1e9 for k, rate in long_rates.items()},
        "linear_layers_by": "oneDNN"
        if is_faster(subject.model.get_output_embeddings().weight)
        else "PyTorch",
        "long_forward_tokens": long,
        "flop_ratio_plain_to_ours": n_units
        * n_sequences
        * (
            operations.forward(sum(map(len, task.prompt_ids(0, 0)[:2])))
            + sum(map(len, task.prompt_ids(0, 0)[:2])) * operations.per_logits
        )
        / flop,
    }


def _difference(ours: list[Simulation], levels: list[np.ndarray]) -> float:
    pairs = zip(ours, levels, strict=True)
    return max(float(np.abs(simulation.expected - level).max()) for simulation, level in pairs)


def scaling(subject: Subject, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds per sequence as prefix, sequences a unit and batch grow; memory by batch.

    Every figure is the median of three, after the few-shot has been read.
    """
    tables: dict[str, Any] = {"prefix": [], "sequences_per_unit": [], "batch_tokens": []}

    def measure(n_prefix: int, n_sequences: int, n_units: int, batch: int) -> dict[str, Any]:
        task = work(subject, folder, n_prefix, options.own, n_sequences, n_units)
        task.simulator.batch_tokens = batch
        ours(task, range(1))
        reset_peak(subject.device)
        before = resident(subject.device)
        times = [seconds(subject.device, lambda: ours(task, range(n_units)))[0] for _ in range(3)]
        return {
            "prefix": n_prefix,
            "sequences_per_unit": n_sequences,
            "units": n_units,
            "batch_tokens": batch,
            "ms_per_sequence": 1e3 * median(times) / (n_sequences * n_units),
            "memory_mb_measured": (peak(subject.device) - before) / 1e6,
            "memory_mb_stated": task.simulator.memory.bytes_of(batch) / 1e6,
        }

    default = 2_048 if subject.device.type == "cpu" else 16_384
    for n_prefix in (113, 226, 453, 905, 1_810):
        tables["prefix"].append(measure(n_prefix, 4, 1, default))
    for n_sequences, n_units in ((1, 4), (2, 2), (4, 1)):
        tables["sequences_per_unit"].append(measure(options.prefix, n_sequences, n_units, default))
    for batch in (250, 512, 1_024, 2_048, 4_096):
        tables["batch_tokens"].append(measure(options.prefix, 8, 1, batch))
    return tables


def resident(device: torch.device) -> int:
    """Bytes held now."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return _status("VmRSS")


def peak(device: torch.device) -> int:
    """Most bytes held since `reset_peak`."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _status("VmHWM")


def reset_peak(device: torch.device) -> None:
    """Start to watch the peak."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        Path("/proc/self/clear_refs").write_text("5")


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def load(name: str, device: str, dtype: str) -> Subject:
    """A model by name, or a random Llama of the shape of 8B."""
    if name != "random-llama-8b":
        return load_subject(name, device=device, dtype=dtype)
    from transformers import LlamaConfig, LlamaForCausalLM

    place = torch.device(device)
    config = LlamaConfig(
        vocab_size=128_256,
        hidden_size=4_096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=8_192,
        dtype=getattr(torch, dtype),
        attn_implementation="sdpa",
    )
    torch.manual_seed(0)
    with place:
        model = LlamaForCausalLM(config).to(getattr(torch, dtype)).eval().requires_grad_(False)
    return Subject(name, model, load_subject("smollm2", device="cpu").tokenizer, place, name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2", help="as for load_subject")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--prefix", type=int, default=905, help="few-shot and explanation")
    parser.add_argument("--own", type=int, default=250, help="tokens of a sequence with its slots")
    parser.add_argument("--sequences", type=int, default=10, help="sequences of a unit")
    parser.add_argument("--units", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=8, help="turns that the ways take")
    parser.add_argument("--plain", type=int, default=2, help="plain sequences timed in a round")
    parser.add_argument("--long", type=int, default=2_048, help="tokens of the long forward")
    parser.add_argument("--scaling", action="store_true", help="the tables instead")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--clock",
        choices=sorted(CLOCKS),
        default="wall",
        help="cpu: seconds of this process, for a machine that others use (with --threads 1)",
    )
    options = parser.parse_args()
    global _clock
    _clock = options.clock

    torch.set_num_threads(options.threads)
    subject = load(options.model, options.device, options.dtype)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.scaling:
            report = scaling(subject, folder, options)
        else:
            task = work(
                subject, folder, options.prefix, options.own, options.sequences, options.units
            )
            report = compare(subject, task, options.rounds, options.plain, options.long)
    print(json.dumps(report | {"settings": vars(options)}, indent=1))


if __name__ == "__main__":
    main()
