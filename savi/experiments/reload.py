"""Load and evaluate a checkpoint without the run that wrote it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from savi.config.options import check_options
from savi.config.schema import EvaluationConfig
from savi.config.stored import completed
from savi.data import DATASETS, TensorDataModule
from savi.data.preprocessing import Preprocessing
from savi.errors import InputError
from savi.evaluation import Evaluation, evaluate
from savi.evaluation.regret import out_of_distribution
from savi.experiments.build import GROUPS, build, precision_of
from savi.experiments.check_values import check_evaluation
from savi.experiments.checkpoint import CONFIG_KEY, DATA_KEY, put_weights, read_checkpoint
from savi.experiments.codes import write_codes
from savi.experiments.conclude import course_of
from savi.experiments.loggers import quieten_libraries
from savi.experiments.shipped import located
from savi.plugins import import_modules
from savi.report.table import shown
from savi.settings import keys_of
from savi.training import SemiAmortizedVAE
from savi.typed import check_types

#: The settings of an evaluation that may differ from those of the run.
SETTINGS = [key for key in keys_of(EvaluationConfig) if key != "val_samples"]


def load(run_or_checkpoint: str | Path, imports: Sequence[str] | None = None) -> SemiAmortizedVAE:
    """The model of a checkpoint, or of the best epoch of a run, without its data.

    It works in the model's units; its ``preprocessing.units`` turn what it decodes or samples into
    the data's (``restored``), and data into what it takes (``seen``).

    Args:
        run_or_checkpoint: a ``.ckpt`` file, a run folder, or the name of a model that comes with
            savi (:mod:`savi.experiments.shipped`).
        imports: the modules to import for it; by default those that the checkpoint names, which
            are printed first. An empty list imports none.

    Raises:
        InputError: for a missing or foreign checkpoint, and for one that needs other modules.
    """
    return restore(run_or_checkpoint, imports)[0]


def restore(
    run_or_checkpoint: str | Path, imports: Sequence[str] | None
) -> tuple[SemiAmortizedVAE, dict[str, Any]]:
    """The same, and the ``data`` group of the run's config."""
    path = located(run_or_checkpoint)
    if (path / "checkpoints").is_dir():
        best = path / "checkpoints" / "best.ckpt"
        path = best if best.is_file() else best.with_name("last.ckpt")
    checkpoint = read_checkpoint(path)
    config = completed(checkpoint[CONFIG_KEY])
    admit(config, imports)
    hyper_parameters = _fitting(checkpoint, config, path)
    module, dtype = SemiAmortizedVAE(**hyper_parameters), precision_of(config)
    module.to(dtype)
    if (state := checkpoint.get(DATA_KEY)) is not None:
        module.preprocessing = Preprocessing.of(state, dtype)
    put_weights(module, checkpoint["state_dict"], path)
    return module.eval(), checkpoint[CONFIG_KEY]["data"]


@dataclass
class _OfData:
    """What a module is told of its data."""

    data_shape: tuple[int, ...]
    data_variance: float
    data_levels: int | None = None
    data_classes: int | None = None
    seed: int = 0


def _fitting(
    checkpoint: Mapping[str, Any], config: Mapping[str, Any], path: object
) -> dict[str, Any]:
    """The arguments of a checkpoint's module, whose weights fit it.

    A module without memory says so: the config of a file can ask for any amount of it.

    Raises:
        InputError: if they do not fit.
    """
    held = checkpoint.get("hyper_parameters")
    try:
        check_types(_OfData, held, "hyper_parameters.")
    except InputError as error:
        raise InputError(f"checkpoint '{path}' cannot be built: {error}") from error
    assert isinstance(held, Mapping)
    arguments = {key: held[key] for key in keys_of(_OfData) if key in held}
    arguments |= {group: config[group] for group in GROUPS}
    try:
        with torch.device("meta"):
            module = SemiAmortizedVAE(**arguments)
    except (RuntimeError, NotImplementedError):
        return arguments  # A network of the user's own needs memory to be built.
    put_weights(module, checkpoint["state_dict"], path)
    return arguments


def admit(config: dict[str, Any], imports: Sequence[str] | None) -> None:
    """Import the modules of a checkpoint's config, and see that it is left with no unknown name.

    They are found as every module is, in the current folder or on Python's path, never beside the
    checkpoint. By default they are those that the config names, which are printed first;
    ``config["imports"]`` then holds what was imported.

    Raises:
        InputError: for a module that is not found, and for a name that no module registered.
    """
    named = list(config.get("imports", ()))
    if imports is None and named:
        print(f"The checkpoint imports {', '.join(named)}", flush=True)
    config["imports"] = named if imports is None else list(imports)
    import_modules(config["imports"])
    refused = [name for name in named if name not in config["imports"]]
    try:
        check_options(config)
        DATASETS[config["data"]["name"]]
    except InputError as error:
        if not refused:
            raise
        raise InputError(
            f"{error} (the checkpoint imports {', '.join(refused)}, which imports="
            f"[{','.join(config['imports'])}] leaves out)"
        ) from error


