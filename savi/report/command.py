"""The arguments of ``savi-report``."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from savi.errors import InputError
from savi.runs.folder import require_folder
from savi.shells import paths

#: Where the page is written.
OUTPUT = Path("report.html")


class _Parser(ArgumentParser):
    """A parser whose complaint is one sentence for the command line to print."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}: {self.format_usage().removeprefix('usage: ').strip()}")


def parser() -> ArgumentParser:
    """The parser of ``savi-report``."""
    made = _Parser(
        prog="savi-report",
        usage="savi-report RUN_OR_SWEEP_FOLDER ... [--output report.html] [--title TITLE] "
        "[--watch [--port PORT]]",
        description="Write one self-contained HTML page on a run, or a comparison of several. It "
        "needs no network and opens by a double click. With --watch the page is served on this "
        "machine instead, and follows runs that are at work.",
        epilog="savi-report sync-help [FOLDER] says how to upload offline wandb runs later; "
        "--version is that of savi, --shell-completion install=SHELL completes in bash, zsh, fish.",
        allow_abbrev=False,
    )
    folders = "a run's folder, a sweep's, or one above them, which is searched for runs"
    made.add_argument("folders", nargs="+", type=Path, metavar="RUN_OR_SWEEP_FOLDER", help=folders)
    made.add_argument("--output", type=Path, help=f"the page (default: {OUTPUT})")
    made.add_argument("--title", help="its heading (default: the name of the run or the folder)")
    made.add_argument("--watch", action="store_true", help="serve the page until Ctrl-C")
    port = "where to serve it (default: 8765, or any that is free)"
    made.add_argument("--port", type=_port, help=port)
    return made


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise ArgumentTypeError(f"'{text}' is no number from 1 to 65535")
    return int(text)


def candidates(words: list[str]) -> list[str]:
    """What the last one of the words of a command line may become, for a shell's completion."""
    *earlier, word = words or [""]
    if earlier[-1:] == ["--output"]:
        return paths(word)
    flags = [flag for action in parser()._actions for flag in action.option_strings]
    known = [*flags, *(() if earlier else ("sync-help",))]
    return [*(name for name in known if name.startswith(word)), *paths(word, folders=True)]


def main(arguments: Sequence[str]) -> Path | None:
    """Write the report that the arguments ask for and return its path, or serve it until Ctrl-C.

    Raises:
        InputError: for arguments that cannot be understood, and whatever is wrong with the runs.
    """
    options = parser().parse_args(arguments)
    if options.port is not None and not options.watch:
        raise InputError("--port without --watch: add --watch, or leave it out")
    if options.output is not None and options.watch:
        raise InputError("--output with --watch, which serves the page: leave out one of them")
    for folder in options.folders:
        require_folder(folder)
    # PyTorch and Matplotlib are imported from here on.
    if options.watch:
        from savi.report.watch import ReportServer, watch

        watch(ReportServer(options.folders, options.title, options.port))
        return None
    from savi.report.html import write_report

    return write_report(options.folders, options.output or OUTPUT, options.title)
