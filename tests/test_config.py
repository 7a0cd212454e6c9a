import copy
import itertools
from typing import Any

import pytest
import yaml

from autointerp.config import RunConfig, SaeTrainConfig, load_config, parse_config
from autointerp.records import AutointerpError, UsageError

RUN: dict[str, Any] = {
    "subjects": {"small": {"model": "smollm2"}},
    "corpus": {"path": "demo"},
    "sources": {
        "neurons": {
            "type": "neurons",
            "subject": "small",
            "hook_point": "blocks.10.mlp.hook_post",
        },
        "sae": {"type": "sae", "subject": "small", "path": "demo"},
    },
    "explainers": [{"name": "top", "type": "top_tokens"}],
}


def changed(place: str, value: Any) -> dict[str, Any]:
    """RUN with one key set; parts of `place` are separated by slashes."""
    config = copy.deepcopy(RUN)
    *parents, last = place.split("/")
    current: Any = config
    for part in parents:
        current = current[int(part)] if part.isdigit() else current.setdefault(part, {})
    current[last] = value
    return config


def refusal(config: dict[str, Any], model: type = RunConfig) -> list[str]:
    with pytest.raises(UsageError) as error:
        parse_config(config, model, "run.yaml")
    first, *problems = str(error.value).split("\n")
    assert first == "run.yaml:"
    return [problem.strip() for problem in problems]


def test_the_example_is_accepted():
    config = parse_config(RUN, RunConfig, "run.yaml")
    assert config.sources["neurons"].type == "neurons"
    assert config.corpus is not None and config.corpus.window_length == 32


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (
            "sorces",
            {},
            ["sorces: unknown key; did you mean sources?", "Known here: budget, cascade, "],
        ),
        ("zzz", 1, ["zzz: unknown key. Known here: budget, cascade, controls, "]),
        ("corpus/windw_length", 8, ["corpus.windw_length: unknown key", "mean window_length?"]),
        (
            "sources/sae/hook_pont",
            "x",
            [
                "sources.sae.hook_pont: unknown key",
                "mean hook_point?",
                "hook_point, input_scale, k, path",
            ],
        ),
        ("explainers/0/n_tokns", 3, ["explainers.0.n_tokns: unknown key", "mean n_tokens?"]),
        ("record/design/nam", "x", ["record.design.nam: unknown key", "mean name?"]),
        ("corpus/window_length", "long", ["corpus.window_length:", "whole number", "found 'long'"]),
        ("corpus/max_tokens", "1e5", ["corpus.max_tokens:", "such as 200000", "found '1e5'"]),
        ("corpus", "demo", ["corpus: should be a section with keys of", "path,", "found 'demo'"]),
        ("subjects", "smollm2", ["subjects: should be a section: names", "found 'smollm2'"]),
        ("corpus/window_length", 2, ["corpus.window_length:", "equal to 4", "found 2"]),
        (
            "corpus/window_length",
            200,
            ["corpus:", "sequence_length 129 holds no window of 200 tokens after 1 masked"],
        ),
        ("corpus/n_masked_start", 100, ["corpus:", "no window of 32 tokens after 100 masked"]),
        ("seed", 1.5, ["seed:", "integer", "found 1.5"]),
        ("units/sample", 0, ["units.sample:", "equal to 1", "found 0"]),
        ("subjects/small/dtype", "int8", ["subjects.small.dtype:", "'bfloat16'", "found 'int8'"]),
        (
            "sources/neurons/subject",
            "large",
            ["sources.neurons.subject is 'large', but `subjects` has: small"],
        ),
        (
            "sources/neurons/type",
            "neuron",
            ["sources.neurons.type: 'neuron' is no type; did you mean neurons?", "Known here: ne"],
        ),
        (
            "sources/more",
            {"path": "x"},
            ["sources.more.type: missing; one of neurons, sae,", "recorded"],
        ),
        ("sources/neurons", "all", ["sources.neurons:", "dictionary", "found 'all'"]),
        (
            "sources/neurons",
            {"type": "neurons"},
            ["sources.neurons.hook_point: missing, and needed"],
        ),
        ("sources", {}, ["sources:", "at least 1 item", "found {}"]),
        ("sources/a b", RUN["sources"]["sae"], ["sources.a b", "match pattern", "found 'a b'"]),
        ("explainers", [], ["explainers:", "at least 1 item", "found []"]),
        (
            "explainers",
            RUN["explainers"] * 2,
            ["explainers need different names, not ['top', 'top']"],
        ),
        (
            "record/design/quotas",
            {"tests": {"top": 1, "intervals": 1, "hard": 1, "silent": 1}},
            ["record.design.quotas.tests", "'explain', 'calibrate', 'test' or 'audit'"],
        ),
        (
            "record/design/quotas",
            {"test": {"top": -1, "intervals": 1, "hard": 1, "silent": 1}},
            ["record.design.quotas.test.top:", "equal to 0", "found -1"],
        ),
        ("corpus", None, ["sources.neurons is recorded from a subject: set `corpus:`"]),
        ("name", "a/b", ["name:", "match pattern", "found 'a/b'"]),
        ("name", "a\n", ["name:", "match pattern"]),
        ("name", "../up", ["name:", "match pattern"]),
        ("sources/sae.statistics", RUN["sources"]["sae"], ["sources.sae.statistics: no source's"]),
        ("sources", {"r": {"type": "recorded", "path": "x"}}, ["`corpus:` is read by no source"]),
        ("simulator", {"mass_floor": float("nan")}, ["simulator.mass_floor:", "finite number"]),
        ("explainers/0/temperature", float("inf"), ["temperature:", "finite number"]),
        (
            "record/design/quotas",
            {"test": {"top": 10**30, "intervals": 1, "hard": 1, "silent": 1}},
            ["record.design.quotas.test.top:", "less than or equal to 100000"],
        ),
        ("score/bootstrap", 10**12, ["score.bootstrap:", "less than or equal to 100000"]),
    ],
)
def test_a_refusal_names_the_key_the_value_and_what_is_allowed(place, value, said):
    (problem,) = refusal(changed(place, value))
    for part in said:
        assert part in problem
    # pydantic's own name for the chosen option is no key of the file.
    assert ".neurons.neurons." not in problem and ".sae.sae." not in problem


