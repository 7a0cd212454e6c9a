"""Unit sources from their configs: what is read from a subject, and how."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from autointerp.config import (
    AttentionHeadsConfig,
    DirectionsConfig,
    NeuronsConfig,
    RecordedConfig,
    RunConfig,
    SaeConfig,
)
from autointerp.records import AutointerpError, content_key, derived_seed

if TYPE_CHECKING:
    from autointerp.progress import Reporter
    from autointerp.store import RunStore
    from autointerp.subject import Subject
    from autointerp.units import DirectionSet, UnitSource


def make_source(
    name: str,
    config: RunConfig,
    subject_of: Callable[[str], "Subject"],
    store: "RunStore",
    reporter: "Reporter",
) -> "UnitSource | None":
    """The source called `name`; `None` where its units were recorded elsewhere.

    Args:
        subject_of: gives a loaded subject by its name in the config.
        store: of the run, where fitted directions are kept.
        reporter: hears of a fit to the corpus, which happens when the source is first used.

    Raises:
        AutointerpError: where the source does not fit its subject.
    """
    from autointerp.controls.dictionaries import control_dictionary
    from autointerp.units import AttentionHeads, Neurons, SaeLatents, Sparsified, load_sae

    settings = config.sources[name]
    if isinstance(settings, RecordedConfig):
        return None
    subject = subject_of(settings.subject)
    if isinstance(settings, SaeConfig):
        sae = load_sae(
            settings.path,
            settings.format,
            revision=settings.revision,
            k=settings.k,
            input_scale=settings.input_scale,
        )
        if settings.control:
            sae = control_dictionary(sae, settings.control, settings.control_seed)
        reporter.note(f"{name}: {sae!r}{' as a ' + settings.control if settings.control else ''}")
        return SaeLatents.of(name, settings.subject, subject, sae, settings.hook_point)
    if isinstance(settings, AttentionHeadsConfig):
        return AttentionHeads.of(name, settings.subject, subject, settings.hook_point)
    made = (
        Neurons.of(name, settings.subject, subject, settings.hook_point)
        if isinstance(settings, NeuronsConfig)
        else _directions(name, settings, config, subject, store, reporter)
    )
    return Sparsified.of(made, settings.sparsify.l0) if settings.sparsify else made


def _directions(
    name: str,
    settings: DirectionsConfig,
    config: RunConfig,
    subject: "Subject",
    store: "RunStore",
    reporter: "Reporter",
) -> "UnitSource":
    from autointerp.units import Directions, DirectionSet, random_directions, read_directions

    width = subject.width_at(settings.hook_point)
    n = settings.n or width
    rows = None
    if settings.kind == "pca" and n > width:
        raise AutointerpError(
            f"unit source {name!r}: {settings.hook_point} of {subject.name} has {width} channels, "
            f"so at most {width} principal components, not n = {n}"
        )
    if settings.kind == "file":
        assert settings.path is not None
        rows = read_directions(settings.path, width, settings.tensor)
        n = len(rows)
    elif settings.kind == "random":
        seed = settings.seed
        if seed is None:
            seed = derived_seed(config.seed, "random directions", name)
        rows = random_directions(n, width, seed)

    def make() -> DirectionSet:
        if settings.kind != "pca" and not settings.centre:
            return DirectionSet(rows)
        fitted = _fitted(name, settings, width, subject, config, store, reporter)
        return fitted if settings.kind == "pca" else DirectionSet(rows, fitted.centre)

    return Directions(name, settings.subject, settings.hook_point, n, width, make, subject.device)


def _fitted(
    name: str,
    settings: DirectionsConfig,
    width: int,
    subject: "Subject",
    config: RunConfig,
    store: "RunStore",
    reporter: "Reporter",
) -> "DirectionSet":
    """Mean and components of a place on the run's `explain` documents, fitted once a run."""
    from autointerp.units import DirectionSet
    from autointerp.units.direction_files import load_fitted, save_fitted
    from autointerp.units.direction_fitting import fit_moments, hidden_rows, sequences_to_fit

    is_pca = settings.kind == "pca"
    n = (settings.n or width) if is_pca else 0
    key = content_key(
        "fitted directions",
        n=n,
        place=settings.hook_point,
        tokens=settings.fit_tokens,
        corpus=store.corpus_key(),
        subject=subject.fingerprint,
    )
    path = Path(store.folder) / "directions" / f"{name}.safetensors"
    kept = load_fitted(path, key)
    if kept is not None:
        return kept
    sequences = store.read_sequences(subject.tokenizer_name)
    n_known = subject.model.get_input_embeddings().weight.shape[0]
    chosen = sequences_to_fit(sequences, n_known, settings.fit_tokens)
    reporter.stage("fit", sum(int((~s.masked).sum()) for s in chosen), "tokens")

    def batches():
        for rows in hidden_rows(subject, chosen, settings.hook_point, config.record.batch_tokens):
            yield rows
            reporter.advance(len(rows))

    moments = fit_moments(
        batches(),
        width,
        covariance=is_pca,
        needed=max(2, n + 1),
        place=f"unit source {name!r}",
    )
    rows, variance = moments.components(n) if is_pca else (None, None)
    fitted = DirectionSet(rows, moments.mean.float().cpu(), variance)
    save_fitted(path, fitted, key)
    return fitted
