"""Dictionaries from a hub: a server on this machine that answers as the hub does."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

from autointerp.records import AutointerpError
from autointerp.units import load_sae
from autointerp.units.sae.sources import local_path, wanted_files
from tests.units.sae_checkpoints import FORMATS, checkpoint

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = {
    "README.md": b"hello",
    "L12R/hyperparams.json": "llama_scope_jumprelu/Llama3_1-8B-Base-L12R-8x/hyperparams.json",
    "L12R/checkpoints/final.safetensors": "llama_scope_jumprelu/Llama3_1-8B-Base-L12R-8x/"
    "checkpoints/final.safetensors",
    "topk/cfg.json": "saelens_topk/cfg.json",
    "topk/sae_weights.safetensors": "saelens_topk/sae_weights.safetensors",
    "topk/optimizer.pt": b"beside the weights, and no dictionary",
    "config.yaml": "circuit_tracer_transcoder/config.yaml",
    "wandb-config.yaml": "circuit_tracer_transcoder/wandb-config.yaml",
    **{f"layer_{i}.safetensors": "circuit_tracer_transcoder/layer_3.safetensors" for i in range(9)},
}


@pytest.fixture
def hub():
    """(address, paths asked for) of a hub with one repository, `org/dictionaries`."""
    files = {
        name: content if isinstance(content, bytes) else (FORMATS / content).read_bytes()
        for name, content in REPOSITORY.items()
    }
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.answer(with_body=False)

        def do_GET(self):
            self.answer(with_body=True)

        def answer(self, with_body):
            path = unquote(urlparse(self.path).path)
            asked.append(f"{self.command} {path}")
            parts = path.strip("/").split("/")
            if "org/dictionaries" not in path:
                self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"}, with_body)
            elif "wrong" in parts:
                self.reply(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, with_body)
            elif parts[0] == "api" and "tree" in parts:
                tree = [
                    {"type": "file", "path": n, "size": len(c), "oid": "0" * 40}
                    for n, c in files.items()
                ]
                self.reply(200, json.dumps(tree).encode(), {}, with_body)
            elif parts[0] == "api":
                siblings = [{"rfilename": name} for name in files]
                found = {"id": "org/dictionaries", "sha": COMMIT, "siblings": siblings}
                self.reply(200, json.dumps(found).encode(), {}, with_body)
            else:
                content = files["/".join(parts[4:])]
                tag = hashlib.sha1(content).hexdigest()
                head = {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
                self.reply(200, content, head, with_body)

        def reply(self, status, body, headers, with_body):
            self.send_response(status)
            for name, value in {**headers, "Content-Length": len(body)}.items():
                self.send_header(name, str(value))
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            if with_body:
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def load_in_another_process(home: Path, endpoint: str, *given: str, offline: bool = False) -> list:
    """What `load_sae` says of each of them: its settings are read when a process starts."""
    code = """
import json, sys, time, torch
time.sleep = lambda seconds: None  # between attempts to reach a hub
torch.set_num_threads(1)
from autointerp import AutointerpError, load_sae
said = []
for given in sys.argv[1:]:
    path, _, revision = given.partition("@")
    try:
        sae = load_sae(path, revision=revision or None)
        said.append([sae.format, sae.hook_in, sae.fingerprint()])
    except AutointerpError as error:
        said.append(str(error))
print(json.dumps(said))
"""
    settings = {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "1" if offline else "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "no_proxy": "127.0.0.1",
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code, *given],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_dictionary_is_fetched_once_and_read_again_without_a_network(hub, tmp_path):
    endpoint, asked = hub
    wanted = [
        "org/dictionaries:topk",
        "org/dictionaries:topk/sae_weights.safetensors@main",
        "org/dictionaries:L12R",
        "org/dictionaries:layer_3.safetensors",
    ]
    formats = ["saelens", "saelens", "llama_scope", "circuit_tracer"]
    said = load_in_another_process(tmp_path, endpoint, *wanted)
    assert [one[0] for one in said] == formats, said
    assert said[0][2] == said[1][2] == load_sae(checkpoint("saelens_topk")).fingerprint()
    assert said[2][1] == "blocks.12.hook_resid_post" and said[3][1] == "blocks.3.mlp.hook_in"
    fetched = {path.split("/resolve/")[1].partition("/")[2] for path in asked if "resolve" in path}
    assert "README.md" not in fetched and "layer_4.safetensors" not in fetched
    n_asked = len(asked)
    wanted.append("org/others:topk")
    *again, absent = load_in_another_process(tmp_path, endpoint, *wanted, offline=True)
    assert again == said and len(asked) == n_asked
    assert "the hub's cache does not hold it" in absent and "HF_HUB_OFFLINE" in absent


def test_what_a_hub_does_not_hold_is_refused_by_name(hub, tmp_path):
    said = load_in_another_process(
        tmp_path,
        hub[0],
        "org/dictionaries",
        "org/dictionaries:layer_30.safetensors",
        "org/dictionaries:topk@wrong",
        "org/nothing:topk",
    )
    assert "9 files of weights at the top of the repository; name one checkpoint" in said[0]
    assert "no weights at layer_30.safetensors of the repository" in said[1]
    assert "there is no revision 'wrong'" in said[2]
    assert "neither such a local folder or file nor a public repository 'org/nothing'" in said[3]


def test_without_a_network_the_error_names_the_remedy(tmp_path):
    closed = "http://127.0.0.1:9"
    (said,) = load_in_another_process(tmp_path, closed, "org/dictionaries:topk")
    assert "the hub's cache does not hold it" in said
    assert "`hf download org/dictionaries`" in said


def test_a_local_path_comes_before_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "dictionaries").symlink_to(checkpoint("saelens_topk"))
    assert (
        load_sae("org/dictionaries").fingerprint() == load_sae("./org/dictionaries").fingerprint()
    )


@pytest.mark.parametrize(
    "given",
    [
        "results/a/b/c",
        "nothing",
        "../org/x",
        "org/..",
        "/org/x",
        "./a/b",
        "org/x:a:b",
        "a/b:c\\d",
        "",
    ],
)
def test_what_is_no_name_on_a_hub_never_asks_for_one(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if given:
        with pytest.raises(AutointerpError, match="no such folder or file"):
            local_path(given)
    else:
        with pytest.raises(AutointerpError):
            load_sae(given)


def test_only_the_files_of_one_checkpoint_are_wanted():
    files = ["config.json", "a/cfg.json", "a/sae.safetensors", "a/b/sae.safetensors", "c/x.npz"]
    assert wanted_files(files, "a") == ["a/sae.safetensors", "config.json", "a/cfg.json"]
    assert wanted_files(files, "c") == ["c/x.npz", "config.json"]
    assert wanted_files(["W_enc_3.safetensors", "W_dec_3.safetensors"], "W_enc_3.safetensors") == [
        "W_enc_3.safetensors",
        "W_dec_3.safetensors",
    ]
    with pytest.raises(AutointerpError, match=r"There: a/sae\.safetensors"):
        wanted_files(files, "d")
