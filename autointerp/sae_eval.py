"""`autointerp sae eval`: dictionaries on text that they were not trained on.

Needs several rooms (corpus, subject, units), so it stands beside `runner.py`.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from autointerp.config import CorpusConfig, SubjectConfig
from autointerp.hidden_states import TokenRows, token_rows
from autointerp.parts import corpus_of
from autointerp.recording.corpus import Corpus
from autointerp.records import AutointerpError, Document
from autointerp.subject import Subject, load_subject
from autointerp.train import TRAINED_ON, excluded_documents
from autointerp.units.sae.baselines import pca_dictionary, random_dictionary
from autointerp.units.sae.evaluation import LossRecovered, SaeEvaluation, SaeMetrics
from autointerp.units.sae.load import load_sae
from autointerp.units.sae.model import SparseAutoencoder
from autointerp.units.sae.spliced import SplicedLoss

_BATCH = 32
_LOSS_BATCH = 4


@dataclass(frozen=True)
class EvaluateOptions:
    """On what dictionaries are measured."""

    subject: SubjectConfig
    corpus: CorpusConfig
    exclude: tuple[str, ...] = ()
    """Corpora that are left out."""

    n_tokens: int = 32_768
    """For all that needs hidden states alone."""

    loss_tokens: int = 8_192
    """For cross-entropy and KL, which run the whole subject; 0 for none."""

    max_norm: float | None = 10.0
    """Tokens longer than this many times the median are masked: attention sinks."""

    baselines: tuple[str, ...] = ()
    hook_point: str | None = None
    """Where dictionaries read whose files do not say."""


@dataclass(frozen=True)
class Evaluated:
    """One dictionary's numbers."""

    name: str
    architecture: str
    n_latents: int
    hook_in: str
    hook_out: str
    fingerprint: str
    """Hash of the dictionary."""

    metrics: SaeMetrics
    loss: LossRecovered | None

    def as_dict(self) -> dict[str, object]:
        """For JSON: flat."""
        facts = {k: getattr(self, k) for k in ("name", "architecture", "n_latents")}
        places = {k: getattr(self, k) for k in ("hook_in", "hook_out", "fingerprint")}
        loss: dict[str, object] = {}
        if self.loss is not None:
            loss = {
                **asdict(self.loss),
                "loss_tokens": self.loss.n_tokens,
                "loss_recovered": self.loss.loss_recovered,
                "loss_recovered_mean": self.loss.loss_recovered_mean,
                "kl_recovered": self.loss.kl_recovered,
            }
            del loss["n_tokens"]
        return {**facts, **places, **self.metrics.as_dict(), **loss}


def evaluate_saes(
    saes: dict[str, SparseAutoencoder],
    subject: Subject,
    rows: TokenRows,
    options: EvaluateOptions,
    *,
    fit_rows: TokenRows | None = None,
    report: Callable[[str], None] | None = None,
) -> list[Evaluated]:
    """Measure dictionaries of one subject.

    Args:
        saes: by name.
        subject: whose hidden states they read.
        rows: the sequences; all of them for hidden states, the first for the loss.
        options: how much, and what is masked.
        fit_rows: other sequences, to which the baselines are fitted.
        report: told what is going on.

    Raises:
        AutointerpError: where a dictionary does not say where it reads, or does not fit there.
    """
    saes = {name: placed(name, sae, subject, options.hook_point) for name, sae in saes.items()}
    first = next(iter(saes.values()))
    for name in options.baselines:
        if fit_rows is None or not len(fit_rows):
            raise AutointerpError("the corpus has no text left to fit the baselines to")
        saes[name] = baseline(name, first, subject, fit_rows, options.max_norm)
    states = States(subject, list(saes.values()), options.max_norm)
    evaluations = {name: SaeEvaluation(sae) for name, sae in saes.items()}
    for done, part in enumerate(rows.split(_BATCH), 1):
        hidden, masked = states.of(part)
        kept = torch.from_numpy(~masked)
        for name, sae in saes.items():
            x, y = hidden[hook_in(sae)][kept], hidden[hook_out(sae)][kept]
            evaluations[name].add(x, y)
        if report is not None:
            report(f"hidden states: {min(done * _BATCH, len(rows))} of {len(rows)} sequences")
    metrics = {name: evaluation.metrics() for name, evaluation in evaluations.items()}
    n_loss = options.loss_tokens // rows.ids.shape[1]
    losses = _losses(saes, states, rows[slice(0, n_loss)], evaluations, report) if n_loss else {}
    return [
        Evaluated(
            name, sae.architecture, sae.n_latents, hook_in(sae), hook_out(sae), sae.fingerprint(),
            metrics[name], losses.get(name),
        )
        for name, sae in saes.items()
    ]  # fmt: skip


