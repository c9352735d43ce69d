"""``savi-report`` from a checkout, whether savi is installed or not."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from savi.cli import report

if __name__ == "__main__":
    report()
