"""Whatever is read can be written for other libraries, or is refused by name."""

import json

import pytest
import torch
from typer.testing import CliRunner

from autointerp.cli import app
from autointerp.records import AutointerpError, UsageError
from autointerp.units import SparseAutoencoder, load_sae
from autointerp.units.sae.convert import TARGETS, convert_sae
from tests.units.sae_checkpoints import FORMATS, NAMES, checkpoint, io

REFUSED = {
    "saelens": {
        "sparsify_groupmax": "SAELens has no groupmax dictionaries",
        "sparsify_skip_transcoder": "SAELens has no topk transcoders",
    },
    "dictionary_learning": {
        "circuit_tracer_transcoder": "has no transcoders",
        "gemma_scope_2_skip_transcoder": "has no transcoders",
        "openai_topk": "has no layer_norm of the input",
        "saelens_jumprelu_transcoder": "has no transcoders",
        "saelens_skip_transcoder": "has no transcoders",
        "saelens_standard_constant_norm": "has no constant_norm of the input",
        "saelens_standard_layernorm": "has no layer_norm of the input",
        "saelens_transcoder": "has no transcoders",
        "sparsify_groupmax": "has no groupmax dictionaries",
        "sparsify_skip_transcoder": "has no transcoders",
    },
}
WRITTEN = [(name, to) for to in TARGETS for name in NAMES if name not in REFUSED[to]]


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    """Equal to 1e-6 of the largest value."""
    torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6 * float(b.abs().max()))


@pytest.mark.parametrize(("name", "to"), WRITTEN)
def test_what_is_written_is_read_back_as_the_same_dictionary(tmp_path, name, to):
    sae, x = load_sae(checkpoint(name)), io(name)["x"]
    done = convert_sae(sae, tmp_path / "out", to)
    back = load_sae(tmp_path / "out")
    assert back.format == to and back.fingerprint() == done.sae.fingerprint()
    assert back.architecture == sae.architecture and back.k == sae.k
    assert (back.hook_in, back.hook_out) == (sae.hook_in, sae.hook_out)
    assert back.normalisation == sae.normalisation
    close(back.encode(x), sae.encode(x))
    close(back.decode(back.encode(x), x), sae.decode(sae.encode(x), x))
    assert torch.equal(back.encode(x) > 0, sae.encode(x) > 0)
    assert done.largest_latent_difference < 1e-6 and done.largest_output_difference < 1e-6


@pytest.mark.parametrize(
    ("name", "to", "why"), [(n, to, why) for to in TARGETS for n, why in REFUSED[to].items()]
)
def test_what_a_target_cannot_express_is_refused_by_name(tmp_path, name, to, why):
    with pytest.raises(AutointerpError, match=why):
        convert_sae(load_sae(checkpoint(name)), tmp_path / "out", to)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("to", TARGETS)
@pytest.mark.parametrize("architecture", ["relu", "jumprelu", "gated", "topk"])
@pytest.mark.parametrize("b_pre", ["b_dec", "zero", "its own"])
@pytest.mark.parametrize("has_unit_rows", [True, False])
def test_every_bias_finds_its_place(tmp_path, to, architecture, b_pre, has_unit_rows):
    g = torch.Generator().manual_seed(5)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=g)

    W_dec, b_dec = random(24, 10), random(10)
    if has_unit_rows:
        W_dec /= W_dec.norm(dim=1, keepdim=True)
    sae = SparseAutoencoder(
        architecture,
        random(10, 24),
        random(24),
        {"b_dec": b_dec.clone(), "zero": torch.zeros(10), "its own": random(10)}[b_pre],
        W_dec,
        b_dec,
        k=4 if architecture == "topk" else None,
        threshold=random(24).abs() if architecture == "jumprelu" else None,
        gate=(random(24), random(24) / 3, random(24)) if architecture == "gated" else None,
    )
    convert_sae(sae, tmp_path / "out", to)
    back, x = load_sae(tmp_path / "out"), random(64, 10)
    close(back.encode(x), sae.encode(x))
    close(back.decode(sae.encode(x)), sae.decode(sae.encode(x)))


def test_written_layouts_say_where_they_come_from(tmp_path):
    convert_sae(load_sae(checkpoint("sparsify_topk")), tmp_path / "a", "saelens")
    metadata = json.loads((tmp_path / "a/cfg.json").read_text())["metadata"]
    assert metadata["model_name"] == "EleutherAI/pythia-70m"
    assert metadata["hook_name"] == "blocks.3.hook_resid_post"
    assert metadata["converted_from"] == "sparsify"
    convert_sae(load_sae(checkpoint("saelens_topk")), tmp_path / "b", "dictionary_learning")
    trainer = json.loads((tmp_path / "b/config.json").read_text())["trainer"]
    assert trainer["layer"] == 3 and trainer["lm_name"] == "gpt2-small" and trainer["k"] == 8
    assert trainer["submodule_name"] == "resid_post_layer_3"


def test_a_folder_in_use_and_an_unknown_target_are_refused(tmp_path):
    sae = load_sae(checkpoint("saelens_topk"))
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="exists and is not empty"):
        convert_sae(sae, tmp_path, "saelens")
    with pytest.raises(UsageError, match="cannot write 'openai'; one of saelens, dictionary"):
        convert_sae(sae, tmp_path / "out", "openai")
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_the_command_says_what_it_wrote(tmp_path):
    arguments = [str(checkpoint("gemma_scope_jumprelu")), str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["sae", "convert", *arguments, "--to", "saelens"])
    assert done.exit_code == 0, done.output
    assert "jumprelu" in done.output and "latents differ by at most 0" in done.output
    assert load_sae(tmp_path / "out").format == "saelens"
    again = CliRunner().invoke(app, ["sae", "convert", *arguments, "--to", "saelens"])
    assert again.exit_code == 2 and "is not empty" in again.output
    wrong = CliRunner().invoke(app, ["sae", "convert", str(FORMATS), "out", "--to", "saelens"])
    assert wrong.exit_code == 1 and "name the file, or the format" in wrong.output


def test_saelens_opens_what_is_written(tmp_path):
    sae_lens = pytest.importorskip("sae_lens")
    for name, to in WRITTEN:
        if to == "saelens":
            sae, x = load_sae(checkpoint(name)), io(name)["x"]
            convert_sae(sae, tmp_path / name, to)
            theirs = sae_lens.SAE.load_from_disk(tmp_path / name, device="cpu")
            with torch.no_grad():
                acts = theirs.encode(x)
                torch.testing.assert_close(acts, sae.encode(x), rtol=1e-5, atol=1e-5)
                output = theirs(x) if sae.W_skip is not None else theirs.decode(theirs.encode(x))
            ours = sae.decode(sae.encode(x), x)
            torch.testing.assert_close(output, ours, rtol=1e-5, atol=1e-5)


def test_dictionary_learning_opens_what_is_written(tmp_path):
    utils = pytest.importorskip("dictionary_learning.utils")
    for name, to in WRITTEN:
        if to == "dictionary_learning":
            sae, x = load_sae(checkpoint(name)), io(name)["x"]
            convert_sae(sae, tmp_path / name, to)
            theirs, _ = utils.load_dictionary(str(tmp_path / name), "cpu")
            with torch.no_grad():
                acts = theirs.encode(x)
                output = theirs.decode(acts)
            torch.testing.assert_close(acts, sae.encode(x), rtol=1e-5, atol=1e-5)
            ours = sae.decode(sae.encode(x))
            torch.testing.assert_close(output, ours, rtol=1e-5, atol=1e-5)
