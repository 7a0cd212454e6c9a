import json
import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from autointerp.browser.static_site import write_site
from autointerp.progress import Silent
from autointerp.records import AutointerpError

from .synthetic_run import lifts_of, write_run


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    write_run(folder / "run", 700, sources=("features", "neurons"))
    write_site(folder / "run", folder / "site", Silent(), with_maps=False)
    return folder


def test_the_list_is_in_pages_of_json_best_lift_first(site: Path) -> None:
    index = json.loads((site / "site" / "data" / "index.json").read_text())
    lifts = lifts_of(site / "run", "words")
    facts = index["views"]["1"]
    assert (facts["n"], facts["pages"]) == (700, 2)
    rows = [
        row
        for page in range(2)
        for row in json.loads((site / "site" / "data" / "1" / f"{page}.json").read_text())
    ]
    assert {row[0] for row in rows} == set(lifts)
    found = [row[3] for row in rows if row[3] is not None]
    assert found == sorted(found, reverse=True)
    for name, _, _, lift, *_ in rows:
        assert lift == (None if lifts[name] is None else round(lifts[name] or 0.0, 4))


def test_every_link_leads_to_a_file(site: Path) -> None:
    root = site / "site"
    pages = [root / "index.html", root / "map.html", *sorted(root.rglob("unit/*/*.html"))[:40]]
    for page in pages:
        for address in re.findall(r'(?:href|src|data-points)="([^"#]*)', page.read_text()):
            if address and not address.endswith("/"):
                target = (page.parent / unquote(address)).resolve()
                if target.name != "report.html":  # the made run has none
                    assert target.exists(), (page, address)


def test_a_folder_with_other_files_is_left_alone(site: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(AutointerpError, match="other files"):
        write_site(site / "run", tmp_path, Silent())
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_written_again_the_folder_holds_no_unit_of_before(site: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "small", 10)
    write_run(tmp_path / "smaller", 4)
    write_site(tmp_path / "small", tmp_path / "site", Silent(), with_maps=False)
    assert write_site(tmp_path / "smaller", tmp_path / "site", Silent(), with_maps=False) == 4
    assert len(list((tmp_path / "site").rglob("unit/*/*.html"))) == 4
