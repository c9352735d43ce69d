"""What the commands say to the terminal, and how they end."""

from __future__ import annotations

import os
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table

from savi.config.errors import is_hydras, sentence
from savi.config.hydras import replaced
from savi.config.words import check_words
from savi.errors import ImplicitGradientError, InputError, readable
from savi.runs.stop import STOP
from savi.runs.whole import NotWritten

#: Folders that are older than this were not made by this run.
STARTED = time.time()


def guarded(
    command: Callable[[], Any], schemas: Iterable[type] = (), groups: Collection[str] = ()
) -> None:
    """Exit 2 with one sentence for a mistake in the input, 130 after Ctrl-C, 143 after SIGTERM.

    Args:
        command: reads ``sys.argv``.
        schemas: those of its configs that :mod:`savi.config.schema` does not hold.
        groups: what it calls those whose choices it takes by name.
    """
    # Hydra would otherwise print its own account of an error and exit before it gets here.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        check_words(sys.argv[1:], groups)
        with replaced(ArgumentParser, "error", _refuse_flags):
            command()
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(STOP.code)
    except BrokenPipeError:
        # The reader of a pipe has seen enough; Python must not complain at its exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if (answer := known(error)) is None:
            raise
        _end(*answer, schemas)


@contextmanager
def answering(folder: Path | None = None) -> Iterator[None]:
    """End a job as :func:`guarded` ends a command; in a sweep, let Hydra record the failure.

    The ``folder`` of the job is removed if nothing has come of it.
    """
    try:
        yield
    except Exception as error:
        if (answer := known(error)) is None:
            raise
        if folder is not None:
            remove_if_empty(folder)
        said, code = answer
        if HydraConfig.get().mode is not RunMode.MULTIRUN:
            # Hydra prints a preamble of its own before every exception, but not before an exit.
            _end(said, code)
        if said is error:
            raise
        raise said from error


def known(error: Exception) -> tuple[Exception, int] | None:
    """What a user is told in place of an error, and the exit code; None for a fault here."""
    if isinstance(error, InputError | HydraException | OmegaConfBaseException) or is_hydras(error):
        return error, 2
    if isinstance(error, FloatingPointError | ImplicitGradientError | NotWritten):
        return error, 1
    if isinstance(error, OSError) and error.filename is not None:
        return InputError(f"'{error.filename}' cannot be used: {error.strerror}"), 2
    if lacks_memory(error):
        return MemoryError(NO_MEMORY), 1
    return None


def _end(error: Exception, code: int, schemas: Iterable[type] = ()) -> NoReturn:
    say(sentence(error, schemas) if code == 2 else str(error))
    sys.exit(code)


def _refuse_flags(parser: ArgumentParser, message: str) -> NoReturn:
    """A complaint of Hydra's parser of flags in one sentence, without its usage."""
    raise InputError(f"{message}: flags such as -m come before the words KEY=VALUE, see --help")


#: What is said in place of torch's and NumPy's own words, which name a function of theirs.
NO_MEMORY = (
    "there is not enough memory: lower the sizes that were asked for (model.hidden, "
    "data.batch_size, inner.samples, the samples of an evaluation), or data.limit"
)


#: By which torch's own are known.
_NO_MEMORY_WORDS = (
    "allocate memory",
    "out of memory",
    "Storage size calculation",
    "numel: integer",
)


def lacks_memory(error: BaseException) -> bool:
    """Whether memory has run out, on the machine or on its GPU."""
    text = str(error)
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in text for words in _NO_MEMORY_WORDS)
    )


def say(message: str) -> None:
    """One sentence on one line of the error stream."""
    message = readable(message)
    shown = "".join(
        c if c.isprintable() else " " if c.isspace() else ascii(c)[1:-1] for c in message
    )
    print(f"savi: {shown}", file=sys.stderr)


def print_verdict(collapse: Mapping[str, Any]) -> None:
    """Whether the posterior collapsed, and why."""
    print(f"Collapse: {collapse['name']}. {collapse['reason']}\n", flush=True)


def check_output(output: str | None, key: str = "output") -> None:
    """Refuse a file that could not be written, before the work that would fill it."""
    if output is None:
        return
    path = Path(output)
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(f"{key} '{output}' cannot be written: give a file in an existing folder")


def print_table(table: Table, width: int = 100) -> None:
    """With colours in a terminal, as plain text elsewhere."""
    from savi.report.table import plain_text

    if sys.stdout.isatty():
        Console().print(table)
    else:
        print(plain_text(table, width), end="")


def short(folder: Path) -> str:
    """The folder as seen from here."""
    try:
        return str(folder.relative_to(Path.cwd()))
    except ValueError:
        return str(folder)


def remove_if_empty(folder: Path) -> None:
    """Remove the run folder that Hydra made for a refused job, and the empty ones above it."""
    if folder.stat().st_ctime < STARTED:
        return
    for path in (folder, *folder.parents):
        if path == Path.cwd() or any(path.iterdir()):
            return
        path.rmdir()
