import logging
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from autointerp.llm import (
    CachedClient,
    Message,
    Request,
    Response,
    ResponseCache,
    ResponseStatus,
    TokenLogprobs,
    Usage,
    request_key,
)
from autointerp.llm.cache import open_cache
from autointerp.records import AutointerpError
from tests.llm.fake import FakeClient


def question(text: str, **fields) -> Request:
    return Request((Message("user", text),), 8, **fields)


FULL = Response(
    "words « für » 動物\n",
    ResponseStatus.TRUNCATED,
    Usage(100, 64, 8),
    "cut off after 8 tokens",
    "smollm2",
    (TokenLogprobs("words", -0.5, (("words", -0.5), (" a", -1.25))),),
)


def test_a_response_comes_back_as_it_was(tmp_path):
    with ResponseCache(tmp_path / "cache.sqlite") as cache:
        cache.put_many({"a": FULL})
        assert cache.get_many(["a", "b"]) == {"a": FULL}


@pytest.mark.parametrize("status", list(ResponseStatus))
def test_all_but_failed_answers_are_kept(tmp_path, status):
    with ResponseCache(tmp_path / "cache.sqlite") as cache:
        cache.put_many({"a": Response(None, status)})
        assert len(cache) == (status is not ResponseStatus.FAILED)


def test_answers_are_committed_before_they_are_returned(tmp_path):
    script = (
        "import os, sys\n"
        "from autointerp.llm import Response, ResponseCache, ResponseStatus\n"
        "cache = ResponseCache(sys.argv[1])\n"
        "cache.put_many({'a': Response('paid', ResponseStatus.OK)})\n"
        "os.kill(os.getpid(), 9)\n"
    )
    path = tmp_path / "cache.sqlite"
    killed = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert killed.returncode == -9
    assert ResponseCache(path).get_many(["a"])["a"].text == "paid"


def test_a_transaction_that_fails_leaves_nothing_behind(tmp_path):
    with ResponseCache(tmp_path / "cache.sqlite") as cache:
        with pytest.raises(AutointerpError, match="cannot be written"):
            cache.put_many({"a": FULL, object(): FULL})  # type: ignore[dict-item]
        assert len(cache) == 0
        cache.put_many({"a": FULL})
        assert len(cache) == 1


def test_two_connections_see_each_others_answers_and_the_first_one_stays(tmp_path):
    path = tmp_path / "cache.sqlite"
    with ResponseCache(path) as one, ResponseCache(path) as two:
        one.put_many({"a": Response("first", ResponseStatus.OK)})
        assert two.get_many(["a"])["a"].text == "first"
        two.put_many({"a": Response("second", ResponseStatus.OK), "b": FULL})
        assert one.get_many(["a", "b"])["a"].text == "first"
        assert len(one) == len(two) == 2


@pytest.mark.parametrize(
    "row", ["", "null", "[]", "{", '{"text": 3}', '{"text": "a"}', '"text"', "{}"]
)
def test_a_corrupt_row_counts_as_absent_and_is_replaced(tmp_path, caplog, row):
    path = tmp_path / "cache.sqlite"
    with ResponseCache(path) as cache:
        cache.put_many({"a": FULL, "b": FULL})
        other = sqlite3.connect(path)
        other.execute("UPDATE responses SET response = ? WHERE key = 'a'", (row,))
        other.commit()
        with caplog.at_level(logging.WARNING):
            assert set(cache.get_many(["a", "b"])) == {"b"}
        assert "corrupt" in caplog.text
        cache.put_many({"a": FULL})
        assert cache.get_many(["a"]) == {"a": FULL}


def test_thousands_of_keys_are_found_at_once(tmp_path):
    with ResponseCache(tmp_path / "cache.sqlite") as cache:
        cache.put_many({f"k{i}": FULL for i in range(2100)})
        assert len(cache.get_many(f"k{i}" for i in range(2200))) == 2100


