"""Build the demonstration corpus and a separate training corpus from unpacked source packages.

The demonstration corpus (``demo/corpus.jsonl``) ships with the project.  The training corpus is
written wherever ``--training-output`` says and is not shipped.  Both are JSON lines with the
fields ``id``, ``kind``, ``source``, ``licence`` and ``text``.

How it works
------------
1. A reader per kind of text turns files into *units*.  A unit is one file, or one chapter (or a
   similar block) of a book that comes as a single file.
2. Every unit is cut into documents of 1,200 to 4,000 characters at paragraph or line boundaries.
   Documents that are not readable text, or that mention copyleft licences, are dropped; email
   addresses are masked and tabs become spaces.  Documents with telephone numbers, masked
   addresses, slurs or mere lists of contents may be used for training but are not shipped.
3. For each kind, units are drawn in a seeded random order, alternating between sources, until the
   places of the demonstration set are used up.  Those units belong to the demonstration set
   alone; the training set is cut from the other units, up to a budget of characters per kind.
4. Exact duplicates (sha256 of the text) and near duplicates (MinHash estimate of the Jaccard
   similarity of word 5-grams) are removed inside the demonstration set, and every training
   document that equals or resembles a demonstration document is removed.  The result is then
   checked again from the written files, and the script stops with an error if a check fails.

Sources
-------
``--sources DIR`` is a folder with one subfolder per package, each unpacked, named as below.
Every package is needed; the README beside this script gives the licences.

===============================  ==========================================================
Folder                           Package and version
===============================  ==========================================================
``Django-5.1.4``                 PyPI sdist ``Django==5.1.4``
``brotli-1.2.1``                 PyPI sdist ``Brotli==1.2.1``
``apache2-doc``                  Debian ``apache2-doc`` 2.4.71-1~deb12u1
``bible-kjv``                    Debian ``bible-kjv`` 4.38 (the program that prints the text)
``bible-kjv-text``               Debian ``bible-kjv-text`` 4.38
``dict-devil``                   Debian ``dict-devil`` 1.0-13.1
``dict-jargon``                  Debian ``dict-jargon`` 4.4.7-3.1
``golang-1.19-doc``              Debian ``golang-1.19-doc`` 1.19.8-2
``golang-1.19-src``              Debian ``golang-1.19-src`` 1.19.8-2
``golang-github-pierrec-lz4-dev``  Debian ``golang-github-pierrec-lz4-dev`` 2.5.2-2
``postgresql-doc-15``            Debian ``postgresql-doc-15`` 15.20-0+deb12u1
``python3.11-doc``               Debian ``python3.11-doc`` 3.11.2-6+deb12u9
``r-cran-janeaustenr``           Debian ``r-cran-janeaustenr`` 1.0.0-1
``r-cran-tokenizers``            Debian ``r-cran-tokenizers`` 0.3.0-1
``sqlite3-3.40.1``               Debian source package ``sqlite3`` 3.40.1-2+deb12u2
``sqlite3-doc``                  Debian ``sqlite3-doc`` 3.40.1-2+deb12u2
``tzdata-raw``                   Debian source package ``tzdata`` 2026b-0+deb12u1
``unicode-cldr-core``            Debian ``unicode-cldr-core`` 41-0.1
``unicode-data``                 Debian ``unicode-data`` 15.0.0-1
``npm-chinese-poetry``           npm ``chinese-poetry`` 2.0.1
``npm-express``                  npm ``express`` 5.3.0
``npm-lodash``                   npm ``lodash`` 4.18.1
``npm-mime-db``                  npm ``mime-db`` 1.54.0
``npm-three``                    npm ``three`` 0.187.0
===============================  ==========================================================

PyPI sdists come from ``pip download --no-deps --no-binary :all:``, Debian packages from
``apt-get download`` and ``dpkg-deb -x``, Debian source packages from
``apt-get source --download-only``, npm packages from ``npm pack``.  The Python code is the
standard library of CPython 3.11.7 (``--stdlib``, by default that of the running interpreter).
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import random
import re
import subprocess
import sys
import sysconfig
import unicodedata
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from datasketch import MinHash, MinHashLSH

SEED = 20240601
MIN_CHARS = 1200
MAX_CHARS = 4000
JACCARD_LIMIT = 0.5
SHINGLE = 5
NUM_PERM = 128

EMAIL = re.compile(r"[A-Za-z0-9_.+%-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")
SPELT_EMAIL = re.compile(r"\b[\w.+-]+\s?(?:\(at\)|\[at\]|<at>)\s?[\w-]+(?:\.[\w-]+)+", re.I)
COPYLEFT = re.compile(
    r"\b[AL]?GPL|GNU (?:Lesser |Library |Affero |Free |General )|Creative Commons|CC[- ]BY|"
    r"copyleft|Project Gutenberg",
    re.I,
)
PHONE = re.compile(
    r"(?<![\w.-])\+?\d{1,3}[- ]\(?\d{1,3}\)?[- ]\d{5,8}\b|\b\d{3}-\d{3}-\d{4}\b"
    r"|\(\d{3}\) \d{3}-\d{4}"
)
OFFENSIVE = re.compile(r"\bnigg\w+|\brap(?:e|es|ed|ing)\b", re.I)
THIRD_PARTY = re.compile(r"\bmx_\w+|MaterialX")  # Apache-2.0 parts inside three.js
CONTENTS_LINE = re.compile(r"^\s*(?:\d+|[A-Z])(?:\.\d+)+\.? ", re.M)
FOREIGN_LICENCE = re.compile(r"copyright|licen[cs]e|\(c\)", re.I)
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ufffd]")
TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_]+")


@dataclass(frozen=True)
class Unit:
    """One file, or one chapter of a book: the smallest thing that goes to one set only."""

    name: str
    source: str
    licence: str
    text: str


@dataclass(frozen=True)
class Document:
    """One line of a corpus file."""

    kind: str
    source: str
    licence: str
    text: str
    unit: str

    @property
    def digest(self) -> str:
        """sha256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def id(self) -> str:
        """Identifier made from the kind and the text."""
        return f"{self.kind}-{self.digest[:10]}"

    def as_json(self) -> str:
        """The document as one JSON line, without the line end."""
        fields = {
            "id": self.id,
            "kind": self.kind,
            "source": self.source,
            "licence": self.licence,
            "text": self.text,
        }
        return json.dumps(fields, ensure_ascii=False)


