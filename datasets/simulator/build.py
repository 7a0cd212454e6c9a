"""Build the training set of the embedded simulator: `python datasets/simulator/build.py --help`.

Every row is one concept in words and `N_WINDOWS` windows of `N_TOKENS` tokens with the level of
every token under it (`concepts.py`). Windows come from the training corpus of
`datasets/build_demo_corpus.py` (no document of the demo corpus), from the definitions and example
sentences of WordNet, and from plain lists of its words, where rare words are common.

Three things are split, so that what is tested was never trained on in any of them: documents by a
hash of their text, categories by a hash of their name (with all that lies under them), and the
words of the held-out categories, which are masked wherever they stand: nothing is trained on them,
neither that a concept fires there nor that none does.
The subjects of the known-answer suite are held out by name (`HELD_OUT_ROOTS`, `HELD_OUT_WORDS`),
and no concept is trained on that a known answer is the same as (`known.py`).

A part of the rows come in pairs over the same windows: a concept, and a part of it (a category
under it, a word out of it, one condition more), so that a description that is too narrow is told
from one that is right. Others are recorded units of the embedded model (`recorded.py`): latents of a
dictionary, where one is given, and neurons.

Writes train.parquet and held_out.parquet: `family`, `description`, `ids`, `levels` (flat,
[N_WINDOWS · N_TOKENS]); the second also has
`key`, the synset, and `unrelated`, another row's description.
"""

import argparse
import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import activations
import concepts as c
import conditions as k
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import recorded
import wordnet
from known import PLAIN_WORDS, KnownConcepts

from autointerp.subject.embedded import embedded_model_folder

N_TOKENS = 32
N_WINDOWS = 8
HELD_OUT_SHARE = 0.06
"""Of categories."""

DEMO_CORPUS = Path(__file__).resolve().parent.parent / "demo" / "corpus.jsonl"

NEURON_BLOCKS = (4, 8, 12)
"""Of recorded neurons; the demo's are of block 14."""

MADE_KINDS = ("glossary", "word_list")
"""Texts that are no documents: no unit is recorded on them."""

N_COMPARED = 40
"""Concepts of each kind that recorded units are compared with, beside all categories."""

HELD_OUT_ROOTS = (
    "food", "beverage", "animal", "chromatic color", "achromatic color", "relative", "body part",
    "deity", "clergyman", "place of worship", "prayer", "sin", "military action", "weapon",
    "military personnel", "body of water", "weather", "number", "calendar month", "religion",
)  # fmt: skip
"""Synsets by first name whose words no training concept fires on."""

HELD_OUT_WORDS = frozenset(
    "bread wine meat milk honey fruit corn cake tea coffee butter cheese egg rice dinner supper "
    "breakfast apple soup salt sugar beer flour barley food drink dog cat horse sheep ox oxen lamb "
    "goat bird fish lion bear wolf wolves cow bull mouse mice insect bee serpent snake elephant "
    "dove eagle pigeon fox camel ass cattle animal red green blue white black yellow brown grey "
    "gray purple scarlet golden pink crimson orange father mother son daughter brother sister wife "
    "wives husband uncle aunt cousin child children parent hand head eye heart foot feet face arm "
    "leg finger ear mouth tongue lip neck shoulder knee hair blood bone god lord holy pray prayer "
    "priest church angel heaven altar temple sin prophet sacrifice bless blessed soul faith one "
    "two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty hundred "
    "thousand million i me my mine myself war battle sword army armies soldier enemy enemies fight "
    "spear weapon gun captain kill slain siege military sea river water wind rain storm wave ocean "
    "cloud snow ship island shore flood weather not never no nothing none nor neither cannot "
    "january february march april may june july august september october november december".split()
)
"""The words of the known-answer suite."""


def is_held_out(text: str, share: float) -> bool:
    """Whether a hash of the text falls into the first `share`."""
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return number < share * 2**64


