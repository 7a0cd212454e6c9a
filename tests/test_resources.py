"""Shipped files are found in a checkout and in a wheel; a missing one is named."""

from pathlib import Path

import pytest

from autointerp import resources
from autointerp.records import AutointerpError

SHIPPED = (
    "prompts/simulate_text_first.j2",
    "prompts/explain_token_activation_pairs.j2",
    "datasets/README.md",
    "datasets/demo/corpus.jsonl",
    "datasets/demo/demo.yaml",
    "datasets/demo/smallest.yaml",
    "datasets/demo/sae/sae_weights.safetensors",
)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_files_are_found(name: str) -> None:
    assert resources.path(name).stat().st_size > 0


def test_the_wheel_wins_over_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "autointerp"
    (package / "_resources" / "prompts").mkdir(parents=True)
    (tmp_path / "prompts").mkdir()
    for folder in (package / "_resources", tmp_path):
        (folder / "prompts" / "a.j2").write_text(str(folder))
    monkeypatch.setattr(resources, "_PACKAGE", package)
    assert resources.path("prompts/a.j2").read_text() == str(package / "_resources")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(AutointerpError, match=r"prompts/absent\.j2.*reinstall"):
        resources.path("prompts/absent.j2")


def test_demo_means_the_shipped_thing_and_anything_else_a_path() -> None:
    assert resources.shipped_path("demo", "corpus.jsonl").name == "corpus.jsonl"
    assert resources.shipped_path("mine.jsonl", "corpus.jsonl") == Path("mine.jsonl")
