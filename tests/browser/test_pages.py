import json
import re
from html.parser import HTMLParser

import pytest

from autointerp.browser.text import visible
from autointerp.records import UnitId

from .client import Client
from .conftest import HOSTILE

VOID = {"meta", "link", "input", "br", "img", "hr"}


class Checked(HTMLParser):
    """What a page is made of; refuses elements that do not fit into each other."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


PAGES = (
    "/", "/?beside=neurons&source=features&sort=score", "/?q=%3Cscript%3E", "/?q=left+override",
    "/?explainer=token_lookup&order=asc", "/unit/features/0", "/unit/features/7?all=1",
    "/unit/neurons/3?split=explain", "/map", "/try", "/rate", "/compare", "/agree",
    "/unit/features/99999", "/?sort=%3Cb%3E",
)  # fmt: skip


@pytest.mark.parametrize("address", PAGES)
def test_pages_are_well_formed_and_hold_nothing_inline(client: Client, address: str) -> None:
    page = Checked(client.get(address).text)
    for tag, attributes in page.tags:
        assert tag not in ("iframe", "object", "base", "style", "b" if "%3Cb" in address else "x")
        assert "style" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        if tag == "script":
            assert (attributes["src"] or "").startswith("/assets/")
        for name in ("src", "href", "action"):
            value = attributes.get(name) or ""
            assert not value.startswith(("http:", "https:", "//", "javascript:", "data:")), value


@pytest.mark.parametrize("address", PAGES)
def test_pages_can_be_used_without_seeing_them(client: Client, address: str) -> None:
    page = Checked(client.get(address).text)
    names = [tag for tag, _ in page.tags]
    assert names.count("h1") == names.count("main") == 1
    assert {"header", "nav", "footer"} <= set(names)
    ids = [a["id"] for _, a in page.tags if a.get("id")]
    assert len(ids) == len(set(ids))
    labelled = {a.get("for") for tag, a in page.tags if tag == "label"}
    for tag, attributes in page.tags:
        if tag in ("input", "select", "textarea") and attributes.get("type") not in (
            "hidden", "radio",
        ):  # fmt: skip
            assert attributes.get("id") in labelled
        if tag == "th":
            assert attributes.get("scope") in ("col", "row", "rowgroup")
        if tag == "svg":
            assert attributes.get("aria-label") or attributes.get("aria-hidden")
        if tag == "nav":
            assert attributes.get("aria-label")


@pytest.mark.parametrize("place", range(len(HOSTILE)))
def test_hostile_words_are_shown_as_words(client: Client, place: int) -> None:
    for address in (f"/unit/features/{place}", "/?source=features&sort=unit&order=asc"):
        text = client.get(address).text
        Checked(text)
        for raw in ("<script>document", "<img src", '<b id="out">', "\u202e", "\u200b", "\x00",
                    "\x1b", "\u2060", "\ufeff"):  # fmt: skip
            assert raw not in text
        assert len(text) < 400_000


def test_invisible_characters_are_written_out() -> None:
    assert visible("a\u200bb") == "a⟨U+200B⟩b"
    assert visible("a\u202eb") == "a⟨U+202E⟩b"
    assert visible("tag\U000e0041") == "tag⟨U+E0041⟩"
    assert visible("נעים לי") == "נעים לי"
    assert visible("👩\u200d🚀 é") == "👩\u200d🚀 é"


def test_texts_of_either_direction_are_isolated(client: Client) -> None:
    text = client.get("/unit/features/5").text
    assert re.search(r"<bdi[^>]*>[^<]*שלום", text)


def test_a_unit_shows_scores_intervals_controls_examples_and_neighbouring_units(
    client: Client,
) -> None:
    rows = client.browser.run.rows(client.browser.run.facts(UnitId("features", 11)))
    text = client.get("/unit/features/11").text
    for row in rows:
        own = row["scores"]["simulation"]
        if own["lift"] is not None:
            assert f"{own['lift']:.2f}".replace("-", "−") in text
        assert own["controls"][0]["donor"] in text
    for part in ("top", "40–50 % of maximum", "silent", "histogram of activations", "Top tokens",
                 "simulated", 'rel="next"', "data-key=\"j\""):  # fmt: skip
        assert part in text


def test_the_negative_side_of_a_unit_is_shown_with_its_sign(real_client: Client) -> None:
    opened = real_client.browser.run
    rows = opened.database.execute("SELECT id FROM units WHERE id & 1 AND maximum > 0 LIMIT 1")
    unit = opened.unit(rows.fetchone()[0])
    text = real_client.get(f"/unit/{unit}?split=explain").text
    assert "the negative side of a signed unit" in text
    assert re.search(r'class="t n[1-9]', text)
    assert "activation −" in text


def test_what_is_held_back_for_audits_cannot_be_asked_for(client: Client) -> None:
    assert client.get("/unit/features/1?split=audit").status == 400


def test_what_does_not_exist_is_said_plainly(client: Client) -> None:
    for address in ("/nothing", "/unit/features/99999", "/unit/nobody/1", "/unit/features/x"):
        answer = client.get(address)
        assert answer.status == 404
        assert "cannot be shown" in answer.text
        assert "Traceback" not in answer.text


def test_a_list_links_to_the_same_list_beside_every_unit(client: Client) -> None:
    text = client.get("/?sort=density&order=asc&source=neurons").text
    found = re.search(r'href="(/unit/neurons/\d+\?[^"]+)"', text)
    assert found
    address = found[1].replace("&amp;", "&")
    unit = client.get(address).text
    following = re.search(r'data-key="j" href="([^"]+)"', unit)
    assert following
    assert "sort=density" in following[1]


def test_a_judge_s_answers_are_shown_beside_the_texts(real_client: Client) -> None:
    folder = real_client.browser.run.folder
    rows = [json.loads(line) for line in (folder / "explanations.jsonl").read_text().splitlines()]
    row = next(r for r in rows if r["scores"]["detection"]["status"] == "ok")
    address = f"/unit/{row['unit']}?explainer={row['explainer']}&items=detection"
    text = real_client.get(address).text
    Checked(text)
    n = len(re.findall(r'<tr class="(?:right|wrong)">', text))
    assert n > 4
    assert f"of {n} answers right" in text
    assert "✓" in text


def test_the_report_comes_with_its_own_policy_and_as_a_file(real_client: Client) -> None:
    shown, file = real_client.get("/report"), real_client.get("/report?download=1")
    assert "sha256-" in shown.headers["content-security-policy"]
    assert "unsafe" not in shown.headers["content-security-policy"]
    assert file.headers["content-disposition"].startswith("attachment")
    assert shown.text == file.text


def test_groups_are_compared_by_the_code_of_compare(real_client: Client) -> None:
    text = real_client.get("/compare?by=explainer").text
    Checked(text)
    assert "Differences of mean lift" in text
    assert "top_tokens" in text
