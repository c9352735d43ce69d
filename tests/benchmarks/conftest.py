"""The problems of the safety benchmark, built once."""

import pytest
from benchmarks.safety import FAMILIES
from benchmarks.safety.problem import Problem


@pytest.fixture(scope="session")
def problems() -> dict[str, list[Problem]]:
    """Every family, from seed 0."""
    return {name: build(0) for name, build in FAMILIES.items()}
