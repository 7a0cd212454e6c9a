"""What a finished run can be told to do again, and batches in doubt."""

from pathlib import Path
from typing import Any

from autointerp.config import RunConfig, load_config
from autointerp.progress import Reporter, Silent
from autointerp.records import Status, UsageError
from autointerp.store import RunStore, config_file
from autointerp.store.batches import BatchLog, read_open


def retry_failed(folder: str | Path, reporter: Reporter | None = None) -> dict[str, Any]:
    """Ask again for failed explanations and scores of a run, with its own config.

    So are scores that are incomplete: made without the answers of requests that failed. Answers
    that are kept are not paid for again: an explanation that failed because its answer could not be
    read fails again unless model, prompt or settings have changed, while one that failed for want
    of an answer is asked anew.

    Returns:
        `asked_again` and `failed_now`: numbers of `explanations` and `scores` that failed, the
        first with those of `incomplete` scores; and `incomplete_now`.

    Raises:
        AutointerpError: where the folder holds no run, or another process holds it.
    """
    from autointerp.runner import run

    place = Path(folder)
    config = _config_of(place)
    store = RunStore(place)
    with store.lock():
        removed = store.forget_failed()
        store.close()
    run(config.model_copy(update={"output": str(place)}), reporter=reporter or Silent())
    store = RunStore(place)
    left = {
        "explanations": store.count("explanations").get(Status.FAILED, 0),
        "scores": store.count("scores").get(Status.FAILED, 0),
    }
    incomplete = sum(store.count_incomplete().values())
    store.close()
    return {"asked_again": removed, "failed_now": left, "incomplete_now": incomplete}


def open_batches(folder: str | Path) -> list[dict[str, Any]]:
    """Batches of a run that are neither fetched nor given up. Writes nothing.

    Raises:
        AutointerpError: where the folder holds no run, or its results are gone.
    """
    place = Path(folder)
    _config_of(place)
    store = RunStore(place, read_only=True)
    try:
        return [dict(vars(row)) for row in read_open(store.database)]
    finally:
        store.close()


def settle_doubt(folder: str | Path, adopt: str | None, forget: str | None) -> str:
    """Say what became of a batch in doubt.

    Args:
        folder: of the run.
        adopt: `INTENT=ID`: the provider has it under this id.
        forget: `INTENT`: the provider does not have it; its requests will be sent anew.

    Raises:
        UsageError: where there is no such batch.
    """
    place = Path(folder)
    _config_of(place)
    store = RunStore(place)
    with store.lock():
        try:
            log = BatchLog(store.ledger)
            intent, _, provider_id = (adopt or forget or "").partition("=")
            row = next((one for one in log.open() if one.id == intent), None)
            if row is None or bool(adopt) != bool(provider_id):
                known = ", ".join(one.id for one in log.open()) or "none"
                raise UsageError(
                    f"{adopt or forget!r} names no open batch: write --adopt INTENT=ID or "
                    f"--forget INTENT; open are {known}"
                )
            if adopt:
                log.submitted(intent, provider_id)
                return f"batch {intent} is {provider_id}: run again to fetch it"
            log.finish(row, "dropped", [])
            return f"batch {intent} is forgotten: run again to send its requests anew"
        finally:
            store.close()


def _config_of(place: Path) -> RunConfig:
    return load_config(config_file(place), RunConfig)