class Texts:
    """Windows of many texts, and where every word form stands."""

    def __init__(self) -> None:
        self.ids: list[np.ndarray] = []
        self.windows: list[c.Window] = []
        self.held_out: list[bool] = []
        self.documents: list[int] = []
        """Which text every window is from, counted."""
        self.n_documents = 0
        self.places: dict[str, list[int]] = defaultdict(list)
        """Word form → numbers of the windows it stands in."""

    def add(self, tokenizer: Any, texts: list[str], kinds: list[str], held_out: list[bool]) -> None:
        """Cut texts into windows; what is left at the end of one is dropped."""
        for start in range(0, len(texts), 512):
            part = slice(start, start + 512)
            coded = tokenizer(
                texts[part], add_special_tokens=False, return_offsets_mapping=True,
                return_attention_mask=False,
            )  # fmt: skip
            for text, kind, out, ids, spans in zip(
                texts[part], kinds[part], held_out[part], coded["input_ids"],
                coded["offset_mapping"], strict=True,
            ):  # fmt: skip
                spans = np.asarray(spans, dtype=np.int64).reshape(-1, 2)
                self.n_documents += 1
                for first in range(0, len(ids) - N_TOKENS + 1, N_TOKENS):
                    own = spans[first : first + N_TOKENS]
                    base, last = int(own[0, 0]), int(own[-1, 1])
                    window = c.Window(text[base:last], own[:, 0] - base, own[:, 1] - base, kind)
                    for form in sorted({m[0].lower() for m in c.WORD.finditer(window.text)}):
                        self.places[form].append(len(self.windows))
                    self.ids.append(np.asarray(ids[first : first + N_TOKENS], np.uint16))
                    self.windows.append(window)
                    self.held_out.append(out)
                    self.documents.append(self.n_documents)


class Categories:
    """WordNet's categories over the word forms of the texts."""

    def __init__(self, counts: Counter[str]) -> None:
        self.synsets = wordnet.read_synsets()
        senses = wordnet.first_senses()
        forms = [form for form, n in counts.items() if n >= 3]
        self.lemma = wordnet.lemmas_of(forms, senses)
        self.counts = counts
        members: dict[tuple[str, int], set[str]] = defaultdict(set)
        for form, lemma in self.lemma.items():
            for key in wordnet.ancestors(self.synsets, senses[lemma]):
                members[key].add(form)
        sizes = {k: len({self.lemma[f] for f in v}) for k, v in members.items()}
        self.members = {
            k: frozenset(v)
            for k, v in members.items()
            if 5 <= sizes[k] <= 3000 and sum(counts[f] for f in v) >= 20
        }
        roots = {
            k for k, s in self.synsets.items() if k[0] == "noun" and s.names[0] in HELD_OUT_ROOTS
        }
        planted = {f for k in roots for f in members.get(k, ())}
        self.test = {
            k
            for k in self.members
            if sizes[k] <= 150 and is_held_out("/".join(self.synsets[k].names), HELD_OUT_SHARE)
        }
        tested = {f for k in self.test for f in self.members[k]}
        self.masked = frozenset(
            planted | tested | HELD_OUT_WORDS | {w + "s" for w in HELD_OUT_WORDS}
        )
        self.train = [
            k
            for k, v in self.members.items()
            if k not in self.test and len({self.lemma[f] for f in v - self.masked}) >= 5
            and len(v & self.masked) <= 0.5 * len(v)
        ]  # fmt: skip

        allowed = set(self.train)
        self.pairs = [
            (above, key)
            for key in self.train
            for above in sorted(wordnet.ancestors(self.synsets, key) & allowed - {key})
            if len(self.members[key]) <= 0.6 * len(self.members[above])
        ]
        """Categories one under the other, the wider one first."""

    def parent_forms(self, key: tuple[str, int]) -> frozenset[str]:
        """Forms of its nearest recorded ancestor that are not its own."""
        for parent in self.synsets[key].parents:
            if parent in self.members:
                return self.members[parent] - self.members[key]
        return frozenset()

    def examples(self, key: tuple[str, int], forms: frozenset[str]) -> list[str]:
        """The more frequent of its words, at least two."""
        by_lemma: Counter[str] = Counter()
        for form in sorted(forms):
            by_lemma[self.lemma[form]] += self.counts[form]
        return [lemma for lemma, _ in by_lemma.most_common(25)]

    def concept(
        self, rng: np.random.Generator, key: tuple[str, int], *, test: bool = False
    ) -> c.Concept:
        """The category in words and as a rule; held-out words are masked unless it is tested."""
        members = self.members[key]
        masked = frozenset() if test else members & self.masked
        forms = members - masked
        return c.category(
            rng, self.synsets[key], forms, self.examples(key, forms), masked,
            self.parent_forms(key) - self.masked,
        )  # fmt: skip


