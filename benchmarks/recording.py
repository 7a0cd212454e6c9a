"""Recording against the least it could cost, on the shipped corpus: prints JSON.

    python benchmarks/recording.py --case topk --tokens 20000
    python benchmarks/recording.py --case all --delphi-python /path/to/python
    python benchmarks/recording.py --case delphi --delphi-python /path/to/python
    python benchmarks/recording.py --case gpu

The limit is the same forward passes, stopped at the same block, with the encode matmul and the
activation function (top-k, threshold) alone; recording adds statistics, samples of all strata and
splits, checkpoints and Parquet. Both are timed in alternating pairs, on the wall and in CPU time of
the whole process; ratios are medians over pairs, and only ratios within one run mean anything.

Weights of the dictionaries are random: rows of the decoder in pairs of cosine about 0.7, so that
units have neighbours, encoder = decoder transposed, thresholds set so that the mean number of
active latents is what the case says. Times do not depend on what latents mean. The case `gpu` is a
model of Gemma-2-2b's shape with random weights and a JumpReLU dictionary of 65,536 latents.

The headline keys stand at the top as well: those of the first case measured.
"""

import argparse
import gc
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from recording_gpu import random_gemma, random_sequences
from torch import Tensor

from autointerp import resources
from autointerp.executor import LocalExecutor
from autointerp.progress import Silent
from autointerp.recording.corpus import read_corpus, sequences_of_corpus, vocabulary
from autointerp.recording.design import SamplingDesign
from autointerp.recording.memory import memory_need
from autointerp.recording.passes import record_corpus
from autointerp.recording.recorder import window_facts
from autointerp.recording.windows import WindowTable
from autointerp.records import Sequence
from autointerp.store import RunStore
from autointerp.store.corpus_files import TokenTable
from autointerp.subject import Subject, load_subject
from autointerp.units import Neurons, SaeLatents, SparseAutoencoder, UnitSource

CASES = ("topk", "jumprelu", "neurons", "all_neurons", "gpu")

HEADLINE = ("ratio_to_limit", "peak_extra_bytes", "bytes_on_disk", "tokens_per_second")


@dataclass
class Setting:
    """What is recorded and how."""

    subject: Subject
    sources: list[UnitSource]
    sequences: list[Sequence]
    vocabulary: list[str]
    window_length: int
    batch_tokens: int
    design: SamplingDesign

    @property
    def n_tokens(self) -> int:
        """Tokens that go through the subject."""
        return sum(len(sequence.token_ids) for sequence in self.sequences)


