"""Known answers: units that are functions of a text alone, so that what they respond to is known.

Every unit comes with its true explanation and three false ones, each with the rule that it would be
the true explanation of: one too broad, one too narrow, and one that has nothing to do with it. A
judge of explanations has to tell them apart; an oracle that applies the rules does so exactly.

A rule maps a window to activations [n_tokens] from 0 to 10 and sees nothing else. Patterns are
searched in the joined tokens; a token is active where it overlaps a match.
"""

import hashlib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

STRONG = 10.0


@dataclass(frozen=True)
class View:
    """What a rule sees."""

    tokens: Sequence[str]
    kind: str = ""
    """Label of the document, such as `novel`: known to rules of kind `topic` alone."""


Rule = Callable[[View], np.ndarray]


@dataclass(frozen=True)
class Said:
    """An explanation and what it means."""

    text: str
    rule: Rule


@dataclass(frozen=True)
class Planted:
    """One planted unit."""

    name: str
    kind: str
    """One of `KINDS`."""

    true: Said
    broad: Said
    """Right on all that the unit fires on, and on much more."""

    narrow: Said
    """Right, on a part of what the unit fires on."""

    unrelated: Said


KINDS = {
    "token": "one token or word",
    "set": "a set of words",
    "pattern": "a pattern of characters",
    "affix": "the beginning or end of a word",
    "position": "the place in the text",
    "previous": "what stands just before",
    "gate": "something inside a context",
    "negated": "something unless in a context",
    "long_range": "what came long before",
    "graded": "more or less of something",
    "topic": "the kind of document",
    "or": "either of two things",
    "and": "two things at once",
    "dense": "about 40 % of all tokens",
    "rare": "a handful of tokens in the corpus",
    "constant": "the same everywhere",
    "zero": "nothing",
    "signed": "one tail of a quantity with two",
    "hierarchy": "a parent that is silent where its child fires, and the child",
    "noise": "nothing in the text",
}
"""Kind → what a unit of it responds to."""

READABLE = tuple(k for k in KINDS if k not in ("rare", "constant", "zero", "noise"))
"""Kinds on which a true explanation can score well: the text decides, and it fires enough."""


# ------------------------------------------------------------------ ways to say what fires


def spans(tokens: Sequence[str]) -> tuple[str, np.ndarray, np.ndarray]:
    """The joined text, and first and one-past-last character of every token, [n_tokens] each."""
    lengths = np.array([len(token) for token in tokens], dtype=np.int64)
    ends = np.cumsum(lengths)
    return "".join(tokens), ends - lengths, ends


def matches(expression: str, flags: int = 0, level: float = STRONG) -> Rule:
    """A level on every token that overlaps a match (its group 1 where it has one), else 0."""
    compiled = re.compile(expression, flags)
    group = 1 if compiled.groups else 0

    def rule(view: View) -> np.ndarray:
        text, starts, ends = spans(view.tokens)
        active = np.zeros(len(view.tokens))
        for match in compiled.finditer(text):
            first, last = match.span(group)
            active[(starts < last) & (ends > first)] = level
        return active

    return rule


def words(forms: str) -> Rule:
    """Whole words out of a list with spaces between, in any case, with a plural s or not."""
    choice = "|".join(forms.split())
    return matches(rf"\b(?:{choice})s?\b", re.IGNORECASE)


def graded_words(level_of: Callable[[str], float]) -> Rule:
    """A level for every word, from 0 to 10."""

    def rule(view: View) -> np.ndarray:
        text, starts, ends = spans(view.tokens)
        active = np.zeros(len(view.tokens))
        for match in re.finditer(r"[^\W\d_]+", text):
            level = min(STRONG, max(0.0, level_of(match[0])))
            active[(starts < match.end()) & (ends > match.start())] = level
        return active

    return rule


def repeated(expression: str) -> Rule:
    """What matches and has matched before in the text, letter by letter."""
    compiled = re.compile(expression)

    def rule(view: View) -> np.ndarray:
        text, starts, ends = spans(view.tokens)
        active = np.zeros(len(view.tokens))
        seen: set[str] = set()
        for match in compiled.finditer(text):
            if match[0] in seen:
                active[(starts < match.end()) & (ends > match.start())] = STRONG
            seen.add(match[0])
        return active

    return rule


def after_token(word: str) -> Rule:
    """10 on the token after one that is `word`."""

    def rule(view: View) -> np.ndarray:
        active = np.zeros(len(view.tokens))
        for place, token in enumerate(view.tokens[:-1]):
            if token.strip().lower() == word:
                active[place + 1] = STRONG
        return active

    return rule


def digits_graded(view: View) -> np.ndarray:
    """1 + the digit on every digit."""
    digits = (re.fullmatch(r"\s*([0-9])", token) for token in view.tokens)
    return np.array([1.0 + int(digit[1]) if digit else 0.0 for digit in digits])


