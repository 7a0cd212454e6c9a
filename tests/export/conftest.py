"""A finished run of a few neurons, scored by simulation and a judge."""

from pathlib import Path

import pytest

from tests.judged_run import judged_run


@pytest.fixture(scope="session")
def exported_run(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its explanations begin like a formula."""
    return judged_run(tmp_path_factory.mktemp("exported"), tiny_folder, "=words | farms")