def test_a_file_that_is_no_cache_is_refused_by_name(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to look like one " * 30)
    with pytest.raises(AutointerpError, match=r"notes\.txt"):
        ResponseCache(path)


def test_a_cache_of_another_version_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "cache.sqlite"
    ResponseCache(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    for _ in range(2):
        with pytest.raises(AutointerpError, match="version 99"):
            ResponseCache(path)


def test_what_was_answered_once_is_not_asked_again(tmp_path):
    client = FakeClient()
    path = tmp_path / "cache.sqlite"
    first = CachedClient(client, ResponseCache(path)).complete([question("a"), question("b")])
    again = CachedClient(client, ResponseCache(path)).complete([question("b"), question("a")])
    assert [r.text for r in first] == ["a", "b"]
    assert again == first[::-1]
    assert len(client.asked) == 2


def test_equal_requests_of_one_batch_are_asked_once():
    client = FakeClient()
    answers = CachedClient(client, None).complete([question("a"), question("b"), question("a")])
    assert [r.text for r in answers] == ["a", "b", "a"]
    assert client.batches == [2]


def test_failed_requests_are_asked_again(tmp_path):
    replies = [Response(None, ResponseStatus.FAILED), Response("now", ResponseStatus.OK)]
    client = FakeClient(lambda _: replies.pop(0))
    cached = CachedClient(client, ResponseCache(tmp_path / "cache.sqlite"))
    statuses = [cached.complete([question("a")])[0].status for _ in range(3)]
    assert statuses == ["failed", "ok", "ok"]
    assert len(client.asked) == 2


@pytest.mark.parametrize(
    "changed",
    [
        {"temperature": 0.5},
        {"sample": 1},
        {"seed": 1},
        {"stop": ("\n",)},
        {"schema": {"type": "object"}},
        {"top_logprobs": 5},
    ],
)
def test_every_field_but_the_purpose_changes_the_key(changed):
    client = FakeClient()
    key = request_key(client, question("a"))
    assert request_key(client, question("a", **changed)) != key
    assert request_key(client, question("a", purpose="other")) == key


def test_another_model_has_other_keys():
    other = FakeClient()
    other.fingerprint = "fake-2"
    assert request_key(other, question("a")) != request_key(FakeClient(), question("a"))


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"schema": {"type": "object"}}, "JSON schema"),
        ({"top_logprobs": 5}, "log-probabilities"),
    ],
)
def test_what_a_client_does_not_declare_is_refused_before_it_is_asked(fields, what):
    client = FakeClient()
    with pytest.raises(AutointerpError, match=what):
        CachedClient(client, None).complete([question("a"), question("b", **fields)])
    assert client.asked == []


def test_importing_the_rooms_loads_no_torch():
    script = (
        "import sys, autointerp.llm, autointerp.explainers\n"
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", script], check=False, cwd=root).returncode == 0


# ---------------------------------------------------------------------- where it lies


def test_the_shared_cache_lies_beside_the_runs(tmp_path):
    cache = open_cache("shared", tmp_path)
    assert cache is not None
    assert cache.path == tmp_path / "responses.sqlite"
    assert open_cache("off", tmp_path) is None
    elsewhere = open_cache(str(tmp_path / "deep" / "own.sqlite"), tmp_path)
    assert elsewhere is not None
    assert elsewhere.path.exists()


def test_a_read_only_cache_is_used_and_left_as_it_is(tmp_path):
    with ResponseCache(tmp_path / "responses.sqlite") as cache:
        cache.put_many({"a": FULL})
    read_only = open_cache("read_only", tmp_path)
    assert read_only is not None
    read_only.put_many({"b": FULL})
    assert read_only.get_many(["a", "b"]) == {"a": FULL}
    assert len(read_only) == 1


def test_a_read_only_cache_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(AutointerpError, match="must be there"):
        open_cache("read_only", tmp_path)
    assert not (tmp_path / "responses.sqlite").exists()


def test_a_damaged_file_is_refused_with_the_remedy(tmp_path):
    path = tmp_path / "cache.sqlite"
    with ResponseCache(path) as cache:
        cache.put_many({f"k{i}": FULL for i in range(200)})
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xaa" * (len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(AutointerpError, match="move the file away") as caught:
        ResponseCache(path).get_many([f"k{i}" for i in range(200)])
    assert "cache.sqlite" in str(caught.value)


def test_a_file_held_by_another_process_is_refused_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr("autointerp.llm.cache._WAIT_SECONDS", 0.1)
    path = tmp_path / "cache.sqlite"
    cache = ResponseCache(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(AutointerpError, match=r"another process.*llm\.cache"):
        cache.put_many({"a": FULL})
    other.execute("ROLLBACK")
    cache.put_many({"a": FULL})
    assert cache.get("a") == FULL


def test_a_folder_that_cannot_be_written_is_refused_with_the_remedy(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(AutointerpError, match="disk of this machine"):
        ResponseCache(tmp_path / "file" / "cache.sqlite")