def draw_windows(
    rng: np.random.Generator,
    concept: c.Concept,
    texts: Texts,
    pools: dict[str, np.ndarray],
    n_active: int,
    already: Sequence[int] = (),
) -> tuple[list[int], list[np.ndarray]]:
    """Windows with their levels: some in which the concept fires, near ones, and any others."""
    chosen = list(already)
    levels = [concept.rule(texts.windows[number]) for number in chosen]

    def take(candidates: np.ndarray, n: int, wanted: bool | None) -> None:
        taken = 0
        for number in candidates:
            if taken >= n or len(chosen) >= N_WINDOWS:
                return
            if int(number) in chosen:
                continue
            level = concept.rule(texts.windows[int(number)])
            if wanted is None or bool((np.nan_to_num(level) > 0).any()) == wanted:
                chosen.append(int(number))
                levels.append(level)
                taken += 1

    anywhere = rng.choice(pools["all"], 600)
    if concept.forms:
        forms = sorted(concept.forms)
        found = [
            texts.places[forms[i]]
            for i in rng.integers(
                len(forms), size=(4 if len(pools["set"]) > 100_000 else 60) * n_active
            )
        ]
        near = [n for own in found if own for n in [own[int(rng.integers(len(own)))]]]
        near = [n for n in near if n in pools["set"]]
        take(np.array(near, dtype=np.int64), n_active, True)
    else:
        take(anywhere, n_active, True)
    if concept.near is not None:
        close = [n for n in anywhere[:300] if concept.near(texts.windows[int(n)]).any()]
        take(np.array(close, dtype=np.int64), 2, False)
    elif concept.near_forms:
        forms = sorted(concept.near_forms)
        found = [texts.places[forms[i]] for i in rng.integers(len(forms), size=8)]
        near = [own[int(rng.integers(len(own)))] for own in found if own]
        take(np.array([n for n in near if n in pools["set"]], dtype=np.int64), 2, None)
    take(rng.choice(pools["all"], 60), N_WINDOWS, None)
    return chosen, levels


@dataclass(frozen=True)
class Wanted:
    """Which recorded units, and how many rows of them."""

    sae: Path | None
    """A dictionary of the embedded model, in any format that autointerp reads."""

    hook: str | None
    """Where it is read; `None` where its files say."""

    latents: int
    neurons: int
    tokens: int
    """Recorded."""


@dataclass(frozen=True)
class Vocabulary:
    """What concepts are made of."""

    cats: Categories
    words: list[str]
    """The more frequent ones first."""

    tokens: list[str]
    ranks: dict[str, int]


def vocabulary(texts: Texts, tokenizer: Any) -> Vocabulary:
    """Categories, words and tokens of the texts that may be trained on."""
    counts = Counter({form: len(places) for form, places in texts.places.items()})
    cats = Categories(counts)
    unwanted = cats.masked | PLAIN_WORDS | {"", "="}
    words = [w for w, n in counts.most_common(12_000) if n >= 8 and w not in unwanted]
    ranks = {w: i for i, (w, _) in enumerate(counts.most_common(40_000))}
    token_counts = Counter(int(i) for ids in texts.ids[::7] for i in ids)
    tokens = [tokenizer.decode([i]) for i, _ in token_counts.most_common(6000)]
    tokens = [t for t in tokens if "\ufffd" not in t and t.strip().lower() not in unwanted]
    return Vocabulary(cats, words, tokens, ranks)


