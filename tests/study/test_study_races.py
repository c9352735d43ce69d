"""The races of a study: their commands, and what is kept of them."""

from benchmarks.harness import write_csv
from benchmarks.race.run import Row
from study.implicit import RACES
from study.plan import Race, Study
from study.races import found_rows, kept_rows, pairs, race_command, save_rows

STUDY = Study((), {}, races={name: Race("by_size", (), 3) for name in ("one", "two")})
ROWS = [Row(300, "vae", 0, 2.5, 2.6, 40, 1.5, 2.5), Row(300, "vae", 0, 5.0, diverged=True)]


def test_rows_of_several_races_are_kept_together(tmp_path):
    (tmp_path / "two").mkdir()
    write_csv(tmp_path / "two/race.csv", [row._asdict() | {"best_so_far": 1.0} for row in ROWS])
    rows = found_rows(STUDY.races, STUDY.pictures, tmp_path)
    save_rows(tmp_path, rows)
    kept = kept_rows(STUDY.pictures, tmp_path)
    assert list(kept) == ["by_size"]
    # NaN is not equal to itself.
    assert repr(kept["by_size"]) == repr(rows["by_size"]) == repr(ROWS)


def test_every_race_is_one_that_the_benchmark_knows(tmp_path):
    from benchmarks.race.methods import check_methods
    from benchmarks.race.run import marks_of

    for name, race in RACES.items():
        command = race_command(race, ["seeds=2"], tmp_path / name)
        words = dict(word.split("=", 1) for word in command if "=" in word)
        check_methods(words["methods"].strip("[]").split(","))
        marks = [float(mark) for mark in words["marks"].strip("[]").split(",")]
        assert marks_of(1, {"marks": marks, "budget": float(words["budget"])}) == marks
        assert words["hydra.run.dir"].endswith(name)


def test_methods_are_compared_at_the_end_seed_for_seed():
    rows = [
        Row(300, method, seed, mark, seconds=4.0, steps=100, val=mark, test=test + 10.0 * seed)
        for seed in (0, 1)
        for method, tests in (("vae", (1.0, 2.0)), ("savi", (1.0, 5.0)))
        for mark, test in zip((2.0, 4.0), tests, strict=True)
    ]
    text = pairs(rows, 300)
    assert "| `savi` | 3.0 ± 0.0 | 3.0 ± 0.0 | — |" in text
    assert "| `vae` | 0.0 ± 0.0 | — | −3.0 ± 0.0 |" in text
