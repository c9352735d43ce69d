"""The names under which a run logs to wandb, and the axis of each curve."""

#: The optimiser step, as Lightning's logger calls it, the epoch, and the step of an inner solve.
STEP, EPOCH, INNER_STEP = "trainer/global_step", "epoch", "inner_trace/step"

#: What a curve is drawn against: prefix of its name -> axis.
AXES = {
    "train": STEP,
    "inner": STEP,
    "gradient": STEP,
    "ift": STEP,
    "val": EPOCH,
    "inner_trace": INNER_STEP,
}

#: What is logged while a run trains, for each split: ``train/elbo``, ``val/elbo`` and so on.
CURVES, SPLITS = ("elbo", "reconstruction", "kl", "gamma"), ("train", "val")

#: L(λk), averaged over examples, and the median stationarity of the trained model's inner solve.
TRACE_ELBO, TRACE_STATIONARITY = "inner_trace/elbo", "inner_trace/stationarity"

#: Where pictures and histograms are logged.
FIGURES, HISTOGRAMS = "figures", "histograms"

#: The histograms of the examples' final stationarity, as its logarithm, and of their curvature.
STATIONARITY, CURVATURE = f"{HISTOGRAMS}/log10_stationarity", f"{HISTOGRAMS}/min_curvature"

#: The figure of merit, whose best epoch counts.
OBJECTIVE = "val/elbo"


def axis(name: str) -> str:
    """What the curve of a metric is drawn against."""
    return AXES[name.partition("/")[0]]
