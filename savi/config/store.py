"""The schemas under the names that the YAML files refer to."""

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from savi.config.benchmarks import (
    CostConfig,
    InnerBenchmarkConfig,
    MemoryConfig,
    OrderConfig,
    PeersConfig,
    QPConfig,
    ReplicasConfig,
    SafetyConfig,
    StepConfig,
    UnrollingConfig,
)
from savi.config.schema import Config, EvaluateConfig
from savi.runs.jobs import job_folder

#: The schema of each file of ``conf/benchmark/``.
BENCHMARKS: dict[str, type] = {
    "cost": CostConfig,
    "inner": InnerBenchmarkConfig,
    "memory": MemoryConfig,
    "order": OrderConfig,
    "peers": PeersConfig,
    "qp": QPConfig,
    "replicas": ReplicasConfig,
    "safety": SafetyConfig,
    "step": StepConfig,
    "unrolling": UnrollingConfig,
}


def register_schemas() -> None:
    """Make ``schema``, ``evaluate_schema`` and ``benchmark/NAME_schema`` known to Hydra.

    And the resolver ``job_folder`` that ``conf/config.yaml`` uses.
    """
    OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    store.store(name="evaluate_schema", node=EvaluateConfig)
    for name, node in BENCHMARKS.items():
        store.store(group="benchmark", name=f"{name}_schema", node=node, package="_global_")
