"""What a preset expands to, who comes first, and what provenance says."""

import json

import pytest
from typer.testing import CliRunner

from autointerp.cli import app
from autointerp.config import RunConfig, load_config, parse_config
from autointerp.presets import PRESETS, departures, load_preset, merged, preset_facts
from autointerp.records import UsageError
from tests.presets.test_numbers import BASE, config


@pytest.mark.parametrize("faithful", [False, True])
@pytest.mark.parametrize("name", PRESETS)
def test_a_resolved_config_says_the_same_again(name, faithful):
    found = config(name, faithful=faithful)
    assert preset_facts(found)["changed"] == {}
    again = parse_config(found.model_dump(mode="json"), RunConfig, "again")
    assert again == found


@pytest.mark.parametrize("name", PRESETS)
def test_faithful_changes_something_and_never_splits(name):
    preset = load_preset(name)
    assert preset.faithful and preset.values(faithful=True) != preset.values()
    assert not {"subjects", "sources", "llm", "seed"} & {*preset.config, *preset.faithful}
    assert "audit" not in preset.config["record"]["design"]["quotas"]


def test_what_the_config_says_comes_first_and_is_named():
    test = {"top": 0, "intervals": 10, "hard": 0, "silent": 5}
    found = config(
        "delphi",
        corpus={"path": "demo", "max_tokens": 5000},
        record={"design": {"quotas": {"test": test}}},
        explainers=[{"name": "mine", "type": "top_tokens"}],
        score={"bootstrap": 200},
    )  # fmt: skip
    assert found.corpus.max_tokens == 5000 and found.corpus.window_length == 32
    assert found.record.design.quotas["explain"].intervals == 40
    assert [e.name for e in found.explainers] == ["mine"] and len(found.scorers) == 2
    changed = preset_facts(found)["changed"]
    assert set(changed) == {
        "corpus.max_tokens", "explainers",
        "record.design.quotas.test.intervals", "record.design.quotas.test.silent",
    }  # fmt: skip
    assert changed["record.design.quotas.test.intervals"] == 10


def test_another_key_of_an_entry_of_a_list_is_a_departure():
    values = load_preset("saebench").values()
    other = config(
        "saebench",
        explainers=[{**values["explainers"][0], "language": "German"}],
    )
    assert set(preset_facts(other)["changed"]) == {"explainers"}


def test_another_simulator_takes_the_place_of_the_presets_whole():
    found = config("bills2023", simulator="embedded")
    assert found.simulator.prompt is None and found.simulator.levels == "auto"
    same = config("bills2023", simulator={"model": "elsewhere"})
    assert same.simulator.prompt == "simulate_tab_unknown" and same.simulator.model == "elsewhere"


def test_units_recorded_elsewhere_need_no_corpus():
    data = {"preset": "delphi", "sources": {"mine": {"type": "recorded", "path": "x"}}}
    found = parse_config(data, RunConfig, "test")
    assert found.corpus is None and preset_facts(found)["changed"] == {}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"preset": "delphy"}, "there is no preset 'delphy'; did you mean delphi?"),
        ({"preset": "xyz"}, "Known are bills2023, bricken2023"),
        ({"preset": 3}, "preset: Input should be a valid string"),
        ({"preset": ["delphi"]}, "preset: Input should be a valid string"),
        ({"faithful": True}, "`faithful` is of a `preset`"),
        ({"preset": "delphi", "faithful": "yes"}, "faithful: Input should be a valid boolean"),
        ({"preset": "delphi", "record": [1]}, "record: should be a section with keys"),
        ({"preset": "bills2023", "simulator": {"name": []}}, "simulator.name"),
    ],
)
def test_what_is_no_preset_is_refused_by_name(data, says):
    explainers = {} if isinstance(data.get("preset"), str) else {
        "explainers": [{"name": "a", "type": "top_tokens"}]
    }  # fmt: skip
    with pytest.raises(UsageError) as error:
        parse_config({**BASE, **explainers, **data}, RunConfig, "test")
    assert says in str(error.value)


def test_expanding_changes_nothing_of_the_preset_itself():
    before = json.dumps(load_preset("bills2023").config)
    values = load_preset("bills2023").values(faithful=True)
    values["corpus"]["window_length"] = 1
    assert json.dumps(load_preset("bills2023").config) == before
    assert merged({"a": {"b": 1}}, {"a": {"c": 2}}) == {"a": {"b": 1, "c": 2}}
    assert departures({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}) == {}


def test_an_option_takes_the_place_of_the_files_preset(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps({**BASE, "preset": "delphi"}))
    found = load_config(path, RunConfig, {"preset": "saebench", "faithful": True})
    assert (found.preset, found.faithful) == ("saebench", True)
    assert [s.type for s in found.scorers] == ["saebench"]


def test_the_command_lists_presets_and_shows_one():
    runner = CliRunner()
    listed = runner.invoke(app, ["presets"])
    assert listed.exit_code == 0 and all(name in listed.stdout for name in PRESETS)
    shown = runner.invoke(app, ["presets", "saebench", "--faithful", "--json"])
    found = json.loads(shown.stdout)
    assert found["config"] == load_preset("saebench").values(faithful=True)
    text = runner.invoke(app, ["presets", "delphi"]).stdout
    assert "No text that the explainer saw is a test text" in text and "n_windows: 40" in text
    assert runner.invoke(app, ["presets", "none"]).exit_code == 2
    assert runner.invoke(app, ["presets", "--faithful"]).exit_code == 2
