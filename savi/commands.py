"""What the commands do: Hydra in, one sentence out if it is wrong."""

from __future__ import annotations

import json
import math
import os
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

import hydra
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from savi import console
from savi.config import store
from savi.config.catalogue import choices
from savi.config.data import settings_of
from savi.config.hydras import own_answers
from savi.config.options import check_options, register_groups
from savi.config.schema import Config
from savi.config.words import GROUPS, modules_named, repeated
from savi.errors import InputError, unknown_option
from savi.experiments.check_values import check_evaluation, check_job, check_values
from savi.plugins import import_modules
from savi.runs.folder import require_unused
from savi.runs.record import Interrupted, Origin, Record
from savi.runs.stop import CODES as STOP_CODES
from savi.runs.stop import STOP
from savi.runs.whole import write_text
from savi.settings import key_of
from savi.shells import FLAGS as COMPLETION_FLAGS
from savi.shells import answer
from savi.sweeps.jobs import again, command, job_folder, setting
from savi.sweeps.plan import WritePlan, goes_on, in_workers

store.register_schemas()
# ``conf/config.yaml`` uses it.
OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)

#: The ``logger.folder`` of the configs, where all offline runs are linked.
SHARED_RUNS = "runs/wandb"

#: Where launchers and Lightning tell a process its number among those of a data-parallel run.
RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


@hydra.main(version_base="1.3", config_path=store.conf_dir(), config_name="config")
def _train(config: DictConfig) -> float:
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    try:
        with console.answering(folder):
            values = store.plain(config)
            values["experiment"] = hydra_config.runtime.choices.get("experiment")
            if hydra_config.mode is RunMode.RUN and hydra_config.runtime.choices.get("sweep"):
                raise InputError(
                    f"sweep={hydra_config.runtime.choices['sweep']} without -m: add -m"
                )
            if values["replay"] is not None:
                return _replay(values["replay"], folder, hydra_config)
            if hydra_config.mode is RunMode.MULTIRUN:
                return _train_in_turn(values, folder, hydra_config)
            _check(values, hydra_config)
            if values["resume"] is None and _is_first_process():
                require_unused(folder)
            words = hydra_config.overrides.task
            again_by = again(words, console.short(folder))
            origin = Origin(command(words), again=again_by, remarks=tuple(repeated(words)))
            if values["trainer"]["replicas"] > 1:
                return _train_replicas(values, folder, origin)
            # PyTorch is imported from here on, Lightning once the method is known to be possible.
            from savi.experiments.check import check

            check(values)
            from savi.experiments.run import train as run

            metrics = run(values, folder, origin)
    except KeyboardInterrupt:
        if hydra_config.mode is RunMode.MULTIRUN:
            sys.exit(STOP.code)
        console.remove_if_empty(folder)
        if not folder.is_dir():
            raise
        words = hydra_config.overrides.task
        console.say(f"interrupted; to go on: {again(words, console.short(folder))}")
        sys.exit(STOP.code)
    except Interrupted as error:
        # Ends a sweep as well, which says how to go on: its user wants the terminal back.
        if hydra_config.mode is RunMode.RUN:
            console.say(str(error))
        sys.exit(STOP.code)
    if metrics is None:
        return math.nan
    _print_results(metrics, values, folder)
    return _optimized(metrics, values)


def _replay(path: str, folder: Path, hydra_config: HydraConf) -> float:
    others = [word for word in hydra_config.overrides.task if key_of(word) != "replay"]
    if others or hydra_config.mode is RunMode.MULTIRUN:
        given = others[0] if others else "-m"
        raise InputError(
            f"replay with {given}: the step is repeated with the settings of its run, so leave it "
            "out"
        )
    from savi.experiments.replay import replay

    repeated = replay(path)
    for table in repeated.tables():
        console.print_table(table)
        print()
    print(repeated.summary(), flush=True)
    console.remove_if_empty(folder)
    return math.nan


def _train_replicas(values: dict[str, Any], folder: Path, origin: Origin) -> float:
    from savi.replicas import train as run

    results = run(values, folder, origin)
    print(_summary(Path(console.short(folder)))[0], flush=True)
    return mean(_optimized(metrics, values) for metrics in results if metrics)


def _train_in_turn(values: dict[str, Any], folder: Path, hydra_config: HydraConf) -> float:
    """A job of a sweep, in its process or in a launcher's, which has none begun after a signal."""
    if not in_workers(hydra_config.launcher):
        return _train_job(values, folder, hydra_config)
    from savi.sweeps.relay import in_worker

    if STOP.asked:
        return math.nan
    try:
        with in_worker():
            return _train_job(values, folder, hydra_config)
    except (Interrupted, KeyboardInterrupt):
        # Joblib would kill the other workers, whose jobs are stopping too.
        return math.nan


def _train_job(values: dict[str, Any], folder: Path, hydra_config: HydraConf) -> float:
    from savi.experiments.resume import Progress
    from savi.experiments.run import Run
    from savi.sweeps.job import run_job

    def work(
        folder: Path, origin: Origin, done: Progress | None, record: Record
    ) -> Mapping[str, float]:
        _check(values, hydra_config)
        check_job(values)
        return Run.build(values, folder, done).execute(origin, record)

    overrides = list(hydra_config.overrides.task)
    constant = hydra_config.job.config.override_dirname.exclude_keys
    sweep = Path(hydra_config.sweep.dir)
    origin = Origin(
        command(overrides),
        sweep.name,
        setting(overrides, constant),
        again=goes_on(sweep, console.short(sweep)),
    )
    metrics = run_job(folder, origin, values, work)
    return _optimized(metrics, values) if metrics else math.nan


