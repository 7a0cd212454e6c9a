"""Texts with planted words in them, and a tokenizer that knows whole words alone."""

import random
import re
from typing import Any

from autointerp.planted.units import FILLERS, SOURCE, UNITS, all_words

_FULL_STOP = " ."
_SHARE_OF_PLANTED = 0.2
_CHANCE_OF_A_UNIT = 0.35


def word_tokenizer(more: tuple[str, ...] = ()) -> Any:
    """A tokenizer of whole words, each with the space before it.

    Args:
        more: texts whose words it knows too.
    """
    import transformers
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    from autointerp.scorers.output_choice import PROMPTS

    vocabulary = {"<end>": 0, "<unknown>": 1}
    known = [*all_words(), _FULL_STOP]
    for text in (*PROMPTS, *more):
        known += re.findall(r" ?[^ ]+", text)
    for word in known:
        vocabulary.setdefault(word, len(vocabulary))
    made = Tokenizer(models.WordLevel(vocabulary, "<unknown>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?[^ ]+"), "isolated")
    made.decoder = decoders.Fuse()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<end>", unk_token="<unknown>"
    )


def planted_texts(n: int = 300, n_words: int = 64, seed: int = 0) -> list[str]:
    """Texts of common words; each has words of a few of the planted units.

    So that a unit is silent in most texts, as units are, and `both` has what it needs: a third of
    the texts has animals, a third of those the sea too.
    """
    generator = random.Random(seed)
    lists = {unit.name: tuple(unit.strengths) for unit in UNITS if _is_theme(unit.name)}
    texts: list[str] = []
    for _ in range(n):
        themes = [name for name in lists if generator.random() < _CHANCE_OF_A_UNIT]
        words: list[str] = []
        for place in range(n_words):
            if themes and generator.random() < _SHARE_OF_PLANTED:
                words.append(generator.choice(lists[generator.choice(themes)]))
            else:
                words.append(generator.choice((*FILLERS, " the", " the")))
            if place % 12 == 11:
                words.append(_FULL_STOP)
        texts.append("".join(words))
    return texts


def _is_theme(name: str) -> bool:
    """Whether a text may be about a unit's words."""
    unit = next(unit for unit in UNITS if unit.name == name)
    return name == SOURCE or unit.kind in ("set", "graded", "signed", "or", "hierarchy")
