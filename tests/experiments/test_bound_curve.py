"""The curve that tells whether a training was over."""

from savi.experiments.conclude import bound_curve, steps_of


def test_the_validation_bound_is_read_from_the_runs_curves(tmp_path):
    rows = ["epoch,step,train/elbo,val/elbo", "0,1,-5.0,", "0,1,,-4.0", "1,2,,-3.5"]
    (tmp_path / "metrics.csv").write_text("\n".join(rows) + "\n")
    assert bound_curve(tmp_path) == [-4.0, -3.5]
    assert steps_of(tmp_path) == 3


def test_a_folder_without_readable_curves_has_none(tmp_path):
    assert bound_curve(tmp_path) == []
    assert steps_of(tmp_path) is None
    file = tmp_path / "metrics.csv"
    for content in ("", "epoch,step,train/elbo\n0,1,-5.0\n", "step,val/elbo\n1,broken\n"):
        file.write_text(content)
        assert bound_curve(tmp_path) == []
