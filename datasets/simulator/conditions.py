"""Concepts that a single word does not decide: places, what came before, several conditions."""

import re
import string
from collections.abc import Callable, Sequence

import concepts as c
import numpy as np


def position(rng: np.random.Generator) -> c.Concept:
    """Where a token stands in the text."""
    n = int(rng.integers(2, 25))
    few = int(rng.integers(2, 7))
    step = int(c.pick(rng, (2, 3, 4, 5, 6, 7, 10)))  # type: ignore[arg-type]
    nth = ("second", "third", "fourth", "fifth", "sixth", "seventh", "ninth", "tenth")
    each = {2: "second", 3: "third", 4: "fourth", 5: "fifth", 6: "sixth", 7: "seventh", 10: "tenth"}
    place = {
        "second": 1,
        "third": 2,
        "fourth": 3,
        "fifth": 4,
        "sixth": 5,
        "seventh": 6,
        "ninth": 8,
        "tenth": 9,
    }
    one = str(c.pick(rng, nth))
    options: list[tuple[str, Callable[[np.ndarray], np.ndarray], list[str]]] = [
        ("first_tokens", lambda i: i < few, [f"the first {few} tokens of the text", f"the beginning of the text: {few} tokens"]),
        ("from_on", lambda i: i >= n, [f"every token after the first {n}", f"all of the text but its first {n} tokens"]),
        ("before", lambda i: i < n, [f"the first {n} tokens", f"tokens before place {n + 1}"]),
        ("periodic", lambda i: i % step == 0, [f"every {each[step]} token, from the first on", f"one token in {step}, counted from the first"]),
        ("periodic_last", lambda i: i % step == step - 1, [f"every {each[step]} token", f"each {each[step]} token of the text"]),
        ("one_place", lambda i: i == place[one], [f"the {one} token of the text", f"the token in {one} place"]),
        ("all_but_first", lambda i: i > 0, ["every token but the first", "all tokens except the first one"]),
        ("later", lambda i: i / 3.5, ["all tokens: the later in the text, the stronger", "grows along the text"]),
        ("earlier", lambda i: np.maximum(9 - i / 3.5, 0), ["all tokens: the earlier in the text, the stronger", "fades along the text"]),
    ]  # fmt: skip
    family, where, texts = options[int(rng.integers(len(options)))]

    def rule(window: c.Window) -> np.ndarray:
        found = where(np.arange(len(window.starts)))
        return found * c.STRONG if found.dtype == bool else np.rint(np.minimum(found, c.STRONG))

    return c.Concept(family, rule, c.said(rng, texts))


def earlier(rng: np.random.Generator, words: Sequence[str]) -> c.Concept:
    """What has, or has not, come before in the text."""
    n = int(rng.integers(2, 6))
    w = c._word(rng, words[:120])
    mark = str(c.pick(rng, list(",.:(-/")))
    name = c.PUNCTUATION[mark][0].rstrip("s")
    letter = str(c.pick(rng, list("abcdefmnpst")))
    options: list[tuple[str, c.Rule, list[str]]] = [
        ("repeated_short", again(rf"\b[a-z]{{1,{n}}}\b"), [f"words of at most {n} letters that have come before", f"a repeated word, of {n} letters or fewer"]),
        ("repeated_word", again(r"\b[^\W\d_]{3,}\b"), ["a word that has come before in the text", "repeated words", "the second occurrence of a word"]),
        ("repeated_mark", again(r"[^\w\s]"), ["a mark of punctuation that has come before", "repeated punctuation"]),
        ("repeated_letter", again(rf"\b{letter}[a-z]*\b"), [f'a word on "{letter}" that has come before', f'repeated words that begin with "{letter}"']),
        ("new_word", again(r"\b[^\W\d_]{3,}\b", new=True), ["a word that has not come before in the text", "the first occurrence of every word", "new words"]),
        ("new_number", again(r"\d+", new=True), ["a number the first time it stands in the text", "numbers that have not come before"]),
        ("new_mark", again(r"[^\w\s]", new=True), ["a punctuation mark the first time it is used", "punctuation that is new in the text"]),
        ("since_word", since(rf"(?i)\b{re.escape(w)}\b"), [f'everything after the word "{w}" has come', f'all of the text after its first "{w}"']),
        ("since_mark", since(re.escape(mark)), [f"everything after the first {name}", f'all that follows the first "{mark}"']),
        ("since_digit", since(r"\d"), ["all text after the first digit", "everything that follows a number, however far"]),
        ("since_line", since(r"\n"), ["everything but the first line", "all lines after the first"]),
        ("until_mark", since(re.escape(mark), until=True), [f"everything before the first {name}", f'the text up to the first "{mark}"']),
        ("word_since", both_rules(since(re.escape(mark)), c.matches(rf"(?i)\b{letter}[a-z]*")), [f'words on "{letter}" once a {name} has come', f'words that begin with "{letter}", after the first {name} of the text']),
        ("second_word_again", again(r"\b[A-Z]{2,}\b|\b\w+_\w+\b"), ["an acronym or identifier that has come before", "repeated identifiers and acronyms"]),
    ]  # fmt: skip
    family, rule, texts = options[int(rng.integers(len(options)))]
    return c.Concept(family, rule, c.said(rng, texts))