def evaluate_checkpoint(options: Mapping[str, Any]) -> tuple[Evaluation, dict[str, float]]:
    """The figures of a checkpoint: with no options, the same as at the end of its training.

    The options are those of :class:`savi.config.schema.EvaluateConfig`.

    Returns:
        The evaluation, and with ``ood`` how well the run tells another data set from its own.

    Raises:
        InputError: for a missing or foreign checkpoint, or an option out of range.
    """
    quieten_libraries()
    check_evaluation(options)
    checkpoint = read_checkpoint(options["checkpoint"])
    config = completed(checkpoint[CONFIG_KEY])
    admit(config, options["imports"])
    _fitting(checkpoint, config, options["checkpoint"])
    for group, key, name in (
        *(("evaluation", name, name) for name in SETTINGS),
        ("inner", "test_max_steps", "test_max_steps"),
        ("data", "path", "data_path"),
        ("trainer", "threads", "threads"),
    ):
        if options[name] is not None:
            config[group][key] = options[name]
    # Nothing is logged, whatever the run's login was.
    config["logger"] = {**config["logger"], "wandb": False}
    data, module = build(config, checkpoint.get(DATA_KEY))
    put_weights(module, checkpoint["state_dict"], options["checkpoint"])
    module.to(_device(options["device"]))
    if options["ood"] is not None and (module.labelled or data.sequences):
        kind = "labels" if module.labelled else "words"
        raise InputError(
            f"ood '{options['ood']}' with a run whose {kind} mean nothing in other data: leave ood "
            "out"
        )
    others = None if options["ood"] is None else _other_data(config, options, data)
    with shown("evaluating") as progress:
        folder = Path(options["checkpoint"]).resolve().parent.parent
        evaluation = evaluate(module, data, options["split"], progress, **course_of(folder))
    if (file := options.get("codes")) is not None:
        write_codes(Path(file), module, data)
        print(f"Codes of every split are in {file}: data=arrays data.path={file}", flush=True)
    for remark in _remarks(data, options["split"], DATA_KEY in checkpoint):
        print(remark, flush=True)
    if others is None:
        return evaluation, {}
    own = data.split(options["split"])[: options["ood_examples"]]
    return evaluation, out_of_distribution(module, own.to(module.device), others.to(module.device))


def _remarks(data: TensorDataModule, split: str, fitted: bool) -> Iterator[str]:
    """What the reader of the figures must know of the data, a sentence each."""
    if not fitted:
        yield (
            "The checkpoint holds no preprocessing: mean, scale and splits are those of the file "
            "as it is now, so that examples may have been trained on"
        )
    elif not data.known:
        yield (
            f"The data of '{data.name}' are not those that the run began with: they are seen "
            "through the mean, the scale and the splits of the run"
        )
    trained, size = data.count_trained(split), len(data.split(split))
    if fitted and trained:
        yield f"Of the {size:,} {split} examples, {trained:,} were trained on"


def _other_data(
    config: Mapping[str, Any], options: Mapping[str, Any], own: TensorDataModule
) -> Float[Tensor, "M D"]:
    """Test examples of the data set ``ood`` as this run would see them."""
    changed = {"name": options["ood"], "path": options["ood_path"], "options": {}}
    if options["ood"] != own.name:
        changed["layout"] = "channels_first"
    try:
        other = TensorDataModule(**{**config["data"], **changed})
        other.dtype = own.dtype
        other.setup()
    except InputError as error:
        raise InputError(str(error).replace("data.path", "ood_path")) from error
    if other.dim != own.dim:
        raise InputError(
            f"ood '{other.name}' has {other.dim} dimensions and '{own.name}' {own.dim}: name data "
            "of the same dimension"
        )
    # Centred and scaled as the run's data, not as their own would be.
    examples = other.split("test")[: options["ood_examples"]]
    return own.units.seen(other.units.restored(examples))


def _device(name: str) -> torch.device:
    """The device of that name; ``auto`` is what training chooses by itself."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device '{name}' is unknown: set it to auto, cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError("device 'cuda': this machine has no CUDA GPU, so set device=cpu")
    return device
