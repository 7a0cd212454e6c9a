"""The whole recording pass on a tiny random model, against counting everything."""

import itertools
import json
import random
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autointerp.config import QuotaConfig
from autointerp.recording import recorder
from autointerp.recording.corpus import (
    Corpus,
    document_id,
    read_corpus,
    sequences_of_corpus,
    split_of_cluster,
    vocabulary,
)
from autointerp.recording.design import DEFAULT_QUOTAS, SILENT_SHARE, SamplingDesign, stratum_of
from autointerp.recording.hardness import HARD_TOKENS, MIN_COSINE
from autointerp.recording.passes import row_ranges
from autointerp.recording.recorder import BatchSize, Recording, record_shard
from autointerp.recording.statistics import bucket_edges
from autointerp.recording.tables import finished_units
from autointerp.recording.windows import WindowTable, shards_of
from autointerp.records import (
    SPLITS,
    AutointerpError,
    HardBy,
    Split,
    Strata,
    UnitId,
    UnitRecord,
)
from autointerp.subject import Subject, load_subject
from autointerp.units import Neurons, SaeLatents, SparseAutoencoder, UnitSource
from autointerp.units.base import unit_rows

LENGTH, WINDOW = 33, 8
SENTENCE = "the river green seven walks cat 42 when nobody saw it and then we counted boats"
WORDS = SENTENCE.split(" ")
PLANTED = "Qwghlm xylophone Überraschung"


