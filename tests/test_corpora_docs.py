"""Every example of docs/corpora.md runs."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from autointerp.config import RunConfig, load_config
from autointerp.runner import run
from autointerp.store import RunStore
from tests.run_helpers import small_config, write_corpus

PAGE = Path(__file__).parent.parent / "docs" / "corpora.md"
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


def test_there_is_an_example_of_every_kind() -> None:
    corpora: list[dict[str, Any]] = [yaml.safe_load(block)["corpus"] for block in EXAMPLES]
    assert [bool(c.get("path")) + 2 * bool(c.get("dataset")) for c in corpora] == [1, 1, 2, 0]


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs_from_any_folder(number: int, tmp_path: Path, tiny_folder: Path) -> None:
    write_corpus(tmp_path / "texts.jsonl", 80)
    rows = [json.loads(line) for line in write_corpus(tmp_path / "t", 80, seed=1).open()]
    pq.write_table(pa.table({"body": [row["text"] for row in rows]}), tmp_path / "pages.parquet")
    (tmp_path / "some-folder").mkdir()
    write_corpus(tmp_path / "some-folder" / "train.jsonl", 80, seed=2)
    config = small_config(tmp_path, tiny_folder).model_dump(mode="json")
    config["corpus"] = yaml.safe_load(EXAMPLES[number])["corpus"]
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    run(load_config(tmp_path / "run.yaml", RunConfig), until="corpus")
    found = RunStore(tmp_path / "run").read_json("corpus.json")["subjects"]["subject"]
    assert sum(found["tokens"].values()) > 2000
    assert min(found["documents"].values()) > 0
