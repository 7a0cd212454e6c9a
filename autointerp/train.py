"""`autointerp sae train`: documents → subject → activations → dictionaries, resumable.

Needs several rooms (corpus, subject, units), so it stands beside `runner.py`.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autointerp import resources
from autointerp.config import SaeTrainConfig
from autointerp.hidden_states import TokenRows, hidden_states, token_rows
from autointerp.parts import corpus_of
from autointerp.recording.corpus import Corpus, bos_ids, read_corpus
from autointerp.records import SCHEMA_VERSION, AutointerpError, Document, content_key
from autointerp.subject import Subject, load_subject
from autointerp.units.sae.batches import KeptActivations, shuffled_batches
from autointerp.units.sae.convert import write_saelens
from autointerp.units.sae.evaluation import SaeEvaluation
from autointerp.units.sae.fitting import Progress, Schedule, train_saes
from autointerp.units.sae.load import load_sae
from autointerp.units.sae.model import SparseAutoencoder
from autointerp.units.sae.watch import TrainingLog

_SEQUENCES_PER_CHUNK = 32
_HELD_OUT_SEQUENCES = 256
TRAINED_ON = "training_documents.txt"
"""Beside a dictionary: the hash of every document it was trained on."""


@dataclass(frozen=True)
class _Texts:
    """What is trained on and what is held out."""

    training: list[Document]
    rows: TokenRows
    held_out: list[Document]
    held_rows: TokenRows
    n_excluded: int


def train_dictionaries(
    config: SaeTrainConfig,
    *,
    report: Callable[[Progress], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> dict[str, SparseAutoencoder]:
    """Train the dictionaries that `config` describes, in one pass, and write them.

    Every dictionary goes to `output/NAME`: `cfg.json` and `sae_weights.safetensors` in SAELens'
    layout, `metrics.json` of held-out documents, and `training_documents.txt`, the hash of every
    document trained on. `output` itself gets `metrics.csv` and `progress.html` while it goes on. A
    killed training goes on from its last checkpoint, to the same result.

    Args:
        config: what to train.
        report: called with every dictionary's progress about every 50 steps.
        warn: called with a line for early signs that something goes wrong.

    Returns:
        The dictionaries by name, as they are read back from their files.

    Raises:
        AutointerpError: where the output folder holds a training of another config, the corpus is
            too small, or a loss is no longer finite.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    subject = load_subject(
        config.subject.model,
        device=config.subject.device,
        dtype=config.subject.dtype,
        device_map=config.subject.device_map,
        trust_remote_code=config.subject.trust_remote_code,
    )
    places = _places(config)
    for place in places:
        subject.hook(place)
    corpus = corpus_of(config.corpus)
    identity = content_key(
        "sae_training",
        config=config.model_dump(exclude={"output", "threads", "checkpoint_seconds"}),
        subject=subject.fingerprint,
        corpus=corpus.fingerprint(),
    )
    marker = output / "training.json"
    _check_same_training(marker, identity)
    texts = _texts(config, subject, corpus)
    per_sequence = config.corpus.sequence_length - config.corpus.n_masked_start
    chunks, kept = _chunks(config, subject, texts.rows, output)
    batches = shuffled_batches(
        chunks,
        chunks_in_buffer=config.buffer_chunks,
        batch_tokens=config.batch_tokens,
        chunk_tokens=_SEQUENCES_PER_CHUNK * per_sequence,
        seed=config.seed,
    )
    marker.write_text(json.dumps({"training": identity}) + "\n")
    schedule = _schedule(config, subject)
    log = TrainingLog(output, config.warmup_steps * config.batch_tokens, warn)

    def reported(now: Progress) -> None:
        log.add(now)
        if report is not None:
            report(now)

    settings = {name: each.settings() for name, each in config.dictionaries.items()}
    saes = train_saes(settings, schedule, batches, output / "checkpoint.safetensors", reported)
    log.write_page()
    facts = {
        "n_training_documents": len(texts.training),
        "n_held_out_documents": len(texts.held_out),
        "n_excluded_documents": texts.n_excluded,
        "n_distinct_training_tokens": int(texts.rows.ids.size),
        "max_norm": config.max_norm,
        "training_tokens": schedule.n_steps * schedule.batch_tokens,
        "subject_fingerprint": subject.fingerprint,
        "training": identity,
    }
    for name, sae in saes.items():
        _describe(sae, config, name, subject)
        _write(output / name, sae, config, texts, facts)
    stored = {name: load_sae(output / name, "saelens") for name in saes}
    held = texts.held_rows[slice(0, _HELD_OUT_SEQUENCES)]
    for name, metrics in _held_out_metrics(stored, subject, places, held, config.max_norm).items():
        _write_json(output / name / "metrics.json", metrics | facts)
    for path in kept:
        path.unlink(missing_ok=True)
    return stored


def excluded_documents(paths: list[str]) -> set[str]:
    """Ids of the documents of some corpora; `demo` is the shipped one."""
    excluded: set[str] = set()
    for path in paths:
        excluded |= set(read_corpus(resources.shipped_path(path, "corpus.jsonl")).clusters)
    return excluded


def _places(config: SaeTrainConfig) -> list[str]:
    """Where activations are taken: what is read, and what is reconstructed if that differs."""
    out = config.hook_out
    return [config.hook_point] + ([out] if out and out != config.hook_point else [])


def _check_same_training(marker: Path, identity: str) -> None:
    if marker.exists() and json.loads(marker.read_text()).get("training") != identity:
        raise AutointerpError(
            f"{marker.parent} holds a training of another config or corpus; choose another "
            "`output:` or remove the folder"
        )