def make_concepts(rng: np.random.Generator, of: Vocabulary) -> tuple[c.Concept, ...]:
    """One concept of the training set, or a narrow one and the wide one that it is a part of.

    Families are in fixed shares.
    """
    cats, words = of.cats, of.words

    def some_category() -> c.Concept:
        return cats.concept(rng, cats.train[int(rng.integers(len(cats.train)))])

    def simple() -> c.Concept:
        u = rng.random()
        if u < 0.5:
            return some_category()
        if u < 0.6:
            return c.one_word(rng, words)
        if u < 0.7:
            return c.affix(rng)
        if u < 0.8:
            return c.shape(rng)
        return c.numbers(rng) if u < 0.9 else c.closed_class(rng)

    def under() -> tuple[c.Concept, c.Concept]:
        wide, narrow = cats.pairs[int(rng.integers(len(cats.pairs)))]
        return cats.concept(rng, narrow), cats.concept(rng, wide)

    def of_words() -> c.Concept:
        u = rng.random()
        if u < 0.6:
            return some_category()
        return c.closed_class(rng) if u < 0.8 else c.word_list(rng, words)

    def ored() -> tuple[c.Concept, c.Concept]:
        one = simple()
        return one, c.either(rng, one, simple())

    def less() -> tuple[c.Concept, c.Concept]:
        one = simple()
        return c.excluding(rng, one, simple(), words[int(rng.integers(60))]), one

    makers: list[tuple[float, Callable[[], c.Concept | tuple[c.Concept, ...]]]] = [
        (0.20, some_category),
        (0.04, lambda: c.one_word(rng, words)),
        (0.03, lambda: c.word_list(rng, words)),
        (0.03, lambda: c.token_list(rng, of.tokens)),
        (0.04, lambda: c.affix(rng)),
        (0.04, lambda: c.shape(rng)),
        (0.03, lambda: c.numbers(rng)),
        (0.05, lambda: c.punctuation(rng)),
        (0.08, lambda: c.context(rng, words)),
        (0.02, lambda: c.closed_class(rng)),
        (0.01, lambda: c.script(rng)),
        (0.02, lambda: c.topic(rng)),
        (0.01, lambda: c.vague(rng)),
        (0.015, lambda: c.graded(rng, of.ranks)),
        (0.02, lambda: k.strengthened(rng)),
        (0.01, lambda: c.ranked(rng, simple(), simple())),
        (0.02, lambda: c.both(rng, simple())),
        (0.04, lambda: k.position(rng)),
        (0.05, lambda: k.earlier(rng, words)),
        (0.03, lambda: k.dense(rng, simple())),
        # Pairs: two rows each.
        (0.05, under),
        (0.03, lambda: k.one_of(rng, of_words())),
        (0.04, lambda: k.narrowed(rng, simple(), words)),
        (0.015, lambda: k.narrowed(rng, c.context(rng, words), words)),
        (0.035, lambda: k.conjunction(rng)),
        (0.02, ored),
        (0.02, less),
    ]
    shares = np.array([share for share, _ in makers])
    made = makers[int(rng.choice(len(makers), p=shares / shares.sum()))][1]()
    return made if isinstance(made, tuple) else (made,)


def train_rows(
    rng: np.random.Generator,
    of: Vocabulary,
    texts: Texts,
    pools: dict[str, Any],
    n_rows: int,
) -> list[dict[str, Any]]:
    """Rows of planted concepts, none of which is a known answer."""
    known = KnownConcepts()
    refused: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    while len(rows) < n_rows:
        made = make_concepts(rng, of)
        said = [m.descriptions[int(rng.integers(len(m.descriptions)))] for m in made]
        covered = [known.covered_by(m, text) for m, text in zip(made, said, strict=True)]
        if any(covered):
            refused.update(found.name for found in covered if found is not None)
            continue
        made = tuple(c.hidden(concept, of.cats.masked) for concept in made)
        n_active = int(rng.integers(3, 7)) if len(made) == 1 else 3
        chosen, levels = draw_windows(rng, made[0], texts, pools, n_active)
        if len(made) == 2:  # what the narrow one fires on, then what only the wide one does
            chosen, _ = draw_windows(rng, made[1], texts, pools, 3, chosen[:n_active])
            levels = [made[0].rule(texts.windows[n]) for n in chosen]
        if len(chosen) < N_WINDOWS:
            continue
        order = rng.permutation(N_WINDOWS)
        both = [levels, *([m.rule(texts.windows[n]) for n in chosen] for m in made[1:])]
        if any(not np.nanmax(np.concatenate(each)) > 0 for each in both):
            continue
        if len(both) == 2 and np.array_equal(both[0], both[1], equal_nan=True):
            continue
        rows += [
            row(m.family, text, texts, chosen, each, order)
            for m, text, each in zip(made, said, both, strict=True)
        ]
    print("refused as known answers:", refused.most_common())
    return rows