def again(expression: str, *, new: bool = False) -> c.Rule:
    """What matches and has matched before, letter by letter; or, if `new`, has not."""
    compiled = re.compile(expression)

    def rule(window: c.Window) -> np.ndarray:
        levels, seen = np.zeros(len(window.starts)), set[str]()
        for match in compiled.finditer(window.text):
            if (match[0] in seen) != new:
                levels[c.over(window, *match.span())] = c.STRONG
            seen.add(match[0])
        return levels

    return rule


def since(expression: str, *, until: bool = False) -> c.Rule:
    """All that comes after the first match; or, if `until`, before it."""
    compiled = re.compile(expression)

    def rule(window: c.Window) -> np.ndarray:
        match = compiled.search(window.text)
        if match is None:
            return np.full(len(window.starts), c.STRONG if until else 0.0)
        after = window.starts >= match.end()
        before = window.ends <= match.start()
        return c.STRONG * (before if until else after)

    return rule


def both_rules(one: c.Rule, other: c.Rule) -> c.Rule:
    """The weaker of two."""
    return c.combined(np.minimum, one, other)


_Test = tuple[str, Callable[[str], bool]]
"""What is said of a word, and whether it holds."""


def _tests(rng: np.random.Generator) -> list[tuple[str, _Test]]:
    """Conditions on the form of a word: which part they look at, what is said, and the test."""
    n = int(rng.integers(3, 9))
    first = str(c.pick(rng, list("abcdefghlmnprstw")))
    last = str(c.pick(rng, [*"edyntrslh", "er", "ed", "es", "al", "ion", "ous", "ent", "ers"]))
    inner = "".join(c.pick(rng, "aeioustrnlh") for _ in range(int(rng.integers(1, 3))))  # type: ignore[misc]
    begin = str(c.pick(rng, c.PREFIXES))
    return [
        ("first", (f'begin with "{first}"', lambda w: w.lower().startswith(first))),
        ("first", (f"begin with {begin}-", lambda w: w.lower().startswith(begin))),
        ("first", ("begin with a vowel", lambda w: w[0].lower() in "aeiou")),
        ("last", (f"end in {last}", lambda w: w.lower().endswith(last))),
        ("last", (f'end with "{last}"', lambda w: w.lower().endswith(last))),
        ("last", ("end with a vowel", lambda w: w[-1].lower() in "aeiou")),
        ("length", (f"have {n} letters or more", lambda w: len(w) >= n)),
        ("length", (f"have at most {n} letters", lambda w: len(w) <= n)),
        ("length", (f"have exactly {n} letters", lambda w: len(w) == n)),
        ("inner", (f'contain "{inner}"', lambda w: inner in w.lower())),
        ("inner", (f'do not contain the letter "{inner[0]}"', lambda w: inner[0] not in w.lower())),
        ("case", ("begin with a capital letter", lambda w: w[0].isupper())),
        ("case", ("are in lower case", lambda w: w.islower())),
    ]