def random_sae(architecture: str, d_in: int, n_latents: int, k: int, hidden: Tensor) -> Any:
    """A dictionary of random directions whose mean L0 on `hidden` is k."""
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(n_latents // 2, d_in, generator=generator)
    noise = torch.randn(n_latents // 2, d_in, generator=generator)
    W_dec = torch.stack([half, half + noise], dim=1).reshape(n_latents, d_in)
    W_dec = W_dec / W_dec.norm(dim=1, keepdim=True)
    mean = hidden.mean(0)
    sae = SparseAutoencoder(
        architecture, W_dec.T.contiguous(), torch.zeros(n_latents), mean.cpu(), W_dec, mean.cpu(),
        k=k if architecture == "topk" else None,
    )  # fmt: skip
    sae.to(hidden.device)
    if architecture == "jumprelu":
        # torch.quantile takes 16 million numbers at most.
        z = sae.pre_activations(hidden[: min(256, 2**23 // n_latents)])
        sae.threshold = torch.quantile(z, 1 - k / n_latents, dim=0).clamp_min(1e-3)
    return sae


def corpus_sequences(subject: Subject, length: int, n_tokens: int) -> list[Sequence]:
    """Whole sequences of `length` tokens of the shipped corpus; taken again where it ends."""
    corpus = read_corpus(resources.shipped_path("demo", "corpus.jsonl"))
    found = sequences_of_corpus(
        corpus, subject.tokenizer, length=length, n_masked_start=1, min_length=length,
        max_tokens=None,
    )  # fmt: skip
    wanted = max(1, n_tokens // length)
    return [
        Sequence(**{**vars(s), "sequence_id": f"{s.sequence_id[:-2]}{turn:02x}"})
        for turn in range(-(-wanted // len(found)))
        for s in found
    ][:wanted]


def setting_of(case: str, options: argparse.Namespace) -> Setting:
    """Load the model and make the units of one case."""
    if case == "gpu":
        return gpu_setting(options)
    subject = load_subject("smollm2", device="cpu")
    place = f"blocks.{options.block}.hook_resid_post"
    sequences = corpus_sequences(subject, options.sequence_length, options.tokens)
    ids = torch.stack([torch.from_numpy(s.token_ids).long() for s in sequences[:8]])
    sources: list[UnitSource]
    if case == "neurons":
        place = f"blocks.{options.block}.mlp.hook_post"
        sources = [Neurons.of("neurons", "subject", subject, place)]
    elif case == "all_neurons":
        sources = [
            Neurons.of(f"neurons{i}", "subject", subject, f"blocks.{i}.mlp.hook_post")
            for i in range(subject.n_blocks)
        ]
    else:
        hidden = subject.run(ids, [place])[place].flatten(0, 1)
        k = options.k if case == "topk" else round(options.density * options.latents)
        sae = random_sae(case, subject.d_model, options.latents, k, hidden)
        sources = [SaeLatents.of("latents", "subject", subject, sae, place)]
    design = SamplingDesign("default", options.window_length, 0)
    return Setting(
        subject, sources, sequences, vocabulary(subject.tokenizer), options.window_length,
        options.batch_tokens, design,
    )  # fmt: skip


@torch.inference_mode()
def gpu_setting(options: argparse.Namespace) -> Setting:
    """A random model and dictionary on the device."""
    subject = random_gemma(torch.device(options.gpu_device), is_tiny=options.gpu_tiny)
    n_vocabulary = subject.model.config.vocab_size
    sequences = random_sequences(options.tokens, options.sequence_length, n_vocabulary)
    place = f"blocks.{subject.n_blocks // 2}.hook_resid_post"
    ids = torch.stack([torch.from_numpy(s.token_ids).long() for s in sequences[:8]])
    hidden = subject.run(ids, [place])[place].flatten(0, 1).float()
    k = round(options.density * options.gpu_latents)
    sae = random_sae("jumprelu", subject.d_model, options.gpu_latents, k, hidden)
    return Setting(
        subject, [SaeLatents.of("latents", "subject", subject, sae, place)], sequences,
        [f"token {i}" for i in range(n_vocabulary)], options.window_length,
        options.gpu_batch_tokens, SamplingDesign("default", options.window_length, 0),
    )  # fmt: skip


@torch.inference_mode()
def run_limit(setting: Setting) -> dict[str, float]:
    """Truncated forward, encode matmul and activation function alone."""
    size = max(1, setting.batch_tokens // len(setting.sequences[0].token_ids))
    points = sorted({source.read_at for source in setting.sources})
    n_active = n_tokens = 0
    for start in range(0, len(setting.sequences), size):
        part = setting.sequences[start : start + size]
        ids = torch.stack([torch.from_numpy(s.token_ids).long() for s in part])
        found = setting.subject.run(ids, points)
        for source in setting.sources:
            if isinstance(source, SaeLatents):
                hidden = found[source.read_at].flatten(0, 1).float()
                if source.sae.architecture == "topk":
                    values, _ = source.sae.encode_topk(hidden)
                else:
                    values = source.sae.encode(hidden)
                if start == 0:
                    n_active += int((values > 0).sum())
                    n_tokens += len(values)
    return {"mean_l0": n_active / n_tokens} if n_tokens else {}


def run_recording(setting: Setting, folder: Path) -> None:
    """Everything: windows, the pass with its checkpoints, records and statistics on disk."""
    store = RunStore(folder)
    windows = WindowTable.of(setting.sequences, setting.window_length, 1)
    finished = record_corpus(
        windows,
        setting.vocabulary,
        setting.subject,
        {f"key of {source.name}": source for source in setting.sources},
        setting.design,
        checkpoint=store.records_folder / ".recording",
        shard_tokens=8256,
        batch_tokens=setting.batch_tokens,
        executor=LocalExecutor(),
        reporter=Silent(),
    )
    for key, source, tables in finished:
        store.write_record_tables(source.name, key, tables)


@dataclass
class Cost:
    """What one run took."""

    wall: float
    cpu: float
    peak_extra: int
    """Bytes of resident memory at the peak over those at the start."""
    peak_device: int
    """The same of the GPU's memory; 0 without one."""


def timed(work: Callable[[], Any]) -> tuple[Cost, Any]:
    """Run and measure; memory is sampled every 20 ms."""
    gc.collect()
    has_gpu = torch.cuda.is_initialized()
    before = 0
    if has_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    with peak_memory() as peak:
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        if has_gpu:
            torch.cuda.synchronize()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    on_device = torch.cuda.max_memory_allocated() - before if has_gpu else 0
    return Cost(wall, cpu, peak(), on_device), result


@contextmanager
def peak_memory() -> Iterator[Callable[[], int]]:
    """Resident memory over what it was at the start."""
    page = resource.getpagesize()
    stop = threading.Event()

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * page

    start = largest = resident()

    def watch() -> None:
        nonlocal largest
        while not stop.wait(0.02):
            largest = max(largest, resident())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lambda: largest - start
    finally:
        stop.set()
        thread.join()


def measure(case: str, options: argparse.Namespace) -> dict[str, Any]:
    """One case: alternating pairs of the limit and the recording."""
    setting = setting_of(case, options)
    limits: list[Cost] = []
    records: list[Cost] = []
    facts: dict[str, float] = {}
    size = 0
    run_limit(Setting(**{**vars(setting), "sequences": setting.sequences[:8]}))
    for number in range(options.pairs):
        with tempfile.TemporaryDirectory() as folder:
            both = [("limit", lambda: run_limit(setting)),
                    ("record", lambda f=Path(folder): run_recording(setting, f))]  # fmt: skip
            for name, work in both if number % 2 == 0 else reversed(both):
                cost, result = timed(work)
                (limits if name == "limit" else records).append(cost)
                facts |= result or {}
            size = sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file())
    need = memory_need(setting.sources, setting.design, setting.batch_tokens)
    windows = window_facts(WindowTable.of(setting.sequences, setting.window_length, 1), 0, 1)
    return {
        "case": case,
        "device": device_name(setting.subject.device),
        "n_units": sum(s.n_units * len(s.polarities) for s in setting.sources),
        "n_tokens": setting.n_tokens,
        "window_length": setting.window_length,
        "windows_a_sequence": len(windows.numbers),
        **facts,
        "pairs": options.pairs,
        "ratio_to_limit": median(r.wall / b.wall for r, b in zip(records, limits, strict=True)),
        "ratio_to_limit_cpu": median(r.cpu / b.cpu for r, b in zip(records, limits, strict=True)),
        "ratios": [round(r.wall / b.wall, 3) for r, b in zip(records, limits, strict=True)],
        "limit_seconds": median(c.wall for c in limits),
        "record_seconds": median(c.wall for c in records),
        "tokens_per_second": setting.n_tokens / median(c.wall for c in records),
        "peak_extra_bytes": max(c.peak_extra for c in records),
        "peak_extra_bytes_of_limit": max(c.peak_extra for c in limits),
        "peak_extra_device_bytes": max(c.peak_device for c in records),
        "peak_extra_bytes_by_formula": need.total,
        "bytes_on_disk": size,
    }


def device_name(device: torch.device) -> str:
    """As the report calls it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def delphi(options: argparse.Namespace) -> dict[str, Any]:
    """The comparison at two depths, in CPU time; null where delphi is not installed.

    delphi runs in a process of its own, on the same tokens and dictionary. Each side is run once.
    """
    python = options.delphi_python or sys.executable
    tried = subprocess.run(
        [python, "-c", "import delphi.latents"], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        reason = (tried.stderr.strip().splitlines() or ["it cannot be imported"])[-1]
        return {"speedup_vs_delphi": None, "delphi": f"not installed: {reason}"}
    found = {f"block_{block}": beside_delphi(python, options, block) for block in (15, 8)}
    first = found["block_15"]
    return {"speedup_vs_delphi": first.get("speedup_to_readable_records"), "delphi": found}


def beside_delphi(python: str, options: argparse.Namespace, block: int) -> dict[str, Any]:
    """What both take from the same tokens to records at one block."""
    from safetensors.torch import save_file

    from autointerp.subject.embedded import embedded_model_folder

    own = argparse.Namespace(**{**vars(options), "tokens": options.delphi_tokens, "block": block})
    setting = setting_of("topk", own)
    (source,) = setting.sources
    assert isinstance(source, SaeLatents)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "tokens.npy", np.stack([s.token_ids for s in setting.sequences]))
        weights = {
            "encoder": source.sae.W_enc.T.contiguous(),
            "decoder": source.sae.W_dec,
            "b_dec": source.sae.b_dec.contiguous(),
        }
        save_file(
            {key: value.clone() for key, value in weights.items()}, folder / "sae.safetensors"
        )
        task = {
            "model": str(embedded_model_folder()),
            "block": block,
            "k": options.k,
            "threads": options.threads,
            "latents": options.delphi_latents,
            "batch_sequences": max(1, options.batch_tokens // options.sequence_length),
        }
        (folder / "task.json").write_text(json.dumps(task))
        script = Path(__file__).with_name("recording_delphi.py")
        done = subprocess.run(
            [python, str(script), name], capture_output=True, text=True, check=False
        )
        if done.returncode:
            return {"failed": done.stderr[-2000:]}
        theirs = json.loads(done.stdout.strip().splitlines()[-1])
        cost, _ = timed(lambda: run_recording(setting, folder / "ours"))
        ours = {"record_cpu_seconds": cost.cpu, "peak_extra_bytes": cost.peak_extra}
        ours |= read_back(setting, folder / "ours", options.delphi_latents)
    scaled = setting.n_tokens / theirs["n_tokens"]
    total = cost.cpu + ours["read_cpu_seconds_a_unit"] * ours["n_units_with_records"]
    return {
        "n_tokens": setting.n_tokens,
        "cache_alone_slower": theirs["cache_cpu_seconds"] * scaled / cost.cpu,
        "speedup_to_readable_records": theirs["all_records_cpu_seconds"] / total,
        "ours": ours | {"all_records_cpu_seconds": total},
        "theirs": theirs,
    }


def read_back(setting: Setting, folder: Path, n_units: int) -> dict[str, Any]:
    """What it takes to read records back with the text of every token, of a sample of units."""
    (source,) = setting.sources
    store = RunStore(folder)
    texts = {s.document_id: ("", "", "") for s in setting.sequences}
    store.write_corpus(
        "key", [TokenTable("tokens", setting.sequences, setting.vocabulary)], texts.__getitem__
    )
    summaries = [unit for unit in store.units(source.name) if unit.maximum > 0]
    order = np.random.default_rng(0).permutation(len(summaries))[:n_units]
    next(store.read_units([summaries[0].unit]))
    started = time.process_time()
    n_windows = n_tokens = 0
    for unit in store.read_units([summaries[i].unit for i in sorted(order.tolist())]):
        n_windows += len(unit.records)
        n_tokens += sum(len(record.tokens) for record in unit.records)
    seconds = time.process_time() - started
    return {
        "n_units_with_records": len(summaries),
        "n_units_read": len(order),
        "windows_a_unit": n_windows / max(1, len(order)),
        "token_texts_a_unit": n_tokens / max(1, len(order)),
        "read_cpu_seconds_a_unit": seconds / max(1, len(order)),
        "bytes_on_disk": sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", default="all", choices=["all", *CASES, "delphi"])
    parser.add_argument("--tokens", type=int, default=40_960)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--latents", type=int, default=16_384)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--density", type=float, default=0.015, help="of the JumpReLU dictionary")
    parser.add_argument("--block", type=int, default=15)
    parser.add_argument("--sequence-length", type=int, default=256)
    parser.add_argument("--window-length", type=int, default=32)
    parser.add_argument("--batch-tokens", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--delphi-python", help="a Python that has eai-delphi")
    parser.add_argument("--delphi-tokens", type=int, default=16_384)
    parser.add_argument("--delphi-latents", type=int, default=256, help="latents built and timed")
    parser.add_argument("--gpu-device", default="cuda", help="`cpu` tries the case without one")
    parser.add_argument("--gpu-tiny", action="store_true", help="a tiny model for that")
    parser.add_argument("--gpu-latents", type=int, default=65_536)
    parser.add_argument("--gpu-batch-tokens", type=int, default=8192)
    parser.add_argument("--profile", help="write a profile of one recording here, time nothing")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.profile:
        import cProfile

        setting = setting_of(options.case, options)
        folder = Path(tempfile.mkdtemp())
        cProfile.runctx("run_recording(setting, folder)", globals(), locals(), options.profile)
        shutil.rmtree(folder)
        return
    cases = [case for case in CASES if options.case in ("all", case)]
    report: dict[str, Any] = {
        "threads": options.threads,
        **dict.fromkeys([*HEADLINE, "speedup_vs_delphi"]),
    }
    for case in cases:
        if case == "gpu" and options.gpu_device == "cuda" and not torch.cuda.is_available():
            report["gpu"] = "not measured: there is no GPU"
            continue
        report[case] = measure(case, options)
        if case == cases[0]:
            report |= {key: report[case][key] for key in HEADLINE}
        print(case, json.dumps(report[case]), file=sys.stderr)
    if options.case in ("all", "topk", "delphi"):
        report |= delphi(options)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
