"""Every explainer in one run: explained, simulated by who can read it, scored."""

import re
from pathlib import Path

import yaml

from autointerp.config import EXPLAINER_KEYS, RunConfig, parse_config
from autointerp.records import Status
from autointerp.runner import run
from tests.explainers.asked import write_label
from tests.run_helpers import small_config, write_dictionary

ROOT = Path(__file__).parents[2]


def test_the_page_on_explainers_names_every_type_and_its_config_is_valid(tmp_path):
    page = (ROOT / "docs" / "explainers.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)
    assert set(EXPLAINER_KEYS) <= set(rows)
    (block,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    config = {"sources": {"mine": {"type": "recorded", "path": "x"}}, **yaml.safe_load(block)}
    assert {e.type for e in parse_config(config, RunConfig, "page").explainers} == set(
        EXPLAINER_KEYS
    )


def test_all_explainers_in_one_run(tiny_folder: Path, tmp_path: Path):
    """A random model answers: its words are no explanations, but every answer has a status."""
    texts = tmp_path / "texts.csv"
    texts.write_text("unit,explanation\n" + "".join(f"features/{i},water\n" for i in range(24)))
    paths = {"fixed": texts, "labels": write_label(tmp_path / "labels.jsonl", "features/0")}
    explainers = [
        {"name": kind, "type": kind, **({"path": str(paths[kind])} if kind in paths else {}),
         **({"of": ["top_tokens", "promoted_tokens", "fixed"]} if kind == "best_of" else {}),
         **({"n_rounds": 1, "n_texts": 1} if kind in ("revision", "agent") else {}),
         **({"max_new_tokens": 3} if "max_new_tokens" in keys else {})}
        for kind, keys in EXPLAINER_KEYS.items()
    ]  # fmt: skip
    sources = {"features": {"type": "sae", "path": str(write_dictionary(tmp_path / "sae"))}}
    config = small_config(
        tmp_path, tiny_folder, explainers=explainers, sources=sources, units={"sample": 3}
    )
    results = run(config)
    assert results is not None
    for unit in results.units:
        assert set(unit.explanations) == set(EXPLAINER_KEYS)
        for name, explanation in unit.explanations.items():
            assert (explanation.text is not None) == (explanation.status is Status.OK), name
        for name in ("fixed", "promoted_tokens", "token_lookup", "top_tokens", "best_of"):
            assert unit.explanations[name].status is Status.OK, unit.explanations[name].reason
        assert unit.scores["n2g"].simulator == "n2g" or unit.explanations["n2g"].text is None
    assert results.baseline_explainers == ("token_lookup", "n2g")
