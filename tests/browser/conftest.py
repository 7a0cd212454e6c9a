"""Runs to look at: a made one with hostile texts, and a small real one with a judge's answers."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autointerp.browser.app import Browser
from autointerp.browser.opened import OpenedRun
from autointerp.browser.security import Access
from autointerp.browser.serving import serve
from autointerp.progress import Silent
from tests.browser.client import PORT, Client
from tests.browser.synthetic_run import TOKENS, write_run
from tests.judged_run import judged_run

SCRIPT = "<script>document.title='taken'</script>"
IMAGE = "<img src=x onerror=\"document.title='taken'\">"
HOSTILE = (
    SCRIPT,
    IMAGE,
    '"><b id="out">out of its attribute</b>',
    "\u202eright to left\u202c override",
    "zero\u200bwidth\u2060and\ufeffmarks\u00ad",
    "שלום עולם: words from right to left",
    "null\x00 and \x1b[31m escape",
    "L" * 100_000,
)
"""Explanations of the first units."""

HOSTILE_TOKENS = (*TOKENS, SCRIPT, "</span>", "\u202e", "\u200b", "\u0627\u0644", "T" * 100_000)


@pytest.fixture(scope="session")
def made_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 2,000 units of two sources."""
    folder = tmp_path_factory.mktemp("made") / "run"
    return write_run(folder, 2000, texts=HOSTILE, vocabulary=HOSTILE_TOKENS)


@pytest.fixture(scope="session")
def made(made_folder: Path) -> Iterator[OpenedRun]:
    opened = OpenedRun(made_folder, Silent())
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def client(made: OpenedRun) -> Client:
    return Client(Browser(made, Access(PORT)))


@pytest.fixture(scope="session")
def real_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a random Llama's neurons and random directions, with a judge that detects."""
    sources = {
        "neurons": {"type": "neurons", "hook_point": "blocks.0.mlp.hook_post"},
        "directions": {"type": "directions", "kind": "random", "n": 12,
                       "hook_point": "blocks.1.hook_resid_post"},
    }  # fmt: skip
    return judged_run(tmp_path_factory.mktemp("real"), tiny_folder, "about farms", sources=sources)


@pytest.fixture
def real_copy(real_folder: Path, tmp_path: Path) -> Path:
    """The same, to be written into; the answers that it keeps lie beside it."""
    shutil.copytree(real_folder.parent, tmp_path / "copy")
    return tmp_path / "copy" / "run"


@pytest.fixture
def real_client(real_copy: Path) -> Iterator[Client]:
    browser = Browser(OpenedRun(real_copy, Silent()), Access(PORT))
    yield Client(browser)
    browser.close()


@pytest.fixture(scope="session")
def served(made_folder: Path) -> Iterator[Any]:
    """A server over the made run, on a free port."""
    server = serve(made_folder, Silent(), port=0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield server
    server.stop()
    thread.join(10)