@dataclass(frozen=True)
class Kind:
    """A kind of text, the reader of its units and how much of it each set takes."""

    name: str
    read: Callable[[Paths], Iterable[Unit]]
    demo_docs: int
    demo_per_unit: int
    training_chars: int
    max_digit_share: float = 0.15


@dataclass(frozen=True)
class Paths:
    """Where the material lies."""

    sources: Path
    stdlib: Path

    def __truediv__(self, other: str) -> Path:
        return self.sources / other


# --------------------------------------------------------------------------- reading helpers


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """Text of a file with plain line ends; documents with undecodable bytes are dropped later."""
    data = path.read_bytes()
    if path.suffix in {".dz", ".gz"}:
        data = gzip.decompress(data)
    text = data.decode(encoding, errors="replace").lstrip("\ufeff")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def words(text: str) -> list[str]:
    """Split a list of names written as one string."""
    return text.split()


def files(root: Path, *patterns: str, skip: str = "") -> Iterator[tuple[str, Path]]:
    """Sorted ``(relative name, path)`` of the files under ``root`` that match a glob pattern."""
    if not root.is_dir():
        raise SystemExit(f"missing source folder: {root}")
    found = {path for pattern in patterns for path in root.rglob(pattern)}
    for path in sorted(found):
        name = path.relative_to(root).as_posix()
        if path.is_file() and not path.is_symlink() and not (skip and re.search(skip, name)):
            yield name, path


def split_at(text: str, heading: str) -> list[str]:
    """Split a book before every line that matches ``heading``; the front matter is dropped."""
    starts = [m.start() for m in re.finditer(heading, text, re.M)]
    return [text[a:b] for a, b in zip(starts, [*starts[1:], len(text)], strict=True)]


def blocks(text: str, size: int) -> list[str]:
    """Split a text without chapters into blocks of about ``size`` characters at blank lines."""
    out: list[str] = []
    current: list[str] = []
    length = 0
    for paragraph in re.split(r"\n\s*\n", text):
        current.append(paragraph)
        length += len(paragraph) + 2
        if length >= size:
            out.append("\n\n".join(current))
            current, length = [], 0
    if current:
        out.append("\n\n".join(current))
    return out


def without_gutenberg(text: str) -> str:
    """Drop the header and the footer that Project Gutenberg puts around a book."""
    start = re.search(r"^\*\*\* ?START OF.*$", text, re.M)
    if start:
        text = text[start.end() :]
    end = re.search(r"^(\*\*\* ?END OF|End of (the )?Project Gutenberg).*$", text, re.M)
    return text[: end.start()] if end else text


def read_r_strings(path: Path) -> list[list[str]]:
    """Character vectors of an R lazy-load database (``.rdb``): a chain of zlib streams."""
    data = path.read_bytes()
    vectors: list[list[str]] = []
    at = 0
    while at < len(data):
        stream = zlib.decompressobj()
        raw = stream.decompress(data[at + 4 :])
        at = len(data) - len(stream.unused_data)
        # "X\n", five 4-byte words of header, native encoding, flags, count, then the strings.
        encoding_length = int.from_bytes(raw[14:18], "big")
        pos = 18 + encoding_length
        flags, count = (int.from_bytes(raw[pos + i : pos + i + 4], "big") for i in (0, 4))
        if flags & 0xFF != 16:
            continue
        pos += 8
        strings: list[str] = []
        for _ in range(count):
            size = int.from_bytes(raw[pos + 4 : pos + 8], "big", signed=True)
            pos += 8
            strings.append(raw[pos : pos + max(size, 0)].decode("utf-8", "replace"))
            pos += max(size, 0)
        vectors.append(strings)
    return vectors


class _TextOfHtml(HTMLParser):
    """Collect the text of a page, one block per paragraph, without scripts and navigation."""

    BLOCK = words("p div h1 h2 h3 h4 h5 h6 li dt dd tr table pre ul ol dl blockquote section br hr")
    SKIP = words("script style head nav svg button select")

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.skipping = 0
        self.pre = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self.SKIP:
            self.skipping += 1
        elif tag == "pre":
            self.pre += 1
        if tag in self.BLOCK:
            self.parts.append("\n" if tag in {"br", "tr"} else "\n\n")
        elif tag in {"td", "th"}:
            self.parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag in self.SKIP:
            self.skipping = max(0, self.skipping - 1)
        elif tag == "pre":
            self.pre = max(0, self.pre - 1)
        if tag in self.BLOCK and tag not in {"br", "tr"}:
            self.parts.append("\n\n")

    def handle_data(self, data: str) -> None:
        if not self.skipping:
            self.parts.append(data if self.pre else re.sub(r"\s+", " ", data))


