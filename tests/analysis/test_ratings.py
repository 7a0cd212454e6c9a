"""People rate blind, and their ratings and labels stay with the run."""

import csv
import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from autointerp.analysis.agree import agree
from autointerp.analysis.loaded import load_run
from autointerp.analysis.ratings import (
    RUBRIC,
    export_ratings,
    heading,
    import_ratings,
    read_ratings,
)
from autointerp.cli import app
from autointerp.config import RunConfig, load_config
from autointerp.explainers.labels import add_label, read_labels
from autointerp.records import AutointerpError, UsageError
from autointerp.runner import run
from autointerp.store import RunStore
from autointerp.verify import verify_run
from tests.run_helpers import small_config

EXPLAINERS = [
    {"name": "top_tokens", "type": "top_tokens"},
    {"name": "token_lookup", "type": "token_lookup"},
]


@pytest.fixture(scope="module")
def made(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rated")
    neurons = {"type": "neurons", "hook_point": "blocks.0.mlp.hook_post", "sparsify": {"l0": 4}}
    later = {**neurons, "hook_point": "blocks.1.mlp.hook_post"}
    config = small_config(
        folder,
        tiny_folder,
        explainers=EXPLAINERS,
        sources={"first_layer": neurons, "second_layer": later},
    )
    run(config)
    return folder / "run"


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made.parent, tmp_path / "copy")
    return tmp_path / "copy" / "run"


def rows_of(file: Path) -> list[dict[str, Any]]:
    return list(csv.DictReader(file.open(newline="", encoding="utf-8")))


def fill(file: Path, grades: Any, rater: str = "", to: Path | None = None) -> Path:
    rows = rows_of(file)
    for place, row in enumerate(rows):
        for name, grade in grades(place).items():
            row[heading(name)] = grade
        row["rater"] = rater
    target = to or file
    with target.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return target


def full(grade: int) -> dict[str, int]:
    return {name: min(grade, most) for name, (most, _) in RUBRIC.items()}


