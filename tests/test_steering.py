"""`autointerp steer`: plain and steered text side by side, and what happens to the logits."""

import json

import pytest
import torch
from typer.testing import CliRunner

from autointerp.cli import app
from autointerp.records import AutointerpError, UsageError
from autointerp.runner import run
from autointerp.steering import load_unit, steer
from autointerp.subject import Sampling
from autointerp.units import Intervention
from tests.run_helpers import small_config, write_dictionary

runner = CliRunner()


@pytest.fixture(scope="module")
def finished(tiny_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("steering")
    dictionary = write_dictionary(folder / "sae")
    config = small_config(
        folder,
        tiny_folder,
        sources={
            "features": {"type": "sae", "path": str(dictionary)},
            "neurons": {"type": "neurons", "hook_point": "blocks.0.mlp.hook_post"},
        },
        explainers=[{"name": "top_tokens", "type": "top_tokens"}],
    )
    run(config, until="record")
    return folder / "run"


def living(folder, source):
    from autointerp.store import RunStore

    store = RunStore(folder)
    found = next(u for u in store.units(source) if u.maximum > 0)
    store.close()
    return found


def steered(*arguments: str):
    return runner.invoke(app, ["steer", *arguments])


@pytest.mark.parametrize("source", ["features", "neurons"])
def test_a_sweep_gives_what_each_strength_alone_gives(source, finished):
    unit = living(finished, source)
    what = load_unit(finished, unit.unit)
    assert what.unit == load_unit(finished, str(unit.unit)).unit == unit.unit
    assert what.maximum == pytest.approx(unit.maximum)
    sampling = Sampling(max_new_tokens=5, temperature=1.0, seed=3)
    prompts, strengths = ["the old stone", "rain"], (0.0, 1.0, 20.0)
    found = steer(what, prompts, strengths, how="add", sampling=sampling)
    assert [(t.prompt, t.strength) for t in found.texts] == [
        (prompt, strength) for prompt in prompts for strength in (None, *strengths)
    ]
    ids = what.subject.tokenizer(prompts[1])["input_ids"]
    plain = what.subject.next_logits([ids])[0]
    for text in found.texts[5:]:
        edit = Intervention.add(what.source, unit.unit, text.strength, what.maximum)
        with what.subject.intervene(edit):
            expected = what.subject.generate([prompts[1]], sampling, samples=[0])[0].text
            change = what.subject.next_logits([ids])[0] - plain
        assert text.text == expected
        assert text.promoted[0].change == pytest.approx(float(change.max()), abs=1e-4)
        assert text.suppressed[0].change == pytest.approx(float(change.min()), abs=1e-4)
    zero = found.texts[1]
    assert zero.text == found.texts[0].text and zero.kl == pytest.approx(0, abs=1e-9)


def test_the_command_prints_texts_side_by_side_and_json(finished):
    unit = str(living(finished, "features").unit)
    options = ["--prompt", "the [bold]old[/bold] stone", "--strength", "2", "--tokens", "4"]
    shown = steered(str(finished), unit, *options)
    assert shown.exit_code == 0, shown.output
    assert "plain" in shown.stdout and "[bold]" in shown.stdout and "promoted" in shown.stdout
    found = json.loads(steered(str(finished), unit, *options, "--json").stdout)
    assert found["unit"] == unit and found["how"] == "clamp" and found["strengths"] == [2.0]
    assert [text["strength"] for text in found["texts"]] == [None, 2.0]
    assert len(found["texts"][1]["promoted"]) == 5


def test_a_kl_is_met_and_an_ablation_needs_no_strength(finished):
    unit = str(living(finished, "features").unit)
    found = steer(
        load_unit(finished, unit), ["the old"], how="add", kl=0.05,
        sampling=Sampling(max_new_tokens=2),
    )  # fmt: skip
    assert found.texts[1].kl == pytest.approx(0.05, rel=0.02)
    ablated = steer(
        load_unit(finished, unit), ["the old"], how="ablate", sampling=Sampling(max_new_tokens=2)
    )
    assert ablated.maximum is None and ablated.strengths == (0.0,)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere", "features/1"], "holds no run"),
        (["RUN", "features/99999"], "does not exist: features has 24"),
        (["RUN", "other/1"], "there is no source but features, neurons"),
        (["RUN", "features"], "write SOURCE/INDEX"),
        (["RUN", "LIVE", "--how", "shout"], "not one of clamp, add, scale, ablate"),
        (["RUN", "LIVE", "--positions", "here"], "not one of all, prompt, new, last"),
        (["RUN", "LIVE", "--prompt", ""], "a prompt is empty"),
        (["RUN", "LIVE", "--tokens", "0"], "max_new_tokens"),
        (["RUN", "LIVE", "--kl", "1", "--strength", "2"], "has no meaning beside --kl"),
    ],
)
def test_mistakes_are_one_line_that_says_what_to_do(arguments, says, finished):
    unit = str(living(finished, "features").unit)
    given = [{"RUN": str(finished), "LIVE": unit}.get(a, a) for a in arguments]
    result = steered(*given)
    assert result.exit_code in (1, 2) and "Traceback" not in result.output
    assert says in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"how": "ablation"}, "how='ablation' is not one of clamp, add, scale, ablate"),
        ({"strengths": [1.0, float("nan")]}, "a strength must be a finite number, not nan"),
        ({"strengths": [float("inf")], "how": "scale"}, "a finite number, not inf"),
        ({"strengths": ["1"]}, "a finite number, not '1'"),
        ({"strengths": "1"}, "'1' is a string: give strengths as a list"),
        ({"prompts": "The"}, "'The' is a string: give prompts as a list"),
        ({"prompts": []}, "there is no prompt"),
        ({"prompts": ["rain", ""]}, "a prompt is empty"),
    ],
)
def test_what_cannot_be_steered_by_is_refused(given, says, finished):
    what = load_unit(finished, living(finished, "features").unit)
    with pytest.raises(AutointerpError, match=says):
        steer(what, **given)


def test_a_unit_that_never_fired_needs_a_maximum(finished):
    what = load_unit(finished, str(living(finished, "features").unit), maximum=0.0)
    with pytest.raises(UsageError, match="--maximum"):
        steer(what)
    assert torch.is_tensor(what.subject.next_logits([[1]]))