def places(chosen: Callable[[int], bool]) -> Rule:
    """10 on the tokens at some places, counted from 0."""
    return lambda view: np.array([STRONG * chosen(i) for i in range(len(view.tokens))])


def topic(*kinds: str, level: float = 6.0) -> Rule:
    """One level on every token of some kinds of document."""
    return lambda view: np.full(len(view.tokens), level if view.kind in kinds else 0.0)


def everywhere(level: float) -> Rule:
    """One level on every token."""
    return lambda view: np.full(len(view.tokens), level)


def noise(view: View) -> np.ndarray:
    """10 on one token in ten, by a hash of the whole window and the place: no text decides it."""
    digest = hashlib.sha256("".join(view.tokens).encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    return STRONG * (generator.random(len(view.tokens)) < 0.1)


def both(one: Rule, other: Rule) -> Rule:
    """Where both are active, the weaker of them."""
    return lambda view: np.minimum(one(view), other(view))


def either(one: Rule, other: Rule) -> Rule:
    """Where either is active, the stronger of them."""
    return lambda view: np.maximum(one(view), other(view))


def without(one: Rule, other: Rule) -> Rule:
    """One, silent where the other is active."""
    return lambda view: np.where(other(view) > 0, 0.0, one(view))


# ------------------------------------------------------------------ words used more than once

MONTHS = matches(
    r"\b(?:January|February|March|April|May|June|July|August|September|October|November"
    r"|December|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\b"
)
FOOD = words(
    "bread wine meat milk honey fruit corn cake tea coffee butter cheese egg rice dinner "
    "supper breakfast apple soup salt sugar beer flour barley food drink"
)
ANIMALS = words(
    "dog cat horse sheep ox oxen lamb goat bird fish lion bear wolf wolves cow bull mouse "
    "mice insect bee serpent snake elephant dove eagle pigeon fox camel ass cattle animal"
)
COLOURS = words(
    "red green blue white black yellow brown grey gray purple scarlet golden pink crimson orange"
)
FAMILY = words(
    "father mother son daughter brother sister wife wives husband uncle aunt cousin child "
    "children parent"
)
BODY = words(
    "hand head eye heart foot feet face arm leg finger ear mouth tongue lip neck shoulder "
    "knee hair blood bone"
)
RELIGION = words(
    "god lord holy pray prayer priest church angel heaven altar temple sin prophet "
    "sacrifice bless blessed soul faith"
)
NUMBER_WORDS = words(
    "one two three four five six seven eight nine ten eleven twelve twenty thirty forty "
    "fifty hundred thousand million"
)
WAR = words(
    "war battle sword army armies soldier enemy enemies fight spear weapon gun captain "
    "kill slain siege military"
)
SEA = words("sea river water wind rain storm wave ocean cloud snow ship island shore flood weather")
NEGATION = matches(r"\b(?:not|never|no|nothing|none|nor|neither|cannot)\b|n't\b", re.IGNORECASE)
DIGITS = matches(r"\d")
YEARS = matches(r"(?<!\d)(?:1[5-9]|20)\d\d(?!\d)")
CAPITALISED = matches(r"\b[A-Z][a-z]+\b")
QUESTIONS = matches(r"[?!]+")
BRACES = matches(r"[{};]")
PARENTHESES = matches(r"\([^()]*\)")
ING = matches(r"\b[^\W\d_]+ing\b")
CODE_WORDS = (
    r"\b(?:return|if|else|elif|def|func|function|class|import|const|static|void|struct"
    r"|while|switch|case|break|var|self|None|nil|null)\b"
)
CODE_KINDS = ("python_code", "c_code", "go_code", "javascript")
ANY_WORD = matches(r"[^\W\d_]+")
PUNCTUATION = matches(r"[^\w\s]")
CYRILLIC = matches(r"[\u0400-\u04ff]+")
CHINESE = matches(r"[\u3400-\u9fff]+")

_COMMON = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "that",
    "it",
    "a",
    "is",
    "was",
    "he",
    "for",
    "as",
    "with",
    "his",
    "be",
    "not",
    "i",
    "they",
    "this",
    "by",
    "have",
    "from",
    "which",
    "at",
    "or",
    "but",
    "all",
    "are",
    "him",
    "on",
    "if",
    "you",
    "were",
    "had",
    "their",
    "an",
    "so",
    "them",
    "she",
    "there",
    "will",
    "her",
    "said",
    "we",
    "when",
    "who",
    "one",
    "my",
    "would",
    "no",
    "what",
    "can",
    "me",
    "then",
    "into",
    "do",
    "out",
    "up",
    "than",
    "been",
    "has",
    "its",
    "your",
    "any",
    "more",
]


