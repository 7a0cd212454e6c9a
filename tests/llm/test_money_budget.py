"""What a run may spend, and that the ledger is what the provider counted."""

import random
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from autointerp.llm import (
    CachedClient,
    ClientOptions,
    Message,
    Request,
    Response,
    ResponseCache,
    ResponseStatus,
    Usage,
    load_client,
)
from autointerp.llm.budget import BudgetSpentError, Limits, Meter, most_input_tokens
from autointerp.llm.loop import run_sync
from autointerp.llm.prices import load_prices
from autointerp.records import AutointerpError, UsageError
from autointerp.store.ledger import Ledger, Reservation, Spending, read_spending
from tests.llm.fake_server import Asked, FakeServer, Hang, Raw, Reply, Reset, Status

PRICES = """
- {model: openai/test, input: 1, cached_input: 0.1, output: 10, date: 2026-11-01, source: x}
"""
MODEL = "openai/test"


def meter(folder: Path, **limits: float) -> Meter:
    (folder / "prices.yaml").write_text(PRICES)
    prices = load_prices(folder / "prices.yaml")
    return Meter(Ledger(folder / "results.sqlite"), prices, Limits(**limits))  # type: ignore[arg-type]


def question(i: int, n: int = 16) -> Request:
    return Request((Message("user", f"question {i}"),), n, purpose="explain")


def answer(n_in: int = 10, n_out: int = 5) -> Response:
    return Response("x", ResponseStatus.OK, Usage(n_in, 0, n_out))


def client_of(server: FakeServer, m: Meter, folder: Path, **options: float) -> CachedClient:
    made = ClientOptions(base_url=server.openai_url, server="s", retry_wait=0.01, **options)  # type: ignore[arg-type]
    live = load_client(MODEL, made)
    live.meter = m  # pyright: ignore[reportAttributeAccessIssue]
    return CachedClient(live, ResponseCache(folder / "cache.sqlite"))


def sums(m: Meter, names: Sequence[str]) -> list[float]:
    return [sum(getattr(row, name) for row in m.ledger.rows()) for name in names]


