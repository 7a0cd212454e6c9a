"""Published protocols by name: a preset expands to ordinary config values.

    preset: delphi          # in a config; or `autointerp run CONFIG --preset delphi`
    faithful: true          # as published also where we would do otherwise

What the config says itself comes before what the preset says: sections are merged key by key, lists
(`explainers`, `scorers`) are replaced whole. A preset says nothing of subjects, sources, texts and
the language model. `docs/presets/` has a page for each.
"""

import hashlib
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from autointerp.names import did_you_mean
from autointerp.records import UsageError

_FOLDER = Path(__file__).parent

PRESETS = tuple(sorted(file.stem for file in _FOLDER.glob("*.yaml")))
"""The names of all presets."""


@dataclass(frozen=True)
class Published:
    """A number that the source reports."""

    scorer: str
    """Name of the scorer in the preset's config."""

    number: str
    """`value`, or a key of the score's details."""

    says: str
    """What it is, in words."""


@dataclass(frozen=True)
class Preset:
    """One published protocol."""

    name: str
    title: str
    source: str
    """Who published it, and where."""

    config: Mapping[str, Any]
    """Ordinary config values."""

    faithful: Mapping[str, Any]
    """What `faithful` changes of them: the published behaviour where ours is another one."""

    published: tuple[Published, ...]
    differs: tuple[str, ...]
    """What is not the same, in sentences."""

    digest: str
    """Hash of its file."""

    def values(self, *, faithful: bool = False) -> dict[str, Any]:
        """The config values it stands for."""
        return merged(self.config, self.faithful if faithful else {})


@cache
def load_preset(name: str) -> Preset:
    """Read a preset.

    Raises:
        UsageError: where there is none of that name.
    """
    if name not in PRESETS:
        hint = did_you_mean(str(name), PRESETS)
        raise UsageError(f"there is no preset {name!r}{hint} Known are {', '.join(PRESETS)}")
    text = (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    found = yaml.safe_load(text)
    return Preset(
        name=name,
        title=found["title"],
        source=found["source"],
        config=found["config"],
        faithful=found["faithful"],
        published=tuple(Published(**one) for one in found["published"]),
        differs=tuple(found["differs"]),
        digest=hashlib.blake2b(text.encode(), digest_size=16).hexdigest(),
    )


def with_preset(data: Mapping[str, Any]) -> dict[str, Any]:
    """A config's values on top of those of the preset that it names.

    Raises:
        UsageError: where there is no such preset.
    """
    name = data.get("preset")
    if not isinstance(name, str):  # none, or not the name of anything: refused elsewhere
        return dict(data)
    values = load_preset(name).values(faithful=data.get("faithful") is True)
    if not data.get("corpus"):  # units that were recorded elsewhere have none
        values.pop("corpus", None)
    return merged(values, data)


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Two mappings as one: `over` comes first, sections are merged, anything else is replaced.

    Another simulator takes the place of the preset's whole: its keys would mean nothing to it.
    """
    found: dict[str, Any] = deepcopy(dict(base))
    for key, value in over.items():
        own: Any = found.get(key)
        both = isinstance(own, Mapping) and isinstance(value, Mapping)
        if not both or (key == "simulator" and _is_another(own, value)):
            found[key] = deepcopy(value)
        else:
            found[key] = merged(own, value)
    return found


def _is_another(own: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    return given.get("name", own.get("name")) != own.get("name")


def departures(values: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Where a resolved config is not what a preset expands to: key paths and the config's values.

    Args:
        values: of the preset.
        config: `RunConfig.model_dump(mode="json")`.
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        own = config.get(key)
        if isinstance(value, Mapping) and isinstance(own, Mapping):
            inner = departures(value, own)
            found |= {f"{key}.{path}": one for path, one in inner.items()}
        elif _normal(key, value) != own and (key != "corpus" or own is not None):
            found[key] = own
    return found


def _normal(key: str, value: Any) -> Any:
    """A preset's value as a resolved config has it: entries of lists with every key."""
    from autointerp.config import ExplainerConfig, ScorerConfig

    model = {"explainers": ExplainerConfig, "scorers": ScorerConfig}.get(key)
    if model is None:
        return value
    return [model.model_validate(one).model_dump(mode="json") for one in value]


def preset_facts(config: Any) -> dict[str, Any] | None:
    """What provenance says of a run's preset; `None` for a run without one.

    Args:
        config: the run's `RunConfig`.

    Returns:
        `name`, `faithful`, `source`, `digest` of its file, `expanded`: the values it stands for,
        and `changed`: those that the config has otherwise.
    """
    if config.preset is None:
        return None
    preset = load_preset(config.preset)
    values = preset.values(faithful=config.faithful)
    return {
        "name": preset.name,
        "faithful": config.faithful,
        "source": preset.source,
        "digest": preset.digest,
        "expanded": values,
        "changed": departures(values, config.model_dump(mode="json")),
    }
