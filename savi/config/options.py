"""The registered choices of a config, and the options that each of them takes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, get_type_hints

from hydra.core.config_store import ConfigStore

from savi.config.catalogue import choices
from savi.config.of_likelihood import REAL
from savi.config.schema import Config, defaults
from savi.config.store import conf_dir
from savi.errors import unknown_option, within
from savi.registry import Choices, refuse_ambiguous
from savi.settings import keys_of

#: The groups whose keys are options of choices, the keys that name those choices, and their kinds.
CHOICES = {
    "model": {
        "decoder": "decoder",
        "encoder": "encoder",
        "prior": "model.prior",
        "likelihood": "model.likelihood",
    },
    "posterior": {"name": "posterior"},
    "inner": {"objective": "inner.objective", "optimizer": "inner.optimizer"},
    "gradient": {"name": "gradient"},
    "optimizer": {"name": "optimizer"},
}

#: What a key of ``data`` is that the likelihood decides.
_ASKED = "${{of_likelihood:${{model.likelihood}},{}}}"

#: Groups whose choices share their options: each gets those that it has parameters for.
SHARED = frozenset({"model"})


def own_keys(group: str) -> list[str]:
    """The keys of a group that are no options."""
    return keys_of(get_type_hints(Config)[group])


def own_options(known: Choices[Any], name: str, group: str) -> list[str]:
    """The options of a choice that are no keys of its group."""
    return [key for key in known.options(name) if key not in own_keys(group)]


def check_options(config: Mapping[str, Any]) -> None:
    """Refuse unknown choices, and options that the chosen ones do not take.

    An option of another choice may be null.

    Args:
        config: a whole run's config.

    Raises:
        InputError: for the first that is wrong; an unknown one lists those that are known.
    """
    for group, kinds in CHOICES.items():
        _check_group(group, kinds, config[group])
    losses = ["through", *choices("encoder_loss")]
    for name in config["encoder_loss"]:
        if name not in losses:
            raise unknown_option("encoder_loss", name, losses)


def _check_group(group: str, kinds: Mapping[str, str], values: Mapping[str, Any]) -> None:
    chosen = [
        (choices(kind), values[key])
        for key, kind in kinds.items()
        # There may be no encoder.
        if (key, values[key]) != ("encoder", "none")
    ]
    extras = {key: value for key, value in values.items() if key not in own_keys(group)}
    if group not in SHARED:
        for pair in combinations(chosen, 2):
            refuse_ambiguous(group, extras, *pair)
    taken = {key for known, name in chosen for key in own_options(known, name, group)}
    for key, value in extras.items():
        others = [
            (known, name)
            for known, name in chosen
            if any(key in own_options(known, other, group) for other in known)
        ]
        if key in taken or (others and value is None):
            continue
        if others:
            known, name = others[0]
            known.check(name, {key: value})
        raise unknown_option("key", f"{group}.{key}", [*own_keys(group), *sorted(taken)])
    for known, name in chosen:
        takes = known.options(name)
        with within(group):
            known.check(name, {key: value for key, value in values.items() if key in takes})


def default_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the keys are that a config may lack, by dotted name: those of its choices included."""
    found = defaults()
    for group, kinds in CHOICES.items():
        for key, kind in kinds.items():
            name, known = config.get(group, {}).get(key), choices(kind)
            if name in known:
                options = known.options(name)
                own = {
                    f"{group}.{key}": options[key].default
                    for key in own_options(known, name, group)
                }
                found |= own
    return found


#: The groups of which a registered name is a choice, and the kinds of these names.
NAMED = {
    **{group: kinds["name"] for group, kinds in CHOICES.items() if "name" in kinds},
    "data": "data set",
    "encoder_loss": "encoder_loss",
}


def register_groups() -> None:
    """Let ``posterior=NAME`` and the like choose registered names without a file in ``conf/``."""
    store = ConfigStore.instance()
    for group, kind in NAMED.items():
        for name in choices(kind):
            node: dict[str, Any] = {name: 1.0} if group == "encoder_loss" else {"name": name}
            if group == "data":
                node |= {"seed": "${seed}"} | {key: _ASKED.format(key) for key in REAL}
            if not (Path(conf_dir()) / group / f"{name}.yaml").is_file():
                store.store(group=group, name=name, node=node)
