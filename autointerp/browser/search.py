"""What a person types into the search box, as a query of SQLite's full-text index."""

import re

MAX_CHARACTERS = 500
MAX_TERMS = 24

_TERM = re.compile(r'(-?)(?:"([^"]*)"|(\S+))')
_WORD = re.compile(r"\w", re.UNICODE)


def fts_query(text: str) -> str | None:
    """An FTS5 expression: all words, in any form; `"a phrase"`; `-without`; the last as a prefix.

    Everything is quoted, so that nothing typed is read as FTS5's own syntax.

    Returns:
        `None` where there is no word to look for.
    """
    text = text[:MAX_CHARACTERS].replace("\x00", " ")
    wanted: list[str] = []
    unwanted: list[str] = []
    terms = list(_TERM.finditer(text))[:MAX_TERMS]
    for match in terms:
        minus, phrase, word = match.groups()
        found = (phrase if phrase is not None else word.replace('"', " ")).strip()
        if not _WORD.search(found):
            continue
        quoted = '"' + found + '"'
        is_last = match is terms[-1] and phrase is None and not text[-1:].isspace()
        if minus:
            unwanted.append(quoted)
        else:
            wanted.append(f"{quoted}*" if is_last else quoted)
    if not wanted:
        return None
    return " AND ".join(wanted) + "".join(f" NOT {one}" for one in unwanted)
