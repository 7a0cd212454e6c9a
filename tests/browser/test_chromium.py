"""The pages in a real browser: what only shows where scripts run and styles apply."""

import functools
import http.server
import itertools
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from autointerp.analysis.ratings import read_ratings
from autointerp.browser.serving import serve
from autointerp.browser.static_site import write_site
from autointerp.progress import Silent

from .conftest import HOSTILE, HOSTILE_TOKENS
from .synthetic_run import write_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH")

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update",
             "--disable-sync"]  # fmt: skip
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Open]:
    """Opens a page that must not complain, and asks nobody but its own server."""
    contexts: list[Any] = []
    complaints: list[str] = []

    def make(address: str, *, width: int = 1280, dark: bool = False, token: str = "") -> Any:
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
        )
        contexts.append(context)
        page = context.new_page()
        root = "/".join(address.split("/")[:3])

        def on_console(message: Any) -> None:
            if message.type == "error" and "400 (Bad Request)" not in message.text:
                complaints.append(message.text)

        def on_request(request: Any) -> None:
            if not request.url.startswith(root + "/"):
                complaints.append(f"asked for {request.url}")

        page.on("console", on_console)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", on_request)
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        if token:
            with page.expect_response("**/session"):
                page.goto(f"{root}/#token={token}")
        page.goto(address)
        return page

    yield make
    for context in contexts:
        context.close()
    assert not complaints, complaints


