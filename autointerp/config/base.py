"""What all config models share: strictness, names, and paths beside the file."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$")]
"""A name given in the config: letters, digits, `_`, `.`, `-`; it becomes a file name."""


class Stage(BaseModel):
    """A part of a config: unknown keys are refused, nothing changes after reading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


def _beside_config(given: str, info: ValidationInfo) -> str:
    """A path of a config file, looked for beside the file and then in the working folder.

    Raises:
        ValueError: where both places have it and they differ.
    """
    folder = (info.context or {}).get("folder")
    path = Path(given).expanduser()
    if folder is None or path.is_absolute() or given == "demo":
        return given
    beside = Path(folder) / path
    if not beside.exists():
        return given
    if path.exists() and not path.samefile(beside):
        raise ValueError(
            f"{given!r} is both {beside.resolve()} (beside the config) and {path.resolve()} (in "
            "the working folder): write one of them in full"
        )
    working = Path.cwd()
    found = beside.parent.resolve() / beside.name
    return str(found.relative_to(working)) if found.is_relative_to(working) else str(found)


LocalPath = Annotated[str, AfterValidator(_beside_config)]
"""A path; relative ones are looked for beside the config file, then in the working folder."""
