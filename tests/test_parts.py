"""What a config names is loaded once, and never mistaken for something else of the same name."""

from pathlib import Path
from typing import Any

import pytest

import autointerp.subject
from autointerp.config import RunConfig, parse_config
from autointerp.parts import Parts
from autointerp.store import RunStore


@pytest.mark.parametrize("first", ["subject", "model"])
def test_a_subjects_name_is_not_taken_for_a_model(
    first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = parse_config(
        {
            "subjects": {"judge": {"model": "a/studied"}},
            "corpus": {"path": "demo"},
            "sources": {"n": {"type": "neurons", "subject": "judge", "hook_point": "x"}},
            "explainers": [{"name": "words", "type": "top_tokens"}],
            "simulator": {"model": "judge"},
        },
        RunConfig,
        "test",
    )

    def load(name: str, **_: Any) -> str:
        return name

    monkeypatch.setattr(autointerp.subject, "load_subject", load)
    parts = Parts(config, RunStore(tmp_path))
    asks = {
        "subject": lambda: parts.subject("judge"),
        "model": lambda: parts.language_model("judge"),
    }
    found = {first: asks[first]()}
    found |= {kind: ask() for kind, ask in asks.items()}
    assert found == {"subject": "a/studied", "model": "judge"}
