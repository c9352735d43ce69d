"""The benchmark ``peers``: the time of an outer step here and in other libraries."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table

from benchmarks.harness import Config, benchmark, check_not_empty, write_csv
from benchmarks.peers.client import Worker, WorkerError
from benchmarks.peers.limits import chosen_threads
from benchmarks.peers.outcome import Judgement, Outcome
from benchmarks.peers.problem import Problem
from benchmarks.peers.reference import Reference, Vector, relative_error
from benchmarks.peers.report import relative_times, result_table, target_table
from benchmarks.peers.systems import SYSTEMS, Settings
from benchmarks.progress import Progress
from benchmarks.systems import chosen, tell_left_out
from benchmarks.timing import Timing
from benchmarks.trained import TrainedConfig, trained_batch
from savi.errors import InputError
from savi.report.figures.style import save
from savi.settings import setting

PARTS = ("fixed", "converged")


@dataclass
class PeersConfig(TrainedConfig):
    """The problems, what the systems are told, and how they are timed."""

    train_steps: int = setting(3000, at_least=1)
    #: one problem for each (None for the images as they are).
    sides: list[int | None] = field(default_factory=list)
    #: those of them on which solvers go on until ``fraction`` of the examples reach ``rtol``, in at
    #: most ``max_steps``.
    converged_sides: list[int | None] = field(default_factory=list)
    systems: list[str] | None = None  # by name; None for all
    #: K of gradient descent with the step size ``relative_lr`` / λmax.
    steps: int = setting(80, at_least=2)
    relative_lr: float = 1.0
    rtol: float = 1e-3
    fraction: float = 0.95
    max_steps: int = setting(500, at_least=1)
    tolerance: float = 1e-2  # how far off a gradient that counts may be
    rounds: int = setting(9, at_least=1)  # of the timing, with so many seconds of a ``turn``
    turn: float = setting(0.5, at_least=0)
    timeout: float = 600.0  # seconds after which a system has failed


@benchmark("peers", PeersConfig)
def run_peers(config: Config, folder: Path) -> list[Table]:
    """Time an outer step in this library and in others: same weights, data, type and threads.

    Each system runs in a process of its own, only one at a time, in turn and round by round.
    Writes ``peers.csv``, a line for each problem, system and round; ``peers.png``; and the
    problems as ``problem-D.npz``. Returns a table for each problem, and the targets.
    """
    _check(config)
    threads = chosen_threads(config["threads"])
    systems = chosen_systems(config["systems"])
    parts = [
        (side, part, members)
        for side in config["sides"]
        for part in PARTS
        if part == "fixed" or side in config["converged_sides"]
        if (members := [name for name in systems if SYSTEMS[name].part == part])
    ]
    problems = []
    with Progress(sum((1 + config["rounds"]) * len(members) for *_, members in parts)) as progress:
        task: Task | None = None
        for side, part, members in parts:
            if task is None or task.side != side:
                task = Task.prepared(side, config, folder, threads)
                progress.say(f"a trained VAE, D = {task.problem.data_dim:,}; threads: {threads}")
            problems.append(task.measured(part, members, config, progress))
            progress.say(f"{part}, D = {task.problem.data_dim:,}: {len(members)} systems")
    rows = [row for outcomes in problems for outcome in outcomes for row in outcome.rows()]
    write_csv(folder / "peers.csv", rows)
    save(relative_times(problems, config), folder / "peers.png")
    tables = [result_table(outcomes, config) for outcomes in problems]
    return [*tables, target_table(problems, config)]


def chosen_systems(names: Sequence[str] | None) -> list[str]:
    """The systems to test; those of packages that are not installed are named and left out."""
    found, absent = chosen(SYSTEMS, names)
    tell_left_out(absent)
    return found


@dataclass(frozen=True)
class Task:
    """A problem, its file, and what is known of it."""

    side: int | None  # the size of its images
    problem: Problem  # the arrays
    path: Path  # where they are
    threads: int  # of every system
    settings: Settings  # what all systems are told
    reference: Reference  # what is right

    @classmethod
    def prepared(cls, side: int | None, config: Config, folder: Path, threads: int) -> Task:
        """Train, write the file, and choose the step size."""
        problem = Problem.of(trained_batch({**config, "side": side}))
        path = folder / f"problem-{problem.data_dim}.npz"
        problem.save(path)
        reference = Reference(problem)
        given = {key: config[key] for key in ("steps", "rtol", "fraction", "max_steps")}
        settings = Settings(lr=config["relative_lr"] / reference.sharpest(), **given)
        return cls(side, problem, path, threads, settings, reference)

    def measured(
        self, part: str, names: Sequence[str], config: Config, progress: Progress
    ) -> list[Outcome]:
        """All systems of a part: each warm, its answer judged, and then timed in turn."""
        expected: dict[str, Vector] = {}
        if part == "fixed":
            expected = self.reference.of_steps(self.settings.steps, self.settings.lr)
        outcomes: dict[str, Outcome] = {}
        workers: dict[str, Worker] = {}

        def fail(name: str, error: WorkerError) -> None:
            workers.pop(name, None)
            timing = outcomes[name].timing
            timing.seconds, timing.refusal = [], str(error)
            progress.say(f"{name} failed: {error}")

        with ExitStack() as stack:
            for name in names:
                found = Outcome(part, self.problem.data_dim, name, Timing(float("nan")))
                outcomes[name] = found
                told = self.path, self.threads, self.settings, config["timeout"]
                try:
                    workers[name] = stack.enter_context(Worker(name, *told))
                    found.note = workers[name].note
                    found.judgement = self._judged(workers[name], expected.get(found.system.kind))
                except WorkerError as error:
                    fail(name, error)
                progress.advance(f"{name}: warm")
            for _ in range(config["rounds"]):
                for name, worker in list(workers.items()):
                    try:
                        outcomes[name].timing.seconds.append(worker.seconds(config["turn"]))
                    except WorkerError as error:
                        fail(name, error)
                    progress.advance(name)
        return list(outcomes.values())

    def _judged(self, worker: Worker, expected: Vector | None) -> Judgement:
        value, gradient = worker.answer(self.path.with_name("answer.npz"))
        return Judgement(
            relative_error(gradient, self.reference.at_solution(value)),
            None if expected is None else relative_error(gradient, expected),
            self.reference.stationarity(value),
        )


def _check(config: Config) -> None:
    for key, most in {"relative_lr": 2, "rtol": 1, "fraction": 1, "tolerance": 1}.items():
        if not 0 < config[key] <= most:
            raise InputError(f"{key} is {config[key]}: set it above 0 and to at most {most}")
    if not config["timeout"] > 0:
        raise InputError(f"timeout is {config['timeout']}: set it above 0, in seconds")
    check_not_empty(config, "systems", advice="name at least one, or set it to null for all")
    check_not_empty(config, "sides", advice="give at least one, such as [null,64]")
    for side in config["converged_sides"]:
        if side not in config["sides"]:
            raise InputError(f"converged_sides holds {side}, which is not in sides: add it there")
    if config["checkpoint"] is not None and config["sides"] != [None]:
        raise InputError(
            f"sides is {config['sides']} with a checkpoint, whose images have the size that it was "
            "trained on: set sides to [null]"
        )
    if config["activation"] != "softplus":
        raise InputError(
            f"activation is {config['activation']}: the other libraries are given softplus, so "
            "set it to that"
        )