def _frequency(word: str) -> float:
    """10 for the most frequent of a hundred words, falling with the logarithm of the rank."""
    form = word.lower()
    return STRONG - 2 * math.log(_COMMON.index(form) + 1) if form in _COMMON else 0.0


S = Said

PLANTED: tuple[Planted, ...] = (
    # -------------------------------------------------------------- token
    Planted(
        "the",
        "token",
        S('the word "the"', matches(r"\bthe\b")),
        S(
            "articles and pointing words: the, a, an, this, that, these",
            matches(r"\b(?:the|a|an|this|that|these)\b"),
        ),
        S('the word "the" right after "of"', matches(r"\bof\s+(the)\b")),
        S("colours", COLOURS),
    ),
    Planted(
        "equals_sign",
        "token",
        S("equals signs", matches(r"=")),
        S("all signs of punctuation and operators", PUNCTUATION),
        S("two equals signs in a row", matches(r"==+")),
        S("members of a family", FAMILY),
    ),
    Planted(
        "line_breaks",
        "token",
        S("line breaks", matches(r"\n+")),
        S("white space and punctuation of every kind", matches(r"\n+|[^\w\s]")),
        S("empty lines: two line breaks in a row", matches(r"\n\n+")),
        S("the writer speaking of himself: I, me, my", matches(r"\b(?:I|me|my|My|mine|myself)\b")),
    ),
    Planted(
        "and",
        "token",
        S('the word "and"', matches(r"\band\b", re.I)),
        S(
            "words that join clauses: and, or, but, because, if",
            matches(r"\b(?:and|or|but|because|if|nor|yet|though)\b", re.I),
        ),
        S('"And" at the beginning of a sentence, with a capital', matches(r"\bAnd\b")),
        S("digits", DIGITS),
    ),
    # -------------------------------------------------------------- set
    Planted(
        "months",
        "set",
        S("names of months, such as January or Sept", MONTHS),
        S("words that begin with a capital letter", CAPITALISED),
        S(
            "the months of winter: December, January and February",
            matches(r"\b(?:Dec|Jan|Feb)[a-z]*\b"),
        ),
        S("parts of the body", BODY),
    ),
    Planted(
        "food",
        "set",
        S("food and drink", FOOD),
        S(
            "things that can be held or touched: food, clothes, tools, parts of the body",
            either(
                FOOD,
                either(
                    BODY,
                    words(
                        "stone gold silver coat table chair rod tent cup knife ring "
                        "book house door wood "
                        "tree iron"
                    ),
                ),
            ),
        ),
        S("drinks, such as wine, milk or coffee", words("wine milk tea coffee beer drink")),
        S("text between double quotation marks", matches(r"[\"“]([^\"“”]+)[\"”]")),
    ),
    Planted(
        "animals",
        "set",
        S("animals", ANIMALS),
        S(
            "living things: animals, people and plants",
            either(
                ANIMALS,
                either(
                    FAMILY,
                    words(
                        "man men woman women people boy girl tree flower grass "
                        "plant friend king servant"
                    ),
                ),
            ),
        ),
        S("birds, such as doves and eagles", words("bird dove eagle pigeon")),
        S("numbers written as words", NUMBER_WORDS),
    ),
    Planted(
        "colours",
        "set",
        S("colours", COLOURS),
        S(
            "adjectives of how things look: colours, sizes and shapes",
            either(
                COLOURS,
                words(
                    "great little small large long short high low round square bright dark light "
                    "thick thin broad deep"
                ),
            ),
        ),
        S("the colour red in all its shades", words("red scarlet crimson pink")),
        S("names of months", MONTHS),
    ),
    Planted(
        "family",
        "set",
        S("members of a family, such as mother or son", FAMILY),
        S(
            "people of any sort: relatives, officers, servants, friends",
            either(
                FAMILY,
                words(
                    "man men woman women people boy girl friend king queen servant master captain "
                    "lady gentleman person user lord"
                ),
            ),
        ),
        S(
            "women of a family: mother, daughter, sister, wife, aunt",
            words("mother daughter sister wife wives aunt"),
        ),
        S("curly braces and semicolons in code", BRACES),
    ),
    Planted(
        "body",
        "set",
        S("parts of the body", BODY),
        S(
            "parts of anything: of bodies, houses, ships or plants",
            either(
                BODY,
                words(
                    "door window wall roof floor side end top leaf leaves root "
                    "branch branches mast "
                    "deck gate part"
                ),
            ),
        ),
        S("parts of the face: eyes, ears, mouth and lips", words("eye face ear mouth tongue lip")),
        S("web addresses", matches(r"https?://[^\s>\")]+")),
    ),
    Planted(
        "religion",
        "set",
        S("religion: God, prayer, priests", RELIGION),
        S(
            "solemn and lofty words: religion, kings, virtue, death",
            either(
                RELIGION,
                words(
                    "king queen virtue death glory honour truth evil good "
                    "righteous wicked judge law "
                    "throne crown noble"
                ),
            ),
        ),
        S("God and the Lord by name", words("god lord")),
        S("commas", matches(",")),
    ),
    Planted(
        "negation",
        "set",
        S("words of negation, such as not, never or nothing", NEGATION),
        S(
            "short adverbs and particles: not, so, too, very, never, only",
            either(NEGATION, words("so too very only also just even still now then")),
        ),
        S('the word "never"', matches(r"\bnever\b", re.I)),
        S("years written with four digits", YEARS),
    ),
    Planted(
        "number_words",
        "set",
        S("numbers written as words, such as three or hundred", NUMBER_WORDS),
        S(
            "quantities of every kind: numbers, digits, many, few, all",
            either(
                either(NUMBER_WORDS, DIGITS),
                words("many few all some several more most much half both every each"),
            ),
        ),
        S(
            "large round numbers as words: hundred, thousand, million",
            words("hundred thousand million"),
        ),
        S("text in the Cyrillic alphabet", CYRILLIC),
    ),
    Planted(
        "first_person",
        "set",
        S("the writer speaking of himself: I, me, my", matches(r"\b(?:I|me|my|My|mine|myself)\b")),
        S(
            "personal pronouns of all persons",
            matches(
                r"\b(?:I|me|my|mine|myself|you|your|he|him|his|she|her|it|its|we|us|our|they|them|"
                r"their|thou|thee|thy)\b",
                re.I,
            ),
        ),
        S('the words "my" and "mine"', matches(r"\b(?:my|My|mine)\b")),
        S("tags of HTML or XML", matches(r"</?[a-zA-Z][^<>]*>")),
    ),
    Planted(
        "war",
        "set",
        S("war, weapons and soldiers", WAR),
        S(
            "violence, danger and strong feeling of any sort",
            either(
                WAR,
                words(
                    "death die dead fear anger wrath destroy hate danger cruel terrible fire burn "
                    "blood strike smote cry wound"
                ),
            ),
        ),
        S("weapons: swords, spears and guns", words("sword spear weapon gun")),
        S("question marks and exclamation marks", QUESTIONS),
    ),
    Planted(
        "sea_and_weather",
        "set",
        S("the sea, rivers and the weather", SEA),
        S(
            "nature: water, earth, plants, animals and sky",
            either(
                either(SEA, ANIMALS),
                words(
                    "earth mountain hill tree field sun moon star stone fire light sky forest wood "
                    "grass flower valley"
                ),
            ),
        ),
        S("ships, shores and islands", words("ship island shore")),
        S("keywords of programming languages", matches(CODE_WORDS)),
    ),
    Planted(
        "code_keywords",
        "set",
        S(
            "keywords of programming languages, such as return, if, def or func",
            matches(CODE_WORDS),
        ),
        S(
            "everything that is written in code: names, keywords and operators",
            either(matches(CODE_WORDS), matches(r"\w+_\w+|\w+\(|[=<>{}();]+|\w+\.\w+")),
        ),
        S('the word "return" in code', matches(r"\breturn\b")),
        S("food and drink", FOOD),
    ),
    # -------------------------------------------------------------- pattern
    Planted(
        "years",
        "pattern",
        S("years written with four digits, such as 1987", YEARS),
        S("numbers of any length", matches(r"\d+")),
        S("years of the twenty-first century, such as 2014", matches(r"(?<!\d)20\d\d(?!\d)")),
        S("the sea, rivers and the weather", SEA),
    ),
    Planted(
        "capitalised",
        "pattern",
        S("words that begin with a capital letter", CAPITALISED),
        S("all words", ANY_WORD),
        S("words that begin with the letter S, as a capital", matches(r"\bS[a-z]+\b")),
        S("line breaks", matches(r"\n+")),
    ),
    Planted(
        "braces",
        "pattern",
        S("curly braces and semicolons in code", BRACES),
        S("brackets, operators and punctuation of every kind", PUNCTUATION),
        S("closing curly braces", matches(r"\}")),
        S("members of a family, such as mother or son", FAMILY),
    ),
    Planted(
        "question_exclamation",
        "pattern",
        S("question marks and exclamation marks", QUESTIONS),
        S("marks that end a sentence or a clause: . , ; : ? !", matches(r"[.,;:?!]+")),
        S("exclamation marks", matches(r"!+")),
        S("years written with four digits", YEARS),
    ),
    Planted(
        "chinese",
        "pattern",
        S("Chinese characters", CHINESE),
        S("all letters and signs that are not ASCII", matches(r"[^\x00-\x7f]+")),
        S(
            "Chinese full stops and commas with the character before",
            matches(r"[\u3400-\u9fff](?=[。，])"),
        ),
        S('the word "the"', matches(r"\bthe\b")),
    ),
    Planted(
        "cyrillic",
        "pattern",
        S("text in the Cyrillic alphabet, as in Russian", CYRILLIC),
        S("letters of any alphabet but the Latin one", matches(r"[\u0370-\u1fff\u3040-\uffff]+")),
        S("Cyrillic capital letters", matches(r"[\u0410-\u042f]")),
        S("words that end in -ing", ING),
    ),
    Planted(
        "tags",
        "pattern",
        S("tags of HTML or XML", matches(r"</?[a-zA-Z][^<>]*>")),
        S(
            "markup, code and anything between brackets of any shape",
            either(matches(r"</?[a-zA-Z][^<>]*>"), matches(r"[(\[{][^()\[\]{}]*[)\]}]")),
        ),
        S("closing tags, which begin with </", matches(r"</[a-zA-Z][^<>]*>")),
        S("negation: not, never, nothing", NEGATION),
    ),
    Planted(
        "urls",
        "pattern",
        S("web addresses", matches(r"https?://[^\s>\")]+")),
        S(
            "addresses and paths: of web pages, files and folders",
            either(matches(r"https?://[^\s>\")]+"), matches(r"\w+(?:[/.]\w+)+")),
        ),
        S("secure web addresses, which begin with https", matches(r"https://[^\s>\")]+")),
        S("animals", ANIMALS),
    ),
    Planted(
        "sentence_start",
        "pattern",
        S("the first word of a sentence", matches(r"[.!?][\"”]?\s+([A-Z][a-z']*)")),
        S("words that begin with a capital letter", CAPITALISED),
        S('"The" as the first word of a sentence', matches(r"[.!?][\"”]?\s+(The)\b")),
        S("digits", DIGITS),
    ),
    Planted(
        "clock_times",
        "pattern",
        S(
            "times of day, such as 2:30 or 23:59:00",
            matches(r"(?<!\d)\d{1,2}:\d\d(?::\d\d)?(?!\d)"),
        ),
        S("numbers of any kind", matches(r"\d+")),
        S("midnight, written 0:00 or 00:00", matches(r"(?<!\d)0?0:00(?!\d)")),
        S("religion: God, prayer, priests", RELIGION),
    ),
    # -------------------------------------------------------------- affix
    Planted(
        "ing",
        "affix",
        S("words that end in -ing", ING),
        S("words that end in g, d or s", matches(r"\b[^\W\d_]+[gds]\b")),
        S("words that end in -ting", matches(r"\b[^\W\d_]+ting\b")),
        S("web addresses", matches(r"https?://[^\s>\")]+")),
    ),
    Planted(
        "tion",
        "affix",
        S("words that end in -tion, such as nation", matches(r"\b[^\W\d_]+tions?\b", re.I)),
        S("long abstract words of eight letters and more", matches(r"\b[^\W\d_]{8,}\b")),
        S("words that end in -ation", matches(r"\b[^\W\d_]+ations?\b", re.I)),
        S("members of a family", FAMILY),
    ),
    Planted(
        "ly",
        "affix",
        S("adverbs in -ly, such as quickly", matches(r"\b[^\W\d_]{2,}ly\b", re.I)),
        S("words that end in y", matches(r"\b[^\W\d_]+y\b", re.I)),
        S("words that end in -ally, such as really", matches(r"\b[^\W\d_]+ally\b", re.I)),
        S("curly braces and semicolons", BRACES),
    ),
    Planted(
        "un_prefix",
        "affix",
        S("words that begin with un-, such as unless or unto", matches(r"\bun[^\W\d_]+\b", re.I)),
        S("words that begin with the letter u", matches(r"\bu[^\W\d_]*\b", re.I)),
        S('the word "unto"', matches(r"\bunto\b", re.I)),
        S("Chinese characters", CHINESE),
    ),
    # -------------------------------------------------------------- position
    Planted(
        "first_token",
        "position",
        S("the first token of the text", places(lambda i: i == 0)),
        S("the first half of the text", places(lambda i: i < 16)),
        S(
            "the first token of the text where it is a capitalised word",
            both(places(lambda i: i == 0), CAPITALISED),
        ),
        S("colours", COLOURS),
    ),
    Planted(
        "every_eighth",
        "position",
        S("every eighth token, beginning with the first", places(lambda i: i % 8 == 0)),
        S("every second token", places(lambda i: i % 2 == 0)),
        S("every sixteenth token, beginning with the first", places(lambda i: i % 16 == 0)),
        S("names of months", MONTHS),
    ),
    # -------------------------------------------------------------- previous
    Planted(
        "after_of",
        "previous",
        S('whatever comes right after the word "of"', after_token("of")),
        S(
            "whatever comes right after a preposition: of, in, on, to, for, with",
            either(
                either(after_token("of"), after_token("in")),
                either(
                    either(after_token("on"), after_token("to")),
                    either(after_token("for"), after_token("with")),
                ),
            ),
        ),
        S('the word "the" right after "of"', matches(r"\bof\s+(the)\b")),
        S("commas, except those followed by and", matches(r",(?!\s*and\b)")),
    ),
    Planted(
        "after_the",
        "previous",
        S('the word right after "the"', matches(r"\bthe\s+([^\W\d_]+)", re.I)),
        S(
            "nouns and adjectives of every kind",
            matches(r"\b(?!the\b|and\b|of\b|to\b|in\b|is\b)[^\W\d_]{4,}\b", re.I),
        ),
        S('a capitalised word right after "the"', matches(r"\b[Tt]he\s+([A-Z][^\W\d_]*)")),
        S("tags of HTML or XML", matches(r"</?[a-zA-Z][^<>]*>")),
    ),
    Planted(
        "after_parenthesis",
        "previous",
        S("the word right after an opening parenthesis", matches(r"\((\w+)")),
        S("everything inside parentheses", matches(r"\(([^()]+)\)")),
        S("a digit right after an opening parenthesis", matches(r"\((\d)")),
        S("religion: God, prayer, priests", RELIGION),
    ),
    # -------------------------------------------------------------- gate
    Planted(
        "digits_in_parentheses",
        "gate",
        S("digits inside parentheses", both(PARENTHESES, DIGITS)),
        S("digits", DIGITS),
        S("the digit 1 inside parentheses", both(PARENTHESES, matches("1"))),
        S("words that begin with a capital letter", CAPITALISED),
    ),
    Planted(
        "quotation",
        "gate",
        S("text between double quotation marks", matches(r"[\"“]([^\"“”]+)[\"”]")),
        S(
            "text between quotation marks, parentheses or brackets of any kind",
            either(
                matches(r"[\"“]([^\"“”]+)[\"”]"), matches(r"[(\[{<'`]([^()\[\]{}<>'`]+)[)\]}>'`]")
            ),
        ),
        S("single words between double quotation marks", matches(r"[\"“](\w+)[\"”]")),
        S("war, weapons and soldiers", WAR),
    ),
    Planted(
        "backticks",
        "gate",
        S("code between backticks", matches(r"`+([^`\n]+)`+")),
        S(
            "names of functions and variables anywhere",
            either(matches(r"`+([^`\n]+)`+"), matches(r"\b\w+_\w+\b|\b\w+\(|\b[a-z]+[A-Z]\w*")),
        ),
        S("names with an underscore between backticks", matches(r"`+([^`\n]*_[^`\n]*)`+")),
        S("animals", ANIMALS),
    ),
    # -------------------------------------------------------------- negated
    Planted(
        "comma_without_and",
        "negated",
        S('commas, except those followed by "and"', matches(r",(?!\s*and\b)")),
        S("commas and full stops", matches(r"[.,]")),
        S('commas followed by "but"', matches(r",(?=\s*but\b)")),
        S("digits: the larger the digit, the stronger", digits_graded),
    ),
    Planted(
        "digits_outside_years",
        "negated",
        S("digits, but not those of four-digit years", without(DIGITS, YEARS)),
        S("digits and punctuation", either(DIGITS, PUNCTUATION)),
        S("the digit 0, but not in four-digit years", without(matches("0"), YEARS)),
        S("negation: not, never, nothing", NEGATION),
    ),
    Planted(
        "capital_inside",
        "negated",
        S(
            "capitalised words, except at the start of a sentence or line",
            without(CAPITALISED, matches(r"(?:[.!?][\"”]?\s+|\n\s*|^\s*)([A-Z][a-z]*)")),
        ),
        S("words", ANY_WORD),
        S('capitalised words right after "the"', matches(r"\bthe\s+([A-Z][a-z]+)")),
        S("equals signs", matches("=")),
    ),
    # -------------------------------------------------------------- long range
    Planted(
        "repeated_name",
        "long_range",
        S("a capitalised word that has come before in the text", repeated(r"\b[A-Z][a-z]{3,}\b")),
        S("words that begin with a capital letter", matches(r"\b[A-Z][a-z]{3,}\b")),
        S('the word "Lord" or "The" when it has come before', repeated(r"\b(?:Lord|The)\b")),
        S('whatever comes right after the word "of"', after_token("of")),
    ),
    Planted(
        "repeated_number",
        "long_range",
        S("a number that has come before in the text", repeated(r"(?<!\d)\d{1,6}(?!\d)")),
        S("numbers", matches(r"\d+")),
        S('the number "0" or "1" when it has come before', repeated(r"(?<!\d)[01](?!\d)")),
        S("parts of the body", BODY),
    ),
    Planted(
        "repeated_long_word",
        "long_range",
        S(
            "a word of six letters or more that has come before in the text",
            repeated(r"\b[a-z]{6,}\b"),
        ),
        S("words of six letters or more", matches(r"\b[a-z]{6,}\b")),
        S('a word ending in "s" that has come before', repeated(r"\b[a-z]{5,}s\b")),
        S("Chinese characters", CHINESE),
    ),
    # -------------------------------------------------------------- graded
    Planted(
        "long_words",
        "graded",
        S(
            "long words: the longer, the stronger",
            graded_words(lambda w: len(w) - 4 if len(w) >= 6 else 0),
        ),
        S("all words alike", ANY_WORD),
        S("words of twelve letters or more", matches(r"\b[^\W\d_]{12,}\b")),
        S("digits: the larger the digit, the stronger", digits_graded),
    ),
    Planted(
        "digits_graded",
        "graded",
        S("digits: the larger the digit, the stronger", digits_graded),
        S("digits and other signs that are not letters", either(DIGITS, PUNCTUATION)),
        S("the digit 9", matches("9")),
        S(
            "long words: the longer, the stronger",
            graded_words(lambda w: len(w) - 4 if len(w) >= 6 else 0),
        ),
    ),
    Planted(
        "frequent_words",
        "graded",
        S("common English words: the more frequent, the stronger", graded_words(_frequency)),
        S("all words alike", ANY_WORD),
        S('the words "the" and "of"', matches(r"\b(?:the|of)\b", re.I)),
        S("tags of HTML or XML", matches(r"</?[a-zA-Z][^<>]*>")),
    ),
    # -------------------------------------------------------------- topic
    Planted(
        "topic_code",
        "topic",
        S("source code of programs, whatever the language", topic(*CODE_KINDS)),
        S(
            "technical text: code, manuals, markup and data",
            topic(
                *CODE_KINDS,
                "python_docs",
                "database_docs",
                "web_framework_docs",
                "web_markup",
                "structured_data",
                "hacker_glossary",
                "timezone_notes",
            ),
        ),
        S("source code in C", topic("c_code")),
        S("the King James Bible", topic("scripture")),
    ),
    Planted(
        "topic_scripture",
        "topic",
        S("the Bible in old English", topic("scripture")),
        S(
            "literature: the Bible, novels, poems and plays",
            topic("scripture", "novel", "verse_and_drama"),
        ),
        S(
            "verse numbers and names in the Bible",
            both(topic("scripture"), matches(r"\d+|\b[A-Z][a-z]+\b")),
        ),
        S("code written in Go", topic("go_code")),
    ),
    Planted(
        "topic_other_scripts",
        "topic",
        S(
            "text in alphabets other than the Latin one, and what stands around it",
            topic("translations_other_scripts", "chinese_classics"),
        ),
        S(
            "anything that is not English prose: other languages, code and data",
            topic(
                "translations_other_scripts",
                "chinese_classics",
                "translations_latin",
                *CODE_KINDS,
                "structured_data",
                "web_markup",
            ),
        ),
        S("classical Chinese texts", topic("chinese_classics")),
        S("scientific prose about light", topic("science_prose")),
    ),
    # -------------------------------------------------------------- or
    Planted(
        "months_or_braces",
        "or",
        S("two things: names of months, and curly braces or semicolons", either(MONTHS, BRACES)),
        S("capitalised words and all punctuation", either(CAPITALISED, PUNCTUATION)),
        S("names of months", MONTHS),
        S("members of a family", FAMILY),
    ),
    Planted(
        "body_or_keywords",
        "or",
        S(
            "either parts of the body, or keywords of programming languages",
            either(BODY, matches(CODE_WORDS)),
        ),
        S(
            "nouns and words of code of every kind",
            either(
                either(BODY, matches(CODE_WORDS)),
                either(
                    FAMILY,
                    matches(
                        r"\w+_\w+|\b(?:man|men|day|house|name|value|error|file|type|string|data|list|"
                        r"time)\b"
                    ),
                ),
            ),
        ),
        S("parts of the body", BODY),
        S("line breaks", matches(r"\n+")),
    ),
    Planted(
        "negation_or_digits",
        "or",
        S("words of negation, and also digits", either(NEGATION, DIGITS)),
        S("short words and numbers", matches(r"\b\w{1,3}\b")),
        S("words of negation", NEGATION),
        S("words that begin with a capital letter", CAPITALISED),
    ),
    # -------------------------------------------------------------- and
    Planted(
        "capital_and_s",
        "and",
        S("words that begin with a capital letter and end in s", matches(r"\b[A-Z][a-z]*s\b")),
        S("words that end in s", matches(r"\b[^\W\d_]+s\b")),
        S(
            "names of people that end in s, such as James or Thomas",
            matches(r"\b(?:James|Thomas|Jones|Charles|Moses|Harris|Phillips)\b"),
        ),
        S("digits", DIGITS),
    ),
    Planted(
        "religion_after_the",
        "and",
        S(
            'words of religion that follow the word "the"',
            both(RELIGION, matches(r"\bthe\s+([^\W\d_]+)", re.I)),
        ),
        S("words of religion anywhere", RELIGION),
        S('"Lord" after the word "the"', matches(r"\bthe\s+(lord)\b", re.I)),
        S("keywords of programming languages", matches(CODE_WORDS)),
    ),
    Planted(
        "long_and_ing",
        "and",
        S("words of nine letters or more that end in -ing", matches(r"\b[^\W\d_]{6,}ing\b")),
        S("words that end in -ing", ING),
        S("words of twelve letters or more that end in -ing", matches(r"\b[^\W\d_]{9,}ing\b")),
        S("Chinese characters", CHINESE),
    ),
    # -------------------------------------------------------------- dense
    Planted(
        "lower_case_words",
        "dense",
        S(
            "words in lower-case letters, of two letters and more",
            matches(r"(?<![^\W\d_])[a-z]{2,}(?![^\W\d_])"),
        ),
        S("everything but digits and line breaks", matches(r"[^\d\n]+")),
        S(
            "words in lower-case letters, of six letters and more",
            matches(r"(?<![^\W\d_])[a-z]{6,}(?![^\W\d_])"),
        ),
        S("digits", DIGITS),
    ),
    Planted(
        "not_letters",
        "dense",
        S("digits, punctuation and line breaks", matches(r"[\d\n]|[^\w\s]")),
        S("everything but words in lower case", matches(r"[^a-z ]+")),
        S("digits", DIGITS),
        S("words that end in -ing", ING),
    ),
    # -------------------------------------------------------------- rare
    Planted(
        "rare_word",
        "rare",
        S('the word "cannon"', matches(r"\bcannons?\b", re.I)),
        S("weapons and machines of war", either(WAR, words("cannon rocket bomb shell engine"))),
        S('the word "cannon" right after "a"', matches(r"\ba\s+(cannon)\b", re.I)),
        S("names of months", MONTHS),
    ),
    # -------------------------------------------------------------- constant, zero
    Planted(
        "constant",
        "constant",
        S("all tokens alike", everywhere(5.0)),
        S("all tokens, above all words", lambda view: 5.0 + ANY_WORD(view) / 2),
        S("words", ANY_WORD),
        S("digits", DIGITS),
    ),
    Planted(
        "zero",
        "zero",
        S("nothing at all", everywhere(0.0)),
        S("rare signs, such as the section sign", matches("§")),
        S("nothing in lower case", everywhere(0.0)),
        S("words that end in -ing", ING),
    ),
    # -------------------------------------------------------------- signed
    Planted(
        "capitals_positive",
        "signed",
        S(
            "capital letters: the more of a token is in capitals, the stronger",
            lambda view: np.maximum(_case(view), 0.0),
        ),
        S("words", ANY_WORD),
        S("words all in capitals", matches(r"\b[A-Z]{3,}\b")),
        S("Chinese characters", CHINESE),
    ),
    Planted(
        "capitals_negative",
        "signed",
        S(
            "digits, and signs of punctuation more weakly",
            lambda view: np.maximum(-_case(view), 0.0),
        ),
        S("everything but plain words in lower case", matches(r"[^a-z ]+")),
        S("digits", DIGITS),
        S("members of a family", FAMILY),
    ),
    # -------------------------------------------------------------- hierarchy
    Planted(
        "relatives_but_son",
        "hierarchy",
        S("members of a family, except son", without(FAMILY, words("son"))),
        S(
            "people of any sort, relatives among them",
            either(
                FAMILY,
                words(
                    "man men woman women people boy girl friend king servant master lady gentleman "
                    "person"
                ),
            ),
        ),
        S("father", words("father")),
        S("commas", matches(",")),
    ),
    Planted(
        "son",
        "hierarchy",
        S('the word "son"', words("son")),
        S("members of a family, such as mother or son", FAMILY),
        S('"son" right before "of"', matches(r"\b(sons?)\s+of\b", re.I)),
        S("equals signs", matches("=")),
    ),
    # -------------------------------------------------------------- noise
    Planted(
        "noise",
        "noise",
        S("tokens at random", noise),
        S("all tokens", everywhere(5.0)),
        S("commas, at random", both(noise, matches(","))),
        S("names of months", MONTHS),
    ),
)
"""In a fixed order: unit `known/i` is `PLANTED[i]`."""


def _case(view: View) -> np.ndarray:
    """A quantity with two tails: up to 10 for capitals, down to -10 for digits, -4 punctuation."""
    values = np.zeros(len(view.tokens))
    for place, token in enumerate(view.tokens):
        text = token.strip()
        if not text:
            continue
        capitals = sum(letter.isupper() for letter in text)
        digits = sum(letter.isdigit() for letter in text)
        marks = sum(not letter.isalnum() for letter in text)
        values[place] = (STRONG * capitals - STRONG * digits - 4 * marks) / len(text)
    return values
