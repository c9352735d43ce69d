"""How fast does the error of a θ-gradient fall as the inner problem is solved better?"""

from savi.benchmark.order.measure import ErrorCurve, measure
from savi.benchmark.order.problem import DecoderProblem, decoder_problem
from savi.benchmark.order.run import run_order

__all__ = ["DecoderProblem", "ErrorCurve", "decoder_problem", "measure", "run_order"]
