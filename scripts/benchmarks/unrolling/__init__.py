"""What differentiating K inner steps costs, and what implicit differentiation costs instead."""

from benchmarks.unrolling.measure import WholeStep, backends
from benchmarks.unrolling.problems import (
    DecoderProblem,
    SoftmaxProblem,
    decoder_problem,
    softmax_problem,
)
from benchmarks.unrolling.run import run_unrolling

__all__ = [
    "DecoderProblem",
    "SoftmaxProblem",
    "WholeStep",
    "backends",
    "decoder_problem",
    "run_unrolling",
    "softmax_problem",
]
