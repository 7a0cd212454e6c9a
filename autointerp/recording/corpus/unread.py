"""What a corpus is read from, hashed without reading its documents.

Reading finds documents, drops copies and compares the rest for near-duplicates: minutes for a large
corpus. A run that has its sequences already only wants to know whether they are still those of its
files, and the bytes of the files say that in seconds.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from autointerp.recording.corpus.documents import Source
from autointerp.recording.corpus.readers import files_below
from autointerp.recording.corpus.report import CorpusReport
from autointerp.records import content_key

READING_VERSION = 1
"""Raised where the same files come to be read as other documents, or other clusters of them."""


def files_digest(sources: Iterable[Source], **settings: object) -> str | None:
    """Hash of the files of some sources, and of how they are read.

    Args:
        settings: of `read_sources`.

    Returns:
        `None` where files do not say it: a source is a data set, or is not there.
    """
    parts: list[object] = []
    for source in sources:
        place = None if source.path is None else Path(source.path).expanduser()
        if place is None or not place.exists():
            return None
        how = {name: value for name, value in asdict(source).items() if name != "path"}
        try:
            parts.append([how, _digest(place)])
        except OSError:
            # Reading says which file cannot be opened, and why.
            return None
    return content_key("corpus files", version=READING_VERSION, parts=parts, settings=settings)


def _digest(place: Path) -> str:
    """Hash of a file, or of the names and bytes of a folder's readable files."""
    digest = hashlib.blake2b(digest_size=16)
    paths = files_below(place, CorpusReport()) if place.is_dir() else [place]
    for path in paths:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "blake2b").hexdigest()
        # The suffix says how a file is read; the folder's order is that of its names.
        name = str(path.relative_to(place)) if place.is_dir() else "".join(path.suffixes)
        digest.update(f"{name}\0{content}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
