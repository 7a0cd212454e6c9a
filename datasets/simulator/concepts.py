"""Concepts to train a simulator on: a rule over a text, and many ways of putting it in words.

A rule maps a window to levels from 0 to 9 (`WINDOW` below). What the known-answer suite holds is
left out (`known.py`), so that what is tested was never trained on.
"""

import re
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from wordnet import Synset

STRONG = 9.0
UNKNOWN = 255
"""In place of a level: the token is not trained on."""

ABSTAIN = 10
"""The class after level 9: the description does not say how strong a token is."""


@dataclass(frozen=True)
class Window:
    """A short text and where its tokens lie."""

    text: str
    starts: np.ndarray
    """[n_tokens] first character of every token."""

    ends: np.ndarray
    """[n_tokens] one past its last character."""

    kind: str
    """Kind of document it is from."""


Rule = Callable[[Window], np.ndarray]
"""Levels [n_tokens] float; NaN where a token is not to be trained on."""


@dataclass(frozen=True)
class Concept:
    """What a unit may respond to."""

    family: str
    """Kind of concept: `category`, `suffix`, …"""

    rule: Rule
    descriptions: tuple[str, ...]
    """Ways of saying it; any of them."""

    near: Rule | None = None
    """Where a hard negative may be found: what is near and yet another thing."""

    forms: frozenset[str] = field(default_factory=frozenset[str])
    """Word forms that make it fire, where it is about words: finds windows quickly."""

    near_forms: frozenset[str] = field(default_factory=frozenset[str])


def over(window: Window, first: int, last: int) -> np.ndarray:
    """[n_tokens] whether a token overlaps the characters from `first` up to `last`."""
    return (window.starts < last) & (window.ends > first)


def matches(expression: str, flags: int = 0, level: float = STRONG) -> Rule:
    """A level on every token that overlaps a match (its group 1 where it has one)."""
    compiled = re.compile(expression, flags)
    group = 1 if compiled.groups else 0

    def rule(window: Window) -> np.ndarray:
        levels = np.zeros(len(window.starts))
        for match in compiled.finditer(window.text):
            first, last = match.span(group)
            if last > first:
                levels[over(window, first, last)] = level
        return levels

    return rule


WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")


def word_levels(levels_of: Callable[[str], float]) -> Rule:
    """A level for every word, from its lower-case form."""

    def rule(window: Window) -> np.ndarray:
        levels = np.zeros(len(window.starts))
        for match in WORD.finditer(window.text):
            level = levels_of(match[0])
            if level != 0:
                levels[over(window, *match.span())] = level
        return levels

    return rule


def from_forms(strong: frozenset[str], masked: frozenset[str], level: float = STRONG) -> Rule:
    """Strong on words out of a set; not trained on words out of another."""

    def level_of(word: str) -> float:
        form = word.lower()
        return np.nan if form in masked else (level if form in strong else 0.0)

    return word_levels(level_of)


def hidden(concept: Concept, words: frozenset[str]) -> Concept:
    """The same concept, on whose tokens of some words nothing is trained, strong or silent.

    Were they hidden only where a concept fires on them, they would be trained on as words that are
    silent under all descriptions.
    """
    of_words = word_levels(lambda word: float(word.lower() in words))

    def rule(window: Window) -> np.ndarray:
        return np.where(of_words(window) > 0, np.nan, concept.rule(window))

    return replace(concept, rule=rule)


def combined(how: Callable[[np.ndarray, np.ndarray], np.ndarray], one: Rule, other: Rule) -> Rule:
    """A rule out of two."""
    return lambda window: how(one(window), other(window))


# ---------------------------------------------------------------- descriptions


def pick(rng: np.random.Generator, items: Sequence) -> object:
    """One item at random."""
    return items[int(rng.integers(len(items)))]


