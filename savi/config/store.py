"""The schemas under the names that the YAML files refer to."""

from hydra.core.config_store import ConfigStore

from savi.config.benchmarks import (
    CostConfig,
    InnerBenchmarkConfig,
    MemoryConfig,
    OrderConfig,
    PeersConfig,
    SafetyConfig,
    StepConfig,
)
from savi.config.schema import Config, EvaluateConfig

#: The schema of each file of ``conf/benchmark/``.
BENCHMARKS: dict[str, type] = {
    "cost": CostConfig,
    "inner": InnerBenchmarkConfig,
    "memory": MemoryConfig,
    "order": OrderConfig,
    "peers": PeersConfig,
    "safety": SafetyConfig,
    "step": StepConfig,
}


def register_schemas() -> None:
    """Make ``schema``, ``evaluate_schema`` and ``benchmark/NAME_schema`` known to Hydra."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    store.store(name="evaluate_schema", node=EvaluateConfig)
    for name, node in BENCHMARKS.items():
        store.store(group="benchmark", name=f"{name}_schema", node=node, package="_global_")
