"""The planted units, and the embedded model."""

import importlib.util
import json
import sys
from collections import defaultdict
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pyarrow.parquet as pq
import pytest

from autointerp import resources
from autointerp.subject import Subject, load_subject


@dataclass(frozen=True)
class PlantedUnit:
    name: str
    explanation: str
    unrelated: str
    tokens: dict[str, list[list[str]]]
    """split → windows."""
    truth: dict[str, list[np.ndarray]]
    documents: dict[str, list[str]]


@pytest.fixture(scope="session")
def rules() -> ModuleType:
    path = resources.path("datasets/planted/rules.py")
    spec = importlib.util.spec_from_file_location("planted_rules", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def planted() -> list[PlantedUnit]:
    units = json.loads(resources.path("datasets/planted/units.json").read_text("utf-8"))
    rows = defaultdict(list)
    for row in pq.read_table(resources.path("datasets/planted/planted.parquet")).to_pylist():
        rows[row["unit"], row["split"]].append(row)
    return [
        PlantedUnit(
            unit["name"],
            unit["explanation"],
            unit["unrelated"],
            {s: [r["tokens"] for r in rows[unit["unit"], s]] for s in ("explain", "test")},
            {
                s: [np.array(r["activations"]) for r in rows[unit["unit"], s]]
                for s in ("explain", "test")
            },
            {s: [r["document"] for r in rows[unit["unit"], s]] for s in ("explain", "test")},
        )
        for unit in units
    ]


@pytest.fixture(scope="session")
def smollm2() -> Subject:
    return load_subject("smollm2", device="cpu")
