"""Tables from run folders whose figures are known."""

import json
from dataclasses import replace

import pytest
from study.__main__ import STUDIES
from study.pictures import block_figure
from study.plan import Block, Column, Job
from study.runs import read_all
from study.tables import duels, lines, markdown
from study.values import Value, read_values, reference_values, run_values, save_values

from savi.errors import InputError

COLUMNS = (
    Column("−log p(x) ≤", "test/elbo", -1.0),
    Column("KL", "test/kl", digits=1),
    Column("−log p(x)", "test/nll"),
    Column("late", "val/elbo", -1.0, third=3),
)
METHODS = {"vae": (), "savi": (), "svi": ()}
BLOCK = Block("Digits", (), METHODS, COLUMNS, seeds=2, marks=(1.0, 3.0))


def write(folder, bounds, elbo):
    """A finished run: the bound of each epoch of ten steps, and of the test set."""
    folder.mkdir(parents=True)
    rows = [f"{epoch},{10 * epoch + 9},{bound}" for epoch, bound in enumerate(bounds)]
    (folder / "metrics.csv").write_text("\n".join(["epoch,step,val/elbo", *rows]) + "\n")
    figures = {"test/elbo": elbo, "test/kl": 2.0}
    (folder / "metrics.json").write_text(json.dumps(figures))


@pytest.fixture
def values(tmp_path):
    jobs = {m: [Job("digits", m, seed) for seed in range(2)] for m in BLOCK.methods}
    for seed in range(2):
        write(jobs["vae"][seed].folder(tmp_path), [-9.0, -7.0, -8.0], -7.5 - seed)
    write(jobs["savi"][1].folder(tmp_path), [-8.0, -6.0, -5.0], -5.5)
    runs = {method: read_all(some, tmp_path) for method, some in jobs.items()}
    of_runs = run_values("digits", BLOCK, runs, {"vae": 0.05, "savi": 0.1, "svi": 0.2})
    return [*reference_values("digits", BLOCK, "truth", [4.0, 6.0]), *of_runs]


@pytest.fixture
def found(values):
    return lines(BLOCK, values)


def test_figures_are_those_of_the_runs(found):
    truth, vae, savi = found  # No run of SVI has been finished.
    assert (vae.method, vae.seeds, savi.method, savi.seeds) == ("vae", 2, "savi", 1)
    bound = vae.figures["−log p(x) ≤"]
    assert bound.mean == pytest.approx(8.0)
    assert bound.half_width == pytest.approx(12.706 * 0.5, rel=1e-3)
    assert savi.figures["KL"].mean == pytest.approx(2.0)
    assert savi.figures["best epoch"].mean == 3
    assert savi.figures["VAE steps"].mean == pytest.approx(2.0)
    assert truth.figures["−log p(x)"].mean == pytest.approx(5.0)


def test_methods_are_compared_on_the_same_seed(found):
    truth, vae, savi = found
    assert "less `vae`" not in vae.figures
    assert "less `vae`" not in truth.figures
    assert savi.figures["less `vae`"].mean == pytest.approx(5.5 - 8.5)


def test_at_equal_seconds_the_best_epoch_counts_that_has_ended(found):
    _, vae, savi = found
    # 20 and 60 steps of the one, 10 and 30 of the other.
    assert [vae.figures[f"≤, {mark} s"].mean for mark in (1, 3)] == [7.0, 7.0]
    assert [savi.figures[f"≤, {mark} s"].mean for mark in (1, 3)] == [8.0, 5.0]


def test_the_table_is_markdown(found):
    text = markdown(BLOCK, found)
    assert "**Digits**, 1 to 2 seeds" in text
    assert "| `savi` | 5.50 | −3.00 | 2.0 | — | 5.00 | 3 | 2.0 | 8.00 | 5.00 |" in text
    assert "| `truth` | — | — | — | 5.00 ± 12.71 | — | — | — | — | — |" in text


def test_what_is_kept_says_the_same(values, found, tmp_path):
    file = tmp_path / "kept.csv"
    other = Value("linear", "vae", 0, "KL", 1.0)
    save_values(file, [other], {"linear"})
    save_values(file, values[:3], {"digits"})
    # Those of the block take the place of the earlier ones; another block's stay.
    save_values(file, values, {"digits"})
    first, *rest = read_values(file)
    assert first == other
    assert lines(BLOCK, rest) == found
    with pytest.raises(InputError, match="run the study first"):
        read_values(tmp_path / "other.csv")


def test_the_picture_has_the_differences_and_the_curves(found):
    differences, curves = block_figure(BLOCK, found).axes
    assert [label.get_text() for label in differences.get_yticklabels()] == ["savi"]
    means = {line.get_label(): list(line.get_ydata()) for line in curves.lines}
    assert means == {"vae": [7.0, 7.0], "savi": [8.0, 5.0]}


def test_rivals_are_compared_in_every_column_seed_for_seed(values):
    rivals = (("savi", "vae"), ("svi", "vae"))
    text = duels(replace(BLOCK, rivals=rivals), values)
    # The VAE of seed 1 has 8.5; no run of SVI has been finished.
    assert text.splitlines()[0] == "**Digits**, seed for seed"
    assert text.splitlines()[2] == "| | −log p(x) ≤ | KL |"
    assert text.splitlines()[4:] == ["| `savi` less `vae` | −3.00 | 0.0 |"]
    assert duels(BLOCK, values) == ""


def test_rivals_are_lines_of_their_table():
    for study in STUDIES.values():
        for block in study.blocks.values():
            assert {name for pair in block.rivals for name in pair} <= {
                *block.methods,
                *block.references,
            }
