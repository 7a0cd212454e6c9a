import pytest

from autointerp.browser.security import Access

from .client import PORT, Client


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8321", "localhost:8321", "[::1]:8321", "LocalHost:8321"]
)
def test_this_machine_is_answered(client: Client, host: str) -> None:
    assert client.get("/", host=host).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example:8321", "127.0.0.1:9999", "127.0.0.1", "", "localhost.evil.example:8321",
     "192.168.0.7:8321", "127.0.0.1:8321@evil.example"],
)  # fmt: skip
def test_another_name_that_points_here_is_refused(client: Client, host: str) -> None:
    answer = client.get("/", host=host)
    assert answer.status == 421
    assert "features" not in answer.text


def test_an_open_address_answers_to_numbers_and_its_own_name_alone() -> None:
    access = Access(PORT, "0.0.0.0")
    assert access.answers_to("192.168.0.7:8321")
    assert access.answers_to("[fe80::1]:8321")
    assert not access.answers_to("evil.example:8321")
    assert Access(PORT, "box.local").answers_to("box.local:8321")
    assert not access.is_local


def test_every_answer_forbids_what_is_not_its_own(client: Client) -> None:
    for address in ("/", "/unit/features/1", "/assets/browser.js", "/nothing", "/?sort=x"):
        headers = client.get(address).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http:" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"


def test_ratings_need_the_token_of_this_start(client: Client) -> None:
    fields = {"rater": "me", "item": "1"}
    for token in ("", "wrong", "é"):
        assert client.post("/rate", fields, token=token).status == 403
    assert client.post("/rate", fields).status != 403


@pytest.mark.parametrize(
    "header",
    [("origin", "http://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site"),
     ("origin", "http://127.0.0.1:9999")],
)  # fmt: skip
def test_a_page_of_elsewhere_cannot_use_the_cookie(client: Client, header: tuple[str, str]) -> None:
    answer = client.post("/rate", {"rater": "me"}, headers=(header,))
    assert answer.status == 403


def test_trying_and_comparing_need_the_token_too(client: Client) -> None:
    for address in ("/try?unit=features/1&text=hello", "/compare?by=source", "/rate?rater=me",
                    "/agree"):  # fmt: skip
        answer = client.get(address, token="wrong")
        assert answer.status == 200
        assert "holds a token" in answer.text
    assert client.get("/map.json?source=features", token="wrong").status == 403


def test_the_token_becomes_a_cookie_that_scripts_cannot_read(client: Client) -> None:
    assert client.ask("POST", "/session", body=b"wrong", token="").status == 403
    answer = client.ask("POST", "/session", body=client.browser.access.token.encode(), token="")
    assert answer.status == 204
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie


def test_tokens_differ_from_start_to_start() -> None:
    assert Access(1).token != Access(1).token
    assert len(Access(1).token) >= 32


def test_too_much_is_refused_before_it_is_read(client: Client) -> None:
    assert client.ask("POST", "/rate", body=b"x" * 300_000).status == 413
    assert client.get("/?q=" + "x" * 20_000).status == 414


def test_files_of_elsewhere_are_not_given_out(client: Client) -> None:
    for name in ("..%2f..%2fsecurity.py", "security.py", "../security.py", "report.css.bak"):
        assert client.get(f"/assets/{name}").status == 404
