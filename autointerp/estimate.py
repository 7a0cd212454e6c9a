"""What a run will take, before it starts: calls, tokens, money, hours and disk.

Prompts are built for a sample of units by the run's own explainers and judges (`dry_run`): of real
units once they are recorded, of made-up ones before. What a call takes is averaged over the sample
and multiplied by the number of units.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from autointerp.config import BASELINE_EXPLAINERS, RunConfig
from autointerp.controls import TEXT_CONTROLS, score_with_controls
from autointerp.llm.base import Request, Usage
from autointerp.records import Split, UnitRecord
from autointerp.staging import savings_notes

if TYPE_CHECKING:
    from autointerp.dry_run import Asked, TokenCounter
    from autointerp.explainers.best_of import BestOf
    from autointerp.runner import Run
    from autointerp.simulators.asked import AskedSimulator

CACHED_PREFIX = 1024
"""Providers keep the start of a prompt that is at least so many tokens long."""

_LATENCY = 2.0
"""Seconds that a hosted model takes for a call, before its answer is written; a guess."""

_ANSWER_RATE = 60.0
"""Tokens per second at which it writes; a guess."""

_BATCH_HOURS = 24.0
"""The longest that a batch may take."""


@dataclass(frozen=True)
class StageEstimate:
    """One stage with one model."""

    stage: str
    model: str
    calls: int
    input_tokens: int
    cached_tokens: int
    """Of the input, read from the provider's prompt cache; none are assumed in batches."""
    output_tokens: int
    """With answers of usual length."""
    most_output_tokens: int
    """With every answer as long as it may be."""
    usd: float | None
    """`None` where the price is unknown; 0 on this machine."""
    usd_batch: float | None
    most_usd: float | None
    """With the longest answers and nothing cached."""
    hours: float | None
    rounds: int = 1
    """Questions that wait for the answers of earlier ones: as many batches, one after the other."""
    price: str = ""
    """Date and source of the price."""


@dataclass(frozen=True)
class RunEstimate:
    """A whole run."""

    basis: str
    """`records`: real units; `design`: made-up units, as nothing is recorded yet."""
    n_units: int
    n_sampled: int
    counted: str
    """How tokens were counted."""
    stages: tuple[StageEstimate, ...] = ()
    record_seconds: float | None = None
    """`None` where nothing is recorded, or nothing was timed."""
    disk_bytes: int = 0
    notes: tuple[str, ...] = field(default=())

    @property
    def usd(self) -> float | None:
        """Of all stages; `None` where one is unknown."""
        return _total([stage.usd for stage in self.stages])

    @property
    def usd_batch(self) -> float | None:
        """Of all stages through batch APIs."""
        return _total([stage.usd_batch for stage in self.stages])

    @property
    def hours(self) -> float | None:
        """Of all stages and recording."""
        recording = None if self.record_seconds is None else self.record_seconds / 3600
        return _total([recording, *(stage.hours for stage in self.stages)])

    def as_json(self) -> dict[str, Any]:
        """Everything, with the totals."""
        return {
            **asdict(self),
            "stages": [asdict(stage) for stage in self.stages],
            "notes": list(self.notes),
            "usd": self.usd,
            "usd_batch": self.usd_batch,
            "hours": self.hours,
            "calls": sum(stage.calls for stage in self.stages),
            "input_tokens": sum(stage.input_tokens for stage in self.stages),
            "output_tokens": sum(stage.output_tokens for stage in self.stages),
        }


def estimate_run(
    config: RunConfig,
    *,
    units: Sequence[str] | None = None,
    sample: int = 8,
    timing: bool = True,
) -> RunEstimate:
    """Estimate what a run takes as a whole. Asks no language model and writes nothing.

    Args:
        config: of the run.
        units: these units instead of the config's.
        sample: units whose prompts are built.
        timing: time the models on this machine; without, hours on this machine are unknown.

    Raises:
        AutointerpError: for what would stop the run too.
    """
    from autointerp.progress import Silent
    from autointerp.runner import Run

    run = Run(config, Silent(), units)
    try:
        return _Estimator(run, sample, timing).estimate()
    finally:
        run.store.close()


