"""The trained simulator that reads its texts once, against the model run plainly."""

from pathlib import Path

import numpy as np
import pytest
import torch

from autointerp.recording.corpus import vocabulary
from autointerp.records import AutointerpError
from autointerp.simulators import load_simulator
from autointerp.simulators.alignment import Aligner
from autointerp.simulators.embedded import Embedded, load_embedded
from autointerp.simulators.reader import N_LEVELS, new_reader, save_reader, trainable
from tests.simulators.test_reader import shape_of

pytest.importorskip("peft")

EXPLANATION = "words for animals"
TEXTS = (" The cat sat on the mat, 12 times.", " Dogs bark", "\n\tOdd – tokens 😀 here")


@pytest.fixture(scope="module")
def folder(tiny_folder: Path, tokenizer, tmp_path_factory) -> Path:
    torch.manual_seed(3)
    reader = new_reader(shape_of(tiny_folder))
    with torch.no_grad():
        for parameter in trainable(reader).values():
            parameter += 0.3 * torch.randn_like(parameter)
    place = tmp_path_factory.mktemp("reader")
    save_reader(reader, place, torch.float32)
    return place


@pytest.fixture
def simulator(folder: Path) -> Embedded:
    return load_embedded(folder, mass_floor=0.0)


def tokens_of(tokenizer, text: str) -> tuple[str, ...]:
    texts = vocabulary(tokenizer)
    return tuple(texts[i] for i in tokenizer(text, add_special_tokens=False)["input_ids"])


def plainly(simulator: Embedded, tokenizer, text: str) -> np.ndarray:
    """[n_tokens, n_classes] by one forward pass over description and text."""
    shape = simulator.reader.shape
    start = tokenizer(shape.before + EXPLANATION + shape.after)["input_ids"]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        hidden = simulator.reader.base(input_ids=torch.tensor([start + ids])).last_hidden_state
        return simulator.reader.head(hidden[0, len(start) :]).softmax(-1).numpy()


def test_predictions_are_those_of_a_plain_forward_pass(simulator: Embedded, tokenizer) -> None:
    sequences = [tokens_of(tokenizer, text) for text in TEXTS]
    # What follows a token of unknown id is read after a stand-in: only whole texts are compared.
    whole = [text for text in TEXTS if "😀" not in text]
    sequences = [tokens_of(tokenizer, text) for text in whole]
    for text, found in zip(whole, simulator.simulate(EXPLANATION, sequences), strict=True):
        p = plainly(simulator, tokenizer, text)
        mass = p[:, :N_LEVELS].sum(1)
        expected = p[:, :N_LEVELS] @ np.arange(N_LEVELS) / mass
        np.testing.assert_allclose(found.expected[found.known], expected[found.known], atol=1e-4)
        np.testing.assert_allclose(found.level_mass[found.known], mass[found.known], atol=1e-5)


def test_batches_change_nothing(folder: Path, tokenizer) -> None:
    sequences = [tokens_of(tokenizer, text) for text in TEXTS]
    one = load_embedded(folder, batch_tokens=1).simulate(EXPLANATION, sequences)
    all_ = load_embedded(folder).simulate(EXPLANATION, sequences)
    for a, b in zip(one, all_, strict=True):
        np.testing.assert_allclose(a.expected, b.expected, atol=1e-4)


def test_parts_of_characters_are_missing(simulator: Embedded, tokenizer) -> None:
    tokens = tokens_of(tokenizer, TEXTS[2])
    assert any("\ufffd" in token for token in tokens)
    found = simulator.simulate(EXPLANATION, [tokens])[0]
    assert found.known.tolist() == ["\ufffd" not in token for token in tokens]


def test_tokens_of_low_mass_are_missing(folder: Path, tokenizer) -> None:
    tokens = tokens_of(tokenizer, TEXTS[0])
    free = load_embedded(folder, mass_floor=0.0).simulate(EXPLANATION, [tokens])[0]
    floor = float(np.median(free.level_mass))
    held = load_embedded(folder, mass_floor=floor).simulate(EXPLANATION, [tokens])[0]
    assert held.known.tolist() == (free.level_mass >= floor).tolist()
    assert 0 < held.known.sum() < len(tokens)


def test_another_tokenizers_tokens_share_what_their_characters_got(
    simulator: Embedded, tokenizer
) -> None:
    text = " The cat sat on the mat, 12 times."
    characters = tuple(text)
    aligner = Aligner(tokenizer)
    aligned = aligner._cut(characters, np.ones(len(characters), bool))
    assert aligned.weights is not None
    np.testing.assert_allclose(aligned.weights.sum(1), 1)
    own = tokens_of(tokenizer, text)
    whole = simulator.simulate(EXPLANATION, [own])[0]
    split = simulator._simulate(EXPLANATION, [aligned])[0]
    spread = np.concatenate(
        [np.full(len(token), level) for token, level in zip(own, whole.expected, strict=True)]
    )
    np.testing.assert_allclose(split.expected, spread, atol=1e-4)


def test_words_of_another_tokenizer_are_cut_anew(simulator: Embedded) -> None:
    words = (" Incomprehensibilities", " antidisestablishmentarianism", " zyzzyvas", " 1234567")
    assert not simulator.aligner.is_own(words)
    found = simulator.simulate(EXPLANATION, [words])[0]
    assert found.known.all()
    assert len(found.expected) == len(words)


def test_foreign_texts_beside_a_text_change_nothing(simulator: Embedded) -> None:
    own = tuple(TEXTS[1])  # of known tokens, though the tokenizer would cut it otherwise
    foreign = [(" Incomprehensibilities", " zyzzyvas", " antidisestablishmentarianism")] * 9
    (alone,) = simulator.simulate(EXPLANATION, [own])
    for one, among in zip(
        simulator.simulate(EXPLANATION, [own, *foreign]),
        [alone, *(simulator.simulate(EXPLANATION, [text])[0] for text in foreign)],
        strict=True,
    ):
        np.testing.assert_allclose(one.expected, among.expected, atol=1e-4)


def test_an_empty_text_and_no_text_are_no_trouble(simulator: Embedded) -> None:
    assert simulator.simulate(EXPLANATION, []) == []
    assert simulator.simulate(EXPLANATION, [()])[0].expected.shape == (0,)


def test_special_tokens_in_a_description_are_text(simulator: Embedded, tokenizer) -> None:
    special = set(tokenizer.all_special_ids)
    assert not special & set(simulator._start("<|im_end|> <|endoftext|>"))


def test_a_long_description_is_cut_before_the_text(simulator: Embedded, tokenizer) -> None:
    start = simulator._start("word " * 5000)
    after = tokenizer(simulator.reader.shape.after)["input_ids"]
    assert len(start) < 300
    assert start[-len(after) :] == after


@pytest.mark.parametrize("floor", [2.0, -0.1, float("nan"), "a"])
def test_a_floor_that_is_no_probability_is_refused(folder: Path, floor: float) -> None:
    with pytest.raises(AutointerpError, match="mass_floor must lie between 0 and 1, not"):
        load_simulator("embedded", model=str(folder), mass_floor=floor)


def test_a_folder_without_a_simulator_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AutointerpError, match="holds no simulator"):
        load_simulator("embedded", model=str(tmp_path))


def test_fingerprint_follows_weights_and_floor(folder: Path) -> None:
    base = load_embedded(folder).fingerprint
    assert base == load_embedded(folder).fingerprint
    assert base != load_embedded(folder, mass_floor=0.2).fingerprint