_FRAMES = (
    "{x}",
    "{x}",
    "{x}",
    "{x}",
    "mentions of {x}",
    "references to {x}",
    "words for {x}",
    "words and phrases about {x}",
    "terms related to {x}",
    "this unit responds to {x}",
    "fires on {x}",
    "activates on {x}",
    "tokens that refer to {x}",
    "{x}.",
    "the unit is active on {x}",
    "{x} and the like",
)


def framed(rng: np.random.Generator, texts: Sequence[str], n: int = 6) -> tuple[str, ...]:
    """Ways of saying the same: each text in a frame of its own."""
    made = []
    for _ in range(n):
        text = str(pick(rng, _FRAMES)).format(x=pick(rng, texts))
        if rng.random() < 0.15:
            text = text[:1].upper() + text[1:]
        made.append(text)
    return tuple(dict.fromkeys(made))


_PLAIN_FRAMES = ("{x}", "{x}", "{x}", "{x}", "this unit responds to {x}", "fires on {x}", "{x}.")


def said(rng: np.random.Generator, texts: Sequence[str], n: int = 4) -> tuple[str, ...]:
    """Like `framed`, for texts that name tokens and not things."""
    made = [str(pick(rng, _PLAIN_FRAMES)).format(x=pick(rng, texts)) for _ in range(n)]
    return tuple(dict.fromkeys(made))


def plural(name: str) -> str:
    """A plain English plural."""
    if name.endswith(("s", "x", "ch", "sh")):
        return name + "es"
    if name.endswith("y") and name[-2:-1] not in "aeiou":
        return name[:-1] + "ies"
    return name + "s"


def category(
    rng: np.random.Generator,
    synset: Synset,
    forms: frozenset[str],
    lemmas: Sequence[str],
    masked: frozenset[str],
    near: frozenset[str],
) -> Concept:
    """The words of a WordNet category.

    Args:
        forms: all word forms of the category that may be trained on.
        lemmas: its more frequent words, for examples.
        masked: forms of it that may not be trained on.
        near: forms of its parent that are not its own.
    """
    name = str(pick(rng, synset.names[:3]))
    part = synset.key[0]
    examples = [str(word) for word in rng.permutation(np.array(lemmas, dtype=object))[:4]]
    few = ", ".join(examples[:3])
    last = f"{examples[0]} or {examples[1]}"
    if part == "noun":
        base = [plural(name), name, f"{plural(name)}, such as {last}", synset.gloss]
        base += [
            f"{plural(name)} (for example {few})",
            f"kinds of {name}",
            f"{name}: {synset.gloss}",
        ]
        base += [
            f"{few} and other {plural(name)}",
            f"{few} and similar words",
            f"names of {plural(name)}",
        ]
    elif part == "verb":
        base = [f"to {name}", f"verbs that mean to {name}", synset.gloss, f"verbs such as {few}"]
        base += [
            f"acts of {name}: {synset.gloss}",
            f"{few} and similar verbs",
            f"verbs like {last}",
        ]
    else:
        base = [f"adjectives like {name}", f"words that mean {name}", synset.gloss]
        base += [
            f"{few} and similar adjectives",
            f"adjectives such as {last}",
            f"{name} ({synset.gloss})",
        ]
    return Concept(
        "category",
        from_forms(forms, masked),
        framed(rng, base, 10),
        None,
        forms,
        near,
    )


# ---------------------------------------------------------------- lexical families


def _word(rng: np.random.Generator, words: Sequence[str]) -> str:
    return str(words[int(rng.integers(len(words)) * rng.random() ** 1.5)])


def one_word(rng: np.random.Generator, words: Sequence[str]) -> Concept:
    """One word, whatever its case."""
    w = _word(rng, words)
    texts = [
        f'the word "{w}"',
        f"the word {w}",
        f'"{w}"',
        f'occurrences of "{w}"',
        f'the token "{w}"',
        w,
    ]
    near = frozenset(v for v in words[:3000] if v[:2] == w[:2] and v != w)
    return Concept(
        "word",
        from_forms(frozenset([w]), frozenset()),
        said(rng, texts),
        None,
        frozenset([w]),
        near,
    )


