"""Clusters of near-duplicate documents: MinHash, bands, union-find.

MinHash (Broder 1997): for two sets with Jaccard similarity J, each of `N_HASHES` least hashes
agrees with probability J. Documents that agree on all `BAND` hashes of one of `N_BANDS` bands are
candidates, 1 - (1 - J^BAND)^N_BANDS of them: 99 % at J = 0.7 and 99.995 % at J = 0.8. A candidate
joins where the share of agreeing hashes is at least `JOIN_SHARE`, two standard errors below the
threshold: to join too many only makes splits coarser, to miss one leaks it.

Memory is 0.7 kB a document (hashes and band keys), whatever its length.
"""

import re
import zlib
from collections.abc import Iterable

import numpy as np

from autointerp.records import Document

NEAR_DUPLICATE_JACCARD = 0.7
"""Documents whose sets of five-word shingles overlap more than this share a cluster."""

N_HASHES, BAND, N_BANDS = 128, 5, 25

JOIN_SHARE = NEAR_DUPLICATE_JACCARD - 2 * (0.7 * 0.3 / N_HASHES) ** 0.5

_SHINGLE_WORDS = 5
_SHINGLES_AT_ONCE = 4096
_MAX_LEADERS = 100
"""Members of one band's bucket that all others are compared with: buckets are small but for
boilerplate, where nearly all join the first."""

# Scripts written without spaces: a character is a word there.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|[^\w\s]")


def near_duplicate_clusters(documents: Iterable[Document]) -> dict[str, str]:
    """Cluster id of every document: the smallest document_id in it, whatever the order."""
    names: list[str] = []
    hashes: list[np.ndarray] = []
    for document in documents:
        names.append(document.document_id)
        hashes.append(minhash(document.text))
    if not names:
        return {}
    # Documents by id, so that what is compared with what does not depend on the order.
    order = np.argsort(np.asarray(names))
    names = [names[i] for i in order]
    signatures = np.stack(hashes)[order]
    parent = _joined(signatures)
    return {name: names[_root(parent, number)] for number, name in enumerate(names)}


def minhash(text: str) -> np.ndarray:
    """[N_HASHES] uint32 least hashes of a text's five-word shingles."""
    from datasketch import MinHash

    signature = MinHash(num_perm=N_HASHES, seed=1, hashfunc=zlib.crc32)
    shingles = sorted(_shingles(text))
    for start in range(0, len(shingles), _SHINGLES_AT_ONCE):
        signature.update_batch(shingles[start : start + _SHINGLES_AT_ONCE])
    return np.asarray(signature.hashvalues, np.uint32)


def _shingles(text: str) -> set[bytes]:
    words = _WORD.findall(text)
    count = max(1, len(words) - _SHINGLE_WORDS + 1)
    return {
        " ".join(words[i : i + _SHINGLE_WORDS]).encode("utf-8", "replace") for i in range(count)
    }


def _joined(signatures: np.ndarray) -> np.ndarray:
    """[n] parents of a union-find forest over rows of [n, N_HASHES] signatures."""
    n = len(signatures)
    parent = np.arange(n)
    # One number a band; documents that share one by chance are told apart in `_join_bucket`.
    factors = np.random.default_rng(0).integers(1, 2**63, BAND, dtype=np.uint64) | np.uint64(1)
    for band in range(N_BANDS):
        columns = signatures[:, band * BAND : (band + 1) * BAND].astype(np.uint64)
        keys = (columns * factors).sum(axis=1, dtype=np.uint64)
        order = np.argsort(keys, kind="stable")
        borders = np.flatnonzero(np.diff(keys[order]) != 0) + 1
        starts, stops = np.r_[0, borders], np.r_[borders, n]
        shared = stops - starts > 1
        for start, stop in zip(starts[shared], stops[shared], strict=True):
            _join_bucket(order[start:stop], signatures, parent)
    return parent


def _join_bucket(members: np.ndarray, signatures: np.ndarray, parent: np.ndarray) -> None:
    for place, leader in enumerate(members[:_MAX_LEADERS]):
        roots = np.asarray([_root(parent, member) for member in members])
        if (roots == roots[0]).all():
            return
        others = members[place + 1 :][roots[place + 1 :] != roots[place]]
        agree = (signatures[others] == signatures[leader]).mean(axis=1)
        for other in others[agree >= JOIN_SHARE]:
            a, b = sorted((_root(parent, leader), _root(parent, other)))
            parent[b] = a


def _root(parent: np.ndarray, number: int) -> int:
    while parent[number] != number:
        parent[number] = parent[parent[number]]
        number = parent[number]
    return int(number)
