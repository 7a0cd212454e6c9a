"""The explain stage of a run: every explainer is asked about every living chosen unit."""

from typing import TYPE_CHECKING

from autointerp.explained import explanation_key
from autointerp.explainers.best_of import BestOf
from autointerp.judging import live_subject
from autointerp.records import AutointerpError, Explanation, Status

if TYPE_CHECKING:
    from autointerp.runner import Run


def explain(run: "Run") -> None:
    """Explain what has no explanation under its key yet; what chooses among others comes later."""
    from autointerp.explainers import ExplainView
    from autointerp.llm import Request, drive

    owners = {
        key: (unit, explainer)
        for explainer in run.parts.explainers
        if not isinstance(explainer, BestOf)
        for unit in run.units.chosen
        if not run.units.is_dead(unit)
        and run.store.get_explanation(key := explanation_key(run, unit, explainer)) is None
    }
    jobs = (
        (key, explainer.explain(ExplainView.of(run.units.records[unit]), key))
        for key, (unit, explainer) in owners.items()
    )
    run.reporter.stage("explain", len(owners), "explanations")

    def done(_: str, explanation: Explanation) -> None:
        run.store.put_explanation(explanation)
        run.reporter.advance(1)

    def failed(key: str, error: AutointerpError) -> None:
        unit, explainer = owners[key]
        done(key, Explanation(unit, explainer.name, None, Status.FAILED, key, str(error)))

    asks = any(explainer.needs_llm for _, explainer in owners.values())
    handlers = {Request: run.parts.client.handler} if asks else {}
    handlers |= live_subject(run).handlers
    drive(jobs, handlers, done, failed, batch_size=run.parts.llm_batch)