def word_list(rng: np.random.Generator, words: Sequence[str]) -> Concept:
    """A few words that have nothing to do with each other."""
    chosen = list(dict.fromkeys(_word(rng, words) for _ in range(int(rng.integers(2, 7)))))
    quoted = [f'"{w}"' for w in chosen]
    texts = [
        "the words " + ", ".join(quoted),
        ", ".join(chosen),
        " or ".join(quoted),
        f"the words {', '.join(chosen[:-1])} and {chosen[-1]}" if len(chosen) > 1 else chosen[0],
    ]
    return Concept(
        "word_list",
        from_forms(frozenset(chosen), frozenset()),
        said(rng, texts),
        None,
        frozenset(chosen),
    )


def token_list(rng: np.random.Generator, tokens: Sequence[str]) -> Concept:
    """Exact tokens, as a list of top tokens names them; the first are the strongest."""
    n = int(rng.integers(1, 9))
    chosen = list(
        dict.fromkeys(str(tokens[int(rng.integers(len(tokens)) * rng.random())]) for _ in range(n))
    )
    graded = rng.random() < 0.5
    level = {
        t: STRONG - (i * 6 / max(len(chosen) - 1, 1) if graded else 0) for i, t in enumerate(chosen)
    }

    def rule(window: Window) -> np.ndarray:
        pieces = [window.text[a:b] for a, b in zip(window.starts, window.ends, strict=True)]
        return np.array([level.get(piece, 0.0) for piece in pieces])

    quoted = ", ".join('"' + t.replace("\n", "\\n").replace('"', '\\"') + '"' for t in chosen)
    texts = [f"the token{'s' if len(chosen) > 1 else ''} {quoted}"]
    return Concept("token_list", rule, tuple(texts))


PREFIXES = "re in con de pre pro dis en ex over sub inter trans mis anti auto be com per out up for ab ad".split()
SUFFIXES = "ed er est ment ness able ible ful less ous ive al ity ism ist ship hood ward en eth age ance ence ure ish ify ize ant ent ary ory".split()


def affix(rng: np.random.Generator) -> Concept:
    """Words that begin or end with given letters."""
    if rng.random() < 0.5:
        a = str(pick(rng, PREFIXES))
        if rng.random() < 0.3:
            a = "".join(
                pick(rng, string.ascii_lowercase[:23]) for _ in range(int(rng.integers(1, 3)))
            )  # type: ignore[misc]
        texts = [
            f'words that begin with "{a}"',
            f"words starting with {a}-",
            f"words with the prefix {a}-",
        ]
        return Concept(
            "prefix",
            matches(rf"\b{a}[^\W\d_]*", re.I),
            said(rng, texts),
            matches(rf"\B{a}\w*", re.I),
        )
    a = str(pick(rng, SUFFIXES))
    if rng.random() < 0.25:
        a = "".join(pick(rng, string.ascii_lowercase) for _ in range(1))  # type: ignore[misc]
    texts = [
        f'words that end with "{a}"',
        f"words ending in -{a}",
        f"words with the suffix -{a}",
        f"words that end in {a}",
    ]
    return Concept(
        "suffix",
        matches(rf"\b[^\W\d_]+{a}\b", re.I),
        said(rng, texts),
        matches(rf"\b\w*{a}\w+", re.I),
    )


