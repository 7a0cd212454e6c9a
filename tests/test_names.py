"""Names that a config accepts."""

import pytest
from pydantic import TypeAdapter

from autointerp.config import Name
from autointerp.names import as_name, printable


@pytest.mark.parametrize("text", ["2024 runs", "", "a\nb", "../up", "über", "fine-1.0", ".hidden"])
def test_any_text_becomes_a_name_that_a_config_accepts(text: str) -> None:
    assert TypeAdapter(Name).validate_python(as_name(text))
    assert as_name("fine-1.0") == "fine-1.0"


def test_text_of_others_cannot_move_or_turn_what_a_terminal_shows() -> None:
    assert printable("a\x1b[31mb\u202ec\r\x9b") == "a\\x1b[31mb\\u202ec\\r\\x9b"
    assert printable("Zoë 猫\n\tשלום") == "Zoë 猫\n\tשלום"