def _check(values: Mapping[str, Any], hydra_config: HydraConf) -> None:
    """Refuse what Hydra lets through, and what can be seen to be wrong without PyTorch."""
    store.refuse_unknown_keys(values, Config)
    import_modules(values["imports"])
    check_options(values)
    store.refuse_dropped_groups(hydra_config.runtime.choices, Config)
    check_values(values)
    data = values["data"]
    settings_of(choices("data set"), data["name"], data["path"], data["options"])


def _is_first_process() -> bool:
    """Of a data-parallel run: the others find what the first has begun to write."""
    return all(os.environ.get(rank, "0") == "0" for rank in RANKS)


def _optimized(metrics: Mapping[str, float], values: Mapping[str, Any]) -> float:
    """The figure by which a sweeper judges the run.

    Raises:
        InputError: if there is no such figure.
    """
    name = values["optimized_metric"]
    if name not in metrics:
        raise unknown_option("optimized_metric", name, metrics)
    return metrics[name]


def _print_results(metrics: Mapping[str, float], values: Mapping[str, Any], folder: Path) -> None:
    from savi.report.table import results_table

    console.print_table(
        results_table(metrics, f"{values['experiment']} on {values['data']['name']}")
    )
    if (folder / "collapse.json").is_file():
        console.print_verdict(json.loads((folder / "collapse.json").read_text()))
    print(f"Everything is in {console.short(folder)}", end="")
    if values["logger"]["wandb"] and values["logger"]["mode"] == "offline":
        print(f"; to look at all runs: wandb leet {values['logger']['folder']}", end="")
    print(flush=True)


@hydra.main(version_base="1.3", config_path=store.conf_dir(), config_name="evaluate")
def _evaluate(config: DictConfig) -> float:
    with console.answering():
        if OmegaConf.is_missing(config, "checkpoint"):
            raise InputError("no checkpoint is given: savi-evaluate checkpoint=PATH")
        values = store.plain(config)
        console.check_output(config.output)
        console.check_output(config.codes, "codes")
        check_evaluation(values)
        # PyTorch is imported from here on.
        from savi.experiments.reload import evaluate_checkpoint
        from savi.report.table import results_table

        evaluation, ood = evaluate_checkpoint(values)
        metrics = evaluation.metrics | ood
        console.print_table(results_table(metrics, f"{config.checkpoint}, {config.split} split"))
        if evaluation.collapse is not None:
            console.print_verdict(evaluation.collapse.record())
        if config.output is not None:
            text = json.dumps(metrics, indent=2, sort_keys=True) + "\n"
            write_text(Path(config.output), text)
        if evaluation.remark is not None:
            console.say(f"warning: {evaluation.remark}")
        evaluation.require_plausible()
    return metrics[f"{config.split}/elbo"]


def train() -> None:
    """``savi-train``."""
    with own_answers("savi-train"):
        console.guarded(_train_with_imports, groups=GROUPS)


def _train_with_imports() -> None:
    """Import the modules of the command line first: what they register, its groups may name."""
    import_modules(modules_named(sys.argv[1:]))
    register_groups()
    _train_and_sum_up()


def _train_and_sum_up() -> None:
    """Train; after a sweep, say how its jobs went, and exit 1 if one did not finish."""
    WritePlan.folder, WritePlan.relay, error = None, None, None
    try:
        _train()
        if WritePlan.relay is not None and STOP.asked:
            raise KeyboardInterrupt
    except Exception as raised:
        error = raised
    except (SystemExit, KeyboardInterrupt) as stopped:
        # The signal may have come to the process of a job.
        code = stopped.code if isinstance(stopped, SystemExit) else STOP.code
        if code not in STOP_CODES or (folder := WritePlan.folder) is None:
            raise
        print(_summary(folder)[0], flush=True)
        console.say(f"interrupted; to go on: {goes_on(folder, console.short(folder))}")
        sys.exit(code)
    finally:
        if WritePlan.relay is not None:
            WritePlan.relay.close()
    if WritePlan.folder is None:
        if error is not None:
            raise error
        return
    from savi.sweeps.job import JobFailed

    text, states = _summary(WritePlan.folder)
    # Hydra raises the first job's error once all have been tried, and have said theirs; where all
    # failed, a sweeper that looks for the best one may have an error of its own.
    all_failed = states["failed"] > 0 and not states["finished"]
    if error is not None and not isinstance(error, JobFailed) and not all_failed:
        raise error
    print(text, flush=True)
    if error is not None or states.total() > states["finished"] + states["running"]:
        sys.exit(1)


def _summary(folder: Path) -> tuple[str, Counter[str]]:
    """How the jobs of a sweep went, in words, and the number of them in each state."""
    from savi.sweeps.summary import summarise

    return summarise(folder)


def evaluate() -> None:
    """``savi-evaluate``."""
    with own_answers("savi-evaluate"):
        console.guarded(_evaluate)


def report() -> None:
    """``savi-report``."""
    console.guarded(_report)


def _report() -> None:
    from savi.report.command import candidates, main
    from savi.report.wandb import sync_help

    arguments = sys.argv[1:]
    if arguments[:1] and arguments[0] in COMPLETION_FLAGS:
        print(answer("savi-report", arguments[1:], candidates))
    elif arguments[:1] == ["sync-help"]:
        if len(arguments) > 2:
            raise InputError(
                "savi-report sync-help takes one folder: savi-report sync-help [FOLDER]"
            )
        print(sync_help(Path(arguments[1] if len(arguments) == 2 else SHARED_RUNS)))
    elif (page := main(arguments)) is not None:
        print(f"The report is in {console.short(page.resolve())}")
