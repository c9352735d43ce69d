"""The help of the commands: what can be chosen, and every key with its value.

It is taken from the files in ``conf/``, whose comments say what a choice or a key is, and from what
registered choices say of themselves. Hydra's own help would list names and print the config.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from inspect import Parameter
from pathlib import Path
from textwrap import wrap
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from savi.config.catalogue import choices
from savi.config.comments import comments_of, head_of
from savi.config.options import CHOICES, NAMED, own_keys
from savi.config.words import GROUPS
from savi.settings import flatten

#: The columns of a line, and of them those of a choice, and of a key with its value.
WIDTH, OF_CHOICE, OF_KEY = 80, 22, 34

USAGE = {
    "config": """\
savi-train trains a model, or with -m several:

  savi-train experiment=vae data=mnist trainer.max_epochs=10
  savi-train -m seed=0,1,2 experiment=savi,savi_ift""",
    "evaluate": """\
savi-evaluate evaluates a checkpoint; what is null is taken from its run:

  savi-evaluate checkpoint=runs/.../checkpoints/best.ckpt ais_chains=64""",
}

FLAGS = {
    "-m, --multirun": "run a job for each of several values: KEY=A,B",
    "-c, --cfg job": "print the config that would be used, and do nothing",
    "-cd, --config-dir DIR": "a folder with configs of your own",
    "-sc, --shell-completion": "install=bash, zsh or fish: completion, to be evaluated",
    "-h, --help": "this text, for what else is on the command line",
    "--hydra-help": "the other flags and groups, such as hydra/launcher",
    "--version": "the version of savi",
}


def help_of(loader: ConfigLoader, config_name: str, words: list[str]) -> str:
    """The help of the command whose config has this name, for what its command line says."""
    composed = loader.load_configuration(config_name, words, RunMode.RUN)
    config = own_values(composed, resolve=True)
    chosen = {str(group): name for group, name in composed.hydra.runtime.choices.items()}
    folders = _folders(loader)
    groups = [group for group in dict.fromkeys(["experiment", *GROUPS]) if group in chosen]
    flags = {flag: text for flag, text in FLAGS.items() if groups or flag != "-m, --multirun"}
    parts = [[USAGE[config_name]], ["Flags, which come first:", *_table(flags, 26)]]
    if groups:
        parts.append(["Choices (GROUP=NAME; * marks what is chosen here):"])
        parts += [[group, *_group(loader, folders, group, chosen[group])] for group in groups]
    parts.append(["Keys (KEY=VALUE) with their values here:"])
    parts += list(_keys(config, folders, config_name, chosen))
    if groups:
        parts.append(["Options of the choices, which are keys too, with their defaults:"])
        parts += list(_options())
    return "\n\n".join("\n".join(lines) for lines in parts)


def own_values(composed: DictConfig, *, resolve: bool) -> dict[str, Any]:
    """A composed config without Hydra's part, as plain values; ??? stands for a missing one."""
    own = [str(key) for key in composed if key != "hydra"]
    values = OmegaConf.to_container(OmegaConf.masked_copy(composed, own), resolve=resolve)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def names_in(loader: ConfigLoader, group: str, kind: ObjectType = ObjectType.CONFIG) -> list[str]:
    """The choices of a group, or the groups below it; the loader's own way takes 20 ms for each."""
    return loader.repository.get_group_options(group, kind)  # type: ignore[attr-defined]


def _group(
    loader: ConfigLoader, folders: list[Path], group: str, chosen: str | None
) -> Iterator[str]:
    """A line for each choice of a group."""
    for name in sorted(names_in(loader, group)):
        marked = f"{'*' if name == chosen else ' '} {name}"
        yield from _row(marked, _choice(folders, group, name), OF_CHOICE)


def _choice(folders: list[Path], group: str, name: str) -> str:
    """What a choice is in a line: as its file says, or what is registered under its name."""
    for folder in folders:
        if (file := folder / group / f"{name}.yaml").is_file():
            return head_of(file)
    known = choices(NAMED[group]) if group in NAMED else None
    return _plain(known.doc(name)) if known is not None and name in known else ""


def _keys(
    config: Mapping[str, Any], folders: list[Path], config_name: str, chosen: Mapping[str, str]
) -> Iterator[list[str]]:
    """The keys without a group in one paragraph, and those of each group."""
    single = {k: v for k, v in config.items() if not isinstance(v, Mapping) and k not in chosen}
    files = [folder / f"{config_name}.yaml" for folder in folders]
    yield list(_values(single, comments_of(file for file in files if file.is_file())))
    for group, values in config.items():
        if isinstance(values, Mapping):
            files = [file for folder in folders for file in (folder / group).glob("*.yaml")]
            files.sort(key=lambda file: (file.stem != chosen.get(group), file.stem))
            comments = {f"{group}.{key}": told for key, told in comments_of(files).items()}
            owners = {
                f"{group}.{option}": f"an option of {group}.{key}={values[key]}"
                for key, kind in CHOICES.get(group, {}).items()
                for option in (choices(kind).options(values[key]) if values[key] != "none" else ())
            }
            yield list(_values(flatten({group: values}), owners | comments))


def _values(values: Mapping[str, Any], comments: Mapping[str, str]) -> Iterator[str]:
    for key, value in values.items():
        yield from _row(f"  {key}={_shown(value)}", comments.get(key, ""), OF_KEY)


def _options() -> Iterator[list[str]]:
    """The options of registered choices; those of a kind in one paragraph."""
    for group, kinds in ({"data": {"name": "data set"}} | CHOICES).items():
        where = "data.options" if group == "data" else group
        for key, kind in kinds.items():
            known, lines = choices(kind), list[str]()
            for name in sorted(known):
                choice = group if key == "name" else f"{group}.{key}"
                options = known.options(name)
                # Those of a data set are in a mapping of their own, all but its path.
                taken = {"path"} if group == "data" else {*own_keys(group)}
                own = [option for key, option in options.items() if key not in taken]
                if own or key != "name":
                    lines += _row(f"  {choice}={name}", _plain(known.doc(name)), OF_KEY)
                    lines += [f"    {where}.{_declared(option)}" for option in own]
            if lines:
                yield lines


def _declared(option: Parameter) -> str:
    kind = getattr(option.annotation, "__name__", None) or option.annotation
    default = "" if option.default is option.empty else f" = {_shown(option.default)}"
    return f"{option.name}: {kind}{default}"


def _folders(loader: ConfigLoader) -> list[Path]:
    """The folders of configs, of which a user's own come first."""
    entries = loader.get_search_path().get_path()
    paths = [entry.path.removeprefix("file://") for entry in entries]
    return [Path(path) for path in paths if "://" not in path]


def _table(rows: Mapping[str, str], width: int) -> Iterator[str]:
    for name, text in rows.items():
        yield from _row(f"  {name}", text, width)


def _row(name: str, text: str, width: int) -> list[str]:
    """A name and what it means, beside it or on the next lines."""
    lines = wrap(text, WIDTH - width, break_long_words=False) or [""]
    head = [f"{name:<{width - 1}} {lines[0]}".rstrip()]
    if len(name) >= width and text:
        head = [name, f"{'':{width}}{lines[0]}"]
    return [*head, *(f"{'':{width}}{line}" for line in lines[1:])]


def _shown(value: Any) -> str:
    """A value as a command line would have it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_shown(one)}" for key, one in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(map(_shown, value)) + "]"
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))


def _plain(text: str) -> str:
    """A line of a docstring without the marks of code."""
    return text.replace("``", "")
