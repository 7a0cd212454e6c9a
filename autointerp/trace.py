"""Follows a unit's scores back to what they were made from: model, dictionary, corpus, prompts.

Every step names its key; `holds` says whether the key is the hash of the facts beside it.
"""

from pathlib import Path
from typing import Any

from autointerp.records import AutointerpError, Explanation, Score, UnitId
from autointerp.stored_run import StoredRun


def trace_unit(folder: str | Path, unit: str) -> dict[str, Any]:
    """Everything that the scores of one unit depend on.

    Args:
        folder: of a finished run.
        unit: as `source/index`.

    Returns:
        `unit`, `records` (key, subject, source, corpus, design), `scores` (each with its
        explanation, donors, simulator and scorer), `seed`, `versions`.

    Raises:
        AutointerpError: where there is no such run, or no score of that unit in it.
    """
    wanted = UnitId.parse(unit)
    stored = StoredRun(folder)
    try:
        scores = [score for score in stored.store.scores() if score.unit == wanted]
        if not scores:
            raise AutointerpError(f"{str(folder)!r} holds no score of unit {wanted}")
        return {
            "unit": str(wanted),
            "records": _records(stored, wanted.source),
            "scores": [_score(stored, score) for score in scores],
            "seed": stored.config.seed,
            "schema_version": stored.facts["schema_version"],
            "versions": {**stored.facts["versions"], "python": stored.facts["python"]},
        }
    finally:
        stored.store.close()


def _records(stored: StoredRun, source: str) -> dict[str, Any]:
    settings, facts = stored.config.sources[source], stored.facts
    subject = getattr(settings, "subject", None)
    return {
        "key": stored.records_key(source),
        "holds": stored.records_key(source)
        == stored.records_hash(source)
        == stored.store.records_key(source),
        "source": settings.model_dump(mode="json", exclude_none=True) | facts["sources"][source],
        "subject": facts["subjects"].get(subject) if subject else None,
        "corpus": {
            "key": facts.get("corpus_key"),
            "fingerprint": facts.get("corpus_fingerprint"),
            "place": stored.config.corpus.model_dump(mode="json", exclude_defaults=True)
            if stored.config.corpus
            else None,
        },
        "design": facts.get("design"),
    }  # fmt: skip


def _score(stored: StoredRun, score: Score) -> dict[str, Any]:
    own = stored.store.get_explanation(score.explanation_key)
    return {
        "scorer": score.scorer,
        "explainer": score.explainer,
        "value": score.value,
        "status": str(score.status),
        "lift": score.lift,
        "key": score.key,
        "split": str(score.split),
        "design": score.design,
        "read_by": {
            "name": score.simulator,
            "fingerprint": stored.facts["simulators"].get(score.simulator)
            or stored.facts.get("llm"),
        },
        "simulation": score.details.get("simulation_key"),
        "explanation": None if own is None else _explanation(stored, own),
        "controls": [
            {
                "name": control.name,
                "value": control.value,
                "donor": str(control.donor) if control.donor else None,
                "rate_ratio": stored.rate_ratio(score.unit, control.donor),
                "explanation": control.explanation_key,
            }
            for control in score.controls
        ],
    }


def _explanation(stored: StoredRun, explanation: Explanation) -> dict[str, Any]:
    link = stored.explanation_link(explanation)
    settings = next((e for e in stored.config.explainers if e.name == explanation.explainer), None)
    return {
        "text": explanation.text,
        "status": str(explanation.status),
        "key": explanation.key,
        "holds": link is not None,
        "llm": link or None,
        "explainer": stored.facts["explainers"].get(explanation.explainer),
        "settings": settings.model_dump(mode="json", exclude_none=True) if settings else None,
        "same_prompt_today": stored.explainer_today(explanation.explainer)
        == stored.facts["explainers"].get(explanation.explainer),
        **experiments_of(explanation),
    }


def experiments_of(explanation: Explanation) -> dict[str, Any]:
    """What an explainer that tests on the subject tried: rounds, evidence, and why it stopped."""
    names = ("rounds", "evidence", "stopped")
    return {name: explanation.details[name] for name in names if name in explanation.details}


def evidence_lines(own: dict[str, Any]) -> list[str]:
    """The texts that were run, with what was expected and what happened, one a line."""
    lines = [
        f"test {one['number']}, round {one['round']}: response {one['level']}, "
        f"{'a' if one['expected'] else 'no'} response expected: {one['shown']!r}"
        for one in own.get("evidence") or ()
    ]
    return [*lines, f"stopped: {own['stopped']}"] if own.get("stopped") else lines


def trace_lines(found: dict[str, Any]) -> list[str]:
    """A trace for people: one fact a line, indented under what depends on it."""
    records = found["records"]
    lines = [f"unit {found['unit']}"]
    lines += [f"  records {records['key']} {_holds(records['holds'])}"]
    subject, source, corpus = records["subject"], records["source"], records["corpus"]
    if subject:
        lines.append(f"    model {subject['model']}, weights {subject['fingerprint']}")
    place = source.get("path") or source.get("hook_point") or ""
    lines.append(f"    source {source['type']} {place}, {source.get('fingerprint')}")
    if corpus["key"]:
        lines.append(f"    corpus {corpus['key']}, texts {corpus['fingerprint']}")
    lines.append(f"    design {records['design']['name']}, {records['design']['key']}")
    for score in found["scores"]:
        value = "no number" if score["value"] is None else f"{score['value']:.4f}"
        lines.append(
            f"  score {score['key']}: {value} ({score['status']}) by {score['scorer']}, split "
            f"{score['split']}, design {score['design']}"
        )
        lines.append(f"    read by {score['read_by']['name']}, {score['read_by']['fingerprint']}")
        own = score["explanation"]
        if own:
            made = f"{score['explainer']}, {own['explainer']}"
            lines.append(f"    explanation {own['key']} {_holds(own['holds'])}: {_short(own)}")
            lines.append(f"      by {made}{', asked ' + own['llm'] if own['llm'] else ''}")
            if not own["same_prompt_today"]:
                lines.append("      its prompt, settings or code have changed since")
            lines += [f"      {line}" for line in evidence_lines(own)]
        lines += [_control_line(control) for control in score["controls"]]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    lines.append(f"  seed {found['seed']}, schema {found['schema_version']}, {versions}")
    return lines


def _control_line(control: dict[str, Any]) -> str:
    value = "no number" if control["value"] is None else f"{control['value']:.4f}"
    ratio = control["rate_ratio"]
    of = f" {control['donor']}" if control["donor"] else ""
    rate = f", fires {ratio:.2f} times as often" if ratio is not None else ""
    return f"    control {control['name']}{of}: {value}{rate}"


def _holds(holds: bool) -> str:
    return "(is the hash of:)" if holds else "(IS NOT THE HASH OF:)"


def _short(own: dict[str, Any]) -> str:
    text = own["text"]
    return own["status"] if text is None else repr(text if len(text) <= 80 else text[:79] + "…")
