"""The planted model, built once, and a recorded run of it."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from autointerp.config import RunConfig, load_config
from autointerp.planted import PlantedModel, build, write_folder
from autointerp.records import Sequence, UnitRecord
from autointerp.runner import run
from autointerp.store import RunStore


@pytest.fixture(scope="session")
def planted() -> PlantedModel:
    return build()


@dataclass(frozen=True)
class PlantedRun:
    folder: Path
    """Of the run."""

    records: list[UnitRecord]
    sequences: dict[str, Sequence]

    @property
    def ids(self) -> dict[str, list[int]]:
        return {name: list(one.token_ids) for name, one in self.sequences.items()}


@pytest.fixture(scope="session")
def planted_run(tmp_path_factory: pytest.TempPathFactory) -> PlantedRun:
    """Written by the command's function, run by the config that it wrote."""
    place = tmp_path_factory.mktemp("planted")
    write_folder(place / "p")
    config = load_config(place / "p" / "config.yaml", RunConfig)
    run(config, until="explain")  # scores need a simulator, which is tried elsewhere
    folder = place / "p" / "run"
    store = RunStore(folder)
    units = [unit.unit for unit in store.units("latents")]
    records = list(store.read_units(units))
    sequences = {s.sequence_id: s for s in store.read_sequences()}
    store.close()
    return PlantedRun(folder, records, sequences)