def evaluate_paths(
    paths: list[str], options: EvaluateOptions, report: Callable[[str], None] | None = None
) -> list[Evaluated]:
    """Load dictionaries and measure them on documents that none of them was trained on.

    The documents that a dictionary was trained on are known where `training_documents.txt` lies
    beside its files, as `autointerp sae train` leaves it.
    """
    saes = {name: load_sae(path) for name, path in named(paths).items()}
    subject = subject_of(options.subject)
    rows, fit_rows = held_out_rows(paths, subject, options)
    return evaluate_saes(saes, subject, rows, options, fit_rows=fit_rows, report=report)


def named(paths: list[str]) -> dict[str, str]:
    """Short names of several paths: their last parts, as many as tell them apart."""
    for n_parts in range(1, 12):
        names = ["/".join(Path(path).parts[-n_parts:]) for path in paths]
        if len(set(names)) == len(names):
            return dict(zip(names, paths, strict=True))
    raise AutointerpError(f"the same dictionary is given twice: {', '.join(paths)}")


def subject_of(settings: SubjectConfig) -> Subject:
    """The loaded subject of some settings."""
    return load_subject(
        settings.model,
        device=settings.device,
        dtype=settings.dtype,
        device_map=settings.device_map,
        trust_remote_code=settings.trust_remote_code,
    )