def recorded_rows(
    rng: np.random.Generator,
    of: Vocabulary,
    texts: Texts,
    tokenizer: Any,
    wanted: Wanted,
) -> list[dict[str, Any]]:
    """Rows of latents of a dictionary and of neurons, recorded on windows of the corpus alone."""
    from autointerp.subject import load_subject
    from autointerp.units import Neurons, SaeLatents, load_sae

    if not wanted.neurons and (wanted.sae is None or not wanted.latents):
        return []
    subject = load_subject(dtype="bfloat16")
    sources: list[Any] = []
    if wanted.sae is not None and wanted.latents:
        sae = load_sae(wanted.sae)
        sources.append(SaeLatents.of("latent", "subject", subject, sae, wanted.hook))
    if wanted.neurons:
        places = [f"blocks.{block}.mlp.hook_post" for block in NEURON_BLOCKS]
        sources += [Neurons.of("neuron", "subject", subject, place) for place in places]
    pool = np.flatnonzero([
        not out and window.kind not in MADE_KINDS
        for out, window in zip(texts.held_out, texts.windows, strict=True)
    ])  # fmt: skip
    documents = np.array(texts.documents)
    n_sequences = max(1, wanted.tokens // (N_TOKENS * activations.N_JOINED))
    chosen = activations.sequences(rng, documents, pool, n_sequences)
    found = activations.record(subject, sources, texts.ids, chosen, documents)
    families = [source.name for source in sources]
    return rows_of_units(rng, of, texts, tokenizer, wanted, families, found)


def rows_of_units(
    rng: np.random.Generator,
    of: Vocabulary,
    texts: Texts,
    tokenizer: Any,
    wanted: Wanted,
    families: Sequence[str],
    found: Sequence[activations.Recorded],
) -> list[dict[str, Any]]:
    """Rows of what was recorded from some sources, each of a family: `latent` or `neuron`."""
    windows = [texts.windows[n] for n in found[0].numbers]
    tokens = recorded.Tokens(found[0], tokenizer, of.cats.masked | PLAIN_WORDS | {"="})
    masked = recorded.masked_positions(windows, of.cats.masked)
    concepts = recorded.Concepts(found[0], list(comparable(rng, of)), windows)
    known = KnownConcepts()
    n_rows = {"latent": wanted.latents, "neuron": wanted.neurons // len(NEURON_BLOCKS)}
    made: list[dict[str, Any]] = []
    for family, own in zip(families, found, strict=True):
        units = recorded.Units(rng, own, tokens, masked, concepts)
        drawn = list(recorded.rows(rng, units, family, known, n_rows[family], N_WINDOWS))
        print(f"{family}s: {len(drawn)} rows, {len(units.active)} units active")
        made += [
            row(r.family, r.description, texts, r.numbers, r.levels, rng.permutation(N_WINDOWS))
            for r in drawn
        ]
    return made


def comparable(rng: np.random.Generator, of: Vocabulary) -> Iterator[c.Concept]:
    """The planted concepts that recorded units are compared with."""
    for key in of.cats.train:
        yield of.cats.concept(rng, key)
    drawn: list[Callable[[], c.Concept]] = [
        lambda: c.numbers(rng), lambda: c.punctuation(rng), lambda: c.shape(rng),
        lambda: c.affix(rng), lambda: c.closed_class(rng), lambda: c.script(rng),
        lambda: c.topic(rng), lambda: c.context(rng, of.words),
    ]  # fmt: skip
    for draw in drawn:
        yield from (draw() for _ in range(N_COMPARED))


def row(
    family: str,
    description: str,
    texts: Texts,
    chosen: list[int],
    levels: list[np.ndarray],
    order: np.ndarray,
) -> dict[str, Any]:
    """One row of the table."""
    flat = np.concatenate([levels[i] for i in order])
    coded = np.where(np.isnan(flat), c.UNKNOWN, np.rint(np.nan_to_num(flat)))
    return {
        "family": family,
        "description": description,
        "ids": np.concatenate([texts.ids[chosen[i]] for i in order]),
        "levels": coded.astype(np.uint8),
    }


SCHEMA = [
    ("family", pa.string()), ("description", pa.string()), ("ids", pa.list_(pa.uint16())),
    ("levels", pa.list_(pa.uint8())),
]  # fmt: skip


def gather(corpus: Path, tokenizer: Any, cats_seed: int) -> Texts:
    """The corpus, WordNet's sentences and lists of its words, as windows."""
    texts = Texts()
    documents = [json.loads(line) for line in corpus.open(encoding="utf-8")]
    shown = {json.loads(line)["text"] for line in DEMO_CORPUS.open(encoding="utf-8")}
    if any(d["text"] in shown for d in documents):
        raise SystemExit(f"{corpus} has documents of {DEMO_CORPUS}: nothing is trained on them")
    bodies = [d["text"] for d in documents]
    texts.add(
        tokenizer, bodies, [d["kind"] for d in documents], [is_held_out(t, 0.08) for t in bodies]
    )
    glosses: list[str] = []
    for part in wordnet.PARTS:
        for line in (wordnet.FOLDER / f"data.{part}").read_text("latin-1").splitlines():
            _, _, gloss = line.partition(" | ")
            if gloss and not line.startswith("  "):
                glosses.append(gloss.strip())
    rng = np.random.default_rng(cats_seed)
    mixed = [glosses[i] for i in rng.permutation(len(glosses))]
    paragraphs = ["\n".join(mixed[i : i + 12]) for i in range(0, len(mixed), 12)]
    texts.add(
        tokenizer,
        paragraphs,
        ["glossary"] * len(paragraphs),
        [is_held_out(t, 0.08) for t in paragraphs],
    )
    lemmas = sorted(w for w in wordnet.first_senses() if re.fullmatch(r"[a-z]{3,14}", w))
    common = Counter(m[0].lower() for t in bodies + glosses for m in c.WORD.finditer(t))
    weights = np.array([np.sqrt(common[w]) for w in lemmas])
    lists = []
    for i in range(8000):
        drawn = rng.choice(len(lemmas), 100, p=weights / weights.sum())
        lists.append((" ", ", ", "\n")[i % 3].join(lemmas[j] for j in drawn))
    texts.add(
        tokenizer, lists, ["word_list"] * len(lists), [i % 12 == 0 for i in range(len(lists))]
    )
    return texts


def main() -> None:
    """Write both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path, help="jsonl of build_demo_corpus.py --training")
    parser.add_argument("--output", type=Path, required=True, help="folder")
    parser.add_argument("--rows", type=int, default=30_000)
    parser.add_argument("--sae", type=Path, help="a dictionary of the embedded model")
    parser.add_argument("--hook", help="where it is read, if its files do not say")
    parser.add_argument("--latents", type=int, default=2500, help="rows of its latents, at most")
    parser.add_argument("--neurons", type=int, default=1500, help="rows of neurons, at most")
    parser.add_argument("--tokens", type=int, default=200_000, help="recorded for both")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.hook and options.sae is None:
        parser.error("--hook says where a dictionary is read: give one with --sae")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(embedded_model_folder())
    texts = gather(options.corpus, tokenizer, options.seed)
    of = vocabulary(texts, tokenizer)
    cats = of.cats
    print(
        f"{len(texts.windows)} windows, {len(cats.train)} categories to train on, "
        f"{len(cats.test)} held out"
    )
    out = np.array(texts.held_out)
    numbers = {name: np.flatnonzero(out == (name == "held_out")) for name in ("train", "held_out")}
    pools = {name: {"all": n, "set": set(n.tolist())} for name, n in numbers.items()}

    generator = np.random.default_rng(options.seed)
    wanted = Wanted(options.sae, options.hook, options.latents, options.neurons, options.tokens)
    rows = recorded_rows(generator, of, texts, tokenizer, wanted)
    rows += train_rows(generator, of, texts, pools["train"], options.rows - len(rows))
    options.output.mkdir(parents=True, exist_ok=True)
    columns = {name: [r[name] for r in rows] for name, _ in SCHEMA}
    pq.write_table(
        pa.table(columns, schema=pa.schema(SCHEMA)),
        options.output / "train.parquet",
        compression="zstd",
    )
    print(Counter(r["family"] for r in rows))

    tests: list[dict[str, Any]] = []
    generator = np.random.default_rng(options.seed + 1)
    keys = sorted(cats.test)
    for key in keys:
        concept = cats.concept(generator, key, test=True)
        chosen, levels = draw_windows(generator, concept, texts, pools["held_out"], 4)
        if len(chosen) < N_WINDOWS or not sum(float(np.nanmax(x)) > 0 for x in levels) >= 3:
            continue
        names = cats.synsets[key].names
        made = row(
            concept.family,
            c.plural(names[0]) if key[0] == "noun" else concept.descriptions[0],
            texts,
            chosen,
            levels,
            np.arange(N_WINDOWS),
        )
        tests.append(made | {"key": f"{key[0]}:{key[1]}"})
    order = np.roll(np.arange(len(tests)), len(tests) // 2)
    for place, test in enumerate(tests):
        test["unrelated"] = tests[order[place]]["description"]
    schema = pa.schema([*SCHEMA, ("key", pa.string()), ("unrelated", pa.string())])
    columns = {name: [t[name] for t in tests] for name in schema.names}
    pq.write_table(
        pa.table(columns, schema=schema), options.output / "held_out.parquet", compression="zstd"
    )
    print(f"{len(rows)} rows to train on, {len(tests)} held-out categories")


if __name__ == "__main__":
    main()