def html_to_text(page: str) -> str:
    """The readable text of an HTML fragment, or of a page from its first main heading on."""
    heading = re.search(r"<h1\b", page, re.I) if "<body" in page else None
    parser = _TextOfHtml()
    parser.feed(page[heading.start() :] if heading else page)
    parser.close()
    text = "".join(parser.parts).replace("\u00a0", " ").replace("\u00b6", "")
    text = re.sub(r"(?<=\n)\n (?=\S)", "\n", text)
    text = "\n".join(line.rstrip() for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", text).strip()


# ------------------------------------------------------------------------------- unit readers


def scripture(paths: Paths) -> Iterator[Unit]:
    """King James Version: one unit per chapter, with verse numbers."""
    program = (paths / "bible-kjv/usr/bin/bible").resolve()
    folder = paths / "bible-kjv-text/usr/lib"
    done = subprocess.run(
        [str(program), "-f", "Gen1:1-Rev22:21"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    chapters: dict[str, list[str]] = defaultdict(list)
    for line in done.stdout.splitlines():
        match = re.match(r"((?:\d)?[A-Za-z]+\d+):(\d+) (.*)", line)
        if match:
            chapters[match[1]].append(f"{match[2]} {match[3]}")
    for name, verses in chapters.items():
        yield Unit(name, "King James Bible (bible-kjv-text)", "public domain", "\n".join(verses))


LZ4_TESTDATA = "golang-github-pierrec-lz4-dev/usr/share/gocode/src/github.com/pierrec/lz4/testdata"
BROTLI_TESTDATA = "brotli-1.2.1/tests/testdata"
R_LIBRARY = "usr/lib/R/site-library"


def novels(paths: Paths) -> Iterator[Unit]:
    """Novels whose copyright has expired: one unit per chapter or story."""
    testdata = paths / LZ4_TESTDATA
    chapter = r"^ *(?:CHAPTER|Chapter|ADVENTURE) +[IVXLC\d]+"
    books = [
        (
            "Doyle, The Adventures of Sherlock Holmes (golang-github-pierrec-lz4-dev)",
            without_gutenberg(read_text(testdata / "pg1661.txt")),
            r"^(?:ADVENTURE )?[IVX]+\. (?:THE )?(?:A |ADVENTURE|[A-Z-]{3,})",
        ),
        (
            "Twain, The Adventures of Tom Sawyer (golang-github-pierrec-lz4-dev)",
            read_text(testdata / "Mark.Twain-Tom.Sawyer.txt"),
            chapter,
        ),
        (
            "Carroll, Alice's Adventures in Wonderland (Brotli)",
            read_text(paths / f"{BROTLI_TESTDATA}/alice29.txt"),
            chapter,
        ),
    ]
    austen = paths / f"r-cran-janeaustenr/{R_LIBRARY}/janeaustenr/data/Rdata.rdb"
    for lines in read_r_strings(austen):
        title = lines[0].title()
        books.append((f"Austen, {title} (r-cran-janeaustenr)", "\n".join(lines), chapter))
    melville = paths / f"r-cran-tokenizers/{R_LIBRARY}/tokenizers/data/Rdata.rdb"
    for strings in read_r_strings(melville):
        text = without_gutenberg("\n".join(strings).replace("\r\n", "\n").replace("\r", "\n"))
        books.append(("Melville, Moby Dick (r-cran-tokenizers)", text, chapter))
    for source, text, heading in books:
        for number, part in enumerate(split_at(text, heading)):
            yield Unit(f"{source}#{number}", source, "public domain", part)


def verse_and_drama(paths: Paths) -> Iterator[Unit]:
    """Paradise Lost by blocks of one book, As You Like It by scenes."""
    milton = "Milton, Paradise Lost (Brotli)"
    text = read_text(paths / f"{BROTLI_TESTDATA}/plrabn12.txt")
    text = "\n".join(line.rstrip() for line in text.split("\n"))
    for book, part in enumerate(split_at(text, r"^Book [IVX]+\s*$")):
        for number, block in enumerate(line_blocks(part, 10_000)):
            yield Unit(f"{milton}#{book}.{number}", milton, "public domain", block)
    shakespeare = "Shakespeare, As You Like It (Brotli)"
    text = read_text(paths / f"{BROTLI_TESTDATA}/asyoulik.txt")
    for number, part in enumerate(split_at(text, r"^ACT [IVX]+\s*$")):
        yield Unit(f"{shakespeare}#{number}", shakespeare, "public domain", part)


def line_blocks(text: str, size: int) -> list[str]:
    """Split a text into blocks of about ``size`` characters at line ends."""
    out: list[str] = []
    current: list[str] = []
    length = 0
    for line in text.split("\n"):
        current.append(line)
        length += len(line) + 1
        if length >= size:
            out.append("\n".join(current))
            current, length = [], 0
    if current:
        out.append("\n".join(current))
    return out


def science_prose(paths: Paths) -> Iterator[Unit]:
    """Newton's Opticks, in blocks."""
    source = "Newton, Opticks (golang-1.19-src)"
    path = paths / "golang-1.19-src/usr/share/go-1.19/src/testdata/Isaac.Newton-Opticks.txt"
    text = without_gutenberg(read_text(path))
    start = text.find("THE FIRST BOOK OF OPTICKS")
    for number, block in enumerate(blocks(text[max(start, 0) :], 9_000)):
        yield Unit(f"{source}#{number}", source, "public domain", block)


def satirical_dictionary(paths: Paths) -> Iterator[Unit]:
    """Bierce's Devil's Dictionary, in blocks of entries."""
    source = "Bierce, The Devil's Dictionary (dict-devil)"
    text = read_text(paths / "dict-devil/usr/share/dictd/devil.dict.dz")
    start = text.find("ABASEMENT, n.")
    for number, block in enumerate(blocks(text[max(start, 0) :], 6_000)):
        yield Unit(f"{source}#{number}", source, "public domain", block)


def hacker_glossary(paths: Paths) -> Iterator[Unit]:
    """The Jargon File, in blocks of entries."""
    source = "The Jargon File 4.4.7 (dict-jargon)"
    text = read_text(paths / "dict-jargon/usr/share/dictd/jargon.dict.dz")
    start = text.find("\nabbrev\n")
    for number, block in enumerate(blocks(text[max(start, 0) :], 9_000)):
        yield Unit(f"{source}#{number}", source, "public domain", block)


def python_code(paths: Paths) -> Iterator[Unit]:
    """CPython's standard library; files that carry a notice of their own are left out."""
    own = r"^(site-packages|test|lib2to3|ensurepip|pydoc_data|encodings)/"
    skip = own + r"|/tests?/|^_sysconfigdata"
    for name, path in files(paths.stdlib, "*.py", skip=skip):
        text = read_text(path)
        if not FOREIGN_LICENCE.search(text):
            yield Unit(name, "CPython 3.11.7 standard library", "PSF-2.0", text)


def python_tests(paths: Paths) -> Iterator[Unit]:
    """CPython's own test-suite."""
    for name, path in files(paths.stdlib / "test", "*.py", skip=r"bad|data/|encoded"):
        text = read_text(path)
        if not FOREIGN_LICENCE.search(text):
            yield Unit(f"test/{name}", "CPython 3.11.7 test suite", "PSF-2.0", text)


def go_code(paths: Paths) -> Iterator[Unit]:
    """Go's standard library, without tests, generated tables and vendored code."""
    skip = (
        r"testdata|^vendor|_test\.go|^cmd/vendor|zsys|zerr|ztypes|tables?\.go|_string\.go|rewrite"
    )
    for name, path in files(paths / "golang-1.19-src/usr/share/go-1.19/src", "*.go", skip=skip):
        text = read_text(path)
        head = re.match(r"// Copyright \d+ The Go Authors.*\n(?://.*\n)*", text)
        if not head or "DO NOT EDIT" in text[:600]:
            continue
        body = text[head.end() :].lstrip()
        if not FOREIGN_LICENCE.search(body):
            yield Unit(name, "Go 1.19 standard library (golang-1.19-src)", "BSD-3-Clause", body)


def c_code(paths: Paths) -> Iterator[Unit]:
    """SQLite (public domain) and Brotli (MIT)."""
    skip = r"autoconf|tclsqlite|test\d*\.c|test_|/test/|wasm|jni"
    for name, path in files(paths / "sqlite3-3.40.1", "src/*.c", "ext/*.c", "src/*.h", skip=skip):
        text = read_text(path)
        if not re.search(r"copyright \(c\)|\blicen[cs]e", text, re.I):
            yield Unit(name, "SQLite 3.40.1 source (sqlite3)", "public domain", text)
    for name, path in files(paths / "brotli-1.2.1/c", "*.c", "*.h", skip=r"dictionary|static_init"):
        text = re.sub(r"^/\* Copyright.*?\*/\s*", "", read_text(path), flags=re.S)
        yield Unit(name, "Brotli 1.2.1 source (Brotli)", "MIT", text)


def javascript(paths: Paths) -> Iterator[Unit]:
    """Django's own scripts, three.js, Express and Lodash, without minified and vendored files."""
    skip = r"vendor|\.min\.|\.glsl\.js|ShaderChunk|fonts/|libs/|^build|constants\.js|unicode"
    roots = [
        ("Django-5.1.4/django", "Django 5.1.4 scripts (Django)", "BSD-3-Clause"),
        ("Django-5.1.4/js_tests", "Django 5.1.4 scripts (Django)", "BSD-3-Clause"),
        ("npm-three/package/src", "three.js 0.187.0 (three)", "MIT"),
        ("npm-express/package/lib", "Express 5.3.0 (express)", "MIT"),
    ]
    for root, source, licence in roots:
        for name, path in files(paths / root, "*.js", skip=skip):
            text = read_text(path)
            if licence == "MIT" or not FOREIGN_LICENCE.search(text):
                yield Unit(f"{root}/{name}", source, licence, text)
    lodash = read_text(paths / "npm-lodash/package/lodash.js")
    for number, block in enumerate(blocks(lodash, 10_000)):
        yield Unit(f"lodash.js#{number}", "Lodash 4.18.1 (lodash)", "MIT", block)


def sqlite_page(path: Path) -> str:
    """HTML of a page of the SQLite manual without the navigation that every page starts with."""
    page = read_text(path)
    head = page.find("</script>")
    return re.sub(r"<script.*?</script>", "", page[head + 9 :], flags=re.S).strip()


def web_markup(paths: Paths) -> Iterator[Unit]:
    """HTML templates and style sheets of Django, HTML of the SQLite and Go pages."""
    django = paths / "Django-5.1.4/django"
    for name, path in files(django, "*.html", "*.css", skip=r"vendor|\.min\."):
        text = read_text(path)
        if not FOREIGN_LICENCE.search(text):
            yield Unit(f"django/{name}", "Django 5.1.4 templates (Django)", "BSD-3-Clause", text)
    chosen = r"^(?!c3ref/|session/|syntax/|releaselog/)"
    for name, path in files(paths / "sqlite3-doc/usr/share/doc/sqlite3", "*.html"):
        if re.match(chosen, name) and int(hashlib.sha256(name.encode()).hexdigest(), 16) % 4 == 0:
            body = sqlite_page(path)
            yield Unit(f"sqlite/{name}", "SQLite web pages (sqlite3-doc)", "public domain", body)


def database_docs(paths: Paths) -> Iterator[Unit]:
    """Text of the SQLite manual (pages that are not in ``web_markup``) and of PostgreSQL's."""
    for name, path in files(paths / "sqlite3-doc/usr/share/doc/sqlite3", "*.html"):
        raw_too = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 4 == 0
        if re.match(r"releaselog/|syntax/", name) or (raw_too and "/" not in name):
            continue
        text = html_to_text(sqlite_page(path))
        yield Unit(f"sqlite/{name}", "SQLite manual (sqlite3-doc)", "public domain", text)
    for name, path in files(paths / "postgresql-doc-15/usr/share/doc", "*.html", skip="release"):
        page = re.sub(r'<div [^>]*class="navfooter".*', "", read_text(path), flags=re.S)
        page = re.sub(r'<div [^>]*class="navheader".*?</div>', "", page, flags=re.S)
        text = html_to_text(page)
        source = "PostgreSQL 15 manual (postgresql-doc-15)"
        yield Unit(f"postgresql/{name}", source, "PostgreSQL", text)


def python_docs(paths: Paths) -> Iterator[Unit]:
    """reStructuredText sources of the Python manual."""
    root = paths / "python3.11-doc/usr/share/doc/python3.11-doc/html/_sources"
    for name, path in files(root, "*.rst.txt", skip=r"license|copyright|whatsnew/changelog|about"):
        yield Unit(name, "Python 3.11 manual (python3.11-doc)", "PSF-2.0", read_text(path))


def web_framework_docs(paths: Paths) -> Iterator[Unit]:
    """reStructuredText sources of the Django manual."""
    for name, path in files(paths / "Django-5.1.4/docs", "*.txt", skip=r"_theme|requirements|man/"):
        yield Unit(name, "Django 5.1.4 manual (Django)", "BSD-3-Clause", read_text(path))


APACHE_LATIN = ("en", "de", "es", "fr", "pt-br", "tr", "da")
APACHE_OTHER = ("ja", "ko", "ru", "zh-cn")


def _apache(paths: Paths, languages: Iterable[str]) -> Iterator[Unit]:
    """Pages of the Apache HTTP Server manual that really are in the language of their folder."""
    root = paths / "apache2-doc/usr/share/doc/apache2-doc/manual"
    for language in languages:
        for name, path in files(root / language, "*.html"):
            raw = path.read_bytes()
            charset = re.search(rb"charset=([\w-]+)", raw[:400])
            page = raw.decode(charset[1].decode() if charset else "utf-8", errors="replace")
            declared = re.search(r'<html[^>]*\blang="([\w-]+)"', page[:400])
            if declared and declared[1] != language:
                continue
            text = html_to_text(page.replace("\r\n", "\n"))
            source = f"Apache HTTP Server 2.4 manual, {language} (apache2-doc)"
            yield Unit(f"{language}/{name}", source, "Apache-2.0", text)


def web_server_docs(paths: Paths) -> Iterator[Unit]:
    """Apache manual in languages of the Latin script."""
    return _apache(paths, APACHE_LATIN)


def web_server_docs_other_scripts(paths: Paths) -> Iterator[Unit]:
    """Apache manual in Japanese, Korean, Russian and Chinese."""
    return _apache(paths, APACHE_OTHER)


def timezone_notes(paths: Paths) -> Iterator[Unit]:
    """Time-zone database: rules with their historical notes, and the release notes."""
    root = paths / "tzdata-raw"
    names = "africa antarctica asia australasia europe northamerica southamerica etcetera NEWS"
    for name in [*names.split(), "calendars", "theory.html"]:
        text = read_text(root / name)
        if name == "theory.html":
            text = html_to_text(text)
        for number, block in enumerate(blocks(text, 25_000)):
            source = "IANA time zone database 2026b (tzdata)"
            yield Unit(f"{name}#{number}", source, "public domain", block)


LATIN = words(
    "af ast az br bs ca cs cy da de dsb eo es et eu fi fr ga gd gl hr hsb hu ia id io is it lb lt "
    "lv ms nb nl nn pl pt pt_BR ro sk sl sq sv sw tk tr uz vi"
)


def _translations(paths: Paths, latin: bool) -> Iterator[Unit]:
    """Django's interface translations, either as pairs or as the translated strings alone."""
    for name, path in files(paths / "Django-5.1.4/django", "*.po"):
        language = name.split("/")[-3]
        if language.startswith("en") or language.split("@")[0] == "es_AR":
            continue
        is_latin = language in LATIN or language in {"es_MX", "es_CO", "es_VE", "sr_Latn"}
        if is_latin != latin:
            continue
        as_pairs = int(hashlib.sha256(language.encode()).hexdigest(), 16) % 2 == 0
        entries: list[str] = []
        for entry in re.split(r"\n\s*\n", read_text(path))[1:]:
            lines = [line for line in entry.split("\n") if not line.startswith("#")]
            body = "\n".join(lines)
            strings = re.findall(r'^msgstr(?:\[\d\])? "(.*(?:\n".*)*)"$', body, re.M)
            translated = [re.sub(r'"\n"', "", s) for s in strings]
            if not any(translated):
                continue
            entries.append(body if as_pairs else "\n".join(t for t in translated if t))
        text = ("\n\n" if as_pairs else "\n").join(entries)
        if not as_pairs:
            text = text.replace("\\n", "\n").replace('\\"', '"')
        source = f"Django 5.1.4 translation, {language} (Django)"
        yield Unit(name, source, "BSD-3-Clause", text)


def translations_latin(paths: Paths) -> Iterator[Unit]:
    """Interface translations in languages of the Latin script."""
    return _translations(paths, latin=True)


def translations_other_scripts(paths: Paths) -> Iterator[Unit]:
    """Interface translations in Cyrillic, Greek, Arabic, Indic, East Asian and other scripts."""
    return _translations(paths, latin=False)


def chinese_classics(paths: Paths) -> Iterator[Unit]:
    """Classical Chinese prose and verse."""
    root = paths / "npm-chinese-poetry/package/dist"
    wanted = words(
        "lunyu sishuwujing mengxue shijing chuci caocaoshiji youmengying nalanxingde yuanqu "
        "wudaishici songci"
    )
    for folder in wanted:
        for name, path in files(root / folder, "*.json", skip=r"author|intro|README|wenzimengqiu"):
            pieces = list(_chinese_pieces(json.loads(read_text(path))))
            for number, block in enumerate(blocks("\n\n".join(pieces), 9_000)):
                source = f"{folder} (chinese-poetry)"
                yield Unit(f"{folder}/{name}#{number}", source, "MIT", block)


def _chinese_pieces(value: object) -> Iterator[str]:
    """Title, author and paragraphs of every piece of a nested JSON collection."""
    if isinstance(value, list):
        for item in value:
            yield from _chinese_pieces(item)
    elif isinstance(value, dict):
        lines = value.get("paragraphs") or value.get("content") or value.get("para")
        if isinstance(lines, list) and lines and all(isinstance(x, str) for x in lines):
            title = value.get("title") or value.get("chapter") or value.get("rhythmic") or ""
            head = " ".join(str(x) for x in (title, value.get("author") or "") if x)
            yield "\n".join([head, *lines]) if head else "\n".join(lines)
        elif isinstance(lines, list):
            yield from _chinese_pieces(lines)


CLDR_LOCALES = words(
    "en de fr es it pt nl sv pl cs fi hu tr vi id ru uk el he ar fa hi bn ta th ja ko zh"
)


def structured_data(paths: Paths) -> Iterator[Unit]:
    """XML, JSON and tables: Unicode CLDR, Unicode character data, media types, zone tables."""
    common = paths / "unicode-cldr-core/usr/share/unicode/cldr/common"
    chosen = [f"{folder}/{x}.xml" for folder in ("main", "annotations") for x in CLDR_LOCALES]
    chosen += [f"rbnf/{x}.xml" for x in CLDR_LOCALES if (common / f"rbnf/{x}.xml").exists()]
    chosen += [p.relative_to(common).as_posix() for p in sorted(common.glob("supplemental/*.xml"))]
    for name in chosen:
        text = re.sub(r"<!--.*?-->\n?", "", read_text(common / name), flags=re.S)
        text = re.sub(r"^<\?xml.*?\n|^<!DOCTYPE.*?\n", "", text, flags=re.M)
        for number, block in enumerate(line_blocks(text, 20_000)[:6]):
            source = "Unicode CLDR 41 (unicode-cldr-core)"
            yield Unit(f"{name}#{number}", source, "Unicode-DFS-2016", block)
    unicode_data = paths / "unicode-data/usr/share/unicode"
    for name in ("NamesList.txt", "emoji/emoji-test.txt", "Blocks.txt", "PropertyAliases.txt"):
        text = read_text(unicode_data / name)
        for number, block in enumerate(line_blocks(text, 12_000)):
            source = "Unicode Character Database 15.0 (unicode-data)"
            yield Unit(f"{name}#{number}", source, "Unicode-DFS-2016", block)
    media = read_text(paths / "npm-mime-db/package/db.json")
    for number, block in enumerate(line_blocks(media, 8_000)):
        yield Unit(f"mime-db#{number}", "mime-db 1.54.0 (mime-db)", "MIT", block)
    for name in ("zone1970.tab", "iso3166.tab", "zonenow.tab"):
        text = read_text(paths / "tzdata-raw" / name)
        source = "IANA time zone tables 2026b (tzdata)"
        yield Unit(name, source, "public domain", text)


def language_docs(paths: Paths) -> Iterator[Unit]:
    """Go's language specification and memory model."""
    root = paths / "golang-1.19-doc/usr/share/doc/golang-1.19-doc/html"
    for name, path in files(root, "*.html", skip="go1.17"):
        for number, block in enumerate(blocks(html_to_text(read_text(path)), 12_000)):
            source = "Go 1.19 language specification (golang-1.19-doc)"
            yield Unit(f"{name}#{number}", source, "BSD-3-Clause", block)


KINDS = [
    Kind("scripture", scripture, 30, 1, 1_500_000),
    Kind("novel", novels, 36, 1, 2_800_000),
    Kind("verse_and_drama", verse_and_drama, 30, 2, 600_000),
    Kind("science_prose", science_prose, 30, 3, 500_000, 0.25),
    Kind("satirical_dictionary", satirical_dictionary, 30, 2, 400_000),
    Kind("hacker_glossary", hacker_glossary, 30, 2, 900_000),
    Kind("python_code", python_code, 36, 1, 2_100_000),
    Kind("python_tests", python_tests, 0, 1, 500_000),
    Kind("go_code", go_code, 30, 1, 900_000),
    Kind("c_code", c_code, 30, 1, 900_000),
    Kind("javascript", javascript, 30, 1, 700_000),
    Kind("web_markup", web_markup, 30, 1, 600_000),
    Kind("python_docs", python_docs, 30, 1, 1_500_000),
    Kind("web_framework_docs", web_framework_docs, 30, 1, 1_200_000),
    Kind("database_docs", database_docs, 30, 1, 1_300_000),
    Kind("language_docs", language_docs, 0, 1, 250_000),
    Kind("web_server_docs", web_server_docs, 0, 1, 600_000),
    Kind("web_server_docs_other_scripts", web_server_docs_other_scripts, 0, 1, 500_000),
    Kind("timezone_notes", timezone_notes, 30, 4, 500_000, 0.4),
    Kind("translations_latin", translations_latin, 30, 1, 800_000),
    Kind("translations_other_scripts", translations_other_scripts, 40, 1, 900_000),
    Kind("chinese_classics", chinese_classics, 30, 1, 500_000),
    Kind("structured_data", structured_data, 36, 1, 600_000, 0.35),
]


# ------------------------------------------------------------------------ cutting and filters


def mask(text: str) -> str:
    """Replace email addresses by a fixed placeholder."""
    return SPELT_EMAIL.sub("[email]", EMAIL.sub("[email]", text))


def _pieces(text: str) -> Iterator[str]:
    """Paragraphs with their trailing blank lines; long ones are cut by line, then by sentence."""
    for paragraph in re.findall(r".+?(?:\n[ \t]*\n+|\Z)", text, re.S):
        if len(paragraph) <= 1500:
            yield paragraph
            continue
        for line in re.findall(r".*\n|.+\Z", paragraph):
            if len(line) <= 1500:
                yield line
            else:
                stop = r"[.!?;,\u3002\uff01\uff1f\uff1b\uff0c]\s*|\s+|\Z"
                yield from re.findall(rf".{{1,1200}}(?:{stop})|.{{1200}}", line, re.S)


def cut(text: str, rng: random.Random) -> list[str]:
    """Cut a unit into documents of MIN_CHARS to MAX_CHARS characters."""
    text = unicodedata.normalize("NFC", text).expandtabs(4) if "\t" in text else text
    documents: list[str] = []
    current = ""
    target = rng.randint(1800, 3400)
    for piece in _pieces(text):
        if current and len(current) + len(piece) > MAX_CHARS:
            documents.append(current)
            current, target = "", rng.randint(1800, 3400)
        current += piece
        if len(current) >= target:
            documents.append(current)
            current, target = "", rng.randint(1800, 3400)
    documents.append(current)
    stripped = (re.sub(r"[ \t]+$", "", d, flags=re.M).strip("\n") for d in documents)
    return [d for d in stripped if MIN_CHARS <= len(d) <= MAX_CHARS]


def readable(text: str, max_digit_share: float) -> bool:
    """Whether a document is text that a person can read and that may be shipped."""
    if COPYLEFT.search(text) or CONTROL.search(text):
        return False
    dense = [c for c in text if not c.isspace()]
    digits = sum(c.isdigit() for c in dense)
    letters = sum(unicodedata.category(c)[0] in "LM" for c in dense)
    longest = max(len(line) for line in text.split("\n"))
    return (
        len(dense) > len(text) * 0.4
        and digits <= max_digit_share * len(dense)
        and letters >= 0.45 * len(dense)
        and longest <= 1600
        and len(re.findall(r"\b(?:0x)?[0-9a-fA-F]{8,}\b", text)) < 8
    )


def fit_to_ship(text: str) -> bool:
    """Whether a readable document also belongs in the demonstration set.

    Left out: text around a masked email address, telephone numbers, slurs, parts under a licence
    other than that of their package, lists of contents and drawings written as paths.
    """
    lines = sum(1 for line in text.split("\n") if line.strip())
    return not (
        "[email]" in text
        or PHONE.search(text)
        or OFFENSIVE.search(text)
        or THIRD_PARTY.search(text)
        or len(CONTENTS_LINE.findall(text)) > 0.25 * lines
        or text.count("<path d=") > 2
    )


def documents_of(unit: Unit, kind: Kind) -> list[Document]:
    """Cut one unit into documents; depends only on the seed and the name of the unit."""
    rng = random.Random(f"{SEED}/{kind.name}/{unit.name}")
    return [
        Document(kind.name, unit.source, unit.licence, text, f"{kind.name}/{unit.name}")
        for text in cut(mask(unit.text), rng)
        if readable(text, kind.max_digit_share)
    ]


# ------------------------------------------------------------------------------- duplicates


def signature(text: str) -> MinHash:
    """MinHash of the word 5-grams; a Chinese or Japanese character counts as a word."""
    tokens = TOKEN.findall(text.lower())
    grams = {" ".join(tokens[i : i + SHINGLE]) for i in range(max(1, len(tokens) - SHINGLE + 1))}
    sketch = MinHash(num_perm=NUM_PERM, seed=1)
    sketch.update_batch([gram.encode() for gram in grams])
    return sketch


class NearDuplicates:
    """Index of documents that answers how similar a new one is to the most similar of them."""

    def __init__(self) -> None:
        # A low threshold makes the index return every candidate worth an exact estimate.
        self._index = MinHashLSH(threshold=0.3, num_perm=NUM_PERM)
        self._sketches: dict[str, MinHash] = {}

    def add(self, key: str, sketch: MinHash) -> None:
        """Add one document."""
        self._index.insert(key, sketch)
        self._sketches[key] = sketch

    def similarity(self, sketch: MinHash) -> float:
        """Estimated Jaccard similarity with the nearest document of the index."""
        found = self._index.query(sketch)
        return max((self._sketches[key].jaccard(sketch) for key in found), default=0.0)


# -------------------------------------------------------------------------------- selection


def interleave(units: list[Unit], rng: random.Random) -> list[Unit]:
    """Units in random order, taking one of every source in turn."""
    by_source: dict[str, list[Unit]] = defaultdict(list)
    for unit in sorted(units, key=lambda u: u.name):
        by_source[unit.source].append(unit)
    queues = list(by_source.values())
    for queue in queues:
        rng.shuffle(queue)
    rng.shuffle(queues)
    out: list[Unit] = []
    while queues:
        for queue in queues:
            out.append(queue.pop())
        queues = [queue for queue in queues if queue]
    return out


def select(kinds: list[Kind], paths: Paths) -> tuple[list[Document], list[Document]]:
    """Choose the demonstration and the training documents."""
    demo: list[Document] = []
    waiting: list[tuple[Kind, list[Unit]]] = []
    seen: set[str] = set()
    demo_index = NearDuplicates()
    for kind in kinds:
        rng = random.Random(f"{SEED}/{kind.name}")
        units = interleave(list(kind.read(paths)), rng)
        rest: list[Unit] = []
        candidates: list[Document] = []
        drawn = count = 0
        for unit in units:
            places = 0
            if drawn < kind.demo_docs:
                candidates = documents_of(unit, kind)
                rng.shuffle(candidates)
                places = min(kind.demo_per_unit, kind.demo_docs - drawn, len(candidates))
                drawn += places
            if not places:
                rest.append(unit)
                continue
            # A drawn unit uses up its places even if too few of its documents are fit, so that
            # what is fit to ship never decides which set a unit belongs to.
            taken = 0
            for document in candidates:
                if taken == places:
                    break
                sketch = signature(document.text)
                if (
                    document.digest not in seen
                    and fit_to_ship(document.text)
                    and demo_index.similarity(sketch) < JACCARD_LIMIT
                ):
                    seen.add(document.digest)
                    demo_index.add(document.digest, sketch)
                    demo.append(document)
                    taken += 1
            count += taken
        waiting.append((kind, rest))
        print(f"{kind.name}: {len(units)} units, {count} demonstration documents", flush=True)

    training: list[Document] = []
    for kind, rest in waiting:
        used = 0
        for unit in rest:
            if used >= kind.training_chars:
                break
            for document in documents_of(unit, kind):
                if document.digest in seen:
                    continue
                seen.add(document.digest)
                if demo_index.similarity(signature(document.text)) >= JACCARD_LIMIT:
                    continue
                training.append(document)
                used += len(document.text)
        print(f"{kind.name}: {used} training characters", flush=True)
    random.Random(f"{SEED}/demo").shuffle(demo)
    random.Random(f"{SEED}/training").shuffle(training)
    return demo, training


def write(path: Path, documents: list[Document]) -> None:
    """Write a corpus under a temporary name, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    with temporary.open("w", encoding="utf-8", newline="\n") as out:
        out.writelines(document.as_json() + "\n" for document in documents)
    temporary.replace(path)


def load(path: Path) -> list[dict[str, str]]:
    """Read a corpus file."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def check(demo_path: Path, training_path: Path | None) -> None:
    """Check the written files: sizes, duplicates, email addresses and disjointness."""
    demo = load(demo_path)
    assert len({d["id"] for d in demo}) == len(demo), "ids are not unique"
    index = NearDuplicates()
    nearest = 0.0
    for record in demo:
        text = record["text"]
        assert MIN_CHARS <= len(text) <= MAX_CHARS, record["id"]
        assert not EMAIL.search(text) and not COPYLEFT.search(text), record["id"]
        assert fit_to_ship(text), record["id"]
        sketch = signature(text)
        similarity = index.similarity(sketch)
        assert similarity < JACCARD_LIMIT, f"{record['id']} resembles another document"
        nearest = max(nearest, similarity)
        index.add(record["id"], sketch)
    print(f"demo: {len(demo)} documents, {sum(len(d['text']) for d in demo)} characters")
    print(f"demo: largest similarity between two documents {nearest:.2f}")
    print(f"demo: sha256 {hashlib.sha256(demo_path.read_bytes()).hexdigest()}")
    if training_path is None:
        return
    digests = {hashlib.sha256(d["text"].encode()).hexdigest() for d in demo}
    training = load(training_path)
    nearest = 0.0
    for record in training:
        digest = hashlib.sha256(record["text"].encode()).hexdigest()
        assert digest not in digests, f"{record['id']} is a demonstration document"
        similarity = index.similarity(signature(record["text"]))
        assert similarity < JACCARD_LIMIT, f"{record['id']} resembles a demonstration document"
        nearest = max(nearest, similarity)
    size = training_path.stat().st_size
    print(f"training: {len(training)} documents, {size} bytes; none equals a demo document")
    print(f"training: largest similarity with a demo document {nearest:.2f}")


def report(path: Path) -> None:
    """Print documents, characters and licences per kind."""
    count: Counter[str] = Counter()
    chars: Counter[str] = Counter()
    licences: dict[str, set[str]] = defaultdict(set)
    for record in load(path):
        count[record["kind"]] += 1
        chars[record["kind"]] += len(record["text"])
        licences[record["kind"]].add(record["licence"])
    total = sum(chars.values())
    print(f"\n{path.name}: {sum(count.values())} documents, {total} characters")
    for kind in count:
        names = ", ".join(sorted(licences[kind]))
        share = chars[kind] / total
        print(f"| {kind} | {count[kind]} | {chars[kind]} | {share:.1%} | {names} |")


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--sources", type=Path, help="folder of the unpacked packages")
    parser.add_argument("--stdlib", type=Path, default=Path(sysconfig.get_path("stdlib")))
    parser.add_argument("--output", type=Path, default=here / "demo" / "corpus.jsonl")
    parser.add_argument("--training-output", type=Path, help="also write the training corpus here")
    parser.add_argument("--check-only", action="store_true", help="check files already written")
    args = parser.parse_args(argv)
    if not args.check_only:
        if args.sources is None:
            parser.error("--sources is needed unless --check-only is given")
        demo, training = select(KINDS, Paths(args.sources, args.stdlib))
        write(args.output, demo)
        if args.training_output:
            write(args.training_output, training)
    check(args.output, args.training_output)
    for path in (args.output, args.training_output):
        if path:
            report(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
