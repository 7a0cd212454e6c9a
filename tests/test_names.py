"""Names that a config accepts."""

import pytest
from pydantic import TypeAdapter

from autointerp.config import Name
from autointerp.names import as_name


@pytest.mark.parametrize("text", ["2024 runs", "", "a\nb", "../up", "über", "fine-1.0", ".hidden"])
def test_any_text_becomes_a_name_that_a_config_accepts(text: str) -> None:
    assert TypeAdapter(Name).validate_python(as_name(text))
    assert as_name("fine-1.0") == "fine-1.0"