def make_corpus(folder: Path) -> Corpus:
    """About 45 short documents; those with the planted words are all test documents."""
    generator = random.Random(3)
    texts: list[str] = []
    while len(texts) < 45:
        words = generator.choices(WORDS, k=generator.randint(8, 90))
        is_planted = len(texts) % 5 == 0
        if is_planted:
            words.insert(len(words) // 2, PLANTED)
        text = " ".join(words)
        if not is_planted or split_of_cluster(document_id(text)) == Split.TEST:
            texts.append(text)
    # A text that is nothing but masked tokens, and one too short for a window.
    texts += ["<|im_start|>" * 20, "too short"]
    path = folder / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return read_corpus(path)


@dataclass
class Pass:
    """A corpus, its units, what was recorded, and what every window truly holds."""

    subject: Subject
    sources: list[UnitSource]
    windows: WindowTable
    vocabulary: list[str]
    corpus: Corpus
    truth: dict[str, np.ndarray]
    """source → [n_windows, WINDOW, n units] float32, masked tokens 0."""
    masked: np.ndarray
    split: np.ndarray
    document: list[str]
    tokens: np.ndarray

    def recordings(self, design: SamplingDesign, **more: Any) -> dict[str, Recording]:
        return {
            source.name: Recording.of(source, design, len(self.vocabulary), **more)
            for source in self.sources
        }

    def recorded(
        self,
        design: SamplingDesign,
        shard_tokens: int,
        *,
        order: Any = None,
        batch_tokens: int = LENGTH,
    ) -> dict[str, Recording]:
        """`order`: of the shards after the pilot, each alone and merged. Else one after the other.

        One sequence a batch: the numbers then do not depend on their neighbours.
        """
        shards = shards_of(self.windows.sequences, shard_tokens, self.windows.n_pilot)
        recordings, batch = self.recordings(design), BatchSize(batch_tokens)
        pilot = [shard for shard in shards if shard.first < self.windows.n_pilot]
        for shard in pilot if order is not None else shards:
            self.record(shard, recordings, design, batch)
        if order is None:
            return recordings
        for recording in recordings.values():
            recording.end_pilot(self.windows)
        for number in order.permutation(np.arange(len(pilot), len(shards))):
            alone = {
                source.name: Recording.of(
                    source,
                    design,
                    len(self.vocabulary),
                    hardness=recordings[source.name].hardness,
                )
                for source in self.sources
            }
            self.record(shards[number], alone, design, batch)
            for name, recording in recordings.items():
                recording.buffers = recording.buffers.merge(alone[name].buffers)
        return recordings

    def record(
        self, shard: Any, recordings: dict[str, Recording], design: SamplingDesign, batch: BatchSize
    ) -> None:
        record_shard(shard, self.windows, self.subject, recordings, design, batch=batch)

    def records(self, design: SamplingDesign, recordings: dict[str, Recording]) -> list[UnitRecord]:
        return [
            unit
            for recording in recordings.values()
            for unit in finished_units(recording, self.windows, design, self.vocabulary)
        ]

    def of(self, unit: UnitId) -> np.ndarray:
        """[n_windows, WINDOW] true activations of a unit."""
        (source,) = (s for s in self.sources if s.name == unit.source)
        return self.truth[unit.source][..., unit_rows(source).index(unit)]


@pytest.fixture(scope="module")
def made(tiny_folder, tokenizer, tmp_path_factory) -> Pass:
    subject = load_subject(str(tiny_folder), device="cpu")
    generator = torch.Generator().manual_seed(2)
    W = torch.randn(20, 32, generator=generator)
    sae = SparseAutoencoder(
        "topk", W.T.contiguous(), torch.zeros(20), torch.zeros(32), W, torch.zeros(32), k=3
    )
    neurons = Neurons.of("neurons", "subject", subject, "blocks.0.mlp.hook_post")
    sources: list[UnitSource] = [
        neurons,
        SaeLatents.of("latents", "subject", subject, sae, "blocks.1.hook_resid_post"),
    ]
    corpus = make_corpus(tmp_path_factory.mktemp("corpus"))
    sequences = sequences_of_corpus(
        corpus, tokenizer, length=LENGTH, n_masked_start=1, min_length=WINDOW + 1, max_tokens=None
    )
    windows = WindowTable.of(sequences, WINDOW, 1)

    # The truth, sequence by sequence, from the model's own modules.
    truth: dict[str, list[np.ndarray]] = {"neurons": [], "latents": []}
    masked, split, document, tokens = [], [], [], []
    for number, sequence in enumerate(sequences):
        ids = torch.from_numpy(sequence.token_ids.astype(np.int64))[None]
        places = ["blocks.0.mlp.hook_post", "blocks.1.hook_resid_post"]
        hidden = {k: v[0] for k, v in subject.run(ids, places).items()}
        x = hidden[places[0]].numpy()
        both = np.concatenate([np.maximum(x, 0), np.maximum(-x, 0)], axis=1)
        values = {"neurons": both, "latents": sae.encode(hidden[places[1]]).numpy()}
        starts = list(range(1, len(ids[0]) - WINDOW + 1, WINDOW))
        assert starts == windows.start[windows.sequence == number].tolist()
        for start in starts:
            part = slice(start, start + WINDOW)
            masked.append(sequence.masked[part])
            split.append(sequence.split)
            document.append(sequence.document_id)
            tokens.append(sequence.token_ids[part])
            for name, array in values.items():
                truth[name].append(np.where(sequence.masked[part, None], 0, array[part]))
    return Pass(
        subject,
        sources,
        windows,
        vocabulary(tokenizer),
        corpus,
        {name: np.stack(arrays) for name, arrays in truth.items()},
        np.stack(masked),
        np.asarray(split),
        document,
        np.stack(tokens),
    )


RANDOM_TOO = DEFAULT_QUOTAS[Split.EXPLAIN].model_copy(update={"random": 3})
DESIGN = SamplingDesign("d", WINDOW, 0, {**DEFAULT_QUOTAS, Split.EXPLAIN: RANDOM_TOO})


@pytest.fixture(scope="module")
def recorded(made) -> list[UnitRecord]:
    return made.records(DESIGN, made.recorded(DESIGN, 400))


def test_the_corpus_is_worth_testing_on(made, recorded):
    assert set(made.split) == set(SPLITS)
    assert len(recorded) == 2 * 64 + 20
    strata = Counter(r.stratum for unit in recorded for r in unit.records)
    assert {Strata.TOP, Strata.SILENT, Strata.HARD, Strata.RANDOM} < set(strata)
    assert sum(name.startswith("interval") for name in strata) == 10
    assert made.masked.all(1).any()


def test_statistics_are_those_of_a_full_count(made, recorded):
    documents = np.asarray(made.document)
    for unit in recorded:
        acts = made.of(unit.unit)
        for split in SPLITS:
            rows = made.split == split
            unmasked = ~made.masked[rows]
            x = acts[rows][unmasked].astype(np.float64)
            found = unit.statistics[split]
            assert found.n_tokens == len(x)
            assert found.n_active == int((x > 0).sum())
            with_tokens = {d for d, u in zip(documents[rows], unmasked, strict=True) if u.any()}
            assert found.n_documents == len(with_tokens)
            active = (acts[rows] > 0).any(1)
            assert found.n_active_documents == len(set(documents[rows][active]))
            assert found.maximum == pytest.approx(x.max(), rel=1e-5)
            moments = [(x**power).mean() for power in (1, 2, 3, 4)]
            assert found.moments == pytest.approx(moments, rel=1e-4)
            place = np.searchsorted(bucket_edges(), x[x > 0], side="right") - 1
            assert list(found.histogram) == np.bincount(place).tolist()


def test_top_tokens_bound_the_true_means(made, recorded):
    for unit in recorded[::9]:
        acts = made.of(unit.unit)
        for split in SPLITS:
            rows = made.split == split
            ids, x = made.tokens[rows][~made.masked[rows]], acts[rows][~made.masked[rows]]
            means = {made.vocabulary[i]: x[ids == i].mean() for i in np.unique(ids)}
            found = {top.token: top for top in unit.statistics[split].top_tokens}
            for token, top in found.items():
                assert top.mean * (1 - 1e-4) <= means[token] <= top.mean_upper * (1 + 1e-4)
            floor = min((top.maximum for top in found.values()), default=0.0)
            outside = [mean for token, mean in means.items() if token not in found]
            assert max(outside, default=0.0) <= floor + 1e-6


def test_every_record_holds_the_true_activations_of_its_window(made, recorded):
    where = {made.windows.window(i): i for i in range(len(made.split))}
    for unit in recorded:
        acts = made.of(unit.unit)
        for record in unit.records:
            number = where[record.window]
            expected = acts[number]
            assert record.unit == unit.unit and record.kind == "token"
            assert record.split == made.split[number]
            assert record.document_id == made.document[number]
            tolerance = 1e-6 * max(1.0, float(expected.max()))
            assert record.activations == pytest.approx(expected, rel=1e-3, abs=tolerance)
            assert record.maximum == pytest.approx(expected.max(), rel=1e-5)
            assert record.masked.tolist() == made.masked[number].tolist()
            assert (record.activations[record.masked] == 0).all()
            assert list(record.tokens) == [made.vocabulary[i] for i in made.tokens[number]]
            assert 0 < record.probability <= 1


def test_the_top_windows_are_the_true_top(made, recorded):
    for unit in recorded:
        maxima = made.of(unit.unit).max(1)
        explain_maximum = maxima[made.split == Split.EXPLAIN].max()
        for split in SPLITS:
            own = np.flatnonzero(made.split == split)
            largest = own[np.argsort(-maxima[own])][: DESIGN.quotas[split].top]
            expected = {
                made.windows.window(i)
                for i in largest
                if maxima[i] > SILENT_SHARE * explain_maximum > 0
            }
            found = {r.window for r in unit.of(split) if r.stratum == Strata.TOP}
            assert found == expected


def test_strata_are_those_of_the_true_values_and_silence_is_verified(made, recorded):
    where = {made.windows.window(i): i for i in range(len(made.split))}
    for unit in recorded:
        maxima = made.of(unit.unit).max(1)
        explain_maximum = maxima[made.split == Split.EXPLAIN].max()
        in_sequence = {
            s: maxima[made.windows.sequence == s].max() for s in set(made.windows.sequence)
        }
        for record in unit.records:
            number = where[record.window]
            around = in_sequence[made.windows.sequence[number]]
            beside = around > SILENT_SHARE * explain_maximum
            if record.stratum == Strata.HARD:
                assert maxima[number] <= SILENT_SHARE * explain_maximum
                assert beside == (record.hard_by == HardBy.BESIDE)
            if record.stratum == Strata.SILENT:
                assert not beside
            if record.stratum not in (Strata.TOP, Strata.RANDOM, Strata.HARD):
                assert record.stratum == stratum_of(
                    float(maxima[number]),
                    float(explain_maximum),
                    active_in_sequence=beside,
                )


def test_a_unit_that_is_dead_in_explain_has_statistics_and_no_records(made, recorded):
    dead = [u for u in recorded if not u.statistics[Split.EXPLAIN].maximum]
    assert all(not unit.records and unit.statistics[Split.TEST] for unit in dead)
    assert all(unit.records for unit in recorded if unit not in dead)


def test_a_token_of_test_documents_alone_is_in_no_explain_record(made, recorded):
    in_test = set(made.tokens[made.split == Split.TEST].ravel().tolist())
    elsewhere = set(made.tokens[made.split != Split.TEST].ravel().tolist())
    planted = {made.vocabulary[i] for i in in_test - elsewhere}
    assert len(planted) >= 3  # the planted words are spelled with tokens of their own
    seen_in_test = set()
    for unit in recorded:
        for record in unit.records:
            assert record.split == Split.TEST or not planted & set(record.tokens)
            seen_in_test |= planted & set(record.tokens)
        for split in SPLITS:
            named = {top.token for top in unit.statistics[split].top_tokens}
            assert split == Split.TEST or not planted & named
    assert seen_in_test


def summary(records: list[UnitRecord]) -> dict[Any, Any]:
    return {
        (r.unit, r.split, r.stratum, r.window): (r.probability, r.activations.tolist())
        for unit in records
        for r in unit.records
    }


@pytest.mark.parametrize(("shard_tokens", "order"), [(400, 3), (90, 7), (90, None), (10_000, None)])
def test_records_do_not_depend_on_the_shards(made, recorded, shard_tokens, order):
    generator = None if order is None else np.random.default_rng(order)
    again = made.records(DESIGN, made.recorded(DESIGN, shard_tokens, order=generator))
    assert summary(again) == summary(recorded)
    for one, other in zip(again, recorded, strict=True):
        for split in SPLITS:
            a, b = one.statistics[split], other.statistics[split]
            assert (a.n_tokens, a.n_active, a.maximum) == (b.n_tokens, b.n_active, b.maximum)
            assert a.histogram == b.histogram and a.n_documents == b.n_documents
            assert a.moments == pytest.approx(b.moments, rel=1e-6)


def close_to(found: list[UnitRecord], expected: list[UnitRecord]) -> None:
    """The same windows with the same chances, and activations equal up to float error."""
    one, other = summary(found), summary(expected)
    assert one.keys() == other.keys()
    for key, (probability, acts) in one.items():
        assert probability == pytest.approx(other[key][0])
        assert acts == pytest.approx(other[key][1], rel=2e-3, abs=1e-5)


def test_batches_with_padding_give_the_same_records(made, recorded):
    padded = made.recorded(DESIGN, 10_000, batch_tokens=8 * LENGTH)
    close_to(made.records(DESIGN, padded), recorded)


def as_recorded(made: Pass, batch_tokens: int, monkeypatch: Any) -> dict[str, np.ndarray]:
    """source → [n_windows, n_units, WINDOW] float32 activations before any is rounded to store."""
    found = {
        name: np.full((len(made.split), truth.shape[2], WINDOW), np.nan, np.float32)
        for name, truth in made.truth.items()
    }
    names: dict[int, str] = {}

    def spy(buffers: Any, activity: Any, facts: Any, *rest: Any) -> None:
        n_windows, n_units = activity.maxima.shape
        window, unit = np.divmod(np.arange(n_windows * n_units), n_units)
        counts, position, value = activity.of(window, unit)
        dense = np.zeros((n_windows * n_units, WINDOW), np.float32)
        dense[np.repeat(np.arange(len(dense)), counts), position] = value
        found[names[id(buffers)]][facts.numbers] = dense.reshape(n_windows, n_units, WINDOW)

    with monkeypatch.context() as patch:
        patch.setattr("autointerp.recording.recorder.add_batch", spy)
        recordings = made.recordings(DESIGN)
        names.update({id(recording.buffers): name for name, recording in recordings.items()})
        batch = BatchSize(batch_tokens)
        for shard in shards_of(made.windows.sequences, 10_000):
            made.record(shard, recordings, DESIGN, batch)
    return found


def test_activations_under_another_batch_size_are_equal_to_1e_4_in_float32(made, monkeypatch):
    """Before they are rounded; the truth was taken sequence by sequence."""
    one, padded = (as_recorded(made, n, monkeypatch) for n in (LENGTH, 8 * LENGTH))
    for name, truth in made.truth.items():
        for found in (one[name], padded[name]):
            assert found.dtype == np.float32 and (truth > 0).any()
            np.testing.assert_allclose(found, truth.transpose(0, 2, 1), rtol=1e-4, atol=1e-6)


def test_what_is_stored_is_within_half_a_step_of_float16_of_what_was_recorded(made, recorded):
    """The largest activation in float32; the others as shares of it, rounded to 2^-12 at most."""
    where = {made.windows.window(i): i for i in range(len(made.split))}
    for unit in recorded:
        for record in unit.records:
            truth = made.of(record.unit)[where[record.window]]
            assert record.activations.max() == pytest.approx(truth.max(), rel=1e-6)
            assert np.abs(record.activations - truth).max() <= truth.max() * (2**-12 + 1e-6)


def test_out_of_memory_halves_the_batch_and_goes_on(made, recorded, monkeypatch):
    run, tried = Subject.run, []

    def small(self: Subject, ids: torch.Tensor, *args: Any) -> dict[str, torch.Tensor]:
        tried.append(ids.numel())
        if ids.numel() > 3 * LENGTH:
            raise torch.OutOfMemoryError("too much")
        return run(self, ids, *args)

    monkeypatch.setattr(Subject, "run", small)
    batch = BatchSize(20 * LENGTH)
    recordings = made.recordings(DESIGN)
    for shard in shards_of(made.windows.sequences, 10_000, made.windows.n_pilot):
        made.record(shard, recordings, DESIGN, batch)
    assert batch.tokens == 20 * LENGTH // 8
    assert tried[:4] and max(tried) > 3 * LENGTH >= min(tried)
    assert sum(n > 3 * LENGTH for n in tried) == 3  # never tried again
    close_to(made.records(DESIGN, recordings), recorded)


def test_a_sequence_too_long_for_memory_is_no_endless_loop(made, monkeypatch):
    def never(*_: Any) -> None:
        raise torch.OutOfMemoryError("too much")

    recordings = made.recordings(DESIGN)
    monkeypatch.setattr(Subject, "run", never)
    with pytest.raises(torch.OutOfMemoryError):
        made.record(shards_of(made.windows.sequences, 400)[0], recordings, DESIGN, BatchSize(400))


@pytest.mark.parametrize("size", [7, 40, 64])
def test_ranges_of_units_give_the_same_records(made, recorded, size):
    found = []
    for source in made.sources:
        for rows in row_ranges(source, size):
            recording = Recording.of(source, DESIGN, len(made.vocabulary), rows=rows)
            for shard in shards_of(made.windows.sequences, 400, made.windows.n_pilot):
                made.record(shard, {source.name: recording}, DESIGN, BatchSize(LENGTH))
            found += finished_units(recording, made.windows, DESIGN, made.vocabulary)
    assert [unit.unit for unit in found] == [unit.unit for unit in recorded]
    assert summary(found) == summary(recorded)
    for one, other in zip(found, recorded, strict=True):
        for split in SPLITS:
            a, b = one.statistics[split], other.statistics[split]
            assert replace(a, moments=b.moments, top_tokens=b.top_tokens) == b
            assert a.moments == pytest.approx(b.moments, rel=1e-5)
            assert {t.token for t in a.top_tokens} == {t.token for t in b.top_tokens}
        assert (one.neighbour, one.neighbour_cosine) == (other.neighbour, other.neighbour_cosine)


def test_the_pilot_must_come_first(made):
    shards = shards_of(made.windows.sequences, 90, made.windows.n_pilot)
    assert made.windows.n_pilot and shards[-1].first >= made.windows.n_pilot
    with pytest.raises(ValueError, match="pilot"):
        made.record(shards[-1], made.recordings(DESIGN), DESIGN, BatchSize(LENGTH))


def test_hard_windows_are_hard_for_the_reason_given(made, recorded):
    """Neighbours by brute force, top tokens by counting the pilot's explain documents."""
    where = {made.windows.window(i): i for i in range(len(made.split))}
    pilot = made.windows.sequence < made.windows.n_pilot
    in_pilot = pilot & (made.split == Split.EXPLAIN)
    source = next(s for s in made.sources if s.name == "latents")
    directions = source.write_directions(list(range(20)))
    directions = directions / directions.norm(dim=1, keepdim=True)
    cosine = directions @ directions.T - 2 * torch.eye(20)
    seen = Counter()
    for unit in recorded:
        acts = made.of(unit.unit)
        if unit.unit.source == "latents":
            expected, nearest = cosine[unit.unit.index].max(0)
            if expected < MIN_COSINE:
                assert unit.neighbour is None
            else:
                assert unit.neighbour == UnitId("latents", int(nearest))
                assert unit.neighbour_cosine == pytest.approx(float(expected), abs=1e-5)
        largest: dict[int, float] = {}
        for ids, x in zip(made.tokens[in_pilot], acts[in_pilot], strict=True):
            for token, value in zip(ids.tolist(), x.tolist(), strict=True):
                largest[token] = max(value, largest.get(token, 0.0))
        order = sorted((t for t in largest if largest[t] > 0), key=lambda t: (-largest[t], t))
        for record in unit.records:
            if record.stratum != Strata.HARD:
                assert record.hard_by is None
                continue
            number = where[record.window]
            assert record.hard_by is not None
            seen[record.hard_by] += 1
            if record.hard_by == HardBy.NEIGHBOUR:
                assert made.of(unit.neighbour)[number].max() > 0
            if record.hard_by == HardBy.TOP_TOKEN:
                held = made.tokens[number][~made.masked[number]].tolist()
                assert set(order[:HARD_TOKENS]) & set(held) and not pilot[number]
    assert set(seen) == set(HardBy)


def test_shards_hold_whole_documents(made):
    for size in (1, 100, 400, 10_000):
        shards = shards_of(made.windows.sequences, size)
        assert [s.number for s in shards] == list(range(len(shards)))
        ends = [(s.first, s.last) for s in shards]
        assert ends[0][0] == 0 and ends[-1][1] == len(made.windows.sequences)
        documents = [
            {q.document_id for q in made.windows.sequences[first:last]} for first, last in ends
        ]
        for number, (one, other) in enumerate(itertools.pairwise(documents)):
            assert not one & other
            assert ends[number][1] == ends[number + 1][0]


def test_a_shard_without_windows_is_nothing(made):
    alone = WindowTable.of(list(made.windows.sequences[:1]), 1000, 1)
    design = SamplingDesign("d", 1000, 0, DEFAULT_QUOTAS)
    recordings = made.recordings(design)
    (shard, *_) = shards_of(alone.sequences, 100)
    record_shard(shard, alone, made.subject, recordings, design, batch=BatchSize(64))
    for recording in recordings.values():
        for unit in finished_units(recording, alone, design, made.vocabulary):
            assert unit.records == ()
            assert unit.statistics[Split.TEST].n_tokens == 0


def test_a_split_with_no_quota_is_counted_and_not_sampled(made):
    none = QuotaConfig(top=0, intervals=0, hard=0, silent=0)
    design = SamplingDesign("d", WINDOW, 0, {**DEFAULT_QUOTAS, Split.AUDIT: none})
    for unit in made.records(design, made.recorded(design, 400)):
        assert not unit.of(Split.AUDIT)
        assert unit.statistics[Split.AUDIT].n_tokens > 0


@pytest.mark.parametrize("source", ["neurons", "latents"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused_by_name(made, source, value, monkeypatch):
    run = Subject.run
    (own,) = (s for s in made.sources if s.name == source)

    def overflowing(self: Subject, *args: Any) -> dict[str, torch.Tensor]:
        found = {name: hidden.clone() for name, hidden in run(self, *args).items()}
        if own.read_at in found:
            found[own.read_at][:, 5:, 0] = value
        return found

    monkeypatch.setattr(Subject, "run", overflowing)
    with pytest.raises(AutointerpError, match=f"{source}.*{own.read_at}.*float32"):
        made.recorded(DESIGN, 400)


def test_values_of_masked_tokens_need_not_be_finite(made, monkeypatch):
    run = Subject.run

    def sink(self: Subject, *args: Any) -> dict[str, torch.Tensor]:
        found = {name: value.clone() for name, value in run(self, *args).items()}
        for value in found.values():
            value[:, 0] = float("inf")
        return found

    monkeypatch.setattr(Subject, "run", sink)
    assert made.records(DESIGN, made.recorded(DESIGN, 400))


class OnGpu:
    """A tensor that says it lies on a GPU; what is done with it is written down."""

    device = torch.device("cuda:0")

    def __init__(self, values: list[float]) -> None:
        self.values = torch.tensor(values)
        self.shape, self.dtype = self.values.shape, self.values.dtype


def test_copies_from_a_gpu_all_begin_before_the_one_wait(monkeypatch):
    done: list[str] = []

    class Pinned:
        def copy_(self, tensor: OnGpu, non_blocking: bool) -> torch.Tensor:
            done.append(f"copy, {non_blocking=}")
            return tensor.values

    def empty(shape: Any, dtype: Any, pin_memory: bool) -> Pinned:
        done.append(f"{pin_memory=}")
        return Pinned()

    with monkeypatch.context() as patch:
        patch.setattr(recorder.torch, "empty", empty)
        patch.setattr(torch.cuda, "synchronize", lambda device: done.append(f"wait for {device}"))
        arrays = recorder.on_host(OnGpu([1, 2]), OnGpu([3]))  # type: ignore[arg-type]
    copied = ["pin_memory=True", "copy, non_blocking=True"]
    assert done == [*copied, *copied, "wait for cuda:0"]
    assert [array.tolist() for array in arrays] == [[1, 2], [3]]
    (same,) = recorder.on_host(torch.tensor([4.0]))
    assert same.tolist() == [4]