def shape(rng: np.random.Generator) -> Concept:
    """Letters, length and case of words."""
    n = int(rng.integers(2, 10))
    pair = "".join(pick(rng, "aeioustrnlhg") for _ in range(2))  # type: ignore[misc]
    options = [
        (
            "contains",
            rf"\b\w*{pair}\w*",
            re.I,
            [f'words that contain "{pair}"', f'words with the letters "{pair}" in them'],
        ),
        (
            "length",
            rf"\b[^\W\d_]{{{n}}}\b",
            0,
            [f"words of exactly {n} letters", f"words with {n} letters", f"{n}-letter words"],
        ),
        (
            "all_caps",
            r"\b[A-Z]{2,}\b",
            0,
            [
                "words in capital letters only",
                "ALL CAPS",
                "upper-case words and acronyms",
                "acronyms in capitals, such as HTTP",
            ],
        ),
        (
            "camel_case",
            r"\b[A-Za-z][a-z]+(?:[A-Z][a-z]+)+\b",
            0,
            ["camelCase identifiers", "identifiers with capitals inside, such as fooBar"],
        ),
        (
            "snake_case",
            r"\b\w+_\w+\b",
            0,
            ["identifiers with underscores", "snake_case names", "variable names such as foo_bar"],
        ),
        (
            "double_letter",
            r"\b\w*([a-z])\1\w*\b",
            0,
            ["words with a doubled letter", "words with the same letter twice in a row"],
        ),
        (
            "hyphenated",
            r"\b[^\W\d_]+-[^\W\d_]+\b",
            0,
            ["hyphenated words", "compound words with a hyphen"],
        ),
        (
            "contraction",
            r"\b[^\W\d_]+['’][^\W\d_]+\b",
            0,
            ["contractions with an apostrophe", "words with an apostrophe, such as John's"],
        ),
        (
            "one_letter",
            r"\b[^\W\d_]\b",
            0,
            ["single letters", "one-letter words", "single-letter variables"],
        ),
    ]
    family, expression, flags, texts = options[int(rng.integers(len(options)))]
    if family == "double_letter":
        doubled = re.compile(r"([a-z])\1")
        return Concept(
            family, word_levels(lambda w: STRONG if doubled.search(w) else 0.0), said(rng, texts)
        )
    return Concept(family, matches(expression, flags), said(rng, texts))


def numbers(rng: np.random.Generator) -> Concept:
    """Digits and numbers."""
    d, n = int(rng.integers(10)), int(rng.integers(1, 7))
    names = "zero one two three four five six seven eight nine".split()
    options = [
        (rf"{d}", [f"the digit {d}", f'"{d}"', f"the digit {names[d]}"]),
        (r"[02468]", ["even digits", "the digits 0, 2, 4, 6 and 8"]),
        (r"[13579]", ["odd digits", "the digits 1, 3, 5, 7 and 9"]),
        (rf"(?<!\d)\d{{{n}}}(?!\d)", [f"numbers of {n} digits", f"{n}-digit numbers"]),
        (
            r"\d+\.\d+(?:\.\d+)*",
            ["decimal numbers and version numbers", "numbers with a point in them, such as 2.7"],
        ),
        (r"\d+", ["numbers", "digits", "any number written in digits", "numerals"]),
        (r"\b\d+(?:st|nd|rd|th)\b", ["ordinals such as 1st or 22nd", "ordinal numbers in digits"]),
        (
            r"\b0x[0-9a-fA-F]+|\b[0-9a-f]*\d[0-9a-f]*[a-f][0-9a-f]*\b",
            ["hexadecimal numbers", "hex strings"],
        ),
        (r"[-+]\d+", ["signed numbers", "numbers with a minus or plus sign"]),
        (r"^\s*\d+", ["a number at the start of the text"]),
    ]
    expression, texts = options[int(rng.integers(len(options)))]
    return Concept("number", matches(expression), said(rng, texts), matches(r"\d+"))


