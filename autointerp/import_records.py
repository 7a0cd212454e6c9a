"""Starts a run from units recorded elsewhere: checks the file and writes a config."""

from pathlib import Path

import yaml

from autointerp.names import as_name
from autointerp.recording.imported import Imported, import_records
from autointerp.records import AutointerpError
from autointerp.store import write_text


def start_from_records(file: Path, folder: Path) -> tuple[Imported, Path]:
    """Check a file of recorded units and write a config that explains and scores them.

    Returns:
        What the file holds, and the path of the config.

    Raises:
        AutointerpError: where nothing in the file can be used.
    """
    found = import_records(file)
    config = {
        "name": as_name(folder.name),
        "output": str(folder),
        "sources": {"recorded": {"type": "recorded", "path": str(file.resolve())}},
        "units": {"sample": None, "min_active_documents": 1},
        "explainers": [
            {"name": "top_tokens", "type": "top_tokens"},
            {"name": "token_lookup", "type": "token_lookup"},
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "import.yaml"
    header = "# Explain and score recorded units. Add explainers as you like; see the README.\n"
    text = header + yaml.safe_dump(config, sort_keys=False)
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise AutointerpError(
            f"{path} was edited since it was written: run it, remove it, or give another --output"
        )
    write_text(path, text)
    return found, path
