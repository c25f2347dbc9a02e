"""Settings: groups of configuration keys, what they have in common, and what methods may know of an experiment."""

from fedsim.settings._catalogue import Catalogue, Key, check_keys
from fedsim.settings._experiment import Experiment
from fedsim.settings._groups import (
    ClusterSettings,
    CompressorSettings,
    DataSettings,
    EvaluateSettings,
    HeadSettings,
    MethodSettings,
    ModelSettings,
    PartitionSettings,
    PhaseSettings,
    TrainSettings,
)
from fedsim.settings._log import LogSettings
from fedsim.settings._member import Members, validate_member
from fedsim.settings._moved import MOVED
from fedsim.settings._privacy import PrivacySettings
from fedsim.settings._settings import Settings, by_content, explain_errors, local_folder, no_result, unless_default
from fedsim.settings._tree import apply_override, assign, check_size, read_yaml
from fedsim.settings._world import WorldSettings

__all__ = [
    "MOVED",
    "Catalogue",
    "ClusterSettings",
    "CompressorSettings",
    "DataSettings",
    "EvaluateSettings",
    "Experiment",
    "HeadSettings",
    "Key",
    "LogSettings",
    "Members",
    "MethodSettings",
    "ModelSettings",
    "PartitionSettings",
    "PhaseSettings",
    "PrivacySettings",
    "Settings",
    "TrainSettings",
    "WorldSettings",
    "apply_override",
    "assign",
    "by_content",
    "check_keys",
    "check_size",
    "explain_errors",
    "local_folder",
    "no_result",
    "read_yaml",
    "unless_default",
    "validate_member",
]
