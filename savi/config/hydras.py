"""What savi answers in Hydra's place: ``--help`` and ``--shell-completion``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from hydra._internal.hydra import Hydra

from savi.shells import answer


@contextmanager
def replaced(owner: Any, name: str, by: Any) -> Iterator[None]:
    """Inside, an attribute is another one."""
    before = getattr(owner, name)
    setattr(owner, name, by)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def own_answers(command: str) -> Iterator[None]:
    """Inside, Hydra's help and completion are savi's own, of a command."""

    def app_help(
        hydra: Hydra, config_name: str, args_parser: ArgumentParser, args: Namespace
    ) -> None:
        from savi.config.help import help_of

        print(help_of(hydra.config_loader, config_name, args.overrides))

    def shell_completion(hydra: Hydra, config_name: str, overrides: list[str]) -> None:
        from savi.config.completion import candidates

        ask = partial(candidates, hydra.config_loader, config_name)
        print(answer(command, overrides, ask))

    with (
        replaced(Hydra, "app_help", app_help),
        replaced(Hydra, "shell_completion", shell_completion),
    ):
        yield
