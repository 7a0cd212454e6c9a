"""Where prompts and data sets are, in a checkout and in an installed wheel."""

from pathlib import Path

from autointerp.records import AutointerpError

_PACKAGE = Path(__file__).resolve().parent


def path(name: str) -> Path:
    """The path of a shipped file or folder, such as `prompts/simulate.j2` or `datasets/demo`.

    Args:
        name: relative to the project's top level, with forward slashes.

    Raises:
        AutointerpError: where neither the wheel nor the checkout holds it.
    """
    candidates = (_PACKAGE / "_resources" / name, _PACKAGE.parent / name)
    for candidate in candidates:
        if candidate.exists():
            return candidate
    places = " or ".join(str(candidate) for candidate in candidates)
    raise AutointerpError(f"the shipped file {name!r} is missing: looked at {places}; reinstall")


def shipped_path(given: str, what: str) -> Path:
    """A path from a config: `demo` is the shipped thing, anything else the user's own."""
    return path(f"datasets/demo/{what}") if given == "demo" else Path(given)