def _texts(config: SaeTrainConfig, subject: Subject, corpus: Corpus) -> _Texts:
    """Documents and sequences, the excluded ones left out, in a random order."""
    name = " + ".join(source.name for source in corpus.sources)
    excluded = excluded_documents(config.exclude)
    kept = [d for d in corpus.documents if d.document_id not in excluded]
    n_held_out = max(1, int(len(kept) * config.held_out_share))
    held_out, training = kept[:n_held_out], kept[n_held_out:]
    n_excluded = len(corpus.documents) - len(kept)
    if not training:
        raise AutointerpError(
            f"corpus {name!r}: no document is left to train on "
            f"({len(corpus.documents)} read, {n_excluded} excluded)"
        )
    length = config.corpus.sequence_length
    rows = token_rows(training, subject, config.corpus)
    order = np.random.default_rng(config.seed).permutation(len(rows))
    if config.corpus.max_tokens is not None:
        order = order[: config.corpus.max_tokens // length]
    rows = rows[order]
    if len(rows) < _SEQUENCES_PER_CHUNK:
        raise AutointerpError(
            f"corpus {name!r} gives {len(rows)} sequences of {length} tokens; at "
            f"least {_SEQUENCES_PER_CHUNK} are needed"
        )
    held_rows = token_rows(held_out, subject, config.corpus)
    if not len(held_rows):
        raise AutointerpError(
            f"corpus {name!r}: none of the {len(held_out)} held-out documents has "
            f"{length} tokens; raise `held_out_share` or lower `sequence_length`"
        )
    return _Texts(training, rows, held_out, held_rows, n_excluded)


def _chunks(
    config: SaeTrainConfig, subject: Subject, rows: TokenRows, output: Path
) -> tuple[Callable[[int], Iterator[Tensor]], list[Path]]:
    """Chunks of activations [n_tokens, Σ widths] from a number on, and the files that keep them."""
    n_chunks = len(rows) // _SEQUENCES_PER_CHUNK
    places, n_masked = _places(config), config.corpus.n_masked_start

    def make(number: int) -> Tensor:
        start = number * _SEQUENCES_PER_CHUNK
        hidden = hidden_states(subject, places, rows.ids[start : start + _SEQUENCES_PER_CHUNK])
        return hidden[:, n_masked:].flatten(0, 1).cpu().clone()

    if config.keep_activations:
        file = output / "activations.bin"
        store = KeptActivations(file, make, n_chunks)
        return store.from_chunk, [file, file.with_suffix(".shape")]

    def from_chunk(skip: int) -> Iterator[Tensor]:
        number = skip
        while True:
            yield make(number % n_chunks)
            number += 1

    return from_chunk, []


def _schedule(config: SaeTrainConfig, subject: Subject) -> Schedule:
    is_transcoder = len(_places(config)) > 1
    return Schedule(
        n_tokens=config.n_tokens,
        batch_tokens=config.batch_tokens,
        warmup_steps=config.warmup_steps,
        decay_share=config.decay_share,
        ema=config.ema,
        max_norm=config.max_norm,
        d_in=subject.width_at(config.hook_point) if is_transcoder else None,
        seed=config.seed,
        device=str(subject.device),
        bfloat16=config.bfloat16,
        checkpoint_seconds=config.checkpoint_seconds,
    )


def _describe(sae: SparseAutoencoder, config: SaeTrainConfig, name: str, subject: Subject) -> None:
    """What its files say of where it belongs and how it was made."""
    settings = config.dictionaries[name]
    sae.hook_in, sae.hook_out = config.hook_point, config.hook_out or config.hook_point
    details = settings.model_dump()
    sae.metadata = {
        "model_name": config.subject.model,
        "context_size": config.corpus.sequence_length,
        "prepend_bos": bool(bos_ids(subject.tokenizer, config.corpus.bos)),
        "training_tokens": config.n_tokens,
        "training_architecture": settings.architecture,
        "training_architecture_details": details,
        "schema_version": SCHEMA_VERSION,
    }


def _write(
    folder: Path,
    sae: SparseAutoencoder,
    config: SaeTrainConfig,
    texts: _Texts,
    facts: dict[str, Any],
) -> None:
    write_saelens(sae, folder, getattr(torch, config.save_dtype))
    hashes = sorted(document.document_id for document in texts.training)
    (folder / TRAINED_ON).write_text("\n".join(hashes) + "\n")


def _held_out_metrics(
    saes: dict[str, SparseAutoencoder],
    subject: Subject,
    places: list[str],
    rows: TokenRows,
    max_norm: float | None,
) -> dict[str, dict[str, object]]:
    """`SaeMetrics` of every dictionary on some sequences."""
    evaluations = {name: SaeEvaluation(sae) for name, sae in saes.items()}
    d_in = next(iter(saes.values())).d_in
    longest: float | None = None
    for part in rows.split(_SEQUENCES_PER_CHUNK):
        hidden = hidden_states(subject, places, part.ids).float().cpu()
        kept = hidden[torch.from_numpy(~part.masked)]
        if max_norm is not None:
            norms = kept[:, :d_in].norm(dim=1)
            longest = longest or max_norm * float(norms.median())
            kept = kept[norms <= longest]
        x, y = (kept[:, :d_in], kept[:, d_in:]) if len(places) > 1 else (kept, kept)
        for evaluation in evaluations.values():
            evaluation.add(x, y)
    return {name: evaluation.metrics().as_dict() for name, evaluation in evaluations.items()}


def _write_json(path: Path, values: dict[str, object]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