PUNCTUATION = {
    ".": ["full stops", "periods", "the full stop"], ",": ["commas", "the comma"],
    ":": ["colons", "the colon"], "-": ["hyphens", "dashes and hyphens"], "_": ["underscores"],
    "/": ["slashes", "forward slashes"], "\\": ["backslashes"], "|": ["vertical bars", "pipes"],
    "&": ["ampersands"], "*": ["asterisks", "stars"], "+": ["plus signs"],
    "<": ["less-than signs"], ">": ["greater-than signs"], "@": ["at signs", "the @ sign"],
    "#": ["hash signs", "number signs"], "$": ["dollar signs"], "%": ["percent signs"], "'": ["apostrophes", "single quotes"],
    "`": ["backticks"], "~": ["tildes"], "(": ["opening parentheses"], ")": ["closing parentheses"],
    "[": ["opening square brackets"], "]": ["closing square brackets"], "...": ["ellipses", "three dots in a row"],
    "--": ["double dashes"], "->": ["arrows (->)"], "::": ["double colons"], "==": ["double equals signs"], '"': ["double quotation marks"],
}  # fmt: skip


def punctuation(rng: np.random.Generator) -> Concept:
    """One punctuation mark or a few."""
    if rng.random() < 0.25:
        chosen = [str(pick(rng, list(PUNCTUATION))) for _ in range(2)]
        texts = [f"{PUNCTUATION[chosen[0]][0]} and {PUNCTUATION[chosen[1]][0]}"]
    elif rng.random() < 0.15:
        options = [
            (
                r"[^\w\s]",
                [
                    "punctuation",
                    "punctuation marks",
                    "any character that is neither letter nor digit",
                ],
            ),
            (r"[()\[\]]", ["brackets and parentheses", "parentheses and square brackets"]),
            (r"[-+*/%=<>&|^~]+", ["operators in code", "arithmetic and comparison operators"]),
            (r"[.,:]", ["commas, full stops and colons"]),
        ]
        expression, texts = options[int(rng.integers(len(options)))]
        return Concept("punctuation", matches(expression), said(rng, texts), matches(r"[^\w\s]"))
    else:
        chosen = [str(pick(rng, list(PUNCTUATION)))]
        mark = chosen[0]
        texts = [*PUNCTUATION[mark], f'the character "{mark}"', f'"{mark}"']
    expression = "|".join(re.escape(mark) for mark in chosen)
    return Concept("punctuation", matches(expression), said(rng, texts), matches(r"[^\w\s]"))


def context(rng: np.random.Generator, words: Sequence[str]) -> Concept:
    """What stands after, inside or at the start of something."""
    w = _word(rng, words[:400])
    while w == "of":
        w = _word(rng, words[:400])
    mark = str(pick(rng, list(",.:[/-@#")))
    name = PUNCTUATION[mark][0].rstrip("s")
    options = [
        ("after_word", rf"(?i)\b{re.escape(w)}\b\s+([^\W\d_]+|\d+|[^\w\s])", [f'whatever comes right after the word "{w}"', f'the word after "{w}"', f'what follows "{w}"']),
        ("after_mark", rf"{re.escape(mark)}\s*(\w+)", [f'the word right after "{mark}"', f"words that follow a {name}", f"what comes after {PUNCTUATION[mark][0]}"]),
        ("after_number", r"\d+\s+([^\W\d_]+)", ["the word right after a number", "words that follow a number, such as units"]),
        ("after_capital", r"\b[A-Z][a-z]+\s+([a-z]+)\b", ["the lower-case word after a capitalised one"]),
        ("in_square_brackets", r"\[([^\[\]]+)\]?", ["text inside square brackets", "what stands between [ and ]"]),
        ("in_parentheses", r"\(([^()]+)\)?", ["text inside parentheses", "what stands between ( and )", "remarks in parentheses"]),
        ("in_single_quotes", r"(?<!\w)'([^']+)'", ["text between single quotation marks"]),
        ("in_angle", r"=\s*([^\s,;)]+)", ["the value after an equals sign", "what is assigned"]),
        ("line_start", r"\n[ \t]*(\S+)", ["the first word of a line", "the beginning of a line"]),
        ("indentation", r"\n([ \t]+)", ["indentation at the start of a line", "spaces that indent a line"]),
        ("spaces", r"  +", ["several spaces in a row", "runs of blanks"]),
        ("after_dot", r"\w\.([a-z_]\w*)", ["attribute and method names after a dot", "the name after a dot"]),
        ("comment", r"(?:#|//) ?([^\n]*)", ["comments in code", "text of a comment after # or //"]),
        ("item", r"\n\s*([-*])\s", ["bullets of a list", "the mark that starts a list item"]),
        ("paths", r"(?<![:\w/])/?\w+(?:/[\w.]+)+", ["file paths", "paths with slashes, such as usr/lib"]),
        ("emails", r"[\w.]+@[\w.]+", ["e-mail addresses"]),
        ("files", r"\b\w+\.(?:py|c|h|js|go|html|txt|json|xml|css|so|conf|sql)\b", ["file names with an extension, such as main.c"]),
        ("options", r"(?<!\w)--?[a-z][\w-]*", ["command-line options such as --help"]),
    ]  # fmt: skip
    family, expression, texts = options[int(rng.integers(len(options)))]
    return Concept(family, matches(expression), said(rng, texts))


