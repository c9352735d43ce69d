"""The figures of a run."""

from savi.experiments.build import build
from savi.experiments.media import model_figures, run_figures
from savi.experiments.observe import observe

SMALL = ("data.limit=24", "model.hidden=8", "model.latent_dim=2", "logger=csv")
ALWAYS = {"reconstructions", "prior_samples", "latent_traversals", "latent_scatter"}


def test_a_run_without_inner_steps_has_figures_too(config):
    data, module = build(config(*SMALL, "experiment=vae"))
    assert set(run_figures(module, data, curves=None)) == ALWAYS | {"data"}


def test_inner_solves_add_theirs(config, tmp_path):
    data, module = build(config(*SMALL, "experiment=savi_ift"))
    (tmp_path / "metrics.csv").write_text("epoch,step,val/elbo\n0,9,-6.0\n")
    observed = observe(module, data)
    inner = {"inner_steps", "inner_histograms"}
    assert set(model_figures(observed, data)) == ALWAYS | inner
    figures = run_figures(module, data, tmp_path / "metrics.csv", observed)
    assert set(figures) == ALWAYS | inner | {"data", "learning_curves"}


def test_rows_of_the_traversal_name_their_dimension_and_its_kl(config):
    data, module = build(config(*SMALL, "experiment=savi_ift", "model.gamma.value=1e-2"))
    observed = observe(module, data)
    (axes,) = model_figures(observed, data)["latent_traversals"].axes
    labels = [tick.get_text() for tick in axes.get_yticklabels()]
    assert labels == [f"$z_{{{i + 1}}}$, {observed.kl[i]:.3g} nats" for i in observed.traversed]
    assert labels
