"""What the docs say is what the code does."""

import re
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file

from autointerp import resources
from autointerp.config import RunConfig, SaeTrainConfig, load_config, parse_config
from autointerp.config_docs import render
from autointerp.recording.corpus import read_corpus
from autointerp.runner import run
from autointerp.scorers import SCORERS
from autointerp.scorers.live import LiveScorer
from autointerp.store import RunStore
from autointerp.units import load_sae
from tests.run_helpers import small_config, write_dictionary

ROOT = Path(__file__).parent.parent


def test_the_page_of_config_keys_is_up_to_date() -> None:
    assert (ROOT / "docs" / "config.md").read_text() == render()


def test_the_first_config_of_the_readme_is_valid() -> None:
    readme = (ROOT / "README.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", readme, flags=re.DOTALL)
    assert parse_config(yaml.safe_load(block), RunConfig, "README").name == "mine"


def test_the_example_of_the_page_on_cost_is_valid() -> None:
    page = (ROOT / "docs" / "cost.md").read_text()
    (block,) = (b for b in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "name: cost" in b)
    assert parse_config(yaml.safe_load(block), RunConfig, "docs/cost.md").name == "cost"


def test_the_example_of_the_page_on_trust_is_valid() -> None:
    page = (ROOT / "docs" / "trust.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    rest = {"corpus": {"path": "demo"}, "explainers": [{"name": "n2g", "type": "n2g"}]}
    config = parse_config({**yaml.safe_load(block), **rest}, RunConfig, "docs/trust.md")
    assert len(config.control_names) == 5


def test_links_in_the_docs_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), (page.name, target)


def test_shipped_configs_are_valid() -> None:
    for name in ("demo", "smallest"):
        load_config(resources.path(f"datasets/demo/{name}.yaml"), RunConfig)
    load_config(resources.path("datasets/demo/sae_training.yaml"), SaeTrainConfig)


def test_the_shipped_dictionary_saw_no_document_of_the_demo_corpus() -> None:
    corpus = read_corpus(resources.path("datasets/demo/corpus.jsonl"))
    trained = resources.path("datasets/demo/sae/training_documents.txt").read_text().split()
    assert len(corpus.documents) >= 400
    assert len({document.kind for document in corpus.documents}) >= 8
    assert len(trained) > 1000
    assert not set(corpus.clusters) & set(trained)


def test_the_shipped_dictionary_is_small_and_reads_where_the_demo_says() -> None:
    folder = resources.path("datasets/demo/sae")
    assert (folder / "sae_weights.safetensors").stat().st_size <= 12e6
    sae = load_sae(folder)
    assert (sae.n_latents, sae.d_in, sae.hook_in) == (4096, 576, "blocks.14.hook_resid_post")


def test_the_sources_of_the_page_on_units_run(tiny_folder: Path, tmp_path: Path) -> None:
    """Every source as written there, on a subject of two blocks and width 32."""
    page = (ROOT / "docs" / "units.md").read_text()
    config, probes = (
        yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    )
    parse_config(config, RunConfig, "docs/units.md")
    sources = {**config["sources"], **probes}
    assert {s["type"] for s in sources.values()} == {
        "sae",
        "neurons",
        "directions",
        "attention_heads",
    }
    for source in sources.values():
        if "hook_point" in source:
            source["hook_point"] = source["hook_point"].replace("blocks.10.", "blocks.1.")
    sources["features"]["path"] = str(write_dictionary(tmp_path / "sae"))
    sources["probes"]["path"] = str(tmp_path / "probes.safetensors")
    save_file({"probes": torch.eye(32)[:3]}, sources["probes"]["path"])
    run(small_config(tmp_path, tiny_folder, sources=sources), until="record")
    store = RunStore(tmp_path / "run")
    assert all(store.records_key(name) for name in sources)
    # The page's last example, with what it reads.
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    exec(code.replace('"results/demo"', repr(str(tmp_path / "run"))), {})


def test_the_page_on_interventions_names_what_touches_the_subject_and_its_config_is_valid() -> None:
    page = (ROOT / "docs" / "interventions.md").read_text()
    rows = set(re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE))
    live = {kind for kind, scorer in SCORERS.items() if issubclass(scorer, LiveScorer)}
    assert {*live, "responsiveness", "purity", "revision", "token_change", "agent",
            "ensemble"} == rows  # fmt: skip
    (block,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    config = {
        "sources": {"mine": {"type": "recorded", "path": "x"}},
        "explainers": [{"name": "tokens", "type": "top_tokens"}],
        **yaml.safe_load(block),
    }
    used = {scorer.type for scorer in parse_config(config, RunConfig, "page").scorers}
    assert used == {*live, "responsiveness", "purity"}
