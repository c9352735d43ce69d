"""The numerical tests on every code path of this processor: python tests/portable.py [options]."""

import os
import subprocess
import sys
import time
from tempfile import TemporaryDirectory

import torch

NUMERICAL = (
    *("linear", "inner", "gradients", "implicit", "vae", "inference", "evaluation", "replicas"),
    "test_minimize.py",
)
#: What torch was built for, up to what the processor has.
CAPABILITIES = ("default", "avx2", "avx512")
SEEDS = (1, 2, 3)


def settings() -> list[dict[str, str]]:
    """The environment variables of each run."""
    has = torch.backends.cpu.get_cpu_capability().lower()
    paths = CAPABILITIES[: CAPABILITIES.index(has) + 1] if has in CAPABILITIES else ("default",)
    runs = [{"ATEN_CPU_CAPABILITY": path} for path in paths]
    if torch.backends.mkl.is_available():
        runs.append({"MKL_CBWR": "COMPATIBLE"})
    runs = [run | {"OMP_NUM_THREADS": threads} for run in runs for threads in ("1", "2")]
    return runs + [{"SAVI_TEST_SEED": str(seed), "OMP_NUM_THREADS": "1"} for seed in SEEDS]


def passes(setting: dict[str, str], options: list[str]) -> bool:
    """Run the tests, and print a line that says how they ended; if they failed, what failed."""
    # Also with two threads each: most of the time a test has work for one.
    workers = os.cpu_count() or 1
    tests = [f"tests/{name}" for name in NUMERICAL]
    command = [sys.executable, "-m", "pytest", f"-n{workers}", "--dist=loadfile", *tests, *options]
    start = time.perf_counter()
    # torch.compile would find code again that it has made for another of the processor's paths.
    with TemporaryDirectory() as cache:
        # Threads that wait asleep: there are more of them than cores where each process has two.
        own = {"TORCHINDUCTOR_CACHE_DIR": cache, "OMP_WAIT_POLICY": "PASSIVE"}
        environment = os.environ | setting | own
        run = subprocess.run(command, env=environment, capture_output=True, text=True)
    name = " ".join(f"{key}={value}" for key, value in setting.items())
    word = "failed" if run.returncode else "passed"
    print(f"{word} in {time.perf_counter() - start:4.0f} s: {name}", flush=True)
    if run.returncode:
        print(run.stdout + run.stderr, flush=True)
    return run.returncode == 0


if __name__ == "__main__":
    failed = [setting for setting in settings() if not passes(setting, sys.argv[1:])]
    sys.exit(bool(failed))
