"""Names that nearly match: for errors that help."""

import difflib


def near_names(name: str, known: list[str], n: int = 5) -> list[str]:
    """Names from `known` that look like `name`, nearest first; some of them where none does."""
    return difflib.get_close_matches(name, known, n=n, cutoff=0.5) or known[:n]
