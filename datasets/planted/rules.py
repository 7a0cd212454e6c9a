"""Planted units: functions of the text alone, so that what they respond to is known exactly.

Each rule maps the token texts of a window, [n_tokens], to activations [n_tokens] from 0 to 10 and
sees nothing else. Patterns are searched in the joined tokens; a token is active where it overlaps
a match.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

Rule = Callable[[Sequence[str]], np.ndarray]

STRONG = 10.0


@dataclass(frozen=True)
class Planted:
    """One planted unit."""

    name: str
    explanation: str
    """What it responds to, as a person would say it."""

    rule: Rule


def spans(tokens: Sequence[str]) -> tuple[str, np.ndarray, np.ndarray]:
    """The joined text, and first and one-past-last character of every token, [n_tokens] each."""
    lengths = np.array([len(token) for token in tokens], dtype=np.int64)
    ends = np.cumsum(lengths)
    return "".join(tokens), ends - lengths, ends


def pattern(tokens: Sequence[str], expression: re.Pattern[str]) -> np.ndarray:
    """10 on every token that overlaps a match (its group 1 where it has one), else 0."""
    text, starts, ends = spans(tokens)
    active = np.zeros(len(tokens))
    group = 1 if expression.groups else 0
    for match in expression.finditer(text):
        first, last = match.span(group)
        active[(starts < last) & (ends > first)] = STRONG
    return active


def words(forms: str) -> Rule:
    """Whole words out of a list with spaces between, in any case, with a plural s or not."""
    choice = "|".join(forms.split())
    return partial(pattern, expression=re.compile(rf"\b(?:{choice})s?\b", re.IGNORECASE))


def matches(expression: str, flags: int = 0) -> Rule:
    """A regular expression over the text."""
    return partial(pattern, expression=re.compile(expression, flags))


def long_words(tokens: Sequence[str]) -> np.ndarray:
    """Letters − 4 on words of 6 letters and more, at most 10: graded."""
    text, starts, ends = spans(tokens)
    active = np.zeros(len(tokens))
    for match in re.finditer(r"[^\W\d_]{6,}", text):
        overlap = (starts < match.end()) & (ends > match.start())
        active[overlap] = min(STRONG, len(match[0]) - 4)
    return active


def after_token(tokens: Sequence[str], word: str) -> np.ndarray:
    """10 on the token after `word`."""
    active = np.zeros(len(tokens))
    for place, token in enumerate(tokens[:-1]):
        if token.strip().lower() == word:
            active[place + 1] = STRONG
    return active


def repeated_name(tokens: Sequence[str]) -> np.ndarray:
    """10 on capitalised words of four letters and more that the window has held before."""
    text, starts, ends = spans(tokens)
    active = np.zeros(len(tokens))
    seen: set[str] = set()
    for match in re.finditer(r"\b[A-Z][a-z]{3,}\b", text):
        if match[0] in seen:
            active[(starts < match.end()) & (ends > match.start())] = STRONG
        seen.add(match[0])
    return active


def rising_number(tokens: Sequence[str]) -> np.ndarray:
    """1 + the digit on every digit: graded."""
    return np.array([1.0 + int(t.strip()) if re.fullmatch(r"\s*[0-9]", t) else 0.0 for t in tokens])


PLANTED: tuple[Planted, ...] = (
    Planted("the", 'the word "the"', matches(r"\bthe\b")),
    Planted(
        "months",
        "names of months, such as January or Sept",
        matches(
            r"\b(?:January|February|March|April|May|June|July|August|September|October|November"
            r"|December|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\b"
        ),
    ),
    Planted(
        "years",
        "years written with four digits, such as 1987",
        matches(r"(?<!\d)(?:1[5-9]|20)\d\d(?!\d)"),
    ),
    Planted("ing", "words that end in -ing", matches(r"\b[^\W\d_]+ing\b")),
    Planted(
        "after_of", 'whatever comes right after the word "of"', partial(after_token, word="of")
    ),
    Planted(
        "digits_in_parentheses",
        "digits inside parentheses",
        lambda tokens: np.minimum(
            pattern(tokens, re.compile(r"\([^()]*\)")), pattern(tokens, re.compile(r"\d"))
        ),
    ),
    Planted("quotation", "text between double quotation marks", matches(r"[\"“]([^\"“”]+)[\"”]")),
    Planted("capitalised", "words that begin with a capital letter", matches(r"\b[A-Z][a-z]+\b")),
    Planted(
        "comma_without_and",
        'commas, except those followed by "and"',
        matches(r",(?!\s*and\b)"),
    ),
    Planted("long_words", "long words: the longer, the stronger", long_words),
    Planted(
        "code_keywords",
        "keywords of programming languages, such as return, if, def or func",
        matches(
            r"\b(?:return|if|else|elif|def|func|function|class|import|const|static|void|struct"
            r"|while|switch|case|break|var|self|None|nil|null)\b"
        ),
    ),
    Planted("braces", "curly braces and semicolons in code", matches(r"[{};]")),
    Planted("question_exclamation", "question marks and exclamation marks", matches(r"[?!]+")),
    Planted("chinese", "Chinese characters", matches(r"[\u3400-\u9fff]+")),
    Planted(
        "cyrillic",
        "text in the Cyrillic alphabet, as in Russian",
        matches(r"[\u0400-\u04ff]+"),
    ),
    Planted(
        "food",
        "food and drink",
        words(
            "bread wine meat milk honey fruit corn cake tea coffee butter cheese egg rice dinner "
            "supper breakfast apple soup salt sugar beer flour barley food drink"
        ),
    ),
    Planted(
        "animals",
        "animals",
        words(
            "dog cat horse sheep ox oxen lamb goat bird fish lion bear wolf wolves cow bull mouse "
            "mice insect bee serpent snake elephant dove eagle pigeon fox camel ass cattle "
            "animal"
        ),
    ),
    Planted(
        "colours",
        "colours",
        words(
            "red green blue white black yellow brown grey gray purple scarlet golden pink crimson "
            "orange"
        ),
    ),
    Planted(
        "family",
        "members of a family, such as mother or son",
        words(
            "father mother son daughter brother sister wife wives husband uncle aunt cousin child "
            "children parent"
        ),
    ),
    Planted(
        "sentence_start",
        "the first word of a sentence",
        matches(r"[.!?][\"”]?\s+([A-Z][a-z']*)"),
    ),
    Planted("tags", "tags of HTML or XML", matches(r"</?[a-zA-Z][^<>]*>")),
    Planted(
        "body",
        "parts of the body",
        words(
            "hand head eye heart foot feet face arm leg finger ear mouth tongue lip neck shoulder "
            "knee hair blood bone"
        ),
    ),
    Planted(
        "religion",
        "religion: God, prayer, priests",
        words(
            "god lord holy pray prayer priest church angel heaven altar temple sin prophet "
            "sacrifice bless blessed soul faith"
        ),
    ),
    Planted(
        "negation",
        "words of negation, such as not, never or nothing",
        matches(r"\b(?:not|never|no|nothing|none|nor|neither|cannot)\b|n't\b", re.IGNORECASE),
    ),
    Planted(
        "number_words",
        "numbers written as words, such as three or hundred",
        words(
            "one two three four five six seven eight nine ten eleven twelve twenty thirty forty "
            "fifty hundred thousand million"
        ),
    ),
    Planted(
        "first_person",
        "the writer speaking of himself: I, me, my",
        matches(r"\b(?:I|me|my|My|mine|myself)\b"),
    ),
    Planted(
        "line_breaks",
        "line breaks",
        matches(r"\n+"),
    ),
    Planted(
        "urls",
        "web addresses",
        matches(r"https?://[^\s>\")]+"),
    ),
    Planted(
        "war",
        "war, weapons and soldiers",
        words(
            "war battle sword army armies soldier enemy enemies fight spear weapon gun captain "
            "kill slain siege military"
        ),
    ),
    Planted(
        "sea_and_weather",
        "the sea, rivers and the weather",
        words(
            "sea river water wind rain storm wave ocean cloud snow ship island shore flood weather"
        ),
    ),
    Planted("repeated_name", "a capitalised word that has come before in the text", repeated_name),
    Planted("digits_graded", "digits: the larger the digit, the stronger", rising_number),
)
"""In a fixed order: unit `planted/i` is `PLANTED[i]`."""