def test_a_needed_key_that_is_mistyped_is_told_of_once():
    mistyped = {("sorces" if key == "sources" else key): value for key, value in RUN.items()}
    (problem,) = refusal(mistyped)
    assert problem.startswith("sorces: unknown key; did you mean sources?")


def test_problems_of_a_key_with_several_forms_are_at_the_key_and_not_at_a_type():
    problems = refusal(changed("controls", ["emty"]))
    assert [problem.split(":")[0] for problem in problems] == ["controls", "controls.0"]
    assert "'empty', 'generic'" in problems[1]


def test_a_source_without_any_subject_is_told_how_to_name_one():
    (problem,) = refusal({key: value for key, value in RUN.items() if key != "subjects"})
    assert "none; add `subjects: {small: {model: smollm2}}`" in problem


def test_a_key_given_twice_is_refused_and_not_taken_from_its_last_place(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(RUN) + "corpus: {path: mine.txt}\n")
    with pytest.raises(UsageError, match=r"(?s)the key 'corpus' is given twice.*line 18"):
        load_config(path, RunConfig)


def test_a_key_may_take_the_place_of_a_merged_one(tmp_path):
    path = tmp_path / "run.yaml"
    shared = "sources:\n  a: &a {type: neurons, subject: small, hook_point: x}\n"
    path.write_text(
        "subjects: {small: {model: smollm2}}\ncorpus: {path: demo}\n"
        + shared
        + "  b: &b {<<: *a, hook_point: y}\n  c: {<<: *b, hook_point: z}\n"
        + "explainers: [{name: top, type: top_tokens}]\n"
    )
    sources = load_config(path, RunConfig).sources
    places = [getattr(sources[name], "hook_point", None) for name in "abc"]
    assert places == ["x", "y", "z"]


