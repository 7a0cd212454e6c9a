"""What the questions of a stage cost: counted, priced and timed for all units."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from autointerp.config import RunConfig
from autointerp.dry_run import Asked, TokenCounter, hosted_counter, tokenizer_counter
from autointerp.estimate.figures import StageEstimate
from autointerp.judging import asks_llm
from autointerp.llm.base import Request, Usage

if TYPE_CHECKING:
    from autointerp.runner import Run

CACHED_PREFIX = 1024
"""Providers keep the start of a prompt that is at least so many tokens long."""

LATENCY = 2.0
"""Seconds that a hosted model takes for a call, before its answer is written; a guess."""

ANSWER_RATE = 60.0
"""Tokens per second at which it writes; a guess."""


class Pricing:
    """Prices what a sample of units asked, for all units that it stands for."""

    def __init__(
        self,
        config: RunConfig,
        counter: TokenCounter,
        scale: float,
        seconds_per_token: float | None,
    ) -> None:
        """Set it up.

        Args:
            config: of the run.
            counter: counts tokens.
            scale: units for each of the sample.
            seconds_per_token: of this machine; `None` where it is not timed.
        """
        self.config = config
        self.counter = counter
        self.scale = scale
        self.seconds_per_token = seconds_per_token

    def stage(self, name: str, asked: Sequence[Asked], rounds: int) -> list[StageEstimate]:
        """What the sample asked, for all units; nothing where nothing is asked."""
        if not asked:
            return []
        from autointerp.llm.keys import by_vendor
        from autointerp.llm.options import ClientOptions
        from autointerp.llm.prices import load_prices

        scale = self.scale
        model = self.config.llm.model
        is_local = model.startswith("local/")
        prompts = [self.counter.prompt(one.request) for one in asked]
        most = [one.request.max_tokens for one in asked]
        outputs = [min(self.counter.text(one.answer) + 1, one.request.max_tokens) for one in asked]
        prefix = 0 if is_local else common_start([one.request for one in asked], self.counter)
        calls = round(len(asked) * scale)
        cached = prefix * max(0, calls - 1) if prefix >= CACHED_PREFIX else 0
        options = ClientOptions.of(self.config.llm)
        vendor = is_local or by_vendor(model.partition("/")[0], options)
        price = load_prices(self.config.llm.prices).find(model, vendor=vendor)

        def usd(cached_each: int, answers: list[int], *, batch: bool = False) -> float | None:
            each = [
                price.usd(Usage(n, min(cached_each, n), out), batch=batch) if price else None
                for n, out in zip(prompts, answers, strict=True)
            ]
            known = [one for one in each if one is not None]
            return sum(known) * scale if len(known) == len(each) else None

        cached_each = prefix if cached else 0
        return [
            StageEstimate(
                stage=name,
                model=model,
                calls=calls,
                input_tokens=round(sum(prompts) * scale),
                cached_tokens=cached,
                output_tokens=round(sum(outputs) * scale),
                most_output_tokens=round(sum(most) * scale),
                usd=usd(cached_each, outputs),
                usd_batch=usd(0, outputs, batch=not is_local),
                most_usd=usd(0, most),
                hours=self._hours(sum(prompts) * scale, sum(outputs) * scale, calls),
                rounds=rounds,
                price=f"{price.date}, {price.source}" if price and not is_local else "",
            )
        ]

    def _hours(self, n_input: float, n_output: float, calls: int) -> float | None:
        llm = self.config.llm
        if llm.model.startswith("local/"):
            if self.seconds_per_token is None:
                return None
            # Answers are written token by token: a pass each, shared by a batch.
            return (n_input + 4 * n_output) * self.seconds_per_token / 3600
        seconds = (calls * LATENCY + n_output / ANSWER_RATE) / llm.max_concurrency
        if llm.requests_per_minute:
            seconds = max(seconds, 60 * calls / llm.requests_per_minute)
        if llm.tokens_per_minute:
            seconds = max(seconds, 60 * (n_input + n_output) / llm.tokens_per_minute)
        return seconds / 3600


def counter_of(run: "Run") -> TokenCounter:
    """What counts the tokens of a run: its language model's tokenizer where it is here."""
    model, llm = run.config.llm.model, run.config.llm
    asks = any(e.needs_llm for e in run.parts.explainers) or any(
        asks_llm(scorer) for scorer in run.config.scorers
    )
    if model.startswith("local/") and asks:
        name = model.removeprefix("local/")
        subject = run.parts.language_model(name, llm.device, llm.dtype)
        return tokenizer_counter(subject.tokenizer, subject.name, is_own=True)
    source = next(iter(run.parts.sources.values()), None)
    subject = run.parts.subject(source.subject) if source is not None else None
    tokenizer = subject.tokenizer if subject is not None else None
    return hosted_counter(
        model.partition("/")[2], tokenizer, subject.name if subject is not None else ""
    )


def common_start(requests: Sequence[Request], counter: TokenCounter) -> int:
    """Tokens with which all prompts begin."""
    if len(requests) < 2:
        return 0
    texts = [["\x00".join((m.role, m.content)) for m in r.messages] for r in requests]
    total = 0
    for column in zip(*texts, strict=False):
        same = len(set(column)) == 1
        start = column[0] if same else _common_text(column)
        total += counter.text(start.partition("\x00")[2]) + 4 * same
        if not same:
            break
    return total


def _common_text(texts: Sequence[str]) -> str:
    low, high = min(texts), max(texts)
    n = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    return low[:n]
