"""How fast does the error of a θ-gradient fall as the inner problem is solved better?"""

from benchmarks.order.measure import ErrorCurve, measure
from benchmarks.order.problem import DecoderProblem, decoder_problem
from benchmarks.order.run import run_order

__all__ = ["DecoderProblem", "ErrorCurve", "decoder_problem", "measure", "run_order"]
