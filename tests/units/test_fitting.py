"""Every architecture of sparse autoencoder: what it learns, and that a killed training goes on."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from autointerp.records import AutointerpError
from autointerp.units.sae.batches import shuffled_batches
from autointerp.units.sae.fitting import Progress, Schedule, train_saes
from autointerp.units.sae.objectives import OBJECTIVES, Buffers, SaeSettings, resample
from autointerp.units.sae.objectives.jumprelu import JumpRelu
from autointerp.units.sae.toy import Superposition, recovery

TOY = Superposition(n_features=32, width=16)
D_IN = TOY.width


def superposition(chunk: int, n: int = 512) -> Tensor:
    """[n, D_IN]: each token is a sum of about two of the directions, and an offset."""
    return TOY.tokens(chunk, n)


def batches(
    make: Callable[..., Tensor] = superposition, size: int = 512
) -> Callable[[int], Iterator[Tensor]]:
    def chunks(skip: int) -> Iterator[Tensor]:
        while True:
            yield make(skip, size)
            skip += 1

    return shuffled_batches(
        chunks, chunks_in_buffer=2, batch_tokens=size, chunk_tokens=size, seed=4
    )


COMMON = {"n_latents": 48, "k": 2, "learning_rate": 3e-3, "aux_k": 16, "dead_after_tokens": 20_000}
SETTINGS = {
    "relu_l1": SaeSettings("relu_l1", l1=1.5, resample_at=(200, 400), **COMMON),
    "relu_l1_april": SaeSettings("relu_l1_april", l1=1.5, **COMMON),
    "topk": SaeSettings("topk", **COMMON),
    "batch_topk": SaeSettings("batch_topk", **COMMON),
    "gated": SaeSettings("gated", l1=3.0, **COMMON),
    "jumprelu": SaeSettings("jumprelu", l0_target=2, bandwidth=0.1, **COMMON),
    "matryoshka": SaeSettings("matryoshka", groups=(0.5, 1.0), **COMMON),
}


# What each has to find: mean max cosine, and the share of features matched one to one.
RECOVERED = {
    "relu_l1": (0.95, 0.9),
    "relu_l1_april": (0.95, 0.8),
    "topk": (0.95, 0.85),
    "batch_topk": (0.88, 0.55),
    "gated": (0.93, 0.75),
    "jumprelu": (0.93, 0.75),
    "matryoshka": (0.85, 0.45),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """All architectures at once, on the same batches: few and large, which take less time."""
    folder = tmp_path_factory.mktemp("saes")
    reports: dict[str, list[Progress]] = {name: [] for name in SETTINGS}
    fast = {name: replace(one, learning_rate=8e-3) for name, one in SETTINGS.items()}
    fast["relu_l1"] = replace(fast["relu_l1"], resample_at=(100, 200))
    saes = train_saes(
        fast,
        Schedule(n_tokens=300_000, batch_tokens=1024, warmup_steps=50),
        batches(size=1024),
        folder / "checkpoint.safetensors",
        lambda progress: reports[progress.name].append(progress),
    )
    return saes, reports


def test_the_example_of_the_docs_runs(capsys):
    page = (Path(__file__).parents[2] / "docs" / "sae-training.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    exec(code.replace("100_000", "5_120"), {})
    assert "matched=" in capsys.readouterr().out


def test_every_architecture_is_tried():
    assert set(SETTINGS) == set(OBJECTIVES) == set(RECOVERED)


def test_a_row_between_two_features_counts_for_both_in_the_mean_and_for_neither_in_the_match():
    directions = torch.eye(4)
    rows = torch.stack([directions[0] + directions[1], 3 * directions[2], -directions[3]])
    found = recovery(directions, rows)
    assert found.matched == 1 / 4
    assert found.mean_max_cosine == pytest.approx((0.5**0.5 + 0.5**0.5 + 1 + 0) / 4)
    assert recovery(directions, directions.flip(0)).matched == 1.0


def test_one_row_is_matched_with_one_feature():
    near = torch.tensor([[1.0, 0.1], [1.0, -0.1]])
    near = near / near.norm(dim=1, keepdim=True)
    found = recovery(near, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    assert found.mean_max_cosine > 0.99 and found.matched == 0.5


@pytest.mark.parametrize("name", ["topk", "relu_l1_april", "gated"])
def test_a_frozen_decoder_stays_as_it_was_and_its_encoder_learns(tmp_path, name):
    settings = replace(SETTINGS[name], decoder="frozen")
    schedule = Schedule(n_tokens=30_000, batch_tokens=512, warmup_steps=5)
    one, other, trained = train_saes(
        {"one": settings, "other": replace(settings, seed=7), "trained": SETTINGS[name]},
        schedule, batches(), tmp_path / "c",
    ).values()  # fmt: skip
    short = replace(schedule, n_tokens=512)
    start = train_saes({"one": settings}, short, batches(), tmp_path / "start")["one"]
    torch.testing.assert_close(one.W_dec, start.W_dec, rtol=1e-6, atol=1e-7)
    assert not torch.allclose(one.W_enc, start.W_enc, atol=1e-2)
    torch.testing.assert_close(one.W_dec.norm(dim=1), torch.ones(48))
    for apart in (other, trained):
        assert torch.cosine_similarity(one.W_dec, apart.W_dec, dim=1).abs().mean() < 0.4
    assert recovery(TOY.directions, one.W_dec).matched == 0.0


def test_dictionaries_of_two_seeds_start_apart_and_of_one_seed_together(tmp_path):
    settings = {f"{seed}": replace(SETTINGS["topk"], seed=seed) for seed in (None, 0, 1)}
    schedule = Schedule(n_tokens=512, batch_tokens=512)
    plain, zero, one = train_saes(settings, schedule, batches(), tmp_path / "c").values()
    assert plain.fingerprint() == zero.fingerprint() != one.fingerprint()


@pytest.mark.parametrize("name", SETTINGS)
def test_directions_in_superposition_are_recovered(trained, name):
    sae = trained[0][name]
    found = recovery(TOY.directions, sae.W_dec)
    mean_max_cosine, matched = RECOVERED[name]
    assert found.mean_max_cosine > mean_max_cosine and found.matched > matched, found
    x = superposition(10**6, 4000)
    error = x - sae.decode(sae.encode(x), x)
    assert 1 - error.pow(2).sum() / (x - x.mean(0)).pow(2).sum() > 0.75
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(48), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["topk", "batch_topk", "jumprelu", "matryoshka"])
def test_sparsity_is_what_was_asked_for(trained, name):
    f = trained[0][name].encode(superposition(10**6, 4000))
    assert float((f > 0).sum(1).float().mean()) == pytest.approx(2, abs=0.25)


def test_inference_thresholds_keep_a_tokens_latents_apart_from_its_batch(trained):
    sae, x = trained[0]["batch_topk"], superposition(10**6, 64)
    assert sae.architecture == "jumprelu"
    torch.testing.assert_close(sae.encode(x)[:1], sae.encode(x[:1]))


def test_progress_names_its_dictionary_and_its_numbers(trained):
    for name, reports in trained[1].items():
        assert reports[-1].n_tokens == 300_000 // 1024 * 1024
        assert reports[-1].explained_variance > reports[0].explained_variance
        assert 0 <= reports[-1].dead_share <= 1 and reports[-1].name == name


class Killed(Exception):
    pass


def test_a_killed_training_continued_is_the_uninterrupted_one(tmp_path):
    chosen = dict(SETTINGS)
    chosen["relu_l1"] = replace(chosen["relu_l1"], resample_at=(30, 60), dead_after_tokens=2000)
    schedule = Schedule(n_tokens=36_000, batch_tokens=512, ema=0.9)
    whole = train_saes(chosen, schedule, batches(), tmp_path / "whole.safetensors")
    often = replace(schedule, checkpoint_seconds=0)

    def kill(progress: Progress) -> None:
        if progress.n_tokens >= 50 * 512:
            raise Killed

    with pytest.raises(Killed):
        train_saes(chosen, often, batches(), tmp_path / "c.safetensors", kill)
    continued = train_saes(chosen, often, batches(), tmp_path / "c.safetensors")
    assert {name: sae.fingerprint() for name, sae in whole.items()} == {
        name: sae.fingerprint() for name, sae in continued.items()
    }


def test_the_scale_of_the_activations_changes_nothing_but_the_scale(tmp_path):
    one = train_saes(
        {"a": SETTINGS["topk"]}, Schedule(n_tokens=50_000, batch_tokens=512), batches(),
        tmp_path / "one.safetensors",
    )["a"]  # fmt: skip
    hundred = train_saes(
        {"a": SETTINGS["topk"]}, Schedule(n_tokens=50_000, batch_tokens=512),
        batches(lambda *chunk: 128 * superposition(*chunk)), tmp_path / "hundred.safetensors",
    )["a"]  # fmt: skip
    x = superposition(5, 100)
    torch.testing.assert_close(hundred.encode(128 * x), 128 * one.encode(x), rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(hundred.W_dec, one.W_dec, rtol=1e-3, atol=1e-4)


def test_a_transcoder_learns_another_target(tmp_path):
    turn = torch.linalg.qr(torch.randn(D_IN, 12, generator=torch.Generator().manual_seed(7)))[0]

    def pairs(chunk: int, n: int) -> Tensor:
        x = superposition(chunk, n)
        return torch.cat([x, 3 * x @ turn], 1)

    schedule = Schedule(n_tokens=150_000, batch_tokens=1024, warmup_steps=20, d_in=D_IN)
    settings = replace(SETTINGS["topk"], k=4, learning_rate=8e-3)
    sae = train_saes(
        {"t": settings}, schedule, batches(pairs, size=1024), tmp_path / "c.safetensors"
    )["t"]
    assert (sae.d_in, sae.d_out) == (D_IN, 12)
    x = superposition(10**6, 2000)
    y = 3 * x @ turn
    error = y - sae.decode(sae.encode(x), x)
    assert 1 - error.pow(2).sum() / (y - y.mean(0)).pow(2).sum() > 0.75
    assert not sae.b_pre.any()


def test_the_threshold_learns_by_the_straight_through_estimate():
    """One latent, one token inside the window: the gradient of the paper, by hand."""
    settings = SaeSettings("jumprelu", 1, l0_target=2.0, l0_weight=1.0, bandwidth=0.5)
    z, theta, width = 1.1, 1.0, 0.5
    x = torch.tensor([[z], [0.0]])
    p = {
        "W_enc": torch.ones(1, 1),
        "b_enc": torch.zeros(1),
        "W_dec": torch.ones(1, 1),
        "b_dec": torch.zeros(1),
        "threshold": torch.tensor([theta], requires_grad=True),
    }
    state = Buffers(torch.zeros(1), torch.tensor(-1.0))
    loss = JumpRelu().loss(settings, p, state, x, 2 * x, warm=1.0)
    loss.total.backward()
    by_f = -2 * (2 * z - z) / 2  # of mean ‖y - ŷ‖² in the first token's latent
    spread = float((2 * x - (2 * x).mean()).pow(2).sum()) / 2
    by_l0 = 2 * (0.5 / 2 - 1) / 2 * spread * 0.5  # of the penalty in that token's step
    expected = by_f * -(theta / width) + by_l0 * -(1 / width)
    assert float(p["threshold"].grad) == pytest.approx(expected, rel=1e-5)


def test_resampled_latents_point_at_a_badly_reconstructed_token_and_forget_their_moments():
    settings = SaeSettings("relu_l1", 4, dead_after_tokens=10)
    p = {
        "W_enc": torch.eye(4),
        "b_enc": torch.full((4,), -1.0),
        "W_dec": torch.eye(4),
        "b_dec": torch.zeros(4),
    }
    moments = {n: (torch.ones_like(t), torch.ones_like(t)) for n, t in p.items()}
    state = Buffers(torch.tensor([0.0, 0.0, 0.0, 99.0]), torch.tensor(-1.0))
    x = torch.zeros(20, 4)
    x[7] = torch.tensor([0.0, 0.0, 3.0, 4.0])
    n = resample(settings, p, moments, state, x, x, torch.Generator().manual_seed(0))
    assert n == 1
    torch.testing.assert_close(p["W_dec"][3], torch.tensor([0.0, 0.0, 0.6, 0.8]))
    torch.testing.assert_close(p["W_enc"][:, 3], 0.2 * torch.tensor([0.0, 0.0, 0.6, 0.8]))
    assert p["b_enc"][3] == 0 and state.silent_tokens[3] == 0
    for name, place in (("W_enc", (slice(None), 3)), ("W_dec", 3), ("b_enc", 3)):
        assert not moments[name][0][place].any() and not moments[name][1][place].any()
    assert moments["W_dec"][0][:3].all()


def test_an_unknown_architecture_is_refused(tmp_path):
    with pytest.raises(AutointerpError, match="'sparse' is none of relu_l1"):
        train_saes(
            {"a": SaeSettings("sparse", 4)}, Schedule(1000), batches(), tmp_path / "c.safetensors"
        )