def conjunction(rng: np.random.Generator) -> tuple[c.Concept, c.Concept]:
    """Words under two conditions on their form, and under one of the two."""
    tests = _tests(rng)
    part, (said_one, one) = tests[int(rng.integers(len(tests) - 2))]  # case is never the wider one
    others = [test for which, test in tests if which != part]
    said_other, other = others[int(rng.integers(len(others)))]
    phrases = [f"{said_one} and {said_other}", f"{said_other} and {said_one}"]
    texts = [f"words that {phrase}" for phrase in phrases]
    texts += [f"words that {said_one}, only those that {said_other}"]
    narrow = c.word_levels(lambda w: c.STRONG * (one(w) and other(w)))
    wide = c.word_levels(lambda w: c.STRONG * one(w))
    return (
        c.Concept("conjunction", narrow, c.said(rng, texts), wide),
        c.Concept("one_condition", wide, c.said(rng, [f"words that {said_one}"])),
    )


def dense(rng: np.random.Generator, simple: c.Concept) -> c.Concept:
    """What fires on a great part of all tokens."""
    n = int(rng.integers(3, 7))
    a = simple.descriptions[0].rstrip(".")
    everything = lambda window: np.full(len(window.starts), c.STRONG)  # noqa: E731
    letter = str(c.pick(rng, list(string.ascii_lowercase[:20])))

    def but(rule: c.Rule) -> c.Rule:
        return c.combined(
            lambda x, y: np.where(np.isnan(y), y, np.where(y > 0, 0.0, x)), everything, rule
        )

    options = [
        ("all_but", but(simple.rule), [f"everything but {a}", f"all tokens except {a}"]),
        ("at_least", c.matches(rf"[^\W\d_]{{{n},}}"), [f"words of {n} letters or more", f"words of at least {n} letters"]),
        ("at_most", c.matches(rf"(?<![^\W\d_])[^\W\d_]{{1,{n}}}(?![^\W\d_])"), [f"words of at most {n} letters", f"short words, up to {n} letters"]),
        ("without_letter", c.word_levels(lambda w: c.STRONG * (letter not in w.lower())), [f'words without the letter "{letter}"']),
        ("no_word", but(c.matches(r"[^\W\d_]+")), ["everything that is not a word", "tokens without any letter"]),
        ("words", c.matches(r"[^\W\d_]+"), ["words of any kind", "everything made of letters", "all words"]),
        ("not_ends", but(c.matches(r"[.!?\n]")), ["everything but the ends of sentences and lines"]),
        ("content", c.word_levels(lambda w: c.STRONG * (w.lower() not in _SMALL)), ["words that carry meaning, not small ones such as of or the", "content words: nouns, verbs and adjectives"]),
        ("small", c.word_levels(lambda w: c.STRONG * (w.lower() in _SMALL)), ["function words of all kinds", "small grammatical words"]),
    ]  # fmt: skip
    family, rule, texts = options[int(rng.integers(len(options)))]
    return c.Concept(family, rule, c.said(rng, texts))


_SMALL = frozenset(
    word for words, _ in c.CLOSED.values() for word in words.split() if len(word) < 6
) - set("int float str string bool char list dict array tuple first last third fifth".split())


def narrowed(
    rng: np.random.Generator, wide: c.Concept, words: Sequence[str]
) -> tuple[c.Concept, c.Concept]:
    """A part of a concept, by one condition more, and the concept."""
    a = wide.descriptions[0].rstrip(".")
    w = c._word(rng, words[:60])
    v = str(c.pick(rng, list("abcdefghlmnprstw")))
    e = str(c.pick(rng, ["s", "e", "d", "y", "n", "t", "r", "es", "ed", "er"]))
    n = int(rng.integers(4, 8))
    options = [
        (c.matches(r"\(([^()]*)\)?"), f"{a}, inside parentheses", f"{a} that stands within parentheses"),
        (c.matches(rf"(?i)\b{w}\b\s+(\w+)"), f'{a}, right after the word "{w}"', f'{a} that follows "{w}"'),
        (c.matches(rf"(\w+)\s+{w}\b"), f'{a}, right before the word "{w}"', f'{a} followed by "{w}"'),
        (c.matches(rf"(?i)\b{v}\w*"), f'{a}, only words that begin with "{v}"', f'{a} on "{v}"'),
        (c.matches(rf"(?i)\b\w*{e}\b"), f"{a}, only words that end in {e}", f"{a} ending in -{e}"),
        (c.matches(rf"[^\W\d_]{{{n},}}"), f"{a}, of {n} letters or more", f"long {a}, {n} letters at least"),
        (c.matches(r"\b[A-Z]\w*"), f"{a}, written with a capital", f"{a} with a capital letter"),
        (c.matches(r"\n\s*(\w+)"), f"{a}, at the start of a line", f"{a} as the first word of a line"),
        (since(r"[.\n]"), f"{a}, but not in the first sentence or line", f"{a} after the first line or sentence"),
        (again(r"\b[^\W\d_]{2,}\b"), f"{a}, when it has come before", f"{a}, but only a repeated one"),
        (c.matches(r"(?:#|//)([^\n]*)"), f"{a}, in comments of code", f"{a} within a comment"),
    ]  # fmt: skip
    gate, *texts = options[int(rng.integers(len(options)))]
    narrow = c.Concept(
        "narrowed",
        both_rules(wide.rule, gate),
        tuple(texts),
        wide.rule,
        wide.forms,
        wide.near_forms,
    )
    return narrow, wide