class _Estimator:
    """The estimate of one run."""

    def __init__(self, run: "Run", sample: int, timing: bool) -> None:
        self.run = run
        self.timing = timing
        self.config = run.config
        self.recorded = self._is_recorded()
        self.real = self.recorded or bool(run.parts.imported)
        self.n_units = len(run.units) if self.recorded else _n_units(run)
        self.sample = self._sample(min(sample, max(1, self.n_units)))
        self.counter = self._counter()
        self.seconds_per_token = _seconds_per_token(run) if timing else None

    def estimate(self) -> RunEstimate:
        """Build the prompts, count, price and time them."""
        stages = [*self._explain(), *self._judge(), *self._simulate()]
        notes = [
            f"prompts of {len(self.sample)} of {self.n_units:,} units, tokens {self.counter.how}"
        ]
        if not self.real:
            notes.append("nothing is recorded yet: units are made up from the sampling design")
        notes += savings_notes(self.config)
        if any(stage.usd is None for stage in stages):
            unknown = sorted({stage.model for stage in stages if stage.usd is None})
            notes.append(f"no price is known for {', '.join(unknown)}: add a row to llm.prices")
        if any(stage.usd for stage in stages):
            notes.append(
                f"hours of hosted models: {_LATENCY:g} s a call and {_ANSWER_RATE:g} tokens/s "
                "written, within llm.max_concurrency and the limits per minute; a batch takes up "
                "to 24 hours a round"
            )
        return RunEstimate(
            basis="records" if self.real else "design",
            n_units=self.n_units,
            n_sampled=len(self.sample),
            counted=self.counter.how,
            stages=tuple(stages),
            record_seconds=self._record_seconds(),
            disk_bytes=self._disk(),
            notes=tuple(notes),
        )

    # ------------------------------------------------------------------ units

    def _is_recorded(self) -> bool:
        store = self.run.store
        if store.corpus_key() is None:
            return False
        return all(store.records_key(n) == self.run.records_key(n) for n in self.config.sources)

    def _sample(self, n: int) -> list[UnitRecord]:
        if self.recorded:
            units = self.run.units
            step = max(1, len(units) // n)
            return list(self.run.store.read_units(units[::step][:n]))
        if self.run.parts.imported:
            found = [u for one in self.run.parts.imported.values() for u in one.units]
            return found[:: max(1, len(found) // n)][:n]
        from autointerp.dry_run import made_up_unit

        sequences = self._sequences()
        return [made_up_unit(self.run, number, sequences) for number in range(n)]

    def _sequences(self) -> list[Any]:
        run = self.run
        if run.store.corpus_key() == run.corpus_key:
            # Of one tokenizer: the others cut the same texts once more.
            source = next(iter(run.parts.sources.values()), None)
            name = None if source is None else run.parts.subject(source.subject).tokenizer_name
            return run.store.read_sequences(name)[0]
        if not hasattr(self, "_made"):
            from autointerp.recording.corpus import sequences_of_corpus

            assert self.config.corpus is not None
            settings = self.config.corpus
            source = next(iter(run.parts.sources.values()))
            self._made = sequences_of_corpus(
                run.parts.corpus,
                run.parts.subject(source.subject).tokenizer,
                length=settings.sequence_length,
                n_masked_start=settings.n_masked_start,
                min_length=settings.n_masked_start + settings.window_length,
                max_tokens=settings.max_tokens,
                max_tokens_per_document=settings.max_tokens_per_document,
            )
        return self._made

    # ------------------------------------------------------------------ stages

    def _explain(self) -> list[StageEstimate]:
        from autointerp.dry_run import drive_dry
        from autointerp.explainers import ExplainView

        asked: list[Asked] = []
        rounds = 1
        for explainer in self.run.parts.explainers:
            if not explainer.needs_llm:
                continue
            for record in self.sample:
                _, found = drive_dry(explainer.explain(ExplainView.of(record), "dry run"))
                asked += found
                rounds = max(rounds, len(found))
        return self._stage("explain", asked, rounds)

    def _judge(self) -> list[StageEstimate]:
        from autointerp.dry_run import drive_dry, made_up_explanation
        from autointerp.judging import asks_llm, judged_controls, judges, reads_explanation
        from autointerp.scorers import ScoreJob, load_scorer

        stages: list[StageEstimate] = []
        n_donors = min(self.config.score.shuffled_donors, max(0, self.n_units - 1))
        for settings in judges(self.run):
            scorer = load_scorer(
                settings, self.config.score, self.run.design.name, self.config.seed
            )
            asked: list[Asked] = []
            names = [e.name for e in self.config.explainers if e.type not in BASELINE_EXPLAINERS]
            for explainer in names if reads_explanation(scorer) else [""]:
                for record in self.sample:
                    own = made_up_explanation(record.unit, explainer)
                    donors = (own,) * n_donors
                    # Other units are about as long as this one.
                    rest = [one for one in self.sample if one is not record] or [record]
                    others = tuple(rest[place % len(rest)] for place in range(n_donors))
                    job = ScoreJob(record, own, donors, "dry run", "dry run", "dry run", others)
                    kinds = judged_controls(self.run, scorer, explainer)
                    keep = bool(getattr(scorer, "needs_others", False))
                    steps = score_with_controls(scorer.score, job, kinds, keep_donors=keep)
                    asked += drive_dry(steps)[1]
            chosen = self._chosen_by(settings.name) if asks_llm(settings) else []
            asked += chosen
            stages += self._stage(settings.name, asked, 2 if chosen else 1)
        return stages

    def _chosen_by(self, name: str) -> "list[Asked]":
        """What a scorer asks on `calibrate` about all that the best is chosen from."""
        from autointerp.dry_run import drive_dry, made_up_explanation
        from autointerp.scorers import ScoreJob
        from autointerp.selecting import chooser

        asked: list[Asked] = []
        for explainer, n_texts in self._choices(name):
            scorer = chooser(self.run, explainer, self.run.design.name)
            for record in self.sample:
                own = made_up_explanation(record.unit, explainer.name)
                job = ScoreJob(record, own, (), "dry run", "dry run", "dry run")
                asked += drive_dry(scorer.score(job))[1] * n_texts
        return asked

    def _choices(self, scorer: str) -> "list[tuple[BestOf, int]]":
        """The explainers whose best a scorer chooses, and among how many texts of a unit."""
        from autointerp.explainers.best_of import BestOf
        from autointerp.selecting import most_texts

        n_donors = min(self.config.score.shuffled_donors, max(0, self.n_units - 1))
        return [
            (one, most_texts(self.config, one, n_donors))
            for one in self.run.parts.explainers
            if isinstance(one, BestOf) and one.by == scorer
        ]

    def _simulate(self) -> list[StageEstimate]:
        """Simulation reads prompts and writes nothing: tokens and time on this machine."""
        from autointerp.dry_run import TYPICAL_EXPLANATION
        from autointerp.records import Strata
        from autointerp.simulators.asked import AskedSimulator

        if not any(scorer.type == "simulation" for scorer in self.config.scorers):
            return []
        in_words = [e for e in self.config.explainers if e.type not in BASELINE_EXPLAINERS]
        if not in_words:
            return []
        simulator = self.run.parts.simulator(in_words[0].name)
        if isinstance(simulator, AskedSimulator):
            return self._ask_simulator(simulator, len(in_words))
        count = getattr(simulator, "count_tokens", None)
        n_donors = min(self.config.score.shuffled_donors, max(0, self.n_units - 1))
        tokens = calls = 0
        for record in self.sample:
            for split, times in self._simulated_splits(len(in_words), n_donors):
                windows = [w for w in record.of(split) if w.stratum != Strata.RANDOM]
                if windows:
                    calls += times
                    texts = [(TYPICAL_EXPLANATION, [w.tokens for w in windows])]
                    tokens += times * (count(texts) if count is not None else 0)
        scale = self.n_units / len(self.sample)
        calls, total = round(calls * scale), round(tokens * scale)
        seconds = None if self.seconds_per_token is None else total * self.seconds_per_token
        return [
            StageEstimate(
                "simulation", simulator.name, calls, total, 0, 0, 0, 0.0, 0.0, 0.0,
                None if seconds is None else seconds / 3600,
            )
        ]  # fmt: skip

    def _ask_simulator(self, simulator: "AskedSimulator", n_explainers: int) -> list[StageEstimate]:
        """Simulation by asking: its real questions, under explanations of the usual length."""
        from autointerp.dry_run import TYPICAL_EXPLANATION, drive_dry
        from autointerp.records import Strata

        n_donors = min(self.config.score.shuffled_donors, max(0, self.n_units - 1))
        asked: list[Asked] = []
        for record in self.sample:
            for split, times in self._simulated_splits(n_explainers, n_donors):
                windows = [w for w in record.of(split) if w.stratum != Strata.RANDOM]
                steps = simulator.steps(TYPICAL_EXPLANATION, [w.tokens for w in windows])
                for one in drive_dry(steps)[1] if windows else ():
                    one.answer = simulator.typical_answer(one.request, one.answer)
                    asked += [one] * times
        return self._stage("simulation", asked, 1)

    def _simulated_splits(self, n_explainers: int, n_donors: int) -> list[tuple[Split, int]]:
        """Which windows of a unit are simulated, and under how many texts."""
        splits = [(Split.TEST, n_explainers * (1 + n_donors) + self._n_control_texts())]
        if self.config.score.calibration != "none":
            # Calibrations are fitted on these, under the own explanation.
            splits.append((Split.CALIBRATE, n_explainers))
        for scorer in self.config.scorers:
            if scorer.type == "simulation":
                splits += [(Split.CALIBRATE, n) for _, n in self._choices(scorer.name)]
        return splits

    def _n_control_texts(self) -> int:
        """Texts of controls: simulated once a unit, whatever explainers there are."""
        return sum(name in TEXT_CONTROLS for name in self.config.control_names)

    def _stage(self, name: str, asked: "list[Asked]", rounds: int) -> list[StageEstimate]:
        """What the sample asked, for all units."""
        if not asked:
            return []
        from autointerp.llm.keys import by_vendor
        from autointerp.llm.options import ClientOptions
        from autointerp.llm.prices import load_prices

        scale = self.n_units / len(self.sample)
        model = self.config.llm.model
        is_local = model.startswith("local/")
        prompts = [self.counter.prompt(one.request) for one in asked]
        most = [one.request.max_tokens for one in asked]
        outputs = [min(self.counter.text(one.answer) + 1, one.request.max_tokens) for one in asked]
        prefix = 0 if is_local else _common_start([one.request for one in asked], self.counter)
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
        ]  # fmt: skip

    def _hours(self, n_input: float, n_output: float, calls: int) -> float | None:
        llm = self.config.llm
        if llm.model.startswith("local/"):
            if self.seconds_per_token is None:
                return None
            # Answers are written token by token: a pass each, shared by a batch.
            return (n_input + 4 * n_output) * self.seconds_per_token / 3600
        seconds = (calls * _LATENCY + n_output / _ANSWER_RATE) / llm.max_concurrency
        if llm.requests_per_minute:
            seconds = max(seconds, 60 * calls / llm.requests_per_minute)
        if llm.tokens_per_minute:
            seconds = max(seconds, 60 * (n_input + n_output) / llm.tokens_per_minute)
        return seconds / 3600

    # ------------------------------------------------------------------ the rest

    def _counter(self) -> "TokenCounter":
        from autointerp.dry_run import hosted_counter, tokenizer_counter
        from autointerp.judging import asks_llm

        model, run = self.config.llm.model, self.run
        asks = any(e.needs_llm for e in run.parts.explainers) or any(
            asks_llm(scorer) for scorer in self.config.scorers
        )
        if model.startswith("local/") and asks:
            llm = run.config.llm
            name = model.removeprefix("local/")
            subject = run.parts.language_model(name, llm.device, llm.dtype)
            return tokenizer_counter(subject.tokenizer, subject.name, is_own=True)
        source = next(iter(run.parts.sources.values()), None)
        subject = run.parts.subject(source.subject) if source is not None else None
        tokenizer = subject.tokenizer if subject is not None else None
        return hosted_counter(
            model.partition("/")[2], tokenizer, subject.name if subject is not None else ""
        )

    def _record_seconds(self) -> float | None:
        if self.recorded or not self.run.parts.sources:
            return 0.0
        if self.seconds_per_token is None:
            return None
        share, _ = _blocks_read(self.run)
        # Every subject reads the whole corpus, about as many tokens as the first.
        passes = len({source.subject for source in self.run.parts.sources.values()})
        return sum(len(s.token_ids) for s in self._sequences()) * (
            self.seconds_per_token * share * _RECORDING_OVERHEAD * passes
        )

    def _disk(self) -> int:
        """Bytes of records, results and kept answers."""
        run, design = self.run, self.run.design
        folder = run.store.folder
        if self.recorded:
            records = sum(p.stat().st_size for p in folder.rglob("*.parquet"))
        else:
            kept = sum(quota.total for quota in design.quotas.values())
            n_all = sum(s.n_units * len(s.polarities) for s in run.parts.sources.values())
            per_window = 2 * design.window_length * _ZSTD + _WINDOW_FACTS
            records = round(n_all * (kept * per_window + _STATISTICS))
            records += round(sum(len(s.token_ids) for s in self._sequences()) * _CORPUS_TOKEN) if (
                run.parts.sources) else 0  # fmt: skip
        test = design.quotas[Split.TEST]
        tokens = (test.total - test.random) * (design.window_length or 32)
        n_explained = self.n_units * len(self.config.explainers)
        simulated = any(scorer.type == "simulation" for scorer in self.config.scorers)
        simulations = n_explained * (1 + self.config.score.shuffled_donors) * simulated
        results = n_explained * (_EXPLANATION + _SCORE * len(self.config.scorers))
        return round(records + results + simulations * (tokens * 3.125 + 200))


_RECORDING_OVERHEAD = 1.25
"""Recording takes so much longer than the subject's forward passes alone."""

_ZSTD = 0.5
"""Share that compression leaves of activations: most are zero."""

_WINDOW_FACTS = 40
_STATISTICS = 1500
_CORPUS_TOKEN = 12
_EXPLANATION = 1500
_SCORE = 3000
"""Bytes per window, per unit, per token of the corpus, per explanation and per score, about."""


def _common_start(requests: Sequence[Request], counter: "TokenCounter") -> int:
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


def _total(parts: Sequence[float | None]) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def print_estimate(found: RunEstimate, console: Any) -> None:
    """Print an estimate as a table on a rich console."""
    from rich.table import Table

    table = Table(caption_justify="left")
    table.add_column("stage", no_wrap=True)
    table.add_column("model", overflow="fold")
    for name in ("calls", "tokens in", "cached", "out", "price", "batch", "hours"):
        table.add_column(name, justify="right", no_wrap=True)
    for stage in found.stages:
        table.add_row(
            stage.stage,
            stage.model,
            f"{stage.calls:,}",
            _short(stage.input_tokens),
            _short(stage.cached_tokens),
            _short(stage.output_tokens),
            _money(stage.usd),
            _money(stage.usd_batch),
            _hours(stage.hours),
        )
    table.add_section()
    table.add_row(
        "recording", "", "", "", "", "", "", "",
        _hours(None if found.record_seconds is None else found.record_seconds / 3600),
    )  # fmt: skip
    table.add_row(
        "all", "",
        f"{sum(s.calls for s in found.stages):,}",
        _short(sum(s.input_tokens for s in found.stages)),
        _short(sum(s.cached_tokens for s in found.stages)),
        _short(sum(s.output_tokens for s in found.stages)),
        _money(found.usd), _money(found.usd_batch), _hours(found.hours),
    )  # fmt: skip
    console.print(table)
    most = _total([stage.most_usd for stage in found.stages])
    if most:
        console.print(f"at most {_money(most)}: every answer as long as it may be, nothing cached")
    console.print(f"disk: about {found.disk_bytes / 1e6:,.1f} MB")
    for note in found.notes:
        console.print(f"· {note}", highlight=False)
    for price in sorted({stage.price for stage in found.stages if stage.price}):
        console.print(f"· price of {price}", highlight=False)


def _short(tokens: int) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if tokens >= size:
            return f"{tokens / size:.1f} {unit}"
    return str(tokens)


def _money(usd: float | None) -> str:
    if usd is None:
        return "unknown"
    return "free" if usd == 0 else f"${usd:,.2f}" if usd >= 0.995 else f"${usd:.4f}"


def _hours(hours: float | None) -> str:
    return "unknown" if hours is None else f"{hours:,.1f}" if hours >= 0.95 else f"{hours:.3f}"


# ---------------------------------------------------------------------- time on this machine


def estimate_seconds(run: "Run") -> float | None:
    """Seconds the missing work will take, from a timed forward pass; `None` without a subject.

    Tokens through the whole model are what costs; a truncated pass counts by its share of
    blocks. Later stages are estimated from the config, before their inputs exist.
    """
    if not run.parts.sources or run.config.corpus is None:
        return None
    full = _seconds_per_token(run)
    assert full is not None
    share, _ = _blocks_read(run)
    seconds = 0.0
    if any(run.store.records_key(n) != run.records_key(n) for n in run.parts.sources):
        sequences, _ = run.store.read_sequences()
        seconds += sum(len(s.token_ids) for s in sequences) * full * share * _RECORDING_OVERHEAD
    n_units = _n_units(run)
    n_scores = n_units * len(run.config.explainers)
    n_stored = sum(run.store.count("scores").values())
    left = max(0, n_scores - n_stored) / max(1, n_scores)
    quota = run.design.quotas[Split.TEST]
    windows = quota.total - quota.random
    in_words = sum(e.type not in BASELINE_EXPLAINERS for e in run.config.explainers)
    asked = sum(e.type == "token_activation_pairs" for e in run.config.explainers)
    if run.config.simulator.name == "embedded":
        # A description once, then every token once, through three fifths of a small model.
        per_text = 0.6 * (windows * run.design.window_length * 1.1 + 20)
    else:
        per_text = windows * (run.design.window_length * 3 + 12)
    simulated = any(scorer.type == "simulation" for scorer in run.config.scorers)
    read = n_units * in_words * (1 + run.config.score.shuffled_donors) * per_text * simulated
    read += n_units * asked * 1500 * run.config.llm.model.startswith("local/")
    return seconds + left * read * full * 1.1 + 5


def _seconds_per_token(run: "Run") -> float | None:
    """Seconds for a token through all blocks of the first source's subject, in a small batch."""
    source = next(iter(run.parts.sources.values()), None)
    if source is None:
        return None
    import torch

    subject = run.parts.subject(source.subject)
    tokens = torch.zeros((4, min(128, subject.max_tokens or 128)), dtype=torch.long)
    passes: list[float] = []
    for _ in range(3):
        started = time.monotonic()
        subject.run(tokens, [source.read_at])
        passes.append(time.monotonic() - started)
    share, _ = _blocks_read(run)
    return min(passes) / tokens.numel() / share


def _blocks_read(run: "Run") -> tuple[float, int]:
    """Share and number of the subject's blocks that recording the first source runs through."""
    source = next(iter(run.parts.sources.values()))
    subject = run.parts.subject(source.subject)
    hook = subject.hook(source.read_at)
    blocks = (hook.block if hook.block is not None else subject.n_blocks - 1) + 1
    return blocks / subject.n_blocks, blocks


def _n_units(run: "Run") -> int:
    """How many units will be explained: at most, where the sample's frame is not known yet."""
    chosen = run.chosen or run.config.units.ids
    if chosen:
        return len(chosen)
    sizes = [source.n_units * len(source.polarities) for source in run.parts.sources.values()]
    sizes += [len(imported.units) for imported in run.parts.imported.values()]
    sample = run.config.units.sample
    return sum(size if sample is None else min(size, sample) for size in sizes)


def duration(seconds: float) -> str:
    """`40 seconds`, `6 minutes`, `2.5 hours`."""
    if seconds < 90:
        return f"{max(5, round(seconds / 5) * 5)} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
