"""The registered choices of a config, and the options that each of them takes."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import Parameter
from itertools import combinations
from pathlib import Path
from typing import Any, get_type_hints

from hydra.core.config_store import ConfigStore

from savi.config.of_likelihood import REAL
from savi.config.schema import Config, defaults
from savi.config.store import conf_dir
from savi.data import DATASETS
from savi.errors import unknown_option, within
from savi.gradients import BACKENDS
from savi.inference import ENCODER_LOSSES
from savi.inner import OBJECTIVES, OPTIMIZERS
from savi.registry import Registry, refuse_ambiguous
from savi.settings import keys_of
from savi.training.outer_optimizers import OUTER_OPTIMIZERS
from savi.vae import DECODERS, ENCODERS, LIKELIHOODS, POSTERIORS

#: The groups whose keys are options of choices, and the keys that name those choices.
CHOICES: dict[str, dict[str, Registry[Any]]] = {
    "model": {"decoder": DECODERS, "encoder": ENCODERS, "likelihood": LIKELIHOODS},
    "posterior": {"name": POSTERIORS},
    "inner": {"objective": OBJECTIVES, "optimizer": OPTIMIZERS},
    "gradient": {"name": BACKENDS},
    "optimizer": {"name": OUTER_OPTIMIZERS},
}

#: What a key of ``data`` is that the likelihood decides.
_ASKED = "${{of_likelihood:${{model.likelihood}},{}}}"

#: Groups whose choices share their options: each gets those that it has parameters for.
SHARED = frozenset({"model"})


def own_keys(group: str) -> list[str]:
    """The keys of a group that are no options."""
    return keys_of(get_type_hints(Config)[group])


def own_options(registry: Registry[Any], name: str, group: str) -> list[str]:
    """The options of a choice that are no keys of its group."""
    return [key for key in registry.options(name) if key not in own_keys(group)]


def check_options(config: Mapping[str, Any]) -> None:
    """Refuse unknown choices, and options that the chosen ones do not take.

    An option of another choice may be null.

    Args:
        config: a whole run's config.

    Raises:
        InputError: for the first that is wrong; an unknown one lists those that are known.
    """
    for group, choices in CHOICES.items():
        _check_group(group, choices, config[group])
    for name in config["encoder_loss"]:
        if name not in ENCODER_LOSSES and name != "through":
            raise unknown_option("encoder_loss", name, ["through", *ENCODER_LOSSES])


def _check_group(
    group: str, choices: Mapping[str, Registry[Any]], values: Mapping[str, Any]
) -> None:
    chosen = [
        (registry, values[key])
        for key, registry in choices.items()
        # There may be no encoder.
        if (key, values[key]) != ("encoder", "none")
    ]
    extras = {key: value for key, value in values.items() if key not in own_keys(group)}
    if group not in SHARED:
        for pair in combinations(chosen, 2):
            refuse_ambiguous(group, extras, *pair)
    taken = {key for registry, name in chosen for key in own_options(registry, name, group)}
    for key, value in extras.items():
        others = [
            (registry, name)
            for registry, name in chosen
            if any(key in own_options(registry, other, group) for other in registry)
        ]
        if key in taken or (others and value is None):
            continue
        if others:
            registry, name = others[0]
            registry.check(name, {key: value})
        raise unknown_option("key", f"{group}.{key}", [*own_keys(group), *sorted(taken)])
    for registry, name in chosen:
        known = registry.options(name)
        with within(group):
            registry.check(name, {key: value for key, value in values.items() if key in known})


def default_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the keys are that a config may lack, by dotted name: those of its choices included."""
    found = defaults()
    for group, choices in CHOICES.items():
        for key, registry in choices.items():
            name = config.get(group, {}).get(key)
            if name in registry:
                options = registry.options(name)
                own = {
                    f"{group}.{key}": options[key].default
                    for key in own_options(registry, name, group)
                }
                found |= own
    return found


def register_groups() -> None:
    """Let ``posterior=NAME`` and the like choose registered names without a file in ``conf/``."""
    store = ConfigStore.instance()
    groups: dict[str, Registry[Any]] = {
        group: choices["name"] for group, choices in CHOICES.items() if "name" in choices
    }
    for group, registry in (groups | {"data": DATASETS, "encoder_loss": ENCODER_LOSSES}).items():
        for name in registry:
            node: dict[str, Any] = {name: 1.0} if group == "encoder_loss" else {"name": name}
            if group == "data":
                node |= {"seed": "${seed}"} | {key: _ASKED.format(key) for key in REAL}
            if not (Path(conf_dir()) / group / f"{name}.yaml").is_file():
                store.store(group=group, name=name, node=node)


def describe_options(*_: Any) -> str:
    """The options of every registered choice with their defaults, for the help of a command."""
    lines = ["Options of the choices (KEY=VALUE, as all keys):"]
    for group, choices in CHOICES.items():
        for key, registry in choices.items():
            for name in sorted(registry):
                options = registry.options(name)
                own = own_options(registry, name, group)
                shown = [f"{group}.{option}{_described(options[option])}" for option in own]
                if shown:
                    lines.append(f"  {group}.{key}={name}  {', '.join(shown)}")
    return "\n".join(lines)


def _described(option: Parameter) -> str:
    kind = getattr(option.annotation, "__name__", None) or option.annotation
    return f": {kind}" + ("" if option.default is option.empty else f" = {option.default}")
