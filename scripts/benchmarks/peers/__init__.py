"""How long does an outer step take here, and how long in other libraries?"""

from benchmarks.peers.run import run_peers
from benchmarks.peers.systems import SYSTEMS, Settings, System

__all__ = ["SYSTEMS", "Settings", "System", "run_peers"]