def test_the_budget_stops_before_the_call_that_could_pass_it(tmp_path: Path) -> None:
    m = meter(tmp_path, tokens=310)
    worst = most_input_tokens(question(0)) + 16
    tickets = [m.begin("k", question(0), MODEL) for _ in range(310 // worst)]
    with pytest.raises(BudgetSpentError, match=r"310 tokens would be passed.*raise budget.tokens"):
        m.begin("k", question(0), MODEL)
    m.answered(tickets[0], answer(10, 5))
    m.begin("k", question(0), MODEL)  # 15 tokens were spent where more were reserved


def test_the_worst_case_is_a_bound_for_any_tokenizer(tokenizer: object) -> None:
    """Byte-level tokenizers give at most one token a byte."""
    for text in ("plain words", "\u4e2d\u6587\U0001f600", "\t0\n" * 50, "é" * 100):
        n = len(tokenizer(text)["input_ids"])  # type: ignore[operator]
        assert n <= most_input_tokens(Request((Message("user", text),), 1))


def test_money_is_bounded_at_the_full_price(tmp_path: Path) -> None:
    m = meter(tmp_path, usd=0.0005)
    request = question(0, 40)
    usd = (most_input_tokens(request) + 400) / 1e6
    n = int(0.0005 / usd)
    for _ in range(n):
        m.begin("k", request, MODEL)
    with pytest.raises(BudgetSpentError, match=r"raise budget.usd"):
        m.begin("k", request, MODEL)


def test_a_budget_in_money_needs_a_price(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no price for openai/unknown.*llm.prices"):
        meter(tmp_path, usd=1.0).check("openai/unknown")
    meter(tmp_path, tokens=1).check("openai/unknown")
    meter(tmp_path, usd=1.0).check("local/smollm2")


def test_a_spent_budget_is_spent_for_the_next_process_too(tmp_path: Path) -> None:
    m = meter(tmp_path, tokens=200)
    m.answered(m.begin("k", question(0), MODEL), answer(100, 50))
    m.ledger.close()
    with pytest.raises(BudgetSpentError):
        meter(tmp_path, tokens=200).begin("k", question(0), MODEL)
    assert meter(tmp_path, tokens=400).begin("k", question(0), MODEL)


def test_threads_never_pass_a_budget_together(tmp_path: Path) -> None:
    m = meter(tmp_path, tokens=2000)
    stopped = threading.Event()

    def work(seed: int) -> None:
        generator = random.Random(seed)
        while True:
            longest = generator.randint(1, 60)
            try:
                ticket = m.begin("k", question(seed, longest), MODEL)
            except BudgetSpentError:
                stopped.set()
                return
            m.answered(ticket, answer(generator.randint(1, 20), generator.randint(1, longest)))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stopped.is_set() and 1500 < m.spent_tokens <= 2000
    assert m.ledger.in_flight() == {}


def test_a_run_of_requests_stops_and_goes_on_when_the_budget_is_raised(tmp_path: Path) -> None:
    with FakeServer() as server:
        m = meter(tmp_path, tokens=400)
        client = client_of(server, m, tmp_path)
        requests = [question(i) for i in range(40)]
        with pytest.raises(BudgetSpentError):
            client.complete(requests)
        run_sync(client.drain(60))  # what was sent is seen to its end, and kept
        first = server.count("/v1/chat/completions")
        (tokens,) = sums(m, ["input_tokens"])
        assert 0 < first < 40 and 0 < tokens <= 400
        m.ledger.close()
        m = meter(tmp_path, tokens=4000)
        responses = client_of(server, m, tmp_path).complete(requests)
        assert all(r.text for r in responses)
        assert server.count("/v1/chat/completions") == 40


def test_the_ledger_is_what_the_provider_counted_over_retries_and_cache(tmp_path: Path) -> None:
    billed = {"requests": 0, "input_tokens": 0, "cached_tokens": 0, "output_tokens": 0}
    generator = random.Random(0)
    lock = threading.Lock()

    def reply(asked: Asked) -> Reply:
        n_in, n_out = generator.randint(20, 90), generator.randint(1, 9)
        return Reply("fine", input_tokens=n_in, output_tokens=n_out, cached_tokens=n_in // 3)

    def faults(number: int) -> Status | None:
        return Status(500 if number % 5 else 429) if number % 3 == 1 else None

    with FakeServer(answer=reply, faults=faults) as server:
        original = server.answer

        def counted(asked: Asked) -> Reply:
            made = original(asked)
            assert isinstance(made, Reply)
            number = server._models - 1
            if faults(number) is None:
                with lock:
                    billed["requests"] += 1
                    billed["input_tokens"] += made.input_tokens or 0
                    billed["cached_tokens"] += made.cached_tokens
                    billed["output_tokens"] += made.output_tokens or 0
            return made

        server.answer = counted
        m = meter(tmp_path)
        client = client_of(server, m, tmp_path)
        for n in (30, 60):
            assert all(r.text == "fine" for r in client.complete([question(i) for i in range(n)]))
        found = sums(m, list(billed))
        assert found == list(billed.values()) and billed["requests"] == 60
        uncached = billed["input_tokens"] - billed["cached_tokens"]
        usd = (uncached + 0.1 * billed["cached_tokens"] + 10 * billed["output_tokens"]) / 1e6
        assert sums(m, ["usd"])[0] == pytest.approx(usd)
        assert sums(m, ["lost_requests"]) == [0] and sums(m, ["refused_requests"])[0] > 10


@pytest.mark.parametrize("fault", [Reset(5), Raw("{"), Hang(5)])
def test_what_broke_off_in_mid_answer_is_lost_and_bounded(
    fault: Reset | Raw | Hang, tmp_path: Path
) -> None:
    with FakeServer(faults=lambda number: fault if number < 2 else None) as server:
        m = meter(tmp_path)
        client = client_of(server, m, tmp_path, timeout=0.5)
        (response,) = client.complete([question(0)])
        assert response.status is ResponseStatus.OK
        requests, lost, tokens = sums(m, ["requests", "lost_requests", "lost_tokens"])
        worst = most_input_tokens(question(0)) + 16
        assert (requests, lost, tokens) == (1, 2, 2 * worst)
        # The server has billed three answers of the same size, two of them never seen.
        one = sums(m, ["input_tokens"])[0] + sums(m, ["output_tokens"])[0]
        assert 3 * one <= one + tokens


def test_what_a_killed_process_left_in_flight_is_settled_from_the_cache_or_lost(
    tmp_path: Path,
) -> None:
    m = meter(tmp_path)
    for key in ("kept", "gone"):
        m.begin(key, question(0), MODEL)
    m.ledger.close()
    m = meter(tmp_path)
    worst = most_input_tokens(question(0)) + 16
    assert m.recover({"kept": answer(10, 5)}.get) == 1
    assert m.ledger.in_flight() == {}
    assert sums(m, ["requests", "input_tokens", "lost_requests", "lost_tokens"]) == [
        1,
        10,
        1,
        worst,
    ]
    assert m.spent_tokens == 15 + worst


def test_a_ledger_of_the_earlier_form_is_taken_over(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "results.sqlite") as db:
        db.execute(
            "CREATE TABLE ledger (id INTEGER PRIMARY KEY, at REAL, purpose TEXT, model TEXT, "
            "requests INTEGER, input_tokens INTEGER, cached_tokens INTEGER, output_tokens INTEGER, "
            "seconds REAL)"
        )
        row = (0.0, "explain", "local/x", 1, 10, 2, 3, 0.5)
        db.executemany(f"INSERT INTO ledger VALUES (NULL, {', '.join('?' * 8)})", [row, row])
    db.close()
    for _ in range(2):
        ledger = Ledger(tmp_path / "results.sqlite")
        (found,) = ledger.rows()
        assert (found.requests, found.input_tokens, found.seconds) == (2, 20, 1.0)
        ledger.close()


def test_the_ledger_does_not_grow_with_calls(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "results.sqlite")
    for _ in range(500):
        (ticket,) = ledger.reserve([Reservation("k", "explain", "m", 10, 0.1)])
        ledger.settle([ticket], [Spending("explain", "m", requests=1, usd=0.001)])
    (row,) = ledger.rows()
    assert (row.requests, row.usd) == (500, pytest.approx(0.5))
    rows, in_flight = read_spending(sqlite3.connect(tmp_path / "results.sqlite"))
    assert rows == [dict(vars(row))] and in_flight == 0


def test_a_provider_that_cannot_be_reached_charges_nothing(tmp_path: Path) -> None:
    m = meter(tmp_path)
    with FakeServer() as server:
        client = client_of(server, m, tmp_path, max_attempts=3, give_up_after=0.3)
    with pytest.raises(AutointerpError):
        client.complete([question(0)])
    lost, refused = sums(m, ["lost_requests", "refused_requests"])
    assert lost == 0 and refused >= 1
