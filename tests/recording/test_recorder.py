"""The whole recording pass on a tiny random model, against counting everything."""

import itertools
import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from autointerp.config import QuotaConfig
from autointerp.recording.buffers import Buffers
from autointerp.recording.corpus import (
    Corpus,
    document_id,
    near_duplicate_clusters,
    sequences_of_corpus,
    vocabulary,
)
from autointerp.recording.design import DEFAULT_QUOTAS, SILENT_SHARE, SamplingDesign, stratum_of
from autointerp.recording.finish import finish
from autointerp.recording.recorder import record_shard
from autointerp.recording.statistics import N_BUCKETS, bucket_edges
from autointerp.recording.windows import WindowTable, shards_of
from autointerp.records import (
    SPLITS,
    AutointerpError,
    Document,
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


def make_corpus() -> Corpus:
    """About 45 short documents; those with the planted words are all test documents."""
    generator = random.Random(3)
    documents: list[Document] = []
    n_planted = 0
    while len(documents) < 45:
        words = generator.choices(WORDS, k=generator.randint(8, 90))
        is_planted = len(documents) % 5 == 0
        if is_planted:
            words.insert(len(words) // 2, PLANTED)
        text = " ".join(words)
        own = Document(document_id(text), text, "made up")
        alone = Corpus((own,), near_duplicate_clusters([own]), 0)
        if not is_planted or alone.split_of(own.document_id) == Split.TEST:
            documents.append(own)
            n_planted += is_planted
    # A text that is nothing but masked tokens, and one too short for a window.
    for text in ("<|im_start|>" * 20, "too short"):
        documents.append(Document(document_id(text), text, "made up"))
    return Corpus(tuple(documents), near_duplicate_clusters(documents), 0)


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

    def buffers(
        self, design: SamplingDesign, shard_tokens: int, *, order: Any = None, early: bool = True
    ) -> dict[str, Buffers]:
        shards = shards_of(self.windows.sequences, shard_tokens)
        if order is not None:
            shards = [shards[i] for i in order.permutation(len(shards))]
        found = {
            source.name: Buffers.empty(len(unit_rows(source)), WINDOW, len(self.vocabulary))
            for source in self.sources
        }
        for shard in shards:
            # One sequence a batch: the numbers then do not depend on their neighbours.
            one = record_shard(
                shard,
                self.windows,
                self.subject,
                self.sources,
                design,
                batch_tokens=LENGTH,
                vocabulary_size=len(self.vocabulary),
                so_far=found if early else None,
            )
            found = {name: found[name].merge(one[name], design) for name in found}
        return found

    def records(self, design: SamplingDesign, buffers: dict[str, Buffers]) -> list[UnitRecord]:
        return [
            unit
            for source in self.sources
            for unit in finish(buffers[source.name], self.windows, source, design, self.vocabulary)
        ]

    def of(self, unit: UnitId) -> np.ndarray:
        """[n_windows, WINDOW] true activations of a unit."""
        (source,) = (s for s in self.sources if s.name == unit.source)
        return self.truth[unit.source][..., unit_rows(source).index(unit)]


@pytest.fixture(scope="module")
def made(tiny_folder, tokenizer) -> Pass:
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
    corpus = make_corpus()
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
    return made.records(DESIGN, made.buffers(DESIGN, 400))


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
            assert list(found.histogram) == np.bincount(place, minlength=N_BUCKETS).tolist()


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
            if record.stratum == Strata.HARD:
                assert maxima[number] <= SILENT_SHARE * explain_maximum < around
            if record.stratum == Strata.SILENT:
                assert around <= SILENT_SHARE * explain_maximum
            if record.stratum not in (Strata.TOP, Strata.RANDOM):
                assert record.stratum == stratum_of(
                    float(maxima[number]),
                    float(explain_maximum),
                    active_in_sequence=around > SILENT_SHARE * explain_maximum,
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


@pytest.mark.parametrize(
    ("shard_tokens", "order", "early"), [(400, None, False), (90, 7, True), (10_000, None, True)]
)
def test_records_do_not_depend_on_the_shards(made, recorded, shard_tokens, order, early):
    generator = None if order is None else np.random.default_rng(order)
    buffers = made.buffers(DESIGN, shard_tokens, order=generator, early=early)
    again = made.records(DESIGN, buffers)
    assert summary(again) == summary(recorded)
    for one, other in zip(again, recorded, strict=True):
        for split in SPLITS:
            a, b = one.statistics[split], other.statistics[split]
            assert (a.n_tokens, a.n_active, a.maximum) == (b.n_tokens, b.n_active, b.maximum)
            assert a.histogram == b.histogram and a.n_documents == b.n_documents
            assert a.moments == pytest.approx(b.moments, rel=1e-6)


def test_records_survive_a_save_in_the_middle(made, recorded, tmp_path):
    shards = shards_of(made.windows.sequences, 400)
    parts = {"first": shards[:2], "second": shards[2:]}
    for name, own in parts.items():
        total = None
        for shard in own:
            one = record_shard(
                shard,
                made.windows,
                made.subject,
                made.sources,
                DESIGN,
                batch_tokens=LENGTH,
                vocabulary_size=len(made.vocabulary),
            )
            merge = {k: total[k].merge(v, DESIGN) for k, v in one.items()} if total else one
            total = merge
        for source, buffers in (total or {}).items():
            buffers.save(tmp_path / f"{name}.{source}.safetensors")
    merged = {
        source.name: Buffers.load(tmp_path / f"second.{source.name}.safetensors").merge(
            Buffers.load(tmp_path / f"first.{source.name}.safetensors"), DESIGN
        )
        for source in made.sources
    }
    assert summary(made.records(DESIGN, merged)) == summary(recorded)


def test_batches_with_padding_give_the_same_records(made, recorded):
    shards = shards_of(made.windows.sequences, 10_000)
    found = record_shard(
        shards[0],
        made.windows,
        made.subject,
        made.sources,
        DESIGN,
        batch_tokens=8 * LENGTH,
        vocabulary_size=len(made.vocabulary),
    )
    padded, alone = summary(made.records(DESIGN, found)), summary(recorded)
    assert padded.keys() == alone.keys()
    for key, (probability, acts) in padded.items():
        assert probability == pytest.approx(alone[key][0])
        assert acts == pytest.approx(alone[key][1], rel=2e-3, abs=1e-5)


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
    found = record_shard(
        shards_of(alone.sequences, 100)[0],
        alone,
        made.subject,
        made.sources,
        design,
        batch_tokens=64,
        vocabulary_size=len(made.vocabulary),
    )
    for source in made.sources:
        for unit in finish(found[source.name], alone, source, design, made.vocabulary):
            assert unit.records == ()
            assert unit.statistics[Split.TEST].n_tokens == 0


def test_a_split_with_no_quota_is_counted_and_not_sampled(made):
    none = QuotaConfig(top=0, intervals=0, hard=0, silent=0)
    design = SamplingDesign("d", WINDOW, 0, {**DEFAULT_QUOTAS, Split.AUDIT: none})
    for unit in made.records(design, made.buffers(design, 400)):
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
        made.buffers(DESIGN, 400)


def test_values_of_masked_tokens_need_not_be_finite(made, monkeypatch):
    run = Subject.run

    def sink(self: Subject, *args: Any) -> dict[str, torch.Tensor]:
        found = {name: value.clone() for name, value in run(self, *args).items()}
        for value in found.values():
            value[:, 0] = float("inf")
        return found

    monkeypatch.setattr(Subject, "run", sink)
    assert made.records(DESIGN, made.buffers(DESIGN, 400))
