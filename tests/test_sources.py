"""Sources of every type from their configs, in one run."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from autointerp.config import RunConfig, parse_config
from autointerp.recording.corpus import read_corpus
from autointerp.records import AutointerpError, Split, UnitId, UsageError
from autointerp.runner import run
from autointerp.store import RunStore
from tests.run_helpers import StopAfter, small_config, write_corpus, write_dictionary

RESIDUAL = "blocks.0.hook_resid_post"


def every_source(folder: Path) -> dict[str, dict[str, Any]]:
    """One source of every type and kind, at five places."""
    probes = folder / "probes.safetensors"
    save_file({"probes": torch.randn(5, 32, generator=torch.Generator().manual_seed(4))}, probes)
    directions = {"type": "directions", "hook_point": RESIDUAL}
    return {
        "neurons": {"type": "neurons", "hook_point": "blocks.0.mlp.hook_post"},
        "sparse": {
            "type": "neurons",
            "hook_point": "blocks.1.mlp.hook_post",
            "sparsify": {"l0": 6},
        },
        "latents": {"type": "sae", "path": str(write_dictionary(folder / "sae"))},
        "heads": {"type": "attention_heads", "hook_point": "blocks.1.attn"},
        "channels": {**directions, "kind": "basis"},
        "random": {**directions, "kind": "random", "n": 7, "sparsify": {"l0": 3}},
        "centred": {**directions, "kind": "random", "n": 3, "seed": 1, "centre": True},
        "pca": {**directions, "kind": "pca", "n": 6},
        "probes": {**directions, "kind": "file", "path": str(probes)},
    }


def stored(config: RunConfig, name: str) -> tuple[pa.Table, pa.Table]:
    """All windows of a source, activations with them, and the statistics of all its units."""
    records = Path(str(config.output)) / "records"
    return tuple(
        pq.read_table(records / file).replace_schema_metadata(None)
        for file in (f"{name}.parquet", f"{name}.statistics.parquet")
    )


@pytest.fixture(scope="module")
def together(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """All sources recorded in one pass."""
    folder = tmp_path_factory.mktemp("together")
    config = small_config(folder, tiny_folder, sources=every_source(folder))
    run(config, until="record")
    return config


def test_sources_of_every_type_are_recorded_in_one_pass(together: RunConfig) -> None:
    store = RunStore(str(together.output))
    assert {name: len(store.units(name)) for name in together.sources} == {
        "neurons": 2 * 64,
        "sparse": 2 * 64,
        "latents": 24,
        "heads": 4,
        "channels": 2 * 32,
        "random": 2 * 7,
        "centred": 2 * 3,
        "pca": 2 * 6,
        "probes": 2 * 5,
    }
    assert all(stored(together, name)[0].num_rows for name in together.sources)


@pytest.mark.parametrize("name", ["sparse", "latents", "heads", "channels", "random", "pca"])
def test_a_source_alone_has_the_windows_and_values_it_has_among_others(
    name: str, together: RunConfig, tiny_folder: Path, tmp_path: Path
) -> None:
    write_corpus(tmp_path / "corpus.jsonl")
    config = small_config(tmp_path, tiny_folder, sources={name: every_source(tmp_path)[name]})
    run(config, until="record")
    alone, among = stored(config, name), stored(together, name)
    assert alone[0].equals(among[0]) and alone[1].equals(among[1])


def test_sparsified_units_fire_on_l0_places_of_every_token(together: RunConfig) -> None:
    n_active: Counter[str] = Counter()
    n_tokens: dict[str, int] = {}
    for unit in stored(together, "sparse")[1]["statistics"].to_pylist():
        for split in unit:
            n_active[split["split"]] += split["n_active"]
            n_tokens[split["split"]] = split["n_tokens"]
    assert n_active == {split: 6 * n for split, n in n_tokens.items()}


def test_fitted_directions_are_kept_so_that_a_resumed_run_has_the_same_units(
    together: RunConfig, tiny_folder: Path, tmp_path: Path
) -> None:
    write_corpus(tmp_path / "corpus.jsonl")
    config = small_config(tmp_path, tiny_folder, sources=every_source(tmp_path))
    for steps in (3, 5):
        with pytest.raises(KeyboardInterrupt):
            run(config, reporter=StopAfter(steps), until="record")
    run(config, until="record")
    kept = Path(str(config.output)) / "directions" / "pca.safetensors"
    before = kept.read_bytes()
    assert before == (Path(str(together.output)) / "directions" / "pca.safetensors").read_bytes()
    run(config, until="record")
    assert kept.read_bytes() == before
    keys = {RunStore(str(c.output)).records_key("pca") for c in (config, together)}
    assert len(keys) == 1 and None not in keys
    assert stored(config, "pca")[0].equals(stored(together, "pca")[0])


def fitted_rows(config: RunConfig) -> torch.Tensor:
    """The components that a run keeps."""
    return load_file(Path(str(config.output)) / "directions" / "pca.safetensors")["rows"]


def rewrite_other_documents(path: Path) -> None:
    """Leave the `explain` documents of a corpus as they are, and give the others new texts."""
    corpus = read_corpus(path)
    split_of = {d.text: corpus.split_of(d.document_id) for d in corpus.documents}
    texts = [t + " zebra" * 5 if s != Split.EXPLAIN else t for t, s in split_of.items()]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    moved = read_corpus(path)
    kept = [
        d.text
        for d in moved.documents
        if d.text in split_of or moved.split_of(d.document_id) != Split.EXPLAIN
    ]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in kept))


def test_what_other_splits_say_changes_no_component(tiny_folder: Path, tmp_path: Path) -> None:
    source = {"type": "directions", "hook_point": RESIDUAL, "kind": "pca", "n": 4}
    found: list[torch.Tensor] = []
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
        corpus = write_corpus(tmp_path / name / "corpus.jsonl", 80)
        if name == "after":
            rewrite_other_documents(corpus)
        config = small_config(tmp_path / name, tiny_folder, sources={"pca": source})
        run(config, until="record")
        found.append(fitted_rows(config))
    assert torch.equal(*found)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"kind": "basis", "n": 3}, "`n` is of kind random or pca, not basis"),
        ({"kind": "pca", "seed": 3}, "`seed` is of kind random, not pca"),
        ({"kind": "random", "path": "x"}, "`path` is of kind file, not random"),
        ({"kind": "file"}, "kind file needs `path`"),
        ({"kind": "pca", "centre": False}, "leave `centre` out"),
        ({"kind": "ica"}, "sources.d.kind"),
        ({"kind": "random", "n": 0}, "sources.d.n"),
        ({"kind": "basis", "sparsify": {"L0": 3}}, "sparsify.L0: unknown key. Known here: l0"),
    ],
)
def test_keys_of_another_kind_are_refused(source: dict[str, Any], said: str) -> None:
    data = {
        "subjects": {"subject": {}},
        "corpus": {"path": "demo"},
        "sources": {"d": {"type": "directions", "hook_point": RESIDUAL, **source}},
        "explainers": [{"name": "words", "type": "top_tokens"}],
    }
    with pytest.raises(UsageError, match=said):
        parse_config(data, RunConfig, "test")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"kind": "pca", "n": 33}, "32 channels, so at most 32 principal components, not n = 33"),
        ({"kind": "file", "path": "nowhere"}, "there is no such file"),
        ({"kind": "basis", "sparsify": {"l0": 33}}, "sparsify.l0 is 33, but there are 32"),
        ({"kind": "pca", "fit_tokens": 2}, "at least 33 are needed: lower `n`"),
        ({"kind": "basis", "hook_point": "blocks.7.hook_resid_post"}, "does not exist"),
    ],
)
def test_directions_that_do_not_fit_are_refused_before_recording(
    source: dict[str, Any], said: str, tiny_folder: Path, tmp_path: Path
) -> None:
    sources = {"d": {"type": "directions", "hook_point": RESIDUAL, **source}}
    config = small_config(tmp_path, tiny_folder, sources=sources)
    with pytest.raises(AutointerpError, match=said):
        run(config, until="record")
    assert not (tmp_path / "run" / "records").exists()


def test_every_unit_that_writes_has_its_output_side(together: RunConfig) -> None:
    store = RunStore(str(together.output))
    vocabulary = store.read_vocabulary()
    for name in together.sources:
        units = [summary.unit for summary in store.units(name)]
        for record in store.read_units([units[0], units[-1]]):
            if name == "heads":
                assert (record.promoted, record.suppressed, record.neighbours) == (None,) * 3
                continue
            assert record.promoted is not None and record.suppressed is not None
            assert len(record.promoted) == len(record.suppressed) == 10
            assert record.promoted[0].logit >= record.promoted[-1].logit
            assert record.suppressed[0].logit <= record.suppressed[-1].logit
            assert all(vocabulary[token.token_id] == token.token for token in record.promoted)
            assert record.neighbours is not None and len(record.neighbours) <= 5


def test_the_output_side_is_made_once_and_left_out_when_nobody_wants_it(
    tiny_folder: Path, tmp_path: Path
) -> None:
    sources = {"neurons": {"type": "neurons", "hook_point": "blocks.0.mlp.hook_post"}}
    path = tmp_path / "run" / "records" / "neurons.output.parquet"
    record = small_config(tmp_path, tiny_folder).record.model_dump()

    def made(**settings: int) -> int | None:
        config = small_config(tmp_path, tiny_folder, sources=sources, record={**record, **settings})
        run(config, until="record")
        return path.stat().st_mtime_ns if path.exists() else None

    first = made()
    key = RunStore(tmp_path / "run").records_key("neurons")
    assert first is not None and made() == first
    assert made(output_tokens=3) != first
    (unit,) = RunStore(tmp_path / "run").read_units([UnitId("neurons", 0)])
    assert unit.promoted is not None and len(unit.promoted) == 3
    assert made(output_tokens=0, neighbours=0) is None
    assert RunStore(tmp_path / "run").records_key("neurons") == key
