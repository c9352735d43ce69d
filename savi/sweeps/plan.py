"""Which jobs a sweep is to have, written down before the first one starts."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from savi.errors import InputError
from savi.experiments.check_values import check_job
from savi.runs.folder import make
from savi.runs.mappings import Unreadable, read_mapping
from savi.runs.whole import NotWritten, write_text
from savi.settings import key_of
from savi.sweeps.constants import refuse_other_constants
from savi.sweeps.direction import follow_metric
from savi.sweeps.jobs import job_folder, sweep_again

if TYPE_CHECKING:
    from savi.sweeps.relay import Relay

#: Where the jobs find the keys that have one value in the whole sweep.
CONSTANT = "hydra.job.config.override_dirname.exclude_keys"

#: The file of a sweep folder that holds the plan.
PLAN = "sweep.json"


class WritePlan(Callback):
    """A Hydra callback that writes ``sweep.json`` into the folder of a sweep, made if need be.

    It holds ``command``, the keys that are ``swept``, and either ``jobs`` (a list of ``folder``
    and ``overrides``), or ``trials``, their number, where the sweeper chooses as it goes. A sweep
    that is started again with other values keeps the jobs that it had, and one that is started
    again without new ones its command.

    Attributes:
        folder: the folder of the sweep that this process runs, or None.
        relay: what hands signals on to the processes of its launcher, or None.
    """

    folder: Path | None = None
    relay: Relay | None = None

    def on_multirun_start(
        self, config: DictConfig, config_name: str | None = None, **kwargs: Any
    ) -> None:
        """Write the plan; refuse what no sweep could do, before any job runs."""
        with _refusing():
            _require_values(config)
            WritePlan.folder = _write_plan(config, config_name)
        if in_workers(config.hydra.launcher):
            from savi.sweeps.relay import Relay

            WritePlan.relay = Relay()

    def on_run_start(
        self, config: DictConfig, config_name: str | None = None, **kwargs: Any
    ) -> None:
        """Refuse a folder that cannot be, before Hydra makes it."""
        # As Hydra does next: the folder may be named by what was chosen.
        HydraConfig.instance().set_config(config)
        with _refusing():
            _require_values(config)
            make(Path(config.hydra.run.dir), "hydra.run.dir")


@contextmanager
def _refusing() -> Iterator[None]:
    """Say what is refused: Hydra makes a mere warning of an exception of its callbacks."""
    try:
        yield
    except (InputError, NotWritten) as error:
        print(f"savi: {error}", file=sys.stderr)
        raise SystemExit(2 if isinstance(error, InputError) else 1) from error


def _require_values(config: DictConfig) -> None:
    """Refuse keys of Hydra's own that are said to have no value: it would go on with a None."""
    for word in config.hydra.overrides.hydra:
        if word.endswith("=???"):
            raise InputError(f"{key_of(word)} is ???, which stands for no value: set it to one")


def _write_plan(config: DictConfig, config_name: str | None) -> Path:
    """Write the plan, hand the sweeper what depends on earlier starts, and return the folder."""
    folder = Path(config.hydra.sweep.dir)
    earlier = read_plan(folder / PLAN)
    overrides = _overrides(config)
    # A key that was swept before stays in the names, though it has one value this time.
    swept = {*earlier.get("swept", ()), *(_key(o) for o in overrides if o.is_sweep_override())}
    fixed = {_key(o): str(o.input_line) for o in overrides if _key(o) not in swept}
    constant = list(fixed)
    check_job(config)
    follow_metric(config.hydra, _objective(config, overrides))
    refuse_other_constants(folder, config_name, swept, list(fixed.values()))
    # Before the number of trials is asked for: their study lies in it.
    make(folder, "hydra.sweep.dir")
    # Every job is composed anew, with these among its overrides.
    config.hydra.overrides.hydra.append(f"{CONSTANT}=[{','.join(constant)}]")
    trials = OmegaConf.select(config, "hydra.sweeper.n_trials")
    line, jobs = shlex.join(["savi-train", *sys.argv[1:]]), None
    if trials is None:
        jobs = list(earlier.get("jobs") or ())
        known = {job["folder"] for job in jobs}
        new = [job for job in _jobs(overrides, constant) if job["folder"] not in known]
        jobs += new
        if not new:
            line = earlier["command"]
    if trials is not None and config.hydra.sweeper.storage is not None:
        sweeper = config.hydra.sweeper
        sweeper.n_trials = trials_left(
            trials, sweeper.storage, sweeper.study_name, sweeper.direction
        )
        if OmegaConf.select(sweeper, "sampler.seed") is not None:
            # The same seed again would propose the first trials again.
            sweeper.sampler.seed += trials - sweeper.n_trials
    plan = {"command": line, "swept": sorted(swept), "jobs": jobs, "trials": trials}
    write_text(folder / PLAN, json.dumps(plan, indent=2) + "\n")
    return folder


