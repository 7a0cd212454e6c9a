"""browser.sqlite: what the pages look up, made from a run's files and never the only copy.

units      one row per recorded unit, with the place of its rows in explanations.jsonl
listed     one row per unit and view; a view is an explainer under a scorer
explained  the words of every unit and explainer
ranked     the units of `words` (full text), best lift first: ids count on within an explainer
sequences  the corpus by sequence id, so that a unit is read without all of it
counts, distributions   per view and source: what the list says of all its units
"""

INDEX_VERSION = 2
"""Raise when the tables or what is refused change: an older index is made anew."""

FILE = "browser.sqlite"

RECORDED_VIEW = 0
"""The view of every recorded unit, explained or not."""

RANK_SHIFT = 40
"""Ids of `ranked`: explainer << RANK_SHIFT | rank."""

TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE units (
    id INTEGER PRIMARY KEY, density REAL NOT NULL, maximum REAL, documents INTEGER,
    place INTEGER, size INTEGER);
CREATE TABLE views (id INTEGER PRIMARY KEY, explainer INTEGER NOT NULL, scorer TEXT NOT NULL);
CREATE TABLE listed (
    view INTEGER, unit INTEGER, density REAL NOT NULL, status INTEGER NOT NULL, score REAL,
    lift REAL, low REAL, high REAL, PRIMARY KEY (view, unit)) WITHOUT ROWID;
CREATE TABLE explained (
    explainer INTEGER, unit INTEGER, text TEXT, PRIMARY KEY (explainer, unit)) WITHOUT ROWID;
CREATE TABLE ranked (id INTEGER PRIMARY KEY, unit INTEGER NOT NULL);
CREATE TABLE sequences (
    id TEXT PRIMARY KEY, document TEXT NOT NULL, name TEXT NOT NULL, split TEXT NOT NULL,
    text TEXT NOT NULL, tokens BLOB NOT NULL);
CREATE TABLE counts (view INTEGER, source INTEGER, status INTEGER, n INTEGER NOT NULL);
CREATE TABLE distributions (
    view INTEGER, source INTEGER, field TEXT, low REAL NOT NULL, high REAL NOT NULL,
    counts TEXT NOT NULL);
CREATE VIRTUAL TABLE words USING fts5(
    text, content='', tokenize="porter unicode61 remove_diacritics 2");
"""

INDEXES = """
CREATE INDEX by_lift ON listed (view, lift, unit, density, score, status);
CREATE INDEX by_score ON listed (view, score, unit, density, lift, status);
CREATE INDEX by_density ON listed (view, density, unit, score, lift, status);
CREATE INDEX by_unit ON listed (view, unit, density, score, lift, status);
"""
"""Every filter is answered from the index that the list is sorted by."""
