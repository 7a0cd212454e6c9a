"""Categories of words out of WordNet 3.0: its hierarchies, first senses only.

A category is a synset; its words are the words of a text whose first sense (in their dominant part
of speech) lies under it. Files: `data.*`, `index.*`, `*.exc` and `cntlist.rev` of the Debian
package `wordnet-base` (formats: wndb(5), senseidx(5)).
"""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path("/usr/share/wordnet")
PARTS = ("noun", "verb", "adj")
_LETTER = {"noun": "n", "verb": "v", "adj": "a"}
_SENSE_TYPE = {"1": "noun", "2": "verb", "3": "adj", "4": "adv", "5": "adj"}
_UP = {"noun": ("@", "@i", ";c"), "verb": ("@",), "adj": ("&", "=")}
"""Pointers from a synset to what it is a kind, an instance, a topic or a shade of."""

DOMINANCE = 0.6
"""Least share of a word's tagged uses that its part of speech, and first sense, must have."""


@dataclass
class Synset:
    """One sense that several words share."""

    key: tuple[str, int]
    """Part of speech and offset in its data file."""

    names: list[str]
    """Its words, underscores as spaces."""

    gloss: str
    """Its definition, without the example sentences."""

    parents: list[tuple[str, int]] = field(default_factory=list)


def read_synsets(folder: Path = FOLDER) -> dict[tuple[str, int], Synset]:
    """Every synset of nouns, verbs and adjectives by part of speech and offset."""
    found: dict[tuple[str, int], Synset] = {}
    for part in PARTS:
        for line in (folder / f"data.{part}").read_text("latin-1").splitlines():
            if line.startswith("  "):
                continue
            body, _, gloss = line.partition(" | ")
            fields = body.split()
            n_words = int(fields[3], 16)
            names = [fields[4 + 2 * i].split("(")[0].replace("_", " ") for i in range(n_words)]
            place = 4 + 2 * n_words
            parents = []
            for _ in range(int(fields[place])):
                symbol, offset, letter, _ = fields[place + 1 : place + 5]
                place += 4
                if symbol in _UP[part] and letter in ("n", "v", "a", "s"):
                    other = {"n": "noun", "v": "verb"}.get(letter, "adj")
                    parents.append((other, int(offset)))
            definition = gloss.split('; "')[0].split(";")[0].strip()
            key = (part, int(fields[0]))
            found[key] = Synset(key, names, definition, parents)
    return found


def first_senses(folder: Path = FOLDER) -> dict[str, tuple[str, int]]:
    """Lemma → its first synset in the part of speech that dominates it, where one does."""
    uses: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    firsts: dict[tuple[str, str], int] = {}
    for line in (folder / "cntlist.rev").read_text("latin-1").splitlines():
        sense, number, count = line.split()
        lemma, _, rest = sense.partition("%")
        part = _SENSE_TYPE[rest[0]]
        uses[lemma][part] += int(count)
        if number == "1":
            firsts[lemma, part] = firsts.get((lemma, part), 0) + int(count)
    senses: dict[str, tuple[str, int]] = {}
    best: dict[str, int] = {}
    for part in PARTS:
        for line in (folder / f"index.{part}").read_text("latin-1").splitlines():
            if line.startswith("  "):
                continue
            fields = line.split()
            lemma, n_senses = fields[0], int(fields[2])
            if "_" in lemma or not lemma.replace("-", "").isalpha() or len(lemma) < 3:
                continue
            total, own = sum(uses[lemma].values()), uses[lemma][part]
            if total and own < DOMINANCE * total:
                continue
            if own and n_senses > 1 and firsts.get((lemma, part), 0) < DOMINANCE * own:
                continue
            if not total and n_senses > 2:
                continue
            if lemma in senses and own <= best[lemma]:
                continue
            offset = int(fields[-n_senses])
            senses[lemma], best[lemma] = (part, offset), own
    return senses


def lemmas_of(forms: list[str], senses: dict[str, tuple[str, int]], folder: Path = FOLDER):
    """Word form (lower case) → lemma with a first sense, by WordNet's exceptions and endings."""
    irregular: dict[str, str] = {}
    for part in PARTS:
        for line in (folder / f"{part}.exc").read_text("latin-1").splitlines():
            form, lemma, *_ = line.split()
            irregular.setdefault(form, lemma)
    endings = [
        ("noun", "ies", "y"), ("noun", "ches", "ch"), ("noun", "shes", "sh"), ("noun", "xes", "x"),
        ("noun", "ses", "s"), ("noun", "men", "man"), ("noun", "s", ""),
        ("verb", "ies", "y"), ("verb", "ied", "y"), ("verb", "es", ""), ("verb", "s", ""),
        ("verb", "ed", "e"), ("verb", "ed", ""), ("verb", "ing", "e"), ("verb", "ing", ""),
        ("adj", "er", ""), ("adj", "est", ""), ("adj", "er", "e"), ("adj", "est", "e"),
    ]  # fmt: skip
    found: dict[str, str] = {}
    for form in forms:
        if form in senses:
            found[form] = form
        elif irregular.get(form) in senses:
            found[form] = irregular[form]
        else:
            for part, ending, instead in endings:
                stem = form[: -len(ending)] + instead if form.endswith(ending) else ""
                if len(stem) > 2 and stem in senses and senses[stem][0] == part:
                    found[form] = stem
                    break
    return found


def ancestors(synsets: dict[tuple[str, int], Synset], key: tuple[str, int]) -> set[tuple[str, int]]:
    """The synset and everything it is a kind of."""
    seen: set[tuple[str, int]] = set()
    waiting = [key]
    while waiting:
        current = waiting.pop()
        if current in seen or current not in synsets:
            continue
        seen.add(current)
        if not (current[0] == "adj" and current != key):  # one step only: "similar to" is a web
            waiting.extend(synsets[current].parents)
    return seen
