import json
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parent.parent / "data"


@pytest.fixture(scope="session")
def reference() -> dict[str, Any]:
    """Inputs and outputs of the original code; see tests/data/README.md."""
    return json.loads((DATA / "openai_scoring.json").read_text(encoding="utf-8"))