def test_a_file_for_raters_names_neither_units_nor_sources(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    assert export_ratings(folder, file, n_units=6) == 6
    text = file.read_text()
    assert "first_layer" not in text and "second_layer" not in text and "top_tokens" not in text
    assert text.count("<<") >= 6
    key = json.loads((folder / "ratings" / "key.json").read_text())
    units = [key[row["item"].removeprefix("#")]["unit"] for row in rows_of(file)]
    assert sum(unit.startswith("first_layer/") for unit in units) == 3
    # Sources are shuffled, not in turn.
    orders = set()
    for seed in range(4):
        other = tmp_path / f"{seed}.csv"
        export_ratings(folder, other, n_units=6, seed=seed)
        key = json.loads((folder / "ratings" / "key.json").read_text())
        orders.add(tuple(key[r["item"][1:]]["unit"].split("/")[0] for r in rows_of(other)))
    assert len(orders) > 1


def test_no_cell_of_a_file_can_be_a_formula(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    export_ratings(folder, file, n_units=8)
    for row in rows_of(file):
        assert not any(cell.startswith(("=", "+", "-", "@", "\t")) for cell in row.values())


def test_ratings_come_back_with_their_rater(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    export_ratings(folder, file, n_units=5)
    fill(file, lambda place: full(place) if place else {})
    assert import_ratings(folder, file, rater="ada") == {
        "rated": 4, "unrated": 1, "known": 0, "replaced": 0,
    }  # fmt: skip
    assert import_ratings(folder, file, rater="ada")["known"] == 4
    found = read_ratings(folder)
    assert sorted(one.total or 0 for one in found) == [4, 8, 12, 13]
    assert {one.rater for one in found} == {"ada"}


def test_jsonl_is_read_as_it_is_written(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    export_ratings(folder, file, n_units=3)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("\n".join(json.dumps({**r, "simple": 2, "rater": "bo"}) for r in rows))
    assert import_ratings(folder, file)["rated"] == 3
    assert all((one.total, one.simple) == (None, 2) for one in read_ratings(folder))


@pytest.mark.parametrize("grade", ["4", "-1", "1.5", "x", "nan"])
def test_a_rating_off_its_scale_is_refused_and_nothing_is_kept(
    grade: str, folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "out.csv"
    export_ratings(folder, file, n_units=3)
    fill(file, lambda place: {"simple": grade if place == 2 else 1}, rater="ada")
    with pytest.raises(UsageError, match=r"out.csv, line .*simple is .*0 to 3"):
        import_ratings(folder, file)
    assert read_ratings(folder) == []


def test_what_cannot_be_a_rating_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    with pytest.raises(AutointerpError, match="ratings export"):
        import_ratings(folder, file)
    export_ratings(folder, file, n_units=3)
    with pytest.raises(UsageError, match="holds no rating"):
        import_ratings(folder, file)
    fill(file, lambda _: full(1))
    with pytest.raises(UsageError, match="--rater"):
        import_ratings(folder, file)
    import_ratings(folder, file, rater="ada")
    fill(file, lambda _: full(2))
    with pytest.raises(UsageError, match="--replace"):
        import_ratings(folder, file, rater="ada")
    assert import_ratings(folder, file, rater="ada", replace=True)["replaced"] == 3
    assert len(read_ratings(folder)) == 3
    (tmp_path / "x.csv").write_text("item,simple\nabc,1\n")
    with pytest.raises(UsageError, match="was not given out by this run"):
        import_ratings(folder, tmp_path / "x.csv")
    with pytest.raises(AutointerpError, match="may hold ratings"):
        export_ratings(folder, file, n_units=3)


def test_agree_sets_ratings_beside_scores_and_raters_beside_each_other(
    folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "out.csv"
    n = export_ratings(folder, file, n_units=8)
    key = json.loads((folder / "ratings" / "key.json").read_text())
    scores = {
        row.unit: row.scores["simulation"].score or 0.0
        for row in load_run(folder).rows
        if row.explainer == "top_tokens"
    }
    ranked = sorted(scores.values())
    units = [key[row["item"][1:]]["unit"] for row in rows_of(file)]

    def by_score(place: int) -> dict[str, int]:
        rank = ranked.index(scores[units[place]])
        return full(1) | {"consistency": min(5, rank * 6 // n), "simple": rank * 4 // n}

    ada = fill(file, by_score, rater="ada", to=tmp_path / "ada.csv")
    bo = fill(file, by_score, rater="bo", to=tmp_path / "bo.csv")
    import_ratings(folder, ada)
    import_ratings(folder, bo)
    found = agree(folder, n_replicates=100)
    assert {one["scale"] for one in found.raters} == {"0-14", "0-3"}
    assert all(one["weighted_kappa"] == pytest.approx(1.0) for one in found.raters)
    for one in found.ratings:
        assert one["n_raters"] == 2 and one["spearman"] > 0.8, one


def test_ratings_of_words_that_are_gone_are_counted_and_left_out(
    folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "out.csv"
    export_ratings(folder, file, n_units=4)
    import_ratings(folder, fill(file, lambda _: full(1), rater="ada"))
    path = folder / "explanations.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({**r, "explanation_key": "new"}) + "\n" for r in rows))
    found = agree(folder, n_replicates=20)
    assert found.ratings == () and any("4 ratings" in note for note in found.notes)


def test_a_label_by_hand_is_scored_beside_the_others_with_its_author(folder: Path) -> None:
    unit = next(row.unit for row in load_run(folder).rows if row.scores["simulation"].score)
    result = CliRunner().invoke(
        app, ["label", str(folder), unit, "words  about\nfarms", "--author", "Ada L."]
    )
    assert result.exit_code == 0, result.output
    config = load_config(folder / "config.yaml", RunConfig)
    run(config.model_copy(update={"output": str(folder)}))
    rows = [row for row in load_run(folder).rows if row.explainer == "human"]
    (own,) = [row for row in rows if row.unit == unit]
    assert (own.explanation, own.author) == ("words about farms", "Ada L.")
    assert own.scores["simulation"].score is not None
    # A single label has other units' explanations for controls.
    assert own.scores["simulation"].lift is not None
    assert all(row.status == "not_run" for row in rows if row.unit != unit)
    assert verify_run(folder).is_exact
    # Corrected: the later one counts, the earlier one stays.
    add_label(folder, unit, "stones", "Bo")
    run(load_config(folder / "config.yaml", RunConfig).model_copy(update={"output": str(folder)}))
    (own,) = [r for r in load_run(folder).rows if r.explainer == "human" and r.unit == unit]
    assert (own.explanation, own.author) == ("stones", "Bo")
    assert len((folder / "labels.jsonl").read_text().splitlines()) == 2


def test_the_command_printed_for_a_label_of_a_unit_not_chosen_scores_it(folder: Path) -> None:
    chosen = {row.unit for row in load_run(folder).rows}
    store = RunStore(folder)
    units = [one for one in store.units("first_layer") if str(one.unit) not in chosen]
    store.close()
    unit = str(max(units, key=lambda one: one.active_documents).unit)
    labelled = CliRunner().invoke(app, ["label", str(folder), unit, "farms", "--author", "Ada"])
    command = shlex.split(labelled.output.split("to score it: autointerp ")[1])
    assert command == ["run", str(folder / "config.yaml"), "--unit", unit]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    table = folder / "units" / unit.replace("/", ".") / "explanations.jsonl"
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    (own,) = [row for row in rows if (row["unit"], row["explainer"]) == (unit, "human")]
    assert own["explanation"] == "farms"
    assert own["scores"]["simulation"]["score"] is not None


def test_a_label_that_cannot_be_kept_is_refused(folder: Path, tmp_path: Path) -> None:
    store = RunStore(folder)
    unit = str(store.units("first_layer")[0].unit)
    store.close()
    with pytest.raises(UsageError, match="needs words"):
        add_label(folder, unit, " ", "Ada")
    with pytest.raises(UsageError, match="author"):
        add_label(folder, unit, "words", " ")
    with pytest.raises(AutointerpError, match="was not recorded"):
        add_label(folder, "first_layer/99999", "words", "Ada")
    with pytest.raises(AutointerpError, match="no source"):
        add_label(folder, "x/1", "words", "Ada")
    with pytest.raises(AutointerpError, match="holds no run"):
        add_label(tmp_path, unit, "words", "Ada")
    (folder / "labels.jsonl").write_text("{}\n")
    with pytest.raises(UsageError, match="line 1: no label"):
        read_labels(folder / "labels.jsonl")
