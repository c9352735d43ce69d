"""How long does an outer step take here, and how long in other libraries?"""

from savi.benchmark.peers.run import run_peers
from savi.benchmark.peers.systems import SYSTEMS, Settings, System

__all__ = ["SYSTEMS", "Settings", "System", "run_peers"]