CLOSED = {
    "prepositions": ("in on at by for with from to into over under between through about against among upon toward towards within without", ["prepositions", "prepositions such as in, on or with", "small words of place and direction"]),
    "conjunctions": ("or but yet so because although though whereas unless", ["conjunctions other than and", "words that join clauses, such as but or because"]),
    "second_person": ("you your yours thou thee thy thine ye yourself", ["the reader being spoken to: you, your, thou", "second-person pronouns"]),
    "third_person": ("he him his she her hers they them their theirs it its himself herself themselves", ["third-person pronouns", "he, she, it and they in all their forms"]),
    "he": ("he him his himself", ["masculine pronouns: he, him, his", "pronouns for a man"]),
    "she": ("she her hers herself", ["feminine pronouns: she, her", "pronouns for a woman"]),
    "be": ("is are was were be been being am", ['forms of the verb "to be"', "is, was, are and other forms of to be"]),
    "have": ("have has had having hath", ['forms of the verb "to have"', "have, has, had"]),
    "do": ("do does did doing done doth", ['forms of the verb "to do"', "do, does, did"]),
    "modals": ("can could may might must shall should will would ought", ["modal verbs", "modal verbs such as can, must or should", "words of possibility and obligation"]),
    "questions": ("what who whom whose where when why how which whither", ["question words", "who, what, where, when, why and how"]),
    "demonstratives": ("this that these those", ["demonstratives: this, that, these, those", "words that point at something"]),
    "quantifiers": ("all some any many much few several each every most more less both", ["quantifiers", "words of quantity such as some, many or all"]),
    "time_adverbs": ("now then soon later before after already always often sometimes yesterday today tomorrow ago again", ["adverbs of time", "words that say when, such as now or soon"]),
    "degree": ("very quite rather too almost nearly extremely highly fairly so", ["words of degree, such as very or almost", "intensifiers"]),
    "ordinals": ("first second third fourth fifth sixth seventh eighth ninth tenth last", ["ordinal words, such as first or third"]),
    "weekdays": ("monday tuesday wednesday thursday friday saturday sunday", ["days of the week", "weekdays such as Monday"]),
    "places": ("here there everywhere somewhere above below near far away inside outside", ["adverbs of place", "words that say where, such as here or above"]),
    "types": ("int float str string bool char list dict array tuple integer boolean double long", ["data types in programming", "names of types such as int or string"]),
    "speech": ("said say says saying saith speak spake spoke answered asked told replied cried", ["verbs of speaking, such as said or answered"]),
    "old_english": ("thou thee thy hath shalt ye doth saith hast art wilt thine", ["old-fashioned English words, such as thou or hath", "archaic English"]),
}  # fmt: skip


def closed_class(rng: np.random.Generator) -> Concept:
    """Function words and other closed lists."""
    words, texts = CLOSED[str(pick(rng, list(CLOSED)))]
    forms = frozenset(words.split())
    return Concept("closed_class", from_forms(forms, frozenset()), said(rng, texts), None, forms)


