"""What tokens cost: one table with a date and a source for every row (`prices.yaml`).

    usd = (uncached · input + cached · cached_input + written · written_input + out · output) / 10⁶

times the batch share where a batch API answered. A model without a row has no price: tokens are
counted, money is never guessed.
"""

import re
from collections.abc import Sequence
from datetime import date
from functools import cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from autointerp.llm.base import Usage
from autointerp.records import UsageError

SHIPPED = Path(__file__).with_name("prices.yaml")
"""The table that comes with the package."""

_SNAPSHOT = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{8})$")
"""What vendors append to a model's name for a dated snapshot of it."""


class Price(BaseModel):
    """Price of one model, in US dollars per million tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str = Field(pattern=r"^[^/\s]+/\S+$")
    """As in configs: `openai/gpt-4.1-mini`."""
    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cached_input: float | None = Field(default=None, ge=0)
    """Prompt tokens read from the provider's cache; as `input` where left out."""
    written_input: float | None = Field(default=None, ge=0)
    """Prompt tokens written to that cache; as `input` where left out."""
    batch: float | None = Field(default=None, gt=0, le=1)
    """What a batch API charges, as a share; `None` where there is none, or its price is unknown."""
    up_to: int | None = Field(default=None, ge=1)
    """The price holds for prompts of at most this many tokens."""
    date: date
    """When it was read, or from when it holds."""
    source: str = Field(min_length=1)
    """Where it is published."""
    note: str = ""

    def usd(self, usage: Usage, *, batch: bool = False) -> float | None:
        """Dollars for one request; `None` where the price does not cover it."""
        if self.up_to is not None and usage.input_tokens > self.up_to:
            return None
        share = self.batch if batch else 1.0
        if share is None:
            return None
        full = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
        cached = self.input if self.cached_input is None else self.cached_input
        written = self.input if self.written_input is None else self.written_input
        micro = (
            full * self.input
            + usage.cached_tokens * cached
            + usage.cache_write_tokens * written
            + usage.output_tokens * self.output
        )
        return share * micro / 1e6

    def most(self, input_tokens: int, output_tokens: int) -> float | None:
        """Dollars that a request takes at most: nothing cached, every token written, no batch."""
        dearest = max(self.input, self.written_input or 0.0)
        known = self.up_to is None or input_tokens <= self.up_to
        return (input_tokens * dearest + output_tokens * self.output) / 1e6 if known else None


class PriceTable:
    """Rows of prices; the first row that fits a model counts."""

    def __init__(self, own: Sequence[Price], shipped: Sequence[Price]) -> None:
        self.own = tuple(own)
        """From the user's file; these hold for any server."""
        self.shipped = tuple(shipped)
        """From the package; these hold for the vendors' own servers."""

    def find(self, model: str, *, vendor: bool = True) -> Price | None:
        """The price of a model, `None` where it is unknown.

        Args:
            model: as in configs. A model on this machine (`local/…`) costs nothing.
            vendor: whether the vendor's own server answers. Behind another address the same name
                may be anything, so only the user's rows count there.
        """
        if model.startswith("local/"):
            return _FREE
        names = {model, _SNAPSHOT.sub("", model)}
        rows = (*self.own, *self.shipped) if vendor else self.own
        return next((row for row in rows if row.model in names), None)


_FREE = Price(
    model="local/*",
    input=0,
    output=0,
    date=date(1970, 1, 1),
    source="it runs on this machine",
)


def load_prices(path: str | Path | None = None) -> PriceTable:
    """The shipped table, with the rows of a file of the user's own before it.

    Raises:
        UsageError: where the file cannot be read, or a row is wrong, naming the row.
    """
    return PriceTable(_read(Path(path).expanduser()) if path else (), _shipped())


@cache
def _shipped() -> tuple[Price, ...]:
    return _read(SHIPPED)


def _read(path: Path) -> tuple[Price, ...]:
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"prices {str(path)!r} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"prices {str(path)!r} is not YAML: {error}") from error
    try:
        return tuple(TypeAdapter(list[Price]).validate_python(rows))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "(the whole file)"
        raise UsageError(
            f"prices {str(path)!r}: {where}: {first['msg']}; a file of prices is a list of rows "
            f"as in {SHIPPED}"
        ) from None
