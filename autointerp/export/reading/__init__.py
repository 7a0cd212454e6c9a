"""Files that others share, read line by line into explanations and windows.

A file is told apart by what is in it: every object says by its fields what it is. Nothing in a file
is executed, a line and a file that is read whole are bounded, and what does not fit is `Refused`
with its place while the rest goes on.
"""

from autointerp.export.reading.found import (
    Found,
    FoundExplanation,
    FoundRow,
    FoundWindow,
    Refused,
)
from autointerp.export.reading.read import read_file, read_paths

__all__ = [
    "Found",
    "FoundExplanation",
    "FoundRow",
    "FoundWindow",
    "Refused",
    "read_file",
    "read_paths",
]