SCRIPTS = {
    "arabic": (r"[\u0600-\u06ff]+", ["Arabic script", "text in Arabic letters"]),
    "hebrew": (r"[\u0590-\u05ff]+", ["Hebrew letters", "text in Hebrew"]),
    "greek": (r"[\u0370-\u03ff]+", ["Greek letters", "text in Greek"]),
    "kana": (r"[\u3040-\u30ff]+", ["Japanese kana", "hiragana and katakana"]),
    "hangul": (r"[\uac00-\ud7af]+", ["Korean text", "Hangul"]),
    "thai": (r"[\u0e00-\u0e7f]+", ["Thai script"]),
    "devanagari": (r"[\u0900-\u097f]+", ["Devanagari, as in Hindi", "Hindi text"]),
    "accents": (r"\b\w*[à-öø-ÿ]\w*", ["words with accented letters", "letters with accents or umlauts"]),
    "non_ascii": (r"[^\x00-\x7f]+", ["characters outside ASCII", "non-ASCII characters", "foreign scripts and symbols"]),
}  # fmt: skip


def script(rng: np.random.Generator) -> Concept:
    """Writing systems."""
    expression, texts = SCRIPTS[str(pick(rng, list(SCRIPTS)))]
    return Concept("script", matches(expression), said(rng, texts), matches(r"[^\x00-\x7f]+"))


TOPICS = {
    ("python_code", "python_tests"): ["Python source code", "code written in Python"],
    ("c_code",): ["C source code", "code written in C"],
    ("go_code",): ["Go source code"],
    ("javascript",): ["JavaScript code", "code of a web page's script"],
    ("novel",): ["novels", "English fiction of the nineteenth century", "storytelling prose"],
    ("scripture", "novel", "verse_and_drama"): ["old English literature", "literary English"],
    ("database_docs", "web_server_docs", "web_framework_docs", "python_docs", "language_docs"): ["technical documentation", "manuals of software"],
    ("web_markup",): ["HTML pages", "markup of web pages"],
    ("structured_data",): ["structured data such as JSON or tables", "data files"],
    ("translations_latin",): ["text in languages other than English, in Latin letters", "foreign languages such as German, French or Spanish"],
    ("science_prose",): ["scientific prose about light and colours", "old science writing"],
    ("hacker_glossary",): ["computer slang and its explanations", "hacker jargon"],
}  # fmt: skip


def topic(rng: np.random.Generator) -> Concept:
    """Every token of a kind of document."""
    keys = list(TOPICS)
    kinds = keys[int(rng.integers(len(keys)))]
    level = float(rng.integers(3, 10))
    texts = [*TOPICS[kinds], *(f"all tokens of {text}" for text in TOPICS[kinds])]
    return Concept(
        "topic",
        lambda window: np.full(len(window.starts), level if window.kind in kinds else 0.0),
        said(rng, texts),
    )


VAGUE = (
    "no clear pattern", "unclear", "nothing in particular", "unknown", "random tokens", "noise",
    "various unrelated words", "a mixture of things", "cannot tell", "what the next token will be",
    "depends on what comes later", "the word before a name", "the token before a full stop",
    "text written on a Tuesday", "things that the author dislikes", "the last word of a paragraph",
    "a pattern that nobody has found", "activations of another model", "n/a", "?", "none", "secret words",
)  # fmt: skip


def vague(rng: np.random.Generator) -> Concept:
    """Descriptions from which no level follows: to be answered by abstaining."""
    return Concept(
        "vague", lambda window: np.full(len(window.starts), float(ABSTAIN)), said(rng, VAGUE)
    )


