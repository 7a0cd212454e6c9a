"""Configuration: one typed model per stage, read from one YAML file.

Unknown keys, wrong types and impossible values are refused with the key's path, the value seen and
what is allowed.
"""

from autointerp.config.base import LocalPath, Name
from autointerp.config.corpus import CorpusConfig, MixPartConfig, TextsConfig
from autointerp.config.cost import CascadeConfig, StopConfig
from autointerp.config.explaining import BASELINE_EXPLAINERS, EXPLAINER_KEYS, ExplainerConfig
from autointerp.config.llm import BatchConfig, BudgetConfig, LlmConfig
from autointerp.config.loading import load_config, parse_config
from autointerp.config.recording import DesignConfig, QuotaConfig, RecordConfig, UnitsConfig
from autointerp.config.run import RunConfig
from autointerp.config.scorers import MEASURING_TYPES, SCORER_KEYS, ScorerConfig
from autointerp.config.scoring import ScoreConfig, SimulatorConfig
from autointerp.config.simulator_training import SimulatorTrainConfig
from autointerp.config.sources import (
    AttentionHeadsConfig,
    DirectionsConfig,
    NeuronsConfig,
    RecordedConfig,
    SaeConfig,
    SparsifyConfig,
    UnitSourceConfig,
)
from autointerp.config.subjects import SubjectConfig
from autointerp.config.training import SaeDictionaryConfig, SaeTrainConfig

__all__ = [
    "BASELINE_EXPLAINERS",
    "EXPLAINER_KEYS",
    "MEASURING_TYPES",
    "SCORER_KEYS",
    "AttentionHeadsConfig",
    "BatchConfig",
    "BudgetConfig",
    "CascadeConfig",
    "CorpusConfig",
    "DesignConfig",
    "DirectionsConfig",
    "ExplainerConfig",
    "LlmConfig",
    "LocalPath",
    "MixPartConfig",
    "Name",
    "NeuronsConfig",
    "QuotaConfig",
    "RecordConfig",
    "RecordedConfig",
    "RunConfig",
    "SaeConfig",
    "SaeDictionaryConfig",
    "SaeTrainConfig",
    "ScoreConfig",
    "ScorerConfig",
    "SimulatorConfig",
    "SimulatorTrainConfig",
    "SparsifyConfig",
    "StopConfig",
    "SubjectConfig",
    "TextsConfig",
    "UnitSourceConfig",
    "UnitsConfig",
    "load_config",
    "parse_config",
]
