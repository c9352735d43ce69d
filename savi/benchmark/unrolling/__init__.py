"""What differentiating K inner steps costs, and what implicit differentiation costs instead."""

from savi.benchmark.unrolling.measure import WholeStep, backends
from savi.benchmark.unrolling.problems import (
    DecoderProblem,
    SoftmaxProblem,
    decoder_problem,
    softmax_problem,
)
from savi.benchmark.unrolling.run import run_unrolling

__all__ = [
    "DecoderProblem",
    "SoftmaxProblem",
    "WholeStep",
    "backends",
    "decoder_problem",
    "run_unrolling",
    "softmax_problem",
]
