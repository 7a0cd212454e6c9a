"""What is kept of all units of a source while the corpus streams by; adds up over shards."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from autointerp.recording.design import SamplingDesign
from autointerp.recording.samples import N_GROUPS, RANDOM, TOP, Reservoir, Samples
from autointerp.recording.statistics import SplitAccumulator
from autointerp.records import SPLITS, Split


@dataclass
class SplitBuffers:
    """What is kept of all units of a source in one split."""

    reservoir: Reservoir
    group_counts: np.ndarray
    """[n_units, N_GROUPS] int64: windows seen in every home group."""
    statistics: SplitAccumulator


@dataclass
class Buffers:
    """What is kept of all units of one source."""

    splits: dict[Split, SplitBuffers]
    largest_bucket: np.ndarray
    """[n_units] int16 highest half octave of a window maximum, over all splits."""

    @classmethod
    def empty(cls, n_units: int, design: SamplingDesign, vocabulary_size: int) -> "Buffers":
        """Nothing seen."""
        return cls(
            {
                split: SplitBuffers(
                    Reservoir(n_units, capacities(design, split)),
                    np.zeros((n_units, N_GROUPS), np.int64),
                    SplitAccumulator.empty(n_units, vocabulary_size),
                )
                for split in SPLITS
            },
            np.zeros(n_units, np.int16),
        )

    def samples(self, split: Split) -> Samples:
        """What is kept of a split, ordered by unit, group and key."""
        return self.splits[split].reservoir.trim(self.largest_bucket)

    def trim_where_due(self) -> None:
        """Drop the samples that cannot stay, in the splits where enough has come together."""
        for part in self.splits.values():
            if part.reservoir.is_due:
                part.reservoir.trim(self.largest_bucket)

    def merge(self, other: "Buffers") -> "Buffers":
        """The buffers of both corpora; does not depend on which is which."""
        largest = np.maximum(self.largest_bucket, other.largest_bucket)
        merged: dict[Split, SplitBuffers] = {}
        for split in SPLITS:
            a, b = self.splits[split], other.splits[split]
            both = Samples.joined([self.samples(split), other.samples(split)])
            reservoir = Reservoir(len(largest), a.reservoir.capacity, both)
            reservoir.trim(largest)
            merged[split] = SplitBuffers(
                reservoir, a.group_counts + b.group_counts, a.statistics.merge(b.statistics)
            )
        return Buffers(merged, largest)

    def save(self, path: Path) -> None:
        """Write as one safetensors file, whole or not at all."""
        arrays = {"largest_bucket": self.largest_bucket}
        for split, part in self.splits.items():
            named = {
                **{f"samples.{k}": v for k, v in vars(self.samples(split)).items()},
                **{f"statistics.{k}": v for k, v in part.statistics.arrays().items()},
                "capacity": part.reservoir.capacity,
                "group_counts": part.group_counts,
            }
            arrays |= {f"{split}.{k}": np.asarray(v, order="C") for k, v in named.items()}
        partial = path.with_suffix(".partial")
        save_file(arrays, partial)
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Buffers":
        """The inverse of `save`."""
        arrays = load_file(path)
        largest = arrays["largest_bucket"]
        splits: dict[Split, SplitBuffers] = {}
        for split in SPLITS:
            own = _under(arrays, f"{split}.")
            samples = Samples(**_under(own, "samples."))
            reservoir = Reservoir(len(largest), own["capacity"], samples)
            reservoir.trim(largest)
            statistics = SplitAccumulator.from_arrays(_under(own, "statistics."))
            splits[split] = SplitBuffers(reservoir, own["group_counts"], statistics)
        return cls(splits, largest)


def _under(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names begin with `prefix`, without it."""
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def capacities(design: SamplingDesign, split: Split) -> np.ndarray:
    """[N_GROUPS] samples that every group of one split keeps."""
    quota = design.quotas[split]
    capacity = np.full(N_GROUPS, design.kept_per_bucket(split))
    capacity[RANDOM] = quota.random
    capacity[TOP] = quota.top
    return capacity