def graded(rng: np.random.Generator, ranks: dict[str, int]) -> Concept:
    """Levels that grow with something."""
    top = np.log(max(ranks.values()) + 1)
    vowels = re.compile(r"[aeiou]", re.I)
    options: list[tuple[str, Callable[[str], float], list[str]]] = [
        ("graded_short", lambda w: max(0.0, 10.0 - 2 * len(w)), ["short words: the shorter, the stronger", "words, more strongly the fewer letters they have"]),
        ("graded_rare", lambda w: min(9.0, 10 * np.log(ranks.get(w.lower(), max(ranks.values())) + 1) / top - 1) if len(w) > 2 else 0.0, ["rare words: the rarer, the stronger", "uncommon words, more strongly the less common they are"]),
        ("graded_vowels", lambda w: min(9.0, 2.0 * len(vowels.findall(w))), ["vowels: the more vowels in a word, the stronger"]),
    ]  # fmt: skip
    family, level_of, texts = options[int(rng.integers(len(options)))]
    return Concept(family, word_levels(level_of), said(rng, texts))


def either(rng: np.random.Generator, one: Concept, other: Concept) -> Concept:
    """A polysemantic unit: fires on either of two things."""
    a, b = one.descriptions[0].rstrip("."), other.descriptions[0].rstrip(".")
    texts = [f"{a}; also {b}", f"{a} or {b}", f"either {a}, or {b}", f"two things: {a} and {b}"]
    return Concept(
        "either",
        combined(np.maximum, one.rule, other.rule),
        said(rng, texts),
        None,
        one.forms | other.forms,
    )


def ranked(rng: np.random.Generator, strong: Concept, weak: Concept) -> Concept:
    """Strong on one thing and weak on another."""
    a, b = strong.descriptions[0], weak.descriptions[0]
    texts = [f"strongly on {a}, weakly on {b}", f"{a}, and more weakly {b}", f"{b}, above all {a}"]
    how = lambda one, other: np.maximum(one, other / 3)  # noqa: E731
    return Concept(
        "ranked",
        combined(how, strong.rule, weak.rule),
        said(rng, texts),
        None,
        strong.forms | weak.forms,
    )


def excluding(rng: np.random.Generator, one: Concept, other: Concept, word: str) -> Concept:
    """One thing, but not another."""
    a = one.descriptions[0]
    not_after = matches(rf"(?i)\b{re.escape(word)}\b\s+(\w+)")
    if one.forms and rng.random() < 0.5:
        out = str(pick(rng, sorted(one.forms)))
        texts = [f'{a}, but not "{out}"', f'{a}, except the word "{out}"']
        rule = combined(
            lambda x, y: np.where(y > 0, 0.0, x),
            one.rule,
            from_forms(frozenset([out]), frozenset()),
        )
    else:
        texts = [f'{a}, except right after "{word}"', f'{a}, but not after the word "{word}"']
        rule = combined(lambda x, y: np.where(y > 0, 0.0, x), one.rule, not_after)
    return Concept("excluding", rule, said(rng, texts), one.rule, one.forms, one.near_forms)


def both(rng: np.random.Generator, one: Concept) -> Concept:
    """One thing in a place or a form: a conjunction."""
    options = [
        (matches(r"\b[a-z]+\b"), "in lower-case letters", "without capitals"),
        (matches(r"\(([^()]*)\)?"), "inside parentheses", "within parentheses"),
        (matches(r"(?i)\ba\s+(\w+)"), 'right after "a"', 'that follow the word "a"'),
        (matches(r"(?i)\b\w+s\b"), "that end in s", "ending in -s"),
        (matches(r"(?:#|//)([^\n]*)"), "in comments of code", "within a comment"),
    ]
    gate, *ways = options[int(rng.integers(len(options)))]
    a = one.descriptions[0].rstrip(".")
    texts = [f"{a}, only those {way}" for way in ways] + [f"{a} {ways[0]}"]
    return Concept(
        "both",
        combined(np.minimum, one.rule, gate),
        said(rng, texts),
        one.rule,
        one.forms,
        one.near_forms,
    )
