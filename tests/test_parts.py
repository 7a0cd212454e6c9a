"""What a config names is loaded once, and never mistaken for something else of the same name."""

from pathlib import Path
from typing import Any

import pytest

import autointerp.parts
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
            "simulator": {"name": "all_at_once", "model": "judge"},
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


def test_a_local_model_runs_where_the_config_says_and_shares_a_subject_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = parse_config(
        {
            "subjects": {"s": {"model": "m", "device": "cpu", "dtype": "float32"}},
            "sources": {"n": {"type": "neurons", "subject": "s", "hook_point": "x"}},
            "corpus": {"path": "demo"},
            "explainers": [{"name": "words", "type": "token_activation_pairs"}],
            "llm": {"model": "local/m", "device": "cuda:1", "dtype": "bfloat16"},
        },
        RunConfig,
        "test",
    )
    loaded: list[tuple[str, str, str]] = []

    def load(name: str, *, device: str = "auto", dtype: str = "auto", **_: Any) -> object:
        loaded.append((name, device, dtype))
        return object()

    monkeypatch.setattr(autointerp.subject, "load_subject", load)
    parts = Parts(config, RunStore(tmp_path))
    subject = parts.subject("s")
    assert parts.language_model("m") is subject
    assert parts.language_model("m", "cpu", "float32") is subject
    elsewhere = parts.language_model("m", config.llm.device, config.llm.dtype)
    assert elsewhere is not subject and parts.language_model("m", "cuda:1", "bfloat16") is elsewhere
    assert loaded == [("m", "cpu", "float32"), ("m", "cuda:1", "bfloat16")]


@pytest.mark.parametrize("name", ["embedded", "trained_head"])
def test_a_simulator_on_this_machine_runs_where_the_config_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = parse_config(
        {
            "subjects": {"s": {"model": "m"}},
            "sources": {"n": {"type": "neurons", "subject": "s", "hook_point": "x"}},
            "corpus": {"path": "demo"},
            "explainers": [{"name": "words", "type": "top_tokens"}],
            "simulator": {"name": name, "device": "cuda:1", "dtype": "bfloat16"},
        },
        RunConfig,
        "test",
    )
    loaded: list[dict[str, Any]] = []

    def load(_: str, **options: Any) -> object:
        loaded.append(options)
        return object()

    monkeypatch.setattr(autointerp.parts, "load_simulator", load)
    Parts(config, RunStore(tmp_path)).simulator("words")
    assert [(o["device"], o["dtype"]) for o in loaded] == [("cuda:1", "bfloat16")]
