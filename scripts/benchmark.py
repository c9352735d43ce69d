"""Measure what the library claims: ``python scripts/benchmark.py NAME [KEY=VALUE ...]``."""

from __future__ import annotations

import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent
sys.path[:0] = [str(SCRIPTS.parent), str(SCRIPTS)]

import hydra
import torch
from benchmarks.known import BENCHMARKS, RESUMABLE, SCHEMAS, register_schemas
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from savi.config.store import plain, refuse_unknown_keys
from savi.console import answering, guarded, print_table, short
from savi.errors import InputError, unknown_option
from savi.settings import check_settings

CONF = SCRIPTS / "benchmarks" / "conf"

register_schemas()


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="benchmark")
def _benchmark(config: DictConfig) -> None:
    name = str(HydraConfig.get().runtime.choices.get("benchmark"))
    folder = Path(HydraConfig.get().runtime.output_dir)
    with answering(folder):
        values = plain(config)
        benchmark = BENCHMARKS[name]
        refuse_unknown_keys(values, SCHEMAS[name])
        check_settings(SCHEMAS[name], values)
        if name not in RESUMABLE and (folder / f"{name}.csv").exists():
            raise InputError(
                f"hydra.run.dir '{folder}' holds a run already ({name}.csv): choose another"
            )
        if values["threads"] is not None:
            torch.set_num_threads(values["threads"])
        tables = benchmark(values, folder)
    for table in tables:
        print_table(table, width=120)
        print()
    print(f"Everything is in {short(folder)}", flush=True)


def _named_benchmark() -> None:
    """Let the first word choose the file of ``scripts/benchmarks/conf/benchmark/``.

    Raises:
        InputError: if it is missing or unknown.
    """
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    names = ", ".join(sorted(BENCHMARKS))
    usage = f"python scripts/benchmark.py NAME [KEY=VALUE ...], with NAME one of {names}"
    if name in ("-h", "--help"):
        print(f"{usage}\npython scripts/benchmark.py NAME --help shows the keys of a benchmark")
        return
    if not name or name.startswith("-") or "=" in name:
        raise InputError(f"no benchmark is given: {usage}")
    if name not in BENCHMARKS:
        raise unknown_option("benchmark", name, BENCHMARKS)
    sys.argv[1] = f"benchmark={name}"
    _benchmark()


def main() -> None:
    """Run the benchmark that the command line names."""
    guarded(_named_benchmark, SCHEMAS.values())


if __name__ == "__main__":
    main()
