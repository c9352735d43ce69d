"""What each line of a race reaches, from when on it leads, and what refinement gains in it."""

from benchmarks.race.report import BEST, best_row, curves, lead
from benchmarks.race.run import Row
from study.reached import ahead_from, reached

#: Validation, test, and the gains on training and held-out examples, at 2, 4 and 8 seconds.
RUNS = {
    "vae": ((1.0, 10.0, 1.0, 2.0), (3.0, 12.0, 2.0, 5.0), (2.0, 99.0, 3.0, 9.0)),
    "vae_slow": ((0.5, 9.0, 1.0, 1.0), (1.0, 10.0, 1.0, 1.0), (2.0, 11.0, 1.0, 1.0)),
    "savi": ((9.0, 11.0, 0.5, 1.0), (9.5, 11.5, 0.5, 1.0), (9.9, 15.0, 0.25, 1.5)),
    "sa_vae": ((0.0, 1.0, 0.1, 0.1), (0.1, 2.0, 0.1, 0.1), (0.2, 3.0, 0.1, 0.1)),
}
ROWS = [
    Row(300, method, seed, mark, seconds=mark, steps=int(50 * mark), val=val, test=test + seed,
        train_gain=on_training, val_gain=held_out,
        active=16.0 if method == "savi" else float("nan"))
    for method, verdicts in RUNS.items()
    for seed in (0, 1)
    for mark, (val, test, on_training, held_out) in zip((2.0, 4.0, 8.0), verdicts, strict=True)
]  # fmt: skip


def test_what_counts_is_the_model_that_was_best_in_validation():
    own = [row for row in ROWS if row.method == "vae"]
    assert [best_row(r for r in own if r.seed == s).test for s in (0, 1)] == [12.0, 13.0]
    lost = Row(300, "vae", 0, 9.0, diverged=True)
    assert best_row([lost]) is None


def test_who_leads_must_go_on_leading():
    found = curves(ROWS, 300)
    # Ahead at 2 s (11 against 10), behind at 4 s (11.5 against 12), ahead again at 8 s.
    assert ahead_from(lead(found, "savi", BEST)) == 8.0
    assert ahead_from(lead(found, "sa_vae", BEST)) is None


def test_seeds_that_one_of_two_lacks_do_not_count():
    rows = [row for row in ROWS if row.method != "savi" or row.seed == 1]
    assert lead(curves(rows, 300), "savi", BEST)[8.0].n == 1
    assert lead(curves(rows, 300), "sa_vae", "savi")[8.0].n == 1
    assert "| `savi` | 20 | 16.0 | 8 | 3.0 | 8 |" in reached(rows, 300)


def test_a_line_for_each_method_and_for_the_best_vae():
    text = reached(ROWS, 300)
    assert (
        "| `best VAE` | 20 ± 0 | 12.5 ± 6.4 | 4 ± 0 | — | — | 2.0 ± 0.0 | 5.0 ± 0.0 | — |" in text
    )
    savi = "| `savi` | 20 ± 0 | 15.5 ± 6.4 | 8 ± 0 | 3.0 ± 0.0 | 8 | 0.2 ± 0.0 | 1.5 ± 0.0 | 16.0"
    assert savi in text
    assert "| `sa_vae` | 20 ± 0 | 3.5 ± 6.4 | 8 ± 0 | −9.0 ± 0.0 | never |" in text
    assert "300 images" in text