def held_out_rows(
    paths: list[str], subject: Subject, options: EvaluateOptions
) -> tuple[TokenRows, TokenRows]:
    """Sequences to measure on, and as many others to fit baselines to.

    Raises:
        AutointerpError: where no document is left.
    """
    corpus, documents = unseen_documents(paths, options.corpus, options.exclude)
    n_rows = -(-options.n_tokens // options.corpus.sequence_length)
    rows = token_rows(documents, subject, options.corpus, at_most=2 * n_rows)
    if not len(rows):
        raise no_text(len(corpus.documents), len(documents), options.corpus.sequence_length)
    n_rows = min(n_rows, max(1, len(rows) // 2)) if options.baselines else min(n_rows, len(rows))
    return rows[slice(0, n_rows)], rows[slice(n_rows, None)]


def unseen_documents(
    paths: list[str], texts: CorpusConfig, exclude: tuple[str, ...] = ()
) -> tuple[Corpus, list[Document]]:
    """A corpus, and its documents that no dictionary was trained on and no corpus to exclude has.

    Args:
        paths: dictionaries; beside their files `training_documents.txt` may name documents.
        texts: the corpus.
        exclude: other corpora.
    """
    seen = excluded_documents(list(exclude))
    for path in paths:
        listed = Path(path) / TRAINED_ON
        if listed.exists():
            seen |= set(listed.read_text(encoding="utf-8").split())
    corpus = corpus_of(texts)
    return corpus, [d for d in corpus.documents if d.document_id not in seen]


def no_text(n_documents: int, n_unseen: int, length: int) -> AutointerpError:
    """What to say where nothing is left to measure on."""
    return AutointerpError(
        f"no text to measure on: of {n_documents} documents {n_documents - n_unseen} were trained "
        f"on or excluded, and the others are shorter than {length} tokens; give another --corpus"
    )


class States:
    """Hidden states at all places that some dictionaries read or write, and what is masked."""

    def __init__(
        self, subject: Subject, saes: list[SparseAutoencoder], max_norm: float | None
    ) -> None:
        """Of placed dictionaries; `max_norm` as in `EvaluateOptions`."""
        self.subject = subject
        self.places = list(dict.fromkeys(p for sae in saes for p in (hook_in(sae), hook_out(sae))))
        self._max_norm = max_norm
        self._longest: dict[str, float] = {}

    def of(self, part: TokenRows) -> tuple[dict[str, Tensor], np.ndarray]:
        """By place [n_sequences, length, width] float32 on the CPU; masked [n_sequences, length]:
        starts, special tokens, and tokens that are too long at any place.
        """
        found = self.subject.run(torch.from_numpy(part.ids), self.places)
        hidden = {place: value.float().cpu() for place, value in found.items()}
        masked = part.masked.copy()
        if self._max_norm is not None:
            for place, value in hidden.items():
                norms = value.norm(dim=-1)
                if place not in self._longest:
                    usual = norms[torch.from_numpy(~part.masked)].median()
                    self._longest[place] = self._max_norm * float(usual)
                masked |= (norms > self._longest[place]).numpy()
        return hidden, masked


def _losses(
    saes: dict[str, SparseAutoencoder],
    states: States,
    rows: TokenRows,
    evaluations: dict[str, SaeEvaluation],
    report: Callable[[str], None] | None,
) -> dict[str, LossRecovered]:
    """The subject's loss with each dictionary spliced in."""
    by_place: dict[str, SplicedLoss] = {}
    for name, sae in saes.items():
        place = hook_out(sae)
        if place not in by_place:
            by_place[place] = SplicedLoss(states.subject, place, evaluations[name].mean_target())
    for done, part in enumerate(rows.split(_LOSS_BATCH), 1):
        hidden, masked = states.of(part)
        for place, loss in by_place.items():
            put = {
                name: _reconstructed(sae, hidden[hook_in(sae)])
                for name, sae in saes.items()
                if hook_out(sae) == place
            }
            loss.add(part.ids, masked, put)
        if report is not None:
            report(f"loss: {min(done * _LOSS_BATCH, len(rows))} of {len(rows)} sequences")
    return {name: by_place[hook_out(sae)].of(name) for name, sae in saes.items()}


@torch.inference_mode()
def _reconstructed(sae: SparseAutoencoder, x: Tensor) -> Tensor:
    flat = x.flatten(0, 1)
    return sae.decode(sae.encode(flat), flat).view(*x.shape[:2], -1)


def baseline(
    name: str,
    like: SparseAutoencoder,
    subject: Subject,
    rows: TokenRows,
    max_norm: float | None,
) -> SparseAutoencoder:
    """One of `BASELINES` at the place, width and sparsity of a dictionary, fitted to some text."""
    states = States(subject, [like], max_norm)
    parts: list[Tensor] = []
    for part in rows.split(_BATCH):
        hidden, masked = states.of(part)
        parts.append(hidden[hook_in(like)][torch.from_numpy(~masked)])
    x = torch.cat(parts)
    if like.k is not None:
        k = like.k
    else:
        k = max(1, round(float((like.encode(x[:4096]) > 0).sum(1).float().mean())))
    made = pca_dictionary(x, k) if name == "pca" else random_dictionary(x, like.n_latents, k)
    made.hook_in = made.hook_out = like.hook_in
    return made


def placed(
    name: str, sae: SparseAutoencoder, subject: Subject, hook_point: str | None
) -> SparseAutoencoder:
    """A dictionary that says where it reads and writes; `hook_point` where its files do not.

    Raises:
        AutointerpError: where neither does, or the subject has another width there.
    """
    sae.hook_in = sae.hook_in or hook_point
    if sae.hook_in is None:
        raise AutointerpError(f"{name} does not say where it reads: give --hook-point")
    sae.hook_out = sae.hook_out or sae.hook_in
    for place, width in ((sae.hook_in, sae.d_in), (sae.hook_out, sae.d_out)):
        if (found := subject.width_at(place)) != width:
            raise AutointerpError(
                f"{name} has {width} channels where {place} of {subject.name} has {found}: it "
                "belongs to another model or place; give --subject or --hook-point"
            )
    return sae


def hook_in(sae: SparseAutoencoder) -> str:
    """Where a placed dictionary reads."""
    assert sae.hook_in is not None
    return sae.hook_in


def hook_out(sae: SparseAutoencoder) -> str:
    """Where a placed dictionary writes."""
    assert sae.hook_out is not None
    return sae.hook_out


def write_evaluation(found: list[Evaluated], folder: Path) -> list[Path]:
    """Write `evaluation.json`, `evaluation.csv` and the frontier as PNG and SVG."""
    import csv

    from autointerp.units.sae.frontier import frontier_figure

    folder.mkdir(parents=True, exist_ok=True)
    rows = [each.as_dict() for each in found]
    (folder / "evaluation.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    flat = [{k: v for k, v in row.items() if not isinstance(v, dict | list)} for row in rows]
    with (folder / "evaluation.csv").open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, list(dict.fromkeys(k for row in flat for k in row)))
        writer.writeheader()
        writer.writerows(flat)
    figure = frontier_figure(found)
    for suffix in ("png", "svg"):
        figure.savefig(folder / f"frontier.{suffix}", dpi=150)
    return [folder / name for name in ("evaluation.json", "evaluation.csv", "frontier.png")]