def fits(page: Any) -> bool:
    """Whether nothing reaches over the edge of the window."""
    return page.evaluate(
        "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )


@pytest.mark.parametrize("width", [1280, 360])
def test_every_page_fits_and_says_what_it_is(served: Any, open_page: Open, width: int) -> None:
    page = open_page(served.address, width=width)
    for path in (
        *("", "?beside=neurons&source=features", "unit/features/3", "unit/features/0"),
        *("unit/features/7", "try", "rate", "compare", "map", "agree", "?sort=x"),
    ):
        page.goto(served.address + path)
        assert fits(page), path
        assert page.locator("h1").count() == 1
        assert page.title() not in ("", "taken")


def test_hostile_words_and_tokens_do_nothing(served: Any, open_page: Open) -> None:
    page = open_page(served.address + "?source=features&sort=unit&order=asc")
    assert "<script>document.title='taken'</script>" in page.inner_text("table.units")
    for place in range(8):
        page.goto(f"{served.address}unit/features/{place}?all=1")
        assert page.title().startswith(f"features/{place}")
        assert page.locator("img, #out").count() == 0
        assert page.locator(".strip .t").count() > 100
        widest = page.evaluate(
            "Math.max(...[...document.querySelectorAll('.t')].map((one) => one.offsetWidth))"
        )
        assert widest < 700


def test_keys_walk_the_list_open_a_unit_and_go_on_from_it(served: Any, open_page: Open) -> None:
    page = open_page(served.address + "?sort=density")
    names = page.locator("tr[data-row] th a").all_inner_texts()
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.textContent") == names[1]
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert page.inner_text("h1") == names[1]
    with page.expect_navigation():
        page.keyboard.press("j")
    assert page.inner_text("h1") == names[2]
    with page.expect_navigation():
        page.keyboard.press("ArrowLeft")
    assert page.inner_text("h1") == names[1]
    with page.expect_navigation():
        page.keyboard.press("u")
    assert "sort=density" in page.url
    with page.expect_navigation():
        page.keyboard.press("n")
    assert page.locator("tr[data-row] th a").first.inner_text() not in names


def test_the_search_box_lists_what_holds_the_words(served: Any, open_page: Open) -> None:
    page = open_page(served.address)
    page.keyboard.press("/")
    page.keyboard.type("river -bread")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert "q=river" in page.url
    assert "lift_min" not in page.url
    texts = page.locator("td.words").all_inner_texts()
    assert texts
    assert all("river" in text and "bread" not in text for text in texts)
    assert page.input_value("#q") == "river -bread"


def test_a_drag_over_a_distribution_selects_its_range(served: Any, open_page: Open) -> None:
    page = open_page(served.address + "?source=features")
    plot = page.locator("svg[data-field=lift]")
    bars = plot.locator("g[data-bar]")
    first, last = (bars.nth(i).locator(".hit").bounding_box() for i in (20, 24))
    page.mouse.move(first["x"] + 2, first["y"] + 20)
    page.mouse.down()
    page.mouse.move(last["x"] + 2, last["y"] + 20, steps=8)
    with page.expect_navigation():
        page.mouse.up()
    low, high = (float(page.input_value(f"#lift_{end}")) for end in ("min", "max"))
    assert low == float(bars.nth(20).get_attribute("data-min"))
    assert high == float(bars.nth(24).get_attribute("data-max"))
    shown = page.locator("td[data-label=lift]").all_inner_texts()
    assert shown
    for text in shown:
        assert low - 0.01 <= float(text.split()[0].replace("−", "-")) <= high + 0.01


def test_a_choice_takes_effect_at_once_and_is_in_the_address(served: Any, open_page: Open) -> None:
    page = open_page(served.address)
    with page.expect_navigation():
        page.select_option("#status", "failed")
    assert page.url.endswith("status=failed") or "status=failed" in page.url
    assert set(page.locator("td .status").all_inner_texts()) == {"failed"}


def test_dark_pages_are_dark_and_light_ones_light(served: Any, open_page: Open) -> None:
    brightness = (
        "(() => { const [r, g, b] = getComputedStyle(document.body).backgroundColor"
        ".match(/\\d+/g).map(Number); return r + g + b; })()"
    )
    assert open_page(served.address, dark=True).evaluate(brightness) < 150
    assert open_page(served.address).evaluate(brightness) > 700


def test_colours_of_the_scale_are_even_steps_and_opposite_sides_differ(
    served: Any, open_page: Open
) -> None:
    """Steps of lightness (OKLab L) from none to the strongest are equal, for either sign."""
    page = open_page(served.address + "unit/features/3")
    lightness = """(kind) => {
      const found = [];
      for (let i = 0; i <= 10; i += 1) {
        const one = document.createElement("i");
        one.className = kind + i;
        document.querySelector(".ramp").append(one);
        const canvas = document.createElement("canvas");
        const picture = canvas.getContext("2d");
        picture.fillStyle = getComputedStyle(one).backgroundColor;
        picture.fillRect(0, 0, 1, 1);
        found.push([...picture.getImageData(0, 0, 1, 1).data].slice(0, 3));
      }
      return found;
    }"""

    def oklab(colour: list[int]) -> tuple[float, float, float]:
        r, g, b = (
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
            for c in (x / 255 for x in colour)
        )
        long, middle, short = (
            (0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b) ** (1 / 3),
            (0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b) ** (1 / 3),
            (0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b) ** (1 / 3),
        )
        return (
            0.2104542553 * long + 0.7936177850 * middle - 0.0040720468 * short,
            1.9779984951 * long - 2.4285922050 * middle + 0.4505937099 * short,
            0.0259040371 * long + 0.7827717662 * middle - 0.8086757660 * short,
        )

    ends = []
    for kind in ("a", "n"):
        places = [oklab(colour) for colour in page.evaluate(lightness, kind)]
        steps = [
            sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5
            for a, b in itertools.pairwise(places)
        ]
        assert max(steps) < 1.5 * min(steps)
        ends.append(places[-1])
    # Blue and yellow are told apart by all but the rarest kind of colour blindness.
    assert ends[0][2] - ends[1][2] > 0.2


def test_an_unmarked_visitor_can_read_and_not_rate(served: Any, open_page: Open) -> None:
    page = open_page(served.address + "rate")
    assert page.locator("[data-needs-token]").count() == 1
    assert page.locator("main button").is_disabled()


def test_rating_with_the_keyboard_ends_in_the_run(real_copy: Path, open_page: Open) -> None:
    server = serve(real_copy, Silent(), port=0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        page = open_page(server.address + "rate", token=server.browser.access.token)
        page.fill("#rater", "Ann <b>")
        page.fill("#n", "3")
        with page.expect_navigation():
            page.keyboard.press("Enter")
        assert "Your rating" in page.content()
        assert "neurons" not in page.content()
        page.locator("input[name=simple]").first.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        with page.expect_navigation():
            page.get_by_role("button", name="Keep and go on").press("Enter")
        assert "item=2" in page.url
        (found,) = read_ratings(real_copy)
        assert (found.rater, found.simple) == ("Ann <b>", 2)
        page.goto(server.address + "map?source=directions&q=directions")
        page.wait_for_selector("body[data-ready]", timeout=60_000)
        assert page.locator("#hits a").count() >= 12
        assert "principal components" in page.inner_text("#about")
        with page.expect_navigation():
            page.locator("#hits a").first.click()
        assert page.inner_text("h1").startswith("directions/")
    finally:
        server.stop()
        thread.join(10)


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A made run as files, behind a plain web host."""
    run = tmp_path_factory.mktemp("hosted")
    folder = run / "site"
    write_run(run / "run", 160, texts=HOSTILE, vocabulary=HOSTILE_TOKENS)
    assert write_site(run / "run", folder, Silent(), with_maps=False) == 160

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/", folder
    server.shutdown()


def test_a_folder_of_files_lists_searches_and_opens_units(
    hosted: tuple[str, Path], open_page: Open
) -> None:
    address, _ = hosted
    page = open_page(address)
    page.wait_for_selector("tr[data-row]")
    assert page.locator("tr[data-row]").count() == 50
    page.fill("#q", "river")
    page.wait_for_function(
        "[...document.querySelectorAll('td.words')]"
        ".every((one) => one.textContent.includes('river'))"
    )
    assert "#q=river" in page.url
    page.select_option("#sort", "density")
    page.wait_for_function("location.hash.includes('sort=density')")
    page.goto(address + "#status=failed")
    page.reload()
    page.wait_for_selector("tr[data-row]")
    assert set(page.locator("td .status").all_inner_texts()) == {"failed"}
    with page.expect_navigation():
        page.locator("tr[data-row] a").first.click()
    assert "/unit/" in page.url
    assert fits(page)
    with page.expect_navigation():
        page.keyboard.press("j")
    assert page.locator("h1").count() == 1


def test_hostile_words_do_nothing_in_files_either(
    hosted: tuple[str, Path], open_page: Open
) -> None:
    address, folder = hosted
    page = open_page(address + "#sort=unit&source=features")
    page.wait_for_selector("tr[data-row]")
    assert "<script>" in page.inner_text("table.units")
    page.goto(address + "unit/features/0.html")
    assert page.title().startswith("features/0")
    everything = "".join(p.read_text() for p in sorted(folder.rglob("*.html"))[:60])
    assert "<script>document" not in everything
    assert "http://" not in everything.replace("http://www.w3.org", "")