def one_of(rng: np.random.Generator, wide: c.Concept) -> tuple[c.Concept, c.Concept]:
    """One word, or a few, out of a concept that is about words, and the concept."""
    forms = np.array(sorted(wide.forms), dtype=object)
    n = 1 if rng.random() < 0.6 else int(rng.integers(2, 4))
    chosen = [str(form) for form in rng.permutation(forms)[:n]]
    quoted = " and ".join(f'"{form}"' for form in chosen)
    plural = "s" if len(chosen) > 1 else ""
    texts = [f"the word{plural} {quoted}", quoted, ", ".join(chosen)]
    narrow = c.Concept(
        "one_of", c.from_forms(frozenset(chosen), frozenset()), c.said(rng, texts), wide.rule,
        frozenset(chosen),
    )  # fmt: skip
    return narrow, wide


def strengthened(rng: np.random.Generator) -> c.Concept:
    """More of it, more strongly; other gradations than the suite's."""
    letter = str(c.pick(rng, list("aeioustrn")))
    options: list[tuple[str, c.Rule, list[str]]] = [
        ("graded_letter", c.word_levels(lambda w: min(9.0, 4.0 * w.lower().count(letter))), [f'words, more strongly the more "{letter}" they have', f'the letter "{letter}": the more, the stronger']),
        ("graded_alphabet", c.word_levels(lambda w: max(0.0, 9 - 9 * (ord(w[0].lower()) - 97) / 26) if w[0].isascii() else 0.0), ["words: the earlier in the alphabet their first letter, the stronger"]),
        ("graded_number", _by_digits, ["numbers: the more digits, the stronger", "long numbers above all, short ones weakly"]),
        ("graded_consonants", c.word_levels(lambda w: min(9.0, 1.5 * sum(x not in "aeiouy" for x in w.lower()))), ["consonants: the more in a word, the stronger"]),
        ("graded_marks", _by_marks, ["runs of punctuation: the longer, the stronger"]),
        ("graded_under", c.combined(lambda x, y: np.maximum(x, y / 3), c.matches(r"\b\w+_\w+\b"), c.matches(r"[^\W\d_]+")), ["identifiers with an underscore, and other words more weakly"]),
        ("graded_marks_words", c.combined(lambda x, y: np.maximum(x, y / 2), c.matches(r"[()\[\]]"), c.matches(r"[.,:]")), ["brackets, and full stops, commas and colons about half as strongly"]),
    ]  # fmt: skip
    family, rule, texts = options[int(rng.integers(len(options)))]
    return c.Concept(family, rule, c.said(rng, texts))


def _by_digits(window: c.Window) -> np.ndarray:
    levels = np.zeros(len(window.starts))
    for match in re.finditer(r"\d+", window.text):
        levels[c.over(window, *match.span())] = min(c.STRONG, 2.0 * len(match[0]))
    return levels


def _by_marks(window: c.Window) -> np.ndarray:
    levels = np.zeros(len(window.starts))
    for match in re.finditer(r"[^\w\s]+", window.text):
        levels[c.over(window, *match.span())] = min(c.STRONG, 3.0 * len(match[0]))
    return levels
