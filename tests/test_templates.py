"""Prompt templates, of our own and of others."""

from pathlib import Path

import jinja2
import pytest

from autointerp.records import AutointerpError
from autointerp.templates import read_template


def test_a_prompt_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(AutointerpError, match=r"no prompt 'simulat'; .*simulate.*ends in \.j2"):
        read_template("simulat")


def test_a_name_does_not_lead_out_of_the_folder_of_prompts(tmp_path: Path) -> None:
    with pytest.raises(AutointerpError, match="there is no prompt"):
        read_template("../prompts/simulate")


def test_a_template_of_somebody_else_can_write_text_and_nothing_more(tmp_path: Path) -> None:
    place = tmp_path / "mine.j2"
    place.write_text("{% set text = cycler.__init__.__globals__.os.getcwd() %}")
    with pytest.raises(jinja2.TemplateError):
        str(read_template(str(place)).pieces.text)
