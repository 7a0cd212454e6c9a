"""The reader's model: who sees whom, adapters, and what is refused of a folder."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import DynamicCache

from autointerp.records import AutointerpError
from autointerp.simulators.reader import (
    N_CLASSES,
    SHAPE_FILE,
    WEIGHTS_FILE,
    Reader,
    ReaderShape,
    _base,
    begin_with,
    load_reader,
    new_reader,
    save_mean,
    save_reader,
    trainable,
)
from autointerp.simulators.reader_training import (
    UNKNOWN,
    ReaderTraining,
    TrainingRows,
    batches_of,
    losses,
    train_reader,
)

pytest.importorskip("peft")

DESCRIPTIONS = [[5, 9, 11], [7, 3, 200, 41, 6]]


def shape_of(folder: Path) -> ReaderShape:
    return ReaderShape(str(folder), n_blocks=2, lora_rank=2, lora_blocks_from=1)


@pytest.fixture
def reader(tiny_folder: Path) -> Reader:
    """With adapters that change something."""
    torch.manual_seed(3)
    made = new_reader(shape_of(tiny_folder))
    with torch.no_grad():
        for parameter in trainable(made).values():
            parameter += 0.1 * torch.randn_like(parameter)
    return made.eval()


@pytest.fixture
def folder(reader: Reader, tmp_path: Path) -> Path:
    save_reader(reader, tmp_path, torch.float32)
    return tmp_path


def test_a_text_beside_others_reads_as_it_does_alone(reader: Reader) -> None:
    texts = torch.randint(0, 400, (2, 3, 6))
    with torch.no_grad():
        together = reader(DESCRIPTIONS, texts)
        for row, description in enumerate(DESCRIPTIONS):
            for text in range(3):
                ids = torch.tensor([[*description, *texts[row, text].tolist()]])
                hidden = reader.base(input_ids=ids, use_cache=False).last_hidden_state
                alone = reader.head(hidden[0, len(description) :])
                torch.testing.assert_close(together[row, text], alone, atol=1e-4, rtol=1e-4)


def test_stored_adapters_added_into_the_weights_are_what_was_trained(
    reader: Reader, folder: Path
) -> None:
    texts = torch.randint(0, 400, (2, 1, 5))
    with torch.no_grad():
        torch.testing.assert_close(
            load_reader(folder)(DESCRIPTIONS, texts),
            reader(DESCRIPTIONS, texts),
            atol=1e-4,
            rtol=1e-4,
        )


def test_what_is_stored_is_adapters_norm_and_head_alone(folder: Path) -> None:
    names = set(load_file(folder / WEIGHTS_FILE))
    assert {"head.weight", "head.bias", "norm.weight", "layers.1.mlp.up_proj.A"} <= names
    assert not any(name.startswith("layers.0.") for name in names)
    assert all(name[-2:] in (".A", ".B") for name in names if name.startswith("layers."))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("head.weight"), "head.weight is missing"),
        (lambda t: t.update({"layers.1.mlp.up_proj.A": torch.zeros(3, 32)}), r"\(3, 32\)"),
        (lambda t: t.update({"layers.0.mlp.up_proj.A": torch.zeros(2, 32)}), "none of that name"),
        (lambda t: t["head.bias"].fill_(float("nan")), "not finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(folder: Path, change, message: str) -> None:
    tensors = load_file(folder / WEIGHTS_FILE)
    change(tensors)
    save_file(tensors, folder / WEIGHTS_FILE)
    with pytest.raises(AutointerpError, match=message):
        load_reader(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_blocks": 9}, "n_blocks is 9"),
        ({"n_blocks": 0, "lora_blocks_from": 0}, "n_blocks is 0"),
        ({"n_blocks": "2"}, "n_blocks: .*integer"),
        ({"left_out": [2]}, "left_out is"),
        ({"left_out": [0, 1]}, "left_out is"),
        ({"left_out": [[0]]}, "left_out.0: .*integer"),
        ({"code": "x"}, "code: Unexpected"),
    ],
)
def test_a_shape_that_the_base_cannot_have_is_refused(
    folder: Path, change: dict[str, object], message: str
) -> None:
    stored = json.loads((folder / SHAPE_FILE).read_text())
    (folder / SHAPE_FILE).write_text(json.dumps(stored | change))
    with pytest.raises(AutointerpError, match=message):
        load_reader(folder)


def test_a_block_left_out_is_skipped_and_the_others_keep_their_names(
    tiny_folder: Path, tmp_path: Path
) -> None:
    whole = new_reader(ReaderShape(str(tiny_folder), 2, lora_rank=2, lora_blocks_from=0))
    short = new_reader(
        ReaderShape(str(tiny_folder), 2, lora_rank=2, lora_blocks_from=0, left_out=(0,))
    )
    with torch.no_grad():
        for parameter in trainable(whole).values():
            parameter += 0.1 * torch.randn_like(parameter)
    save_reader(whole, tmp_path / "whole", torch.float32)
    begin_with(short, tmp_path / "whole")
    save_reader(short, tmp_path / "short", torch.float32)
    names = set(load_file(tmp_path / "short" / WEIGHTS_FILE))
    assert "layers.1.mlp.up_proj.A" in names
    assert not any(name.startswith("layers.0.") for name in names)

    loaded = load_reader(tmp_path / "short")
    assert loaded.shape.left_out == (0,)
    text = torch.tensor([[4, 8, 15, 16]])
    with torch.no_grad():
        whole.base.base_model.model.layers[0].forward = lambda hidden, *_, **__: hidden
        want = whole.base(input_ids=text, use_cache=False).last_hidden_state
        memory = DynamicCache()
        loaded.base(input_ids=text[:, :2], past_key_values=memory)
        found = loaded.base(input_ids=text[:, 2:], past_key_values=memory).last_hidden_state
    torch.testing.assert_close(found, want[:, 2:], atol=1e-4, rtol=1e-4)


def test_a_training_does_not_begin_with_a_reader_that_lacks_weights(
    tiny_folder: Path, folder: Path
) -> None:
    more = new_reader(ReaderShape(str(tiny_folder), 2, lora_rank=2, lora_blocks_from=0))
    with pytest.raises(AutointerpError, match=r"layers.0.*missing"):
        begin_with(more, folder)


@pytest.mark.parametrize("text", ["{", "[]", '{"base": "x"}', '{"pickle": 1}'])
def test_a_shape_that_is_none_is_refused(folder: Path, text: str) -> None:
    (folder / SHAPE_FILE).write_text(text)
    with pytest.raises(AutointerpError, match="holds no simulator"):
        load_reader(folder)


def test_the_correlation_of_the_loss_is_pearson_over_all_texts_of_a_description() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 2, 4, N_CLASSES)
    levels = torch.tensor([[[0, 9, 0, UNKNOWN], [3, 0, 10, 0]]])
    _, correlation, n = losses(logits, levels, 4.0)
    p = logits[..., :10].softmax(-1)
    expected = (p * torch.arange(10.0)).sum(-1).flatten().numpy()
    inside = [0, 1, 2, 4, 5, 7]
    truth = levels.flatten().numpy()[inside]
    assert n == 1
    assert float(correlation) == pytest.approx(np.corrcoef(expected[inside], truth)[0, 1], abs=1e-5)


def test_tokens_of_unknown_level_change_nothing() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 1, 5, N_CLASSES)
    levels = torch.tensor([[[0, 9, 4, UNKNOWN, UNKNOWN]]])
    other = logits.clone()
    other[..., 3:, :] += 5
    assert [float(x) for x in losses(logits, levels, 4.0)] == pytest.approx(
        [float(x) for x in losses(other, levels, 4.0)]
    )


def test_every_row_is_in_one_batch_of_an_epoch() -> None:
    lengths = np.random.default_rng(0).integers(3, 90, 256)
    batches = batches_of(lengths, 8, seed=1, epoch=2)
    assert sorted(np.concatenate(batches).tolist()) == list(range(256))
    spread = np.mean([np.ptp(lengths[batch]) for batch in batches])
    assert spread < 0.3 * np.ptp(lengths)


def test_a_stopped_training_goes_on_to_the_same_weights(tiny_folder: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    texts = generator.integers(0, 400, (128, 2, 4)).astype(np.uint16)
    rows = TrainingRows(
        [[5, 6, int(i)] for i in generator.integers(0, 400, 128)],
        texts,
        (9 * (texts % 2)).astype(np.uint8),
    )

    def trained(name: str, *stops: int) -> dict[str, torch.Tensor]:
        for stop in (*stops, 6):
            torch.manual_seed(0)
            reader = new_reader(shape_of(tiny_folder))
            settings = ReaderTraining(stop, decay_from=100, warmup_steps=2, bfloat16=False)
            train_reader(reader, rows, settings, tmp_path / name)
        return {name: p.detach().clone() for name, p in trainable(reader).items()}

    whole, stopped = trained("whole"), trained("stopped", 2, 5)
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
    start = trainable(new_reader(shape_of(tiny_folder)))
    assert not torch.equal(whole["head.weight"], start["head.weight"])


def test_a_base_that_is_not_there_is_named() -> None:
    with pytest.raises(AutointerpError, match="/nowhere"):
        _base(ReaderShape("/nowhere", 2, 2, 0))


def test_a_mean_lies_between_two_readers(folder: Path, tmp_path: Path) -> None:
    ours = load_file(folder / WEIGHTS_FILE)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / SHAPE_FILE).write_bytes((folder / SHAPE_FILE).read_bytes())
    theirs = {name: torch.randn_like(tensor) for name, tensor in ours.items()}
    save_file(theirs, tmp_path / "other" / WEIGHTS_FILE)
    save_mean(folder, tmp_path / "other", 0.25, tmp_path / "mean")
    found = load_file(tmp_path / "mean" / WEIGHTS_FILE)
    for name, tensor in ours.items():
        torch.testing.assert_close(found[name], 0.75 * tensor + 0.25 * theirs[name])
    assert load_reader(tmp_path / "mean").shape == load_reader(folder).shape
    with pytest.raises(AutointerpError, match="between 0 and 1"):
        save_mean(folder, tmp_path / "other", 1.5, tmp_path / "mean")


def test_readers_of_two_shapes_have_no_mean(
    folder: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    wider = ReaderShape(str(tiny_folder), n_blocks=2, lora_rank=4, lora_blocks_from=1)
    save_reader(new_reader(wider), tmp_path / "wider")
    with pytest.raises(AutointerpError, match="no mean: lora_rank 2 and 4"):
        save_mean(folder, tmp_path / "wider", 0.5, tmp_path / "mean")
    assert not (tmp_path / "mean").exists()
