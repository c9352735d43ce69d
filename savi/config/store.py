"""The schemas under the names that the YAML files refer to."""

from hydra.core.config_store import ConfigStore

from savi.config.schema import Config, EvaluateConfig


def register_schemas() -> None:
    """Make ``schema`` and ``evaluate_schema`` known to Hydra."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    store.store(name="evaluate_schema", node=EvaluateConfig)
