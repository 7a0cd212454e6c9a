"""Texts from files, and tokens from weights."""

import pytest

from autointerp.config import EXPLAINER_KEYS, ExplainerConfig
from autointerp.explainers import EXPLAINERS, Fixed, PromotedTokens, load_explainer
from autointerp.records import Status, UnitId, UnitRecord, UsageError
from tests.explainers.asked import answered, unit, write_label
from tests.explainers.planted import UNIT, animals, record


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'unit,explanation,by\nplanted/7,"words, for animals",me\nother/1-,x,\n'),
        ("a.csv", '\ufeffexplanation,unit\r\n"words,\n for animals",planted/7\r\nx,other/1-\r\n'),
        (
            "a.jsonl",
            '{"unit": "planted/7", "explanation": "words, for  animals", "score": 1}\n\n'
            '{"unit": "other/1-", "explanation": "x"}',
        ),
    ],
)
def test_a_units_text_is_its_explanation(tmp_path, name, content):
    file = tmp_path / name
    file.write_text(content, encoding="utf-8", newline="")
    explainer = Fixed(path=file)
    assert explainer.texts == {UNIT: "words, for animals", UnitId("other", 1, -1): "x"}
    explanation = answered(explainer, animals())
    assert (explanation.text, explanation.status) == ("words, for animals", Status.OK)


def test_a_unit_without_a_text_is_not_run(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"unit": "other/1", "explanation": "x"}')
    explanation = answered(Fixed(path=file), animals())
    assert (explanation.text, explanation.status) == (None, Status.NOT_RUN)
    assert "planted/7" in explanation.reason


def test_another_text_is_another_fingerprint_and_another_folder_is_not(tmp_path):
    files = [tmp_path / name for name in ("a.csv", "b.csv", "c.csv")]
    for file, text in zip(files, ("x", "x", "y"), strict=True):
        file.write_text(f"unit,explanation\nplanted/7,{text}\n")
    one, same, other = (Fixed(path=file).fingerprint for file in files)
    assert one == same != other


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", "", "no unit"),
        ("a.csv", "unit,explanation\n", "no unit"),
        ("a.csv", "unit,text\nplanted/7,x\n", "'explanation'"),
        ("a.csv", "unit,explanation\nplanted/7,\n", "line 2"),
        ("a.csv", "unit,explanation\nplanted/7\n", "line 2"),
        ("a.csv", "unit,explanation\nseven,x\n", "not a unit"),
        ("a.csv", 'unit,explanation\nplanted/7,"x\n', "not csv"),
        ("a.csv", "unit,explanation\nplanted/7,x\nplanted/7,y\n", "line 3"),
        ("a.csv", "unit,explanation\nplanted/7," + "x" * 3000, "3000 characters"),
        ("a.jsonl", "[]", "expected an object"),
        ("a.jsonl", "{", "not JSON"),
        ("a.jsonl", "[" * 100_000, "not JSON"),
        ("a.jsonl", '{"unit": 7, "explanation": "x"}', "'unit'"),
        ("a.jsonl", '{"unit": "planted/7", "explanation": ["x"]}', "'explanation'"),
        ("a.txt", "planted/7 x", ".csv or a .jsonl"),
        ("a.csv", b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_line(tmp_path, name, content, reason):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=reason):
        Fixed(path=file)
    with pytest.raises(UsageError, match="cannot be read"):
        Fixed(path=tmp_path / "none.csv")


def test_promoted_and_suppressed_tokens_are_named():
    explanation = answered(PromotedTokens(), unit())
    assert explanation.text == r'makes likelier "bark", "\n", "\""; makes less likely "the"'
    assert explanation.status is Status.OK
    assert answered(PromotedTokens(n_tokens=1), unit()).text == (
        'makes likelier "bark"; makes less likely "the"'
    )


def test_weights_speak_for_units_that_never_fired():
    from dataclasses import replace

    silent = replace(unit(), records=(record([" a"]),))
    assert answered(PromotedTokens(), silent).status is Status.OK


def test_a_unit_that_writes_nothing_known_has_too_little():
    explanation = answered(PromotedTokens(), animals())
    assert (explanation.status, explanation.text) == (Status.INSUFFICIENT_DATA, None)


@pytest.mark.parametrize("kind", EXPLAINERS)
def test_every_type_of_the_config_can_be_loaded_with_every_key_it_reads(kind, tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("unit,explanation\nplanted/7,x\n")
    given = {
        "n_windows": 3, "sampling": "decile", "values": False, "reasoning": True,
        "form": "highlight", "n_contrast": 2, "n_clusters": 2, "n_explanations": 2, "n_samples": 2,
        "language": "German", "n_tokens": 3, "path": str(file), "max_new_tokens": 9,
        "temperature": 0.5,
    }  # fmt: skip
    needed = {
        "fixed": {"path": str(file)},
        "labels": {"path": str(write_label(tmp_path / "labels.jsonl", "planted/7"))},
        "best_of": {"of": ["other"]},
    }.get(kind, {})
    plain = load_explainer(ExplainerConfig(name="mine", type=kind, **needed))
    assert plain.name == "mine"
    for key in EXPLAINER_KEYS[kind]:
        if key in given and key != "path":
            # Samples differ only where they are sampled.
            extra = {"temperature": 0.5} if key == "n_samples" else {}
            config = ExplainerConfig(name="mine", type=kind, **{key: given[key], **extra, **needed})
            assert load_explainer(config).fingerprint != plain.fingerprint, key


def test_a_key_that_a_type_does_not_read_is_refused():
    with pytest.raises(ValueError, match="`reasoning` is not read by type top_tokens"):
        ExplainerConfig(name="mine", type="top_tokens", reasoning=True)
    with pytest.raises(ValueError, match="needs `path`"):
        ExplainerConfig(name="mine", type="fixed")
    with pytest.raises(ValueError, match="temperature above 0"):
        ExplainerConfig(name="mine", type="highlights", n_samples=3)


def test_a_resolved_config_can_be_read_again():
    config = ExplainerConfig(name="mine", type="top_tokens")
    assert ExplainerConfig(**config.model_dump()) == config


def test_every_type_says_which_keys_it_reads():
    assert set(EXPLAINER_KEYS) == set(EXPLAINERS)


def test_units_of_no_run_of_ours_do_not_matter(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("unit,explanation\nplanted/7,x\nelsewhere/1,y\n")
    assert answered(Fixed(path=file), UnitRecord(UNIT, (), {})).text == "x"