def in_workers(launcher: Any) -> bool:
    """Whether a launcher has jobs done by processes that end with the sweep's."""
    return "joblib" in launcher._target_


def goes_on(folder: Path, shown: str) -> str:
    """The command line that goes on with the sweep in a folder, which it calls as it is shown."""
    return sweep_again(read_plan(folder / PLAN).get("command", "savi-train -m"), shown)


def _overrides(config: DictConfig) -> list[Override]:
    """What the sweep's config and its command line set; the command line counts where both do."""
    params = OmegaConf.select(config, "hydra.sweeper.params") or {}
    arguments = [f"{key}={value}" for key, value in params.items()]
    parsed = OverridesParser.create().parse_overrides(arguments + list(config.hydra.overrides.task))
    return list({override.get_key_element(): override for override in parsed}.values())


def _objective(config: DictConfig, overrides: list[Override]) -> str:
    """The metric that the jobs are judged by, which the sweep's own file may set as well."""
    given = {_key(override): override for override in overrides if not override.is_sweep_override()}
    chosen = given.get("optimized_metric")
    return str(config.optimized_metric if chosen is None else chosen.value())


def _jobs(overrides: list[Override], constant: list[str]) -> list[dict[str, Any]]:
    """The jobs of Hydra's basic sweeper: every combination of the values given."""
    (combinations,) = BasicSweeper.split_arguments(overrides, None)
    return [{"folder": job_folder(job, constant), "overrides": list(job)} for job in combinations]


def _key(override: Override) -> str:
    return key_of(override.get_key_element())


def read_plan(path: Path) -> dict[str, Any]:
    """The plan of an earlier start, if there is one that can be read."""
    try:
        found = read_mapping(path)
    except (OSError, Unreadable):
        return {}
    return found if _is_plan(found) else {}


def _is_plan(found: Mapping[str, Any]) -> bool:
    """Whether it has the types of what :class:`WritePlan` writes."""
    swept, jobs = found.get("swept"), found.get("jobs")
    return (
        isinstance(found.get("command"), str)
        and isinstance(swept, list)
        and all(isinstance(key, str) for key in swept)
        and isinstance(jobs, list | None)
        and all(isinstance(job, dict) and isinstance(job.get("folder"), str) for job in jobs or ())
    )


def trials_left(wanted: int, storage: str, study: str, direction: str) -> int:
    """``wanted`` less the trials that ended well in the study, at least 0.

    Optuna's sweeper would run ``wanted`` more trials whenever it is started. Failed trials do not
    count, so that a sweep that is started again makes up for them.

    Raises:
        InputError: if the study was begun in the other direction, which Optuna would go on with.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if study not in {summary.study_name for summary in optuna.get_all_study_summaries(storage)}:
        return wanted
    begun = optuna.load_study(study_name=study, storage=storage)
    if (before := begun.direction.name.lower()) != direction:
        raise InputError(
            f"the study '{study}' in {storage} was begun to {before}, and is now to {direction}: "
            "choose another hydra.sweep.dir or hydra.sweeper.study_name"
        )
    done = sum(trial.state is optuna.trial.TrialState.COMPLETE for trial in begun.trials)
    return max(0, wanted - done)
