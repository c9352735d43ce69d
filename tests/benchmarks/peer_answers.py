"""Every installed system on a problem, in one process: ``peer_answers.py PROBLEM SETTINGS OUT``.

Not in the process of the tests: JAX warns in all that fork after it has been imported.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from benchmarks.peers.problem import Problem
from benchmarks.peers.systems import SYSTEMS, Settings

torch.set_num_threads(2)
problem = Problem.load(Path(sys.argv[1]))
settings = Settings(**json.loads(sys.argv[2]))
for name, cls in SYSTEMS.items():
    if cls.is_installed() and not getattr(cls, "compile", False):
        system = cls(problem, settings)
        system.step()
        value, gradient = system.step()
        np.savez(
            Path(sys.argv[3]) / f"{name}.npz",
            z=np.asarray(value),
            gradient=np.concatenate([np.asarray(part).ravel() for part in gradient]),
            note=system.note,
        )
