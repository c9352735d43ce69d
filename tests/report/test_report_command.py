import pytest
from run_folders import write_run

from savi.errors import InputError
from savi.report.command import main, parser


def test_folders_output_and_title_are_read(tmp_path):
    run = write_run(tmp_path / "a")
    output = main([str(run), "--output", str(tmp_path / "page.html"), "--title", "Mine & yours"])
    assert output == tmp_path / "page.html"
    assert "<h1>Mine &amp; yours</h1>" in output.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--port", "80"], "--port without --watch"),
        (["--watch", "--port", "x"], "--port: 'x' is no number from 1 to 65535: savi-report RUN"),
        (["--watch", "--output", "a.html"], "--output with --watch"),
        (["--watch"], "'a' is no folder"),
    ],
)
def test_a_page_is_written_or_served(words, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=told):
        main(["a", *words])


@pytest.mark.parametrize("arguments", [[], ["--title"], ["a", "--outpu", "b"], ["a", "--nothing"]])
def test_a_mistake_is_told_with_the_usage(arguments):
    with pytest.raises(InputError, match=r"savi-report RUN_OR_SWEEP_FOLDER \.\.\."):
        parser().parse_args(arguments)
