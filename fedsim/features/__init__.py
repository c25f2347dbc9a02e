"""Features of images by the frozen prefix of a network: computed once a node and shared by all runs."""

from fedsim.features._prefix import PrefixFeatures
from fedsim.features._room import open_store
from fedsim.features._store import BLOCK, Built, FeatureStore
from fedsim.features._views import Views

__all__ = ["BLOCK", "Built", "FeatureStore", "PrefixFeatures", "Views", "open_store"]
