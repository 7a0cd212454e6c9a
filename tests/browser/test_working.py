"""What loads models or writes: trying, rating, maps."""

import json
import re

import numpy as np
import pytest

from autointerp.analysis.ratings import read_ratings
from autointerp.browser.maps import principal_places
from autointerp.records import UnitId
from autointerp.store import RunStore

from .client import Client


def test_a_window_tried_again_has_the_activations_that_were_recorded(real_client: Client) -> None:
    """The whole document is tried, so that its tokens stand where they stood."""
    folder = real_client.browser.run.folder
    store = RunStore(folder)
    sequences, facts = store.read_sequences(), store.read_facts()
    units = [s.unit for s in store.units("neurons") if s.maximum > 0]
    first = {s.sequence_id: s for s in sequences if int(s.char_starts.min()) == 0}
    for record in next(store.read_units(units[:1])).records:
        if record.maximum > 0 and record.window.sequence_id in first and record.window.stop < 20:
            break
    else:
        pytest.skip("no active window at the start of a document")
    text = facts[record.window.sequence_id]["text"]
    answer = real_client.get(f"/try?unit={units[0]}&text={text.replace(' ', '+')}")
    assert answer.status == 200
    assert "active on" in answer.text
    strongest = f"{record.maximum:.2f}"
    assert strongest[:-1] in answer.text


def test_an_explanation_of_ones_own_is_scored_on_the_test_windows(real_client: Client) -> None:
    folder = real_client.browser.run.folder
    rows = [json.loads(line) for line in (folder / "explanations.jsonl").read_text().splitlines()]
    row = next(
        r
        for r in rows
        if r["explainer"] == "words" and r["scores"]["simulation"]["lift"] is not None
    )
    words = row["explanation"].replace(" ", "+")
    text = real_client.get(f"/try?unit={row['unit']}&explanation={words}&score=1").text
    assert "Score of your explanation" in text
    # The run's own words get the run's own score.
    mine = re.search(r"yours</th>(.*?)</tr>", text, re.S)
    theirs = re.search(r">words</th>(.*?)</tr>", text, re.S)
    assert mine
    assert theirs
    numbers = [re.findall(r"[−\d.]+", re.sub("<[^>]+>", " ", m[1])) for m in (mine, theirs)]
    assert numbers[0] == numbers[1]


def test_a_unit_recorded_elsewhere_cannot_be_tried(client: Client) -> None:
    answer = client.get("/try?unit=features/1&text=hello")
    assert answer.status == 200
    assert 'role="alert"' in answer.text


def test_what_is_too_long_to_try_is_refused(client: Client) -> None:
    assert client.get("/try?unit=features/1&text=" + "x" * 5000).status == 400


def _fields(text: str) -> dict[str, str]:
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', text))


def test_a_rating_goes_to_the_run_and_comes_back_as_agreement(real_client: Client) -> None:
    folder = real_client.browser.run.folder
    rated = 0
    address = "/rate?rater=Ann&n=6&seed=3&explainer=words&item=1"
    for grade in (3, 1, 2, 0):
        text = real_client.get(address).text
        if "last item" in text:
            break
        fields = _fields(text) | {"simple": str(grade), "confidence": "2", "comment": "<b>"}
        answer = real_client.post("/rate", fields)
        assert answer.status == 303
        address = answer.headers["location"]
        rated += 1
    found = read_ratings(folder)
    assert len(found) == rated > 1
    assert {r.rater for r in found} == {"Ann"}
    assert {r.explainer for r in found} == {"words"}
    assert {r.confidence for r in found} == {2}
    text = real_client.get("/agree").text
    assert "Spearman" in text


def test_an_item_says_nothing_of_its_unit(real_client: Client) -> None:
    run = real_client.browser.run
    text = real_client.get("/rate?rater=Ann&n=8&item=1").text
    assert "Your rating" in text
    for source in run.sources:
        assert source not in text
    assert not re.search(r"/unit/", text)


def test_a_rating_given_again_replaces_the_first(real_client: Client) -> None:
    address = "/rate?rater=Ann&n=4&explainer=words&item=1"
    for grade in ("1", "3"):
        fields = _fields(real_client.get(address).text) | {"simple": grade}
        assert real_client.post("/rate", fields).status == 303
    (found,) = read_ratings(real_client.browser.run.folder)
    assert found.simple == 3
    assert re.search(r'name="simple" value="3" checked', real_client.get(address).text)


@pytest.mark.parametrize(
    "change", [{"simple": "9"}, {"simple": ""}, {"name": "another"}, {"rater": ""}, {"n": "x"}]
)
def test_what_is_no_rating_is_refused(real_client: Client, change: dict[str, str]) -> None:
    fields = _fields(real_client.get("/rate?rater=Ann&n=4&item=1").text) | {"simple": "1"}
    assert real_client.post("/rate", fields | change).status == 400
    assert not read_ratings(real_client.browser.run.folder)


def test_places_on_the_map_are_principal_components() -> None:
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(60, 9)) * np.array([5, 3, 1, 1, 1, 1, 1, 1, 1])
    places, share = principal_places(rows.astype(np.float32))
    left, size, _ = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    expected = left[:, :2] * size[:2]
    expected /= np.abs(expected).max(axis=0)
    for axis in (0, 1):
        np.testing.assert_allclose(np.abs(places[:, axis]), np.abs(expected[:, axis]), atol=1e-4)
    assert share == pytest.approx((size[:2] ** 2).sum() / (size**2).sum(), abs=1e-5)
    few, share_of_few = principal_places(rows[:5].astype(np.float32))
    assert few.shape == (5, 2)
    assert 0 < share_of_few <= 1


def test_a_map_holds_every_unit_with_its_words(real_client: Client) -> None:
    answer = real_client.get("/map.json?source=directions")
    assert answer.status == 200, answer.text
    found = json.loads(answer.text)
    assert found["n_points"] == found["n_units"] >= 12
    run = real_client.browser.run
    for name, x, y, lift, words in found["points"]:
        assert abs(x) <= 1
        assert abs(y) <= 1
        row = run.rows(run.facts(UnitId.parse(f"directions/{name}")))
        own = next((r for r in row if r["explainer"] == found["explainer"]), None)
        assert words == (own["explanation"] or "" if own else "")
        assert lift == (own["scores"]["simulation"]["lift"] if own else None)
    assert real_client.get("/map.json?source=directions", token="wrong").status == 200


def test_a_source_without_directions_says_so(client: Client) -> None:
    answer = client.get("/map.json?source=features")
    assert answer.status == 409
    assert "error" in json.loads(answer.text)


def test_nothing_but_ratings_and_what_can_be_made_again_is_written(real_client: Client) -> None:
    folder = real_client.browser.run.folder
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    for address in ("/", "/unit/neurons/1", "/compare?by=explainer", "/map.json?source=neurons",
                    "/try?unit=neurons/1&text=the+river&explanation=water"):  # fmt: skip
        real_client.get(address)
    after = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    changed = {p.name for p in after if after[p] != before.get(p)}
    made_again = {n for n in changed if n.startswith("browser.") or n.endswith(("-shm", "-wal"))}
    assert changed <= made_again | {".lock"}, changed
