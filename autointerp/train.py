"""`autointerp sae train`: documents → subject → activations → dictionary, resumable.

Needs several rooms (corpus, subject, units), so it stands beside `runner.py`.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from autointerp import resources
from autointerp.config import SaeTrainConfig
from autointerp.parts import corpus_of
from autointerp.recording.corpus import bos_ids, read_corpus, sequences_of
from autointerp.records import (
    SCHEMA_VERSION,
    AutointerpError,
    Document,
    Split,
    content_key,
)
from autointerp.subject import Subject, load_subject
from autointerp.units.sae.formats import saelens
from autointerp.units.sae.load import load_sae
from autointerp.units.sae.model import SparseAutoencoder
from autointerp.units.sae.training import (
    Progress,
    TopKTraining,
    evaluate_reconstruction,
    shuffled_batches,
    train_topk,
    write_metrics,
)

_SEQUENCES_PER_CHUNK = 32


def train_sae(
    config: SaeTrainConfig, *, report: Callable[[Progress], None] | None = None
) -> SparseAutoencoder:
    """Train the dictionary that `config` describes and write it to `config.output`.

    Writes `cfg.json`, `sae_weights.safetensors`, `metrics.json` and `training_documents.txt` (the
    hash of every document trained on). A killed training goes on from its last checkpoint.

    Raises:
        AutointerpError: where the output folder holds a training of another config, or the corpus
            is too small.
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
    corpus = corpus_of(config.corpus)
    name = " + ".join(source.name for source in corpus.sources)
    excluded = _excluded_documents(config)
    kept = [d for d in corpus.documents if d.document_id not in excluded]
    n_held_out = max(1, int(len(kept) * config.held_out_share))
    held_out, training = kept[:n_held_out], kept[n_held_out:]
    if not training:
        raise AutointerpError(
            f"corpus {name!r}: no document is left to train on "
            f"({len(corpus.documents)} read, {len(corpus.documents) - len(kept)} excluded)"
        )
    identity = content_key(
        "sae_training",
        config=config.model_dump(exclude={"output", "threads"}),
        subject=subject.fingerprint,
        corpus=corpus.fingerprint(),
    )
    marker = output / "training.json"
    _check_same_training(marker, identity)

    length = config.corpus.sequence_length
    rows = _token_rows(training, subject, config)
    order = np.random.default_rng(config.seed).permutation(len(rows))
    if config.corpus.max_tokens is not None:
        order = order[: config.corpus.max_tokens // length]
    rows = rows[order]
    if len(rows) < _SEQUENCES_PER_CHUNK:
        raise AutointerpError(
            f"corpus {name!r} gives {len(rows)} sequences of {length} tokens; at "
            f"least {_SEQUENCES_PER_CHUNK} are needed"
        )
    held_rows = _token_rows(held_out, subject, config)
    if not len(held_rows):
        raise AutointerpError(
            f"corpus {name!r}: none of the {len(held_out)} held-out documents has "
            f"{length} tokens; raise `held_out_share` or lower `sequence_length`"
        )
    marker.write_text(json.dumps({"training": identity}) + "\n")
    settings = TopKTraining(
        n_latents=config.n_latents,
        k=config.k,
        n_tokens=config.n_tokens,
        batch_tokens=config.batch_tokens,
        learning_rate=config.learning_rate,
        aux_k=config.aux_k,
        seed=config.seed,
    )
    batches = shuffled_batches(
        lambda skip: _activation_chunks(subject, config, rows, skip),
        chunks_in_buffer=config.buffer_chunks,
        batch_tokens=config.batch_tokens,
        seed=config.seed,
    )
    sae = train_topk(settings, batches, output / "checkpoint.safetensors", report)

    held = torch.cat(
        [
            _hidden(subject, config, held_rows[i : i + 32])
            for i in range(0, min(len(held_rows), 256), 32)
        ]
    )
    dtype = getattr(torch, config.save_dtype)
    metadata = {
        "model_name": config.subject.model,
        "hook_name": config.hook_point,
        "context_size": length,
        "prepend_bos": bool(bos_ids(subject.tokenizer, config.corpus.bos)),
        "training_tokens": config.n_tokens,
        "training_architecture": "topk",
        "schema_version": SCHEMA_VERSION,
    }
    saelens.write_topk(output, sae, metadata, dtype)
    stored = load_sae(output)
    metrics = {
        **evaluate_reconstruction(stored, held),
        "n_training_documents": len(training),
        "n_held_out_documents": len(held_out),
        "n_excluded_documents": len(corpus.documents) - len(kept),
        "n_distinct_training_tokens": int(rows.size),
        "training_tokens": config.n_tokens,
        "subject_fingerprint": subject.fingerprint,
        "training": identity,
    }
    write_metrics(output / "metrics.json", metrics)
    hashes = sorted(document.document_id for document in training)
    (output / "training_documents.txt").write_text("\n".join(hashes) + "\n")
    return stored


def _excluded_documents(config: SaeTrainConfig) -> set[str]:
    """Ids of excluded documents."""
    excluded: set[str] = set()
    for path in config.exclude:
        excluded |= set(read_corpus(resources.shipped_path(path, "corpus.jsonl")).clusters)
    return excluded


def _check_same_training(marker: Path, identity: str) -> None:
    if marker.exists() and json.loads(marker.read_text()).get("training") != identity:
        raise AutointerpError(
            f"{marker.parent} holds a training of another config or corpus; choose another "
            "`output:` or remove the folder"
        )


def _token_rows(documents: list[Document], subject: Subject, config: SaeTrainConfig) -> np.ndarray:
    """[n_sequences, length] token ids of the full sequences of some documents."""
    length = config.corpus.sequence_length
    rows = [
        sequence.token_ids
        for document in documents
        for sequence in sequences_of(
            document,
            Split.EXPLAIN,
            subject.tokenizer,
            length=length,
            min_length=length,
            max_tokens=config.corpus.max_tokens_per_document,
            bos=config.corpus.bos,
        )
    ]
    return np.stack(rows) if rows else np.zeros((0, length), dtype=np.int32)


def _activation_chunks(
    subject: Subject, config: SaeTrainConfig, rows: np.ndarray, skip: int
) -> Iterator[Tensor]:
    """Chunks of hidden states, round and round the corpus, from chunk number `skip` on."""
    n_chunks = len(rows) // _SEQUENCES_PER_CHUNK
    number = skip
    while True:
        start = (number % n_chunks) * _SEQUENCES_PER_CHUNK
        yield _hidden(subject, config, rows[start : start + _SEQUENCES_PER_CHUNK])
        number += 1


def _hidden(subject: Subject, config: SaeTrainConfig, rows: np.ndarray) -> Tensor:
    """[n_tokens, d_in] hidden states of some rows, without the masked start of each."""
    hidden = subject.run(torch.from_numpy(rows), [config.hook_point])[config.hook_point]
    return hidden[:, config.corpus.n_masked_start :].flatten(0, 1).float().cpu().clone()
