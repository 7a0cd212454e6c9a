"""The command line: help, exit codes, messages."""

import json
import os
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from autointerp import cli_trust, steering
from autointerp.cli import READER_LEFT, app
from autointerp.subject import embedded
from autointerp.verify import Verification

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


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("check-judge", "embedded (the trained one that ships)"),
        ("steer", f"1 and 3 if left out. │ {steering.DEFAULT_PROMPTS[0]} if left out."),
        ("run", "or results/ and its name, if left out"),
        ("presets", "[PRESET]"),
    ],
)
def test_a_help_text_says_what_is_taken_where_nothing_is_given(command: str, said: str) -> None:
    found = runner.invoke(app, [command, "--help"], env={"COLUMNS": "300"})
    for part in said.split(" │ "):
        assert part.replace("'", "") in found.output.replace("'", "")
    assert "[[" not in found.output


def test_the_strengths_that_the_help_names_are_those_that_are_taken() -> None:
    assert steering.DEFAULT_STRENGTHS == (1.0, 3.0)


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


def test_what_is_no_run_folder_is_said_to_be_what_it_is(tmp_path: Path) -> None:
    below = tmp_path / "results" / "mine"
    below.mkdir(parents=True)
    (below / "config.yaml").write_text("sources: {neurons: {type: neurons}}\n")
    assert "there is no such folder" in refused(["status", str(tmp_path / "nothing")])
    assert "is a file and no run's folder" in refused(["verify", str(below / "config.yaml")])
    line = refused(["retry", "--failed", str(tmp_path / "results")])
    assert "such as results/demo" in line and f"or {str(below)!r} in it" in line


def test_a_refusal_does_not_begin_with_an_empty_line_nor_steer_the_terminal(tmp_path: Path) -> None:
    path = config_of(tmp_path, units={"ids": ["recorded/\x1b[31mred"]})
    found = runner.invoke(app, ["record", str(path)])
    assert found.output.startswith("autointerp: ")
    assert "\x1b" not in found.output


def test_commands_that_are_printed_can_be_given_as_they_stand(tmp_path: Path) -> None:
    config_of(tmp_path)
    file = (tmp_path / "made.jsonl").rename(tmp_path / "made up.jsonl")
    found = runner.invoke(app, ["import-records", str(file), "--output", str(tmp_path / "a b")])
    command = found.output.split("now: ")[1]
    assert shlex.split(command)[2:] == [str(tmp_path / "a b" / "import.yaml")]


def config_of(folder: Path, **changes: Any) -> Path:
    """A config of recorded units that needs no model."""
    rows = [
        {
            "unit": "0",
            "tokens": [f"word{i}", "b"],
            "activations": [1 + i % 3, 0],
            "document": str(i),
        }
        for i in range(20)
    ]
    (folder / "made.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {
        "output": str(folder / "run"),
        "units": {"min_active_documents": 1},
        "sources": {"made": {"type": "recorded", "path": str(folder / "made.jsonl")}},
        "explainers": [{"name": "top_tokens", "type": "top_tokens"}],
    }
    path = folder / "run.yaml"
    path.write_text(json.dumps({**config, **changes}))
    return path


def refused(arguments: list[str], code: int = 1) -> str:
    """The line that a command ends with where it fails; progress may stand before it."""
    found = runner.invoke(app, arguments)
    assert found.exit_code == code, (found.output, found.exception)
    assert isinstance(found.exception, SystemExit)
    *before, line = found.output.strip().splitlines()
    assert line.startswith("autointerp: ")
    assert not any("autointerp: " in other or "Traceback" in other for other in before)
    return line


def test_an_output_that_is_a_file_is_said_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    path = config_of(tmp_path)
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        line = refused(["record", str(path), "--output", str(output)])
        assert str(tmp_path / "file") in line and "--output" in line
    assert (tmp_path / "file").read_text() == "mine"


def test_a_damaged_file_of_a_run_is_said_in_a_line(tmp_path: Path) -> None:
    path = config_of(tmp_path)
    assert runner.invoke(app, ["record", str(path)]).exit_code == 0
    database = tmp_path / "run" / "results.sqlite"
    database.write_bytes(b"no database" * 1000)
    assert ".sqlite" in refused(["status", str(tmp_path / "run")])
    corpus = tmp_path / "run" / "corpus.parquet"
    whole = corpus.read_bytes()
    corpus.write_bytes(whole[:4] + b"x" * (len(whole) // 3) + whole[4 + len(whole) // 3 :])
    database.unlink()
    assert "corpus.parquet" in refused(["explain", str(path)])
    (tmp_path / "run" / "config.yaml").write_text("[1]")
    assert "config.yaml" in refused(["status", str(tmp_path / "run")])


def test_status_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("sources: {neurons: {type: neurons}}\n")
    assert runner.invoke(app, ["status", str(tmp_path)]).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_left_is_no_error(tmp_path: Path, unbuffered: str) -> None:
    """As `head` leaves: quietly, with the exit code of other tools."""
    (tmp_path / "config.yaml").write_text("sources: {neurons: {type: neurons}}\n")
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "autointerp.cli", "status", str(tmp_path)],
        stdout=writing,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (READER_LEFT, b"")


def test_a_folder_named_like_a_file_is_said_in_a_line(tmp_path: Path) -> None:
    for name in ("rows.jsonl", "rows.parquet"):
        (tmp_path / name).mkdir()
        assert name in refused(["import-records", str(tmp_path / name)])


def test_a_run_that_was_moved_goes_on_where_it_lies(tmp_path: Path) -> None:
    path = config_of(tmp_path)
    assert runner.invoke(app, ["record", str(path)]).exit_code == 0
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    found = runner.invoke(app, ["record", str(moved / "config.yaml")])
    assert found.exit_code == 0
    assert f"record is done: {moved}" in found.output
    assert not (tmp_path / "run").exists()


def test_a_missing_file_of_a_run_is_told_how_to_make_it_again(tmp_path: Path) -> None:
    path = config_of(tmp_path)
    assert runner.invoke(app, ["record", str(path)]).exit_code == 0
    folder = tmp_path / "run"
    (folder / "explanations.jsonl").write_text("{}")
    for command in (["view", "--static", str(tmp_path / "site")], ["compare"]):
        line = refused([command[0], str(folder), *command[1:]])
        assert "`autointerp run" in line and str(folder / "config.yaml") in line


def test_a_verification_of_nothing_says_that_nothing_is_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    why = Counter({"of an earlier state of this run": 16})
    nothing = Verification("run", n_published=16, not_recomputed=why)
    cli_trust._print_verified(nothing)
    told = capsys.readouterr().err
    assert "so nothing is known of these scores" in told and "the tables list 16" in told
    assert not nothing.is_exact
