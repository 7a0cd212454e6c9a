"""The meter: what a run may spend, what it has spent, and what is on its way.

Before a request is sent its worst case is reserved: all tokens its prompt can have, the longest
answer, at full price. A request that could pass the budget is not sent. When its answer is safe the
reservation gives way to what the provider counted.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autointerp.llm.base import (
    LlmClient,
    Request,
    Response,
    ResponseStatus,
    Usage,
    request_key,
)
from autointerp.llm.prices import Price, PriceTable
from autointerp.records import AutointerpError, UsageError
from autointerp.store.ledger import Ledger, Reservation, Spending, lost

_PER_MESSAGE = 16
"""Tokens that a chat template may put around a message, generously."""

_PER_SCHEMA = 1024
"""Tokens that a provider may add to ask for a schema or a tool call, generously."""


class BudgetSpentError(AutointerpError):
    """The next request could pass the budget: it was not sent."""


@dataclass(frozen=True)
class Limits:
    """What a run may spend, over all its invocations."""

    usd: float | None = None
    tokens: int | None = None
    """Prompts and answers together, cached tokens included."""


def most_input_tokens(request: Request) -> int:
    """Tokens that a prompt can have at most: no tokenizer in use gives more than one per byte."""
    text = sum(len(m.content.encode("utf-8", "replace")) + _PER_MESSAGE for m in request.messages)
    if request.schema is None:
        return text + _PER_MESSAGE
    return text + _PER_SCHEMA + 2 * len(repr(request.schema).encode())


def worst_case(
    request: Request, price: Price | None, *, batch: bool = False
) -> tuple[int, float | None]:
    """The most tokens that a request can take and the most money; `None` without a price."""
    n_input = most_input_tokens(request)
    usd = price.most(n_input, request.max_tokens) if price is not None else None
    if usd is not None and batch and price is not None:
        usd *= price.batch or 1.0
    return n_input + request.max_tokens, usd


class Meter:
    """Guards a budget and keeps the ledger. Safe with threads; one process holds a run."""

    def __init__(self, ledger: Ledger, prices: PriceTable, limits: Limits | None = None) -> None:
        """Take over what earlier invocations spent.

        Args:
            ledger: of the run.
            prices: for the money.
            limits: what may be spent; `None` for no limit.
        """
        self.ledger = ledger
        self.prices = prices
        self.limits = limits or Limits()
        self._lock = threading.Lock()
        self._reserved = ledger.in_flight()
        self._prices: dict[int, Price | None] = {}
        self._known: dict[tuple[str, bool], Price | None] = {}
        self._usd, self._tokens = 0.0, 0
        for row in ledger.rows():
            self._count(row)

    def price(self, model: str, *, vendor: bool = True) -> Price | None:
        """The price of a model; see `PriceTable.find`."""
        if (model, vendor) not in self._known:
            self._known[model, vendor] = self.prices.find(model, vendor=vendor)
        return self._known[model, vendor]

    def check(self, model: str, *, vendor: bool = True) -> None:
        """Refuse a budget in money for a model without a price, before anything is sent.

        Raises:
            UsageError: naming the model and the remedy.
        """
        if self.limits.usd is not None and self.price(model, vendor=vendor) is None:
            raise UsageError(
                f"budget.usd is set, but there is no price for {model}"
                + ("" if vendor else " behind an address of your own")
                + ": add a row to a file of prices and name it in llm.prices, or set "
                "budget.tokens instead"
            )

    # ------------------------------------------------------------------ one request

    def begin(
        self, key: str, request: Request, model: str, *, vendor: bool = True, mode: str = "live"
    ) -> int:
        """Reserve the worst case of one attempt, committed on return; returns its ticket.

        Raises:
            BudgetSpentError: where it could pass the budget; nothing is reserved then.
        """
        return self.reserve(*self.bound(key, request, model, vendor=vendor, mode=mode))

    def bound(
        self, key: str, request: Request, model: str, *, vendor: bool = True, mode: str = "live"
    ) -> tuple[Reservation, Price | None]:
        """What is to be reserved for one attempt, and the price."""
        price = self.price(model, vendor=vendor)
        tokens, usd = worst_case(request, price, batch=mode == "batch")
        return Reservation(key, request.purpose, model, tokens, usd, mode), price

    def reserve(self, row: Reservation, price: Price | None) -> int:
        """Reserve what requests can cost at most, committed on return; returns their ticket.

        Raises:
            BudgetSpentError: where they could pass the budget; nothing is reserved then.
        """
        with self._lock:
            self._check_room(row)
            (ticket,) = self.ledger.reserve([row])
            self._reserved[ticket], self._prices[ticket] = row, price
        return ticket

    def how_many_fit(self, bounds: Sequence[tuple[int, float | None]]) -> int:
        """How many of some requests, from the first on, the budget allows together.

        Args:
            bounds: per request what `worst_case` says.
        """
        with self._lock:
            tokens = self._tokens + sum(r.tokens for r in self._reserved.values())
            usd = self._usd + sum(r.usd or 0.0 for r in self._reserved.values())
        for place, (more, dollars) in enumerate(bounds):
            tokens += more
            usd += dollars or 0.0
            if self.limits.tokens is not None and tokens > self.limits.tokens:
                return place
            if self.limits.usd is not None and (dollars is None or usd > self.limits.usd):
                return place
        return len(bounds)

    def book(
        self,
        settled: Sequence[tuple[int, Sequence[Spending]]],
        wanted: Sequence[tuple[Reservation, Price | None]],
    ) -> list[int | BudgetSpentError]:
        """Settle and reserve in one transaction, committed on return.

        Args:
            settled: tickets, each with what it cost.
            wanted: what is to be reserved, each with its price; who comes first is served first.

        Returns:
            A ticket for each of `wanted`, or the error where it could pass the budget.
        """
        with self._lock, self.ledger.transaction():
            spent = [row for _, rows in settled for row in rows]
            self.ledger.settle([ticket for ticket, _ in settled], spent)
            for ticket, rows in settled:
                self._forget(ticket, rows)
            return self._reserve_each(wanted)

    def _reserve_each(
        self, wanted: Sequence[tuple[Reservation, Price | None]]
    ) -> list[int | BudgetSpentError]:
        errors: dict[int, BudgetSpentError] = {}
        fitting: dict[int, Reservation] = {}
        try:
            for place, (row, _) in enumerate(wanted):
                try:
                    self._check_room(row)
                except BudgetSpentError as error:
                    errors[place] = error
                else:
                    # Counts against the next ones; tickets are positive.
                    fitting[place] = self._reserved[-1 - place] = row
            tickets = self.ledger.reserve(list(fitting.values())) if fitting else []
        finally:
            for place in fitting:
                del self._reserved[-1 - place]
        given = dict(zip(fitting, tickets, strict=True))
        for place, ticket in given.items():
            self._reserved[ticket], self._prices[ticket] = wanted[place]
        return [errors[i] if i in errors else given[i] for i in range(len(wanted))]

    def answered(self, ticket: int, response: Response, *, seconds: float = 0.0) -> None:
        """Replace a reservation by what the provider counted."""
        self.settle(ticket, [self.cost(ticket, response, seconds=seconds)])

    def refused(self, ticket: int) -> None:
        """The provider turned the attempt down: nothing is charged."""
        self.settle(ticket, [self.nothing(ticket)])

    def lost(self, ticket: int) -> None:
        """No answer came, yet the provider may charge: counted at the most it can be."""
        self.settle(ticket, [self.most(ticket)])

    def cost(self, ticket: int, response: Response, *, seconds: float = 0.0) -> Spending:
        """What an answer cost, by the provider's own counts."""
        row, price = self._reserved[ticket], self.price_of(ticket)
        return spending(
            row.purpose, row.model, response.usage, price, mode=row.mode, seconds=seconds
        )

    def nothing(self, ticket: int) -> Spending:
        """What an attempt cost that was turned down."""
        row = self._reserved[ticket]
        return Spending(row.purpose, row.model, row.mode, refused_requests=row.requests)

    def most(self, ticket: int) -> Spending:
        """What an attempt can have cost whose answer never came."""
        return lost(self._reserved[ticket])

    def settle(self, ticket: int, spent: Sequence[Spending]) -> None:
        """Replace a reservation by spending, in the ledger and here."""
        self.ledger.settle([ticket], spent)
        self.forget(ticket, spent)

    def forget(self, ticket: int, spent: Sequence[Spending] = ()) -> None:
        """Follow a ledger that has settled a ticket already."""
        with self._lock:
            self._forget(ticket, spent)

    def _forget(self, ticket: int, spent: Sequence[Spending]) -> None:
        self._reserved.pop(ticket, None)
        self._prices.pop(ticket, None)
        for row in spent:
            self._count(row)

    def price_of(self, ticket: int) -> Price | None:
        """The price a request was reserved at; also for one that an earlier process sent."""
        if ticket in self._prices:
            return self._prices[ticket]
        row = self._reserved[ticket]
        return self.price(row.model) if row.usd is not None else None

    # ------------------------------------------------------------------ the whole

    def recover(self, answer: Callable[[str], Response | None]) -> int:
        """Settle what a killed process left in flight; returns how many requests were lost.

        Args:
            answer: the cached response to a key, `None` where there is none.
        """
        n_lost = 0
        for ticket, row in self.ledger.in_flight("live").items():
            found = answer(row.key)
            if found is not None and found.status is not ResponseStatus.FAILED:
                # Answered and kept; only the ledger had not heard of it.
                self.answered(ticket, found)
            else:
                n_lost += row.requests
                self.lost(ticket)
        return n_lost

    @property
    def spent_usd(self) -> float:
        """Dollars spent, what was lost included at its most."""
        return self._usd

    @property
    def spent_tokens(self) -> int:
        """Tokens spent, what was lost included at its most."""
        return self._tokens

    def _check_room(self, row: Reservation) -> None:
        usd, tokens = self.limits.usd, self.limits.tokens
        if tokens is not None:
            on_the_way = sum(r.tokens for r in self._reserved.values())
            if self._tokens + on_the_way + row.tokens > tokens:
                raise BudgetSpentError(
                    f"the budget of {tokens:,} tokens would be passed: {self._tokens:,} are spent, "
                    f"{on_the_way:,} at most are on their way, and {_next(row)} can take "
                    f"{row.tokens:,}. Everything answered is kept: raise budget.tokens and give "
                    "the same command again"
                )
        if usd is not None:
            if row.usd is None:
                raise BudgetSpentError(
                    f"budget.usd is set, but the price of {row.model} is not known for a prompt "
                    f"that can have {row.tokens:,} tokens: set budget.tokens instead"
                )
            on_the_way = sum(r.usd or 0.0 for r in self._reserved.values())
            if self._usd + on_the_way + row.usd > usd:
                raise BudgetSpentError(
                    f"the budget of ${usd:,.2f} would be passed: ${self._usd:,.4f} are spent, "
                    f"${on_the_way:,.4f} at most are on their way, and {_next(row)} can cost "
                    f"${row.usd:,.4f}. Everything answered is kept: raise budget.usd and give the "
                    "same command again"
                )

    def _count(self, row: Spending) -> None:
        self._usd += row.usd + row.lost_usd
        self._tokens += row.input_tokens + row.output_tokens + row.lost_tokens


