import numpy as np
import pytest
from pytorch_lightning.loggers import CSVLogger

from savi.errors import InputError
from savi.report.figures import read_metrics

SPARSE = """\
epoch,gradient/norm_encoder,step,test/elbo,train/elbo,val/elbo,val/nll
0,12.5,49,,-2000.5,,
0,,49,,,-1900.25,
1,nan,99,,-50.0,,
1,,99,,,-inf,1e3
2,,100,-40.5,,,
"""


def write(tmp_path, text):
    path = tmp_path / "metrics.csv"
    path.write_text(text)
    return path


def test_each_sparse_column_becomes_a_series(tmp_path):
    metrics = read_metrics(write(tmp_path, SPARSE))
    assert set(metrics) == {
        "epoch",
        "gradient/norm_encoder",
        "test/elbo",
        "train/elbo",
        "val/elbo",
        "val/nll",
    }
    np.testing.assert_array_equal(metrics["train/elbo"].steps, [49, 99])
    np.testing.assert_array_equal(metrics["train/elbo"].values, [-2000.5, -50.0])
    np.testing.assert_array_equal(metrics["val/elbo"].values, [-1900.25, -np.inf])
    np.testing.assert_array_equal(metrics["gradient/norm_encoder"].values, [12.5, np.nan])
    np.testing.assert_array_equal(metrics["val/nll"].steps, [99])
    np.testing.assert_array_equal(metrics["epoch"].steps, [49, 49, 99, 99, 100])
    assert metrics["train/elbo"].steps.dtype == np.int64


def test_reads_what_the_logger_writes(tmp_path):
    logger = CSVLogger(tmp_path, name="", version="")
    logger.log_metrics({"train/elbo": -10.0, "epoch": 0}, step=4)
    logger.log_metrics({"val/elbo": float("nan"), "epoch": 0}, step=4)
    logger.log_metrics({"train/elbo": -5.0, "epoch": 1}, step=9)
    logger.save()
    metrics = read_metrics(tmp_path / "metrics.csv")
    np.testing.assert_array_equal(metrics["train/elbo"].steps, [4, 9])
    np.testing.assert_array_equal(metrics["train/elbo"].values, [-10.0, -5.0])
    np.testing.assert_array_equal(metrics["val/elbo"].values, [np.nan])


def test_a_last_row_cut_short_is_read_as_far_as_it_goes(tmp_path):
    metrics = read_metrics(write(tmp_path, "step,train/elbo,val/elbo\n1,-2.0,\n2,-1.0"))
    np.testing.assert_array_equal(metrics["train/elbo"].values, [-2.0, -1.0])
    assert "val/elbo" not in metrics


def test_a_header_without_rows_gives_no_series(tmp_path):
    assert read_metrics(write(tmp_path, "epoch,step,train/elbo\n")) == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no 'step' column"),
        ("epoch,train/elbo\n0,1.0\n", "no 'step' column"),
        ("step,train/elbo\n0,1.0\n1,oops\n", "line 3: 'oops' in column 'train/elbo'"),
    ],
)
def test_other_files_are_refused(tmp_path, text, told):
    with pytest.raises(InputError, match=told):
        read_metrics(write(tmp_path, text))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        read_metrics(tmp_path / "metrics.csv")
