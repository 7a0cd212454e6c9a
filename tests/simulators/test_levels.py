"""Levels are read from the tokens that a tokenizer has for them."""

import pytest
import torch

from autointerp.records import AutointerpError
from autointerp.simulators.levels import LevelTokens, expected_levels, gain_of_ten, level_tokens


class Vocabulary:
    """A tokenizer of single characters, but for the words it is given."""

    unk_token_id = 0

    def __init__(self, *words):
        self.ids = {word: 500 + place for place, word in enumerate(words)}

    def __call__(self, text, **_):
        return {"input_ids": [self.ids[text]] if text in self.ids else [ord(c) for c in text]}

    def convert_tokens_to_ids(self, text):
        return self.ids.get(text, self.unk_token_id)


def test_ten_is_a_level_where_it_is_one_token():
    levels = level_tokens(Vocabulary("10"))
    assert levels.n_levels == 11
    assert levels.ids == (*map(ord, "0123456789"), 500)
    assert levels.shown(10) == (500,)


def test_levels_stop_at_nine_where_ten_is_two_tokens_unless_asked_for():
    assert level_tokens(Vocabulary()).n_levels == 10
    assert level_tokens(Vocabulary()).shown(10) == (ord("9"),)
    both = level_tokens(Vocabulary(), "0-10")
    assert (both.n_levels, both.ten) == (11, (ord("1"), ord("0")))
    assert both.shown(10) == (ord("1"), ord("0"))
    assert both.shown(3) == (ord("3"),)
    assert level_tokens(Vocabulary("10"), "0-9").n_levels == 10


def test_what_has_no_digits_or_is_no_range_is_refused():
    class Wordy(Vocabulary):
        def __call__(self, text, **_):
            return {"input_ids": [1, 2]}

    with pytest.raises(AutointerpError, match="no single token for every digit"):
        level_tokens(Wordy())
    with pytest.raises(AutointerpError, match="levels must be one of auto, 0-9, 0-10"):
        level_tokens(Vocabulary(), "0-5")


def test_ten_read_as_two_tokens_is_the_mean_over_eleven_levels():
    """Against the closed form over all eleven levels, from made-up probabilities."""
    digits = torch.tensor([5, 20, 4, 3, 2, 2, 1, 1, 1, 1]) / 50
    slot = torch.cat([digits, torch.tensor([0.2])]).log()[None]
    after_one = torch.tensor([[0.3, *[0.05] * 9, 0.25]]).log()
    ids = torch.arange(10)
    expected, mass = expected_levels(slot, ids)
    with_ten = expected + gain_of_ten(slot, after_one, ids)
    p_ten = 0.4 * 0.3
    by_hand = [*digits.tolist(), p_ten]
    by_hand[1] -= p_ten
    torch.testing.assert_close(
        with_ten.item(), sum(k * p for k, p in enumerate(by_hand)) / sum(by_hand)
    )
    torch.testing.assert_close(mass.item(), sum(by_hand))


def test_level_tokens_say_how_many_levels_there_are():
    assert LevelTokens(tuple(range(10))).n_levels == 10
    assert LevelTokens(tuple(range(10)), (1, 0)).n_levels == 11