def spending(
    purpose: str,
    model: str,
    usage: Usage,
    price: Price | None,
    *,
    mode: str = "live",
    seconds: float = 0.0,
) -> Spending:
    """What one answered request cost, as a row of the ledger."""
    usd = price.usd(usage, batch=mode == "batch") if price is not None else None
    return Spending(
        purpose=purpose,
        model=model,
        mode=mode,
        requests=1,
        input_tokens=usage.input_tokens,
        cached_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        output_tokens=usage.output_tokens,
        seconds=seconds,
        usd=usd or 0.0,
        unpriced_requests=int(usd is None),
    )


def _next(row: Reservation) -> str:
    return f"the next {row.requests:,} requests" if row.requests > 1 else "the next request"


class MeteredClient:
    """A client whose every call is metered: for clients that do not meter their attempts."""

    def __init__(self, client: LlmClient, meter: Meter) -> None:
        """Wrap a client.

        Raises:
            UsageError: where the budget is in money and the model has no price.
        """
        self.client = client
        self.meter = meter
        self.name = client.name
        self.fingerprint = client.fingerprint
        self.capabilities = client.capabilities
        meter.check(self.name)

    def complete(self, requests: Sequence[Request]) -> list[Response]:
        """Answer all or none. See `LlmClient.complete`.

        Raises:
            BudgetSpentError: where these requests together could pass the budget.
        """
        if not requests:
            return []
        meter = self.meter
        bounds = [
            meter.bound(request_key(self.client, request), request, self.name)
            for request in requests
        ]
        booked = meter.book([], bounds)
        tickets = [ticket for ticket in booked if isinstance(ticket, int)]
        try:
            for error in booked:
                if isinstance(error, BudgetSpentError):
                    raise error
            responses = self.client.complete(requests)
        except BaseException:
            # A call that breaks off in this process was not answered, and costs nothing.
            meter.book([(ticket, []) for ticket in tickets], [])
            raise
        spent = [
            meter.nothing(ticket)
            if response.status is ResponseStatus.FAILED
            else meter.cost(ticket, response)
            for ticket, response in zip(tickets, responses, strict=True)
        ]
        meter.book([(t, [row]) for t, row in zip(tickets, spent, strict=True)], [])
        return responses
