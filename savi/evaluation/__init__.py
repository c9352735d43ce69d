"""What a trained model is worth."""

from savi.evaluation.bounds import importance_log_likelihood
from savi.evaluation.collapse import active_units
from savi.evaluation.evaluate import Evaluation, Judgement, evaluate, judge
from savi.evaluation.gaps import Gaps, measure_gaps
from savi.vae.monte_carlo import expected_bound
from savi.vae.mutual_information import mutual_information

__all__ = [
    "Evaluation",
    "Gaps",
    "Judgement",
    "active_units",
    "evaluate",
    "expected_bound",
    "importance_log_likelihood",
    "judge",
    "measure_gaps",
    "mutual_information",
]
