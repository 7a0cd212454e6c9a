"""Activation levels as tokens: which ids they have, and what is expected of their probabilities."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from autointerp.records import AutointerpError

LEVEL_RANGES = ("auto", "0-9", "0-10")
"""What `levels` may be."""


@dataclass(frozen=True)
class LevelTokens:
    """The vocabulary ids of the levels."""

    ids: tuple[int, ...]
    """One id per level that is one token, ascending from 0: 10 or 11 of them."""

    ten: tuple[int, int] | None = None
    """The two ids of "10" where it is a level without a token of its own."""

    @property
    def n_levels(self) -> int:
        """10, or 11 where 10 is a level."""
        return len(self.ids) + (self.ten is not None)

    def shown(self, level: int) -> tuple[int, ...]:
        """Ids of a level from 0 to 10 as the few-shot shows it; 10 is 9 where 9 is the highest."""
        if level == 10 and self.ten:
            return self.ten
        return (self.ids[min(level, len(self.ids) - 1)],)


def level_tokens(tokenizer: Any, levels: str = "auto") -> LevelTokens:
    """The tokens of the levels of a tokenizer.

    Args:
        tokenizer: the simulator's.
        levels: `auto` is 0 to 10 where "10" is one token and 0 to 9 elsewhere; `0-10` takes 10
            in where it is two tokens as well.

    Raises:
        AutointerpError: where a digit is no single token, or `levels` is none of these.
    """
    if levels not in LEVEL_RANGES:
        raise AutointerpError(f"levels must be one of {', '.join(LEVEL_RANGES)}, not {levels!r}")
    found = [_single_id(tokenizer, str(level)) for level in range(11)]
    digits = [i for i in found[:10] if i is not None]
    if len(set(digits)) < 10:
        raise AutointerpError(
            "the simulator's tokenizer has no single token for every digit, so levels cannot be "
            "read from its probabilities; use another model as simulator"
        )
    ten = found[10]
    if levels == "0-9" or (levels == "auto" and ten is None):
        return LevelTokens(tuple(digits))
    if ten is not None and ten not in digits:
        return LevelTokens((*digits, ten))
    return LevelTokens(tuple(digits), (digits[1], digits[0]))


def expected_levels(slot_logits: Tensor, level_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Expected activation level at every slot (Bills et al. 2023, "Simulating").

    E = sum_k k p_k / sum_k p_k over the level tokens; mass = sum_k p_k over the whole vocabulary.

    Args:
        slot_logits: [n_slots, vocab].
        level_ids: [n_levels], one vocabulary id per level, ascending.

    Returns:
        expected [n_slots] in levels and mass [n_slots] in [0, 1].
    """
    logits = slot_logits.float()
    level_logits = logits[:, level_ids]
    levels = torch.arange(len(level_ids), device=logits.device, dtype=logits.dtype)
    expected = level_logits.softmax(-1) @ levels
    mass = (level_logits.logsumexp(-1) - logits.logsumexp(-1)).exp().clamp(max=1.0)
    return expected, mass


def gain_of_ten(slot_logits: Tensor, after_one: Tensor, level_ids: Tensor) -> Tensor:
    """What the expected level gains where a "1" may go on as "10" (teacher forcing).

    p_10 = p("1") p("0" | "1") and p_1 = p("1") (1 - p("0" | "1")), so
    E gains (10 - 1) p("1") p("0" | "1") / sum_k p_k; the mass on levels stays.

    Args:
        slot_logits: [n_slots, vocab].
        after_one: [n_slots, vocab], logits after the slot and a "1".
        level_ids: [10], the ids of the digits.

    Returns:
        [n_slots] levels.
    """
    share_of_one = slot_logits.float()[:, level_ids].softmax(-1)[:, 1]
    zero_follows = after_one.float().log_softmax(-1)[:, level_ids[0]].exp()
    return 9 * share_of_one * zero_follows


def _single_id(tokenizer: Any, text: str) -> int | None:
    """The id that follows other text as `text`, where it is one token; else `None`."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(ids) == 1:
        return int(ids[0])
    # SentencePiece tokenizers put a word-start mark before a text of its own.
    found = tokenizer.convert_tokens_to_ids(text)
    return None if found is None or found == tokenizer.unk_token_id else int(found)
