"""``python scripts/benchmark.py``, called as a user would, in this process."""

import pytest
from benchmark import CONF
from benchmark import main as benchmark
from benchmarks.known import BENCHMARKS, SCHEMAS
from hydra import compose, initialize_config_dir

from savi.config.store import plain, refuse_unknown_keys

FEW = ("families=[singular]", "systems=[savi_ift]", "calls=[]", "per_family=2")
SMALL = ("safety", *FEW, "threads=1")


def test_every_benchmark_has_a_config_with_a_schema():
    files = {path.stem for path in (CONF / "benchmark").glob("*.yaml")}
    assert files == set(BENCHMARKS) == set(SCHEMAS)
    for name, schema in SCHEMAS.items():
        with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
            refuse_unknown_keys(
                plain(compose("benchmark", overrides=[f"benchmark={name}"])), schema
            )


def test_a_run_leaves_its_file_in_a_folder_of_its_own(command, capsys, tmp_path):
    command(benchmark, *SMALL)
    out = capsys.readouterr().out
    assert "2 problems and their right answers" in out
    assert "savi ift" in out
    (file,) = tmp_path.glob("runs/benchmark/safety/*/safety.csv")
    assert out.splitlines()[-1] == f"Everything is in {file.parent.relative_to(tmp_path)}"
    assert [path.name for path in file.parent.iterdir()] == ["safety.csv"]


def test_a_run_is_never_written_over(command, capsys, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "safety.csv").write_text("precious")
    with pytest.raises(SystemExit) as exit_:
        command(benchmark, *SMALL, "hydra.run.dir=run")
    assert exit_.value.code == 2
    assert "holds a run already (safety.csv)" in capsys.readouterr().err
    assert (tmp_path / "run" / "safety.csv").read_text() == "precious"


NAMES = ", ".join(sorted(BENCHMARKS))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (),
            "no benchmark is given: python scripts/benchmark.py NAME [KEY=VALUE ...], with NAME "
            f"one of {NAMES}",
        ),
        (("seed=1",), "no benchmark is given"),
        (("foo",), f"unknown benchmark 'foo': choose one of {NAMES}"),
        (("safety", "foo=1"), "unknown key 'foo': choose one of calls, families, per_family"),
        (("safety", "+foo=1"), "unknown key 'foo': choose one of calls, families, per_family"),
        (("safety", "tolerance=abc"), "could not be converted to Float"),
        (("safety", "tolerance=0"), "tolerance is 0.0: set it above 0"),
        (("safety", "threads=0"), "threads is 0: set it to 1 or more"),
        (("safety", "families=[foo]"), "unknown family 'foo'"),
        (("safety", "systems=[foo]"), "unknown system 'foo'"),
        (("safety", "bar"), "cannot read 'bar': write KEY=VALUE"),
        (("safety", "seed=0,1"), "seed=0,1 has several values: add -m"),
        (("safety", "~benchmark"), "unknown benchmark 'None'"),
        (("order", "window=[1]"), "window is [1.0]: give two numbers"),
        (("order", "backends=[foo]"), "unknown gradient 'foo'"),
    ],
)
def test_bad_input_ends_in_one_sentence(arguments, message, command, capsys, tmp_path):
    with pytest.raises(SystemExit) as exit_:
        command(benchmark, *arguments)
    assert exit_.value.code == 2
    captured = capsys.readouterr()
    (line,) = captured.err.strip().splitlines()
    assert line.startswith("savi: ")
    assert message in line
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


def test_help_names_the_benchmarks(command, capsys):
    command(benchmark, "--help")
    assert f"with NAME one of {NAMES}" in capsys.readouterr().out


def test_the_help_of_a_benchmark_shows_its_keys(command, capsys):
    with pytest.raises(SystemExit):
        command(benchmark, "safety", "--help")
    text = capsys.readouterr().out
    assert "tolerance: 0.01" in text
    assert "optimizer" not in text
    assert all(name in text for name in BENCHMARKS)