def test_all_problems_are_said_at_once():
    config = changed("seed", "x") | {"units": {"sample": -1}, "sorces": 1}
    assert [problem.split(":")[0] for problem in refusal(config)] == [
        "seed",
        "units.sample",
        "sorces",
    ]


def test_a_source_may_be_named_like_its_type():
    (problem,) = refusal(changed("sources/sae/path", 3))
    assert problem.startswith("sources.sae.path: ") and problem.endswith("found 3")


def test_a_dictionary_cannot_use_more_latents_than_it_has():
    config = {
        "hook_point": "blocks.1.hook_resid_post",
        "corpus": {"path": "demo"},
        "output": "sae",
        "dictionaries": {"one": {"n_latents": 8, "k": 9}},
        "n_tokens": 100,
    }
    (problem,) = refusal(config, SaeTrainConfig)
    assert "k 9 is more than n_latents 8" in problem
    fits = {"dictionaries": {"one": {"n_latents": 8, "k": 8}}}
    parse_config(config | fits, SaeTrainConfig, "sae.yaml")


def test_units_recorded_elsewhere_need_neither_subject_nor_corpus():
    config = {
        "sources": {"given": {"type": "recorded", "path": "units.parquet"}},
        "explainers": RUN["explainers"],
    }
    assert parse_config(config, RunConfig, "run.yaml").corpus is None


def test_a_file_is_read(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(RUN))
    assert load_config(path, RunConfig) == parse_config(RUN, RunConfig, "run.yaml")


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words", "42"])
def test_yaml_that_is_not_a_mapping_is_refused(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(AutointerpError, match=r"run\.yaml' holds no keys"):
        load_config(path, RunConfig)


@pytest.mark.parametrize(
    "content",
    [
        b"a: [1",
        b"a:\n\t- b",
        b"\xff\xfe\x00",
        b"!!python/name:os.x a",
        b"a: 2024-13-45",
        b"a: " + b"1" * 5000,
        b"[" * 5000,
    ],
)
def test_what_is_not_yaml_is_refused(tmp_path, content):
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    with pytest.raises(AutointerpError, match=r"run\.yaml' is not YAML"):
        load_config(path, RunConfig)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(AutointerpError, match=r"nothing\.yaml' cannot be read: No such file"):
        load_config(tmp_path / "nothing.yaml", RunConfig)
    with pytest.raises(AutointerpError, match=r"cannot be read: Is a directory$"):
        load_config(tmp_path, RunConfig)


def test_a_run_folder_in_place_of_a_config_is_told_where_its_config_is(tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(RUN))
    with pytest.raises(UsageError, match=r"it is a run's folder, whose config is .*config\.yaml'"):
        load_config(tmp_path, RunConfig)


def test_a_config_does_not_change():
    config = parse_config(RUN, RunConfig, "run.yaml")
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_aliases_that_stand_for_endless_text_are_shown_in_a_few_words(tmp_path):
    names = "abcdefghijklmnop"
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    for before, name in itertools.pairwise(names):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]")
    path = tmp_path / "run.yaml"
    path.write_text("\n".join([*lines, "name: *p", "seed: *p", "units: {ids: *p}"]))
    with pytest.raises(UsageError) as error:
        load_config(path, RunConfig)
    assert len(str(error.value)) < 10_000
    path.write_text("name: &a [*a]\nsources: &b {b: *b}\n1: 2\n2024-01-01: x\n")
    with pytest.raises(UsageError):
        load_config(path, RunConfig)


def test_what_lies_in_a_folder_does_not_say_whose_code_may_be_run():
    config = parse_config(changed("subjects/small/trust_remote_code", True), RunConfig, "run.yaml")
    assert config.subjects["small"].trust_remote_code
    assert not config.without_remote_code().subjects["small"].trust_remote_code
    assert config.without_remote_code().subjects["small"].model == "smollm2"
