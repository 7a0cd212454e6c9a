"""What the stages of a run ask about the sampled units: their real prompts, unanswered."""

from typing import TYPE_CHECKING

from autointerp.config import BASELINE_EXPLAINERS, RunConfig
from autointerp.controls import TEXT_CONTROLS, score_with_controls
from autointerp.dry_run import Asked, drive_dry, made_up_explanation
from autointerp.estimate.sampled_units import SampledUnits
from autointerp.explainers.best_of import BestOf
from autointerp.judging import asks_llm, judged_controls, reads_explanation
from autointerp.records import Split
from autointerp.scorers import ScoreJob, load_scorer
from autointerp.selecting import chooser, most_texts

if TYPE_CHECKING:
    from autointerp.config import ScorerConfig
    from autointerp.runner import Run


def names_in_words(config: RunConfig) -> list[str]:
    """Explainers whose explanations are words."""
    return [e.name for e in config.explainers if e.type not in BASELINE_EXPLAINERS]


def asked_to_explain(run: "Run", sample: SampledUnits) -> tuple[list[Asked], int]:
    """What all explainers ask, and in how many rounds."""
    from autointerp.explainers import ExplainView

    asked: list[Asked] = []
    rounds = 1
    for explainer in run.parts.explainers:
        if not explainer.needs_llm:
            continue
        for record in sample.records:
            _, found = drive_dry(explainer.explain(ExplainView.of(record), "dry run"))
            asked += found
            rounds = max(rounds, len(found))
    return asked, rounds


def asked_to_judge(
    run: "Run", sample: SampledUnits, settings: "ScorerConfig"
) -> tuple[list[Asked], int]:
    """What one scorer asks, also to choose the best of several texts, and in how many rounds."""
    scorer = load_scorer(settings, run.config.score, run.design.name, run.config.seed)
    asked: list[Asked] = []
    for explainer in names_in_words(run.config) if reads_explanation(scorer) else [""]:
        for record in sample.records:
            own = made_up_explanation(record.unit, explainer)
            donors = (own,) * sample.n_donors
            # Other units are about as long as this one.
            rest = [one for one in sample.records if one is not record] or [record]
            others = tuple(rest[place % len(rest)] for place in range(sample.n_donors))
            job = ScoreJob(record, own, donors, "dry run", "dry run", "dry run", others)
            kinds = judged_controls(run, scorer, explainer)
            keep = bool(getattr(scorer, "needs_others", False))
            steps = score_with_controls(scorer.score, job, kinds, keep_donors=keep)
            asked += drive_dry(steps)[1]
    chosen = _asked_to_choose(run, sample, settings.name) if asks_llm(settings) else []
    return asked + chosen, 2 if chosen else 1


def _asked_to_choose(run: "Run", sample: SampledUnits, scorer: str) -> list[Asked]:
    """What a scorer asks on `calibrate` about all that the best is chosen from."""
    asked: list[Asked] = []
    for explainer, n_texts in _choices(run, sample, scorer):
        chooses = chooser(run, explainer, run.design.name)
        for record in sample.records:
            own = made_up_explanation(record.unit, explainer.name)
            job = ScoreJob(record, own, (), "dry run", "dry run", "dry run")
            asked += drive_dry(chooses.score(job))[1] * n_texts
    return asked


def _choices(run: "Run", sample: SampledUnits, scorer: str) -> list[tuple[BestOf, int]]:
    """The explainers whose best a scorer chooses, and among how many texts of a unit."""
    return [
        (one, most_texts(run.config, one, sample.n_donors))
        for one in run.parts.explainers
        if isinstance(one, BestOf) and one.by == scorer
    ]


def simulated_splits(run: "Run", sample: SampledUnits) -> list[tuple[Split, int]]:
    """Which windows of a unit are simulated, and under how many texts."""
    config, n_explainers = run.config, len(names_in_words(run.config))
    # Texts of controls are simulated once a unit, whatever explainers there are.
    n_controls = sum(name in TEXT_CONTROLS for name in config.control_names)
    splits = [(Split.TEST, n_explainers * (1 + sample.n_donors) + n_controls)]
    if config.score.calibration != "none":
        # Calibrations are fitted on these, under the own explanation.
        splits.append((Split.CALIBRATE, n_explainers))
    for scorer in config.scorers:
        if scorer.type == "simulation":
            splits += [(Split.CALIBRATE, n) for _, n in _choices(run, sample, scorer.name)]
    return splits
