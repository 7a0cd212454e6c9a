import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from autointerp.analysis.compare import compare_all, compare_sources
from autointerp.analysis.figure import MANY_UNITS, draw_comparison
from autointerp.records import Status, UnitId

from .synthetic import every_kind, run_of, unit_of


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    results = every_kind()
    stem = tmp_path_factory.mktemp("figure") / "comparison"
    return draw_comparison(results, compare_all(results), stem)


def test_png_is_1200_pixels_wide_and_svg_is_xml(files: tuple[Path, Path]) -> None:
    from matplotlib.image import imread

    png, svg = files
    assert imread(png).shape[1] == 1200
    assert ElementTree.fromstring(svg.read_text(encoding="utf-8")).tag.endswith("svg")


def test_the_same_results_give_the_same_bytes(files: tuple[Path, Path], tmp_path: Path) -> None:
    results = every_kind()
    again = draw_comparison(results, compare_all(results), tmp_path / "again")
    assert [file.read_bytes() for file in again] == [file.read_bytes() for file in files]


def test_labels_name_n_units_and_axes(files: tuple[Path, Path]) -> None:
    svg = files[1].read_text(encoding="utf-8")
    for words in ("n = 3 of 9", "n = 5 of 5", "firing rate (% of explain tokens, log scale)",
                  "lift: score", "(baseline)", "difference"):  # fmt: skip
        assert words in svg
    assert "<dc:date>" not in svg


def test_one_comparison_decides_the_explainer_on_the_right(tmp_path: Path) -> None:
    results = every_kind()
    one = compare_sources(results, "features", "neurons", "top_tokens")
    svg = draw_comparison(results, one, tmp_path / "one")[1].read_text(encoding="utf-8")
    assert svg.count("top_tokens") >= 2


@pytest.mark.parametrize("sources", [["features"], ["a", "b", "c", "d", "e", "f", "g"]])
def test_any_number_of_sources_can_be_drawn(sources: list[str], tmp_path: Path) -> None:
    units = [unit_of(UnitId(s, i), 0.1 * i) for s in sources for i in range(3)]
    assert draw_comparison(run_of(units, sources), None, tmp_path / "figure")[0].exists()


def test_a_run_without_any_score_can_be_drawn(tmp_path: Path) -> None:
    units = [unit_of(UnitId("features", 0), status=Status.DEAD)]
    svg = draw_comparison(run_of(units), [], tmp_path / "figure")[1].read_text(encoding="utf-8")
    assert "no lift" in svg


def test_names_with_formula_signs_are_written_as_they_are(tmp_path: Path) -> None:
    units = [unit_of(UnitId("a$b$", i), 0.1 * i) for i in range(3)]
    svg = draw_comparison(run_of(units, ["a$b$"]), None, tmp_path / "figure")[1]
    assert "a$b$" in svg.read_text(encoding="utf-8")


def test_no_global_figure_state_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    draw_comparison(run_of([unit_of(UnitId("features", 0), 0.4)]), None, tmp_path / "figure")
    assert "matplotlib.pyplot" not in sys.modules


def test_many_units_are_drawn_as_a_distribution_without_their_intervals(tmp_path: Path) -> None:
    def size(n: int) -> int:
        units = [unit_of(UnitId("features", i), i / n) for i in range(n)]
        return draw_comparison(run_of(units), None, tmp_path / str(n))[1].stat().st_size

    assert size(4 * MANY_UNITS) < size(MANY_UNITS)
