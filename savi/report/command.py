"""The arguments of ``savi-report``."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from savi.errors import InputError
from savi.runs.folder import require_folder
from savi.shells import paths


class _Parser(ArgumentParser):
    """A parser whose complaint is one sentence for the command line to print."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}: {self.format_usage().removeprefix('usage: ').strip()}")


def parser() -> ArgumentParser:
    """The parser of ``savi-report``."""
    made = _Parser(
        prog="savi-report",
        usage="savi-report RUN_OR_SWEEP_FOLDER ... [--output report.html] [--title TITLE]",
        description="Write one self-contained HTML page on a run, or a comparison of several. It "
        "needs no network and opens by a double click.",
        epilog="savi-report sync-help [FOLDER] says how to upload offline wandb runs later; "
        "--version is that of savi, --shell-completion install=SHELL completes in bash, zsh, fish.",
        allow_abbrev=False,
    )
    folders = "a run's folder, a sweep's, or one above them, which is searched for runs"
    made.add_argument("folders", nargs="+", type=Path, metavar="RUN_OR_SWEEP_FOLDER", help=folders)
    made.add_argument(
        "--output", type=Path, default=Path("report.html"), help="the page (default: report.html)"
    )
    made.add_argument("--title", help="its heading (default: the name of the run or the folder)")
    return made


def candidates(words: list[str]) -> list[str]:
    """What the last one of the words of a command line may become, for a shell's completion."""
    *earlier, word = words or [""]
    if earlier[-1:] == ["--output"]:
        return paths(word)
    flags = [flag for action in parser()._actions for flag in action.option_strings]
    known = [*flags, *(() if earlier else ("sync-help",))]
    return [*(name for name in known if name.startswith(word)), *paths(word, folders=True)]


def main(arguments: Sequence[str]) -> Path:
    """Write the report that the arguments ask for, and return its path.

    Raises:
        InputError: for arguments that cannot be understood, and whatever is wrong with the runs.
    """
    options = parser().parse_args(arguments)
    for folder in options.folders:
        require_folder(folder)
    # PyTorch and Matplotlib are imported from here on.
    from savi.report.html import write_report

    return write_report(options.folders, options.output, options.title)
