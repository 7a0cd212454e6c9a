"""A config names a dictionary of any format, and what its files do not say."""

import shutil

import pytest

from autointerp.config import RunConfig, parse_config
from autointerp.progress import Silent
from autointerp.records import AutointerpError, UsageError
from autointerp.sources import make_source
from tests.units.sae_checkpoints import checkpoint, io


@pytest.fixture
def source(tiny_subject):
    """Keys of a source → (the source, what was said while it was loaded)."""
    subject = tiny_subject("llama", n_blocks=4)

    def make(**keys):
        config = {
            "subjects": {"subject": {"model": "tiny"}},
            "corpus": {"path": "demo"},
            "sources": {"features": {"type": "sae", **keys}},
            "explainers": [{"name": "words", "type": "token_activation_pairs"}],
        }
        said: list[str] = []
        reporter = Silent()
        reporter.note = said.append
        parsed = parse_config(config, RunConfig, "test")
        return make_source("features", parsed, lambda _: subject, None, reporter), said

    return make


@pytest.mark.parametrize("name", ["sparsify_topk", "dictionary_learning_gated", "qwen_scope_topk"])
def test_any_format_is_a_source(source, name):
    made, said = source(path=str(checkpoint(name)))
    assert (made.read_at, made.n_units) == ("blocks.3.hook_resid_post", 64)
    assert len(said) == 1 and said[0].startswith("features: SparseAutoencoder(")
    assert "n_latents=64, d_in=16" in said[0] and "hook_in=blocks.3.hook_resid_post" in said[0]


def test_what_the_files_do_not_say_is_a_key(source, tmp_path):
    shutil.copy(checkpoint("qwen_scope_topk"), tmp_path)
    path = str(tmp_path / "layer3.sae.pt")
    with pytest.raises(AutointerpError, match="or give `k`"):
        source(path=path)
    made, _ = source(path=path, k=5, format="qwen_scope", revision="main")
    assert made.sae.k == 5 and made.sae.encode(io("qwen_scope_topk")["x"]).shape == (32, 64)
    with pytest.raises(AutointerpError, match="name no hook point; set `hook_point:`"):
        source(path=str(checkpoint("gemma_scope_jumprelu")))
    made, _ = source(
        path=str(checkpoint("gemma_scope_jumprelu")), hook_point="blocks.1.hook_mlp_out"
    )
    assert made.read_at == "blocks.1.hook_mlp_out"


@pytest.mark.parametrize("keys", [{"k": 0}, {"input_scale": 0}, {"format": 3}, {"formt": "x"}])
def test_keys_that_cannot_be_are_refused(source, keys):
    with pytest.raises(UsageError, match=f"features.*{next(iter(keys))}"):
        source(path="x", **keys)


def test_an_unknown_format_is_refused_naming_the_known_ones(source):
    with pytest.raises(AutointerpError, match="'keras' is not known; one of saelens"):
        source(path=str(checkpoint("saelens_topk")), format="keras")
