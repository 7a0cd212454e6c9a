"""`autointerp simulator train`: planted concepts → a small model that simulates, resumable."""

import json
from collections.abc import Callable
from pathlib import Path

import torch

from autointerp.config import SimulatorTrainConfig
from autointerp.records import AutointerpError, content_key
from autointerp.simulators.reader import ReaderShape, begin_with, new_reader, save_reader
from autointerp.simulators.reader_training import (
    ReaderProgress,
    ReaderTraining,
    read_rows,
    train_reader,
)


def train_simulator(
    config: SimulatorTrainConfig, *, report: Callable[[ReaderProgress], None] | None = None
) -> Path:
    """Train the simulator that `config` describes; a killed training goes on.

    Returns:
        The folder that holds it: `load_simulator("embedded", model=folder)`.

    Raises:
        AutointerpError: where the output folder holds a training of another config, the rows are
            no such table, or the base is not of the Llama kind.
    """
    from transformers import AutoTokenizer

    from autointerp.subject.embedded import EMBEDDED_NAME, embedded_model_folder
    from autointerp.subject.load import choose_device

    if config.threads:
        torch.set_num_threads(config.threads)
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    _check_same(output / "training.json", config)
    shape = ReaderShape(
        config.base,
        config.n_blocks,
        config.lora_rank,
        config.lora_blocks_from,
        left_out=tuple(sorted(set(config.left_out))),
    )
    torch.manual_seed(config.seed)
    reader = new_reader(shape)
    if config.start_from is not None:
        begin_with(reader, Path(config.start_from))
    reader = reader.to(choose_device(config.device))
    folder = embedded_model_folder() if config.base == EMBEDDED_NAME else config.base
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = read_rows(
        Path(config.rows), tokenizer, shape.before, shape.after, repeats=config.repeats
    )
    settings = ReaderTraining(
        n_steps=config.n_steps,
        decay_from=config.n_steps - max(1, int(config.n_steps * config.decay_share)),
        batch_rows=config.batch_rows,
        learning_rate=config.learning_rate,
        warmup_steps=config.warmup_steps,
        active_weight=config.active_weight,
        correlation_weight=config.correlation_weight,
        pair_every=config.pair_every,
        pair_margin=config.pair_margin,
        bfloat16=config.bfloat16,
        seed=config.seed,
    )
    curve = output / "curve.jsonl"

    def told(progress: ReaderProgress) -> None:
        with curve.open("a", encoding="utf-8") as file:
            file.write(json.dumps(vars(progress)) + "\n")
        if report is not None:
            report(progress)

    train_reader(reader, rows, settings, output / "checkpoint.safetensors", told)
    save_reader(reader, output)
    return output


def _check_same(marker: Path, config: SimulatorTrainConfig) -> None:
    """Refuse to go on with another training; it may have more steps."""
    key = content_key(
        "simulator training",
        config=config.model_dump(exclude={"output", "threads", "n_steps", "decay_share", "device"}),
    )
    if marker.exists() and json.loads(marker.read_text(encoding="utf-8"))["training"] != key:
        raise AutointerpError(
            f"{str(marker.parent)!r} holds a training of another config: choose another `output` "
            "or remove it"
        )
    marker.write_text(json.dumps({"training": key}) + "\n", encoding="utf-8")
