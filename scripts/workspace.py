"""The wandb dashboard from a checkout: printed as JSON, or with ``--save`` saved as a view."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from savi.report.workspace import main

if __name__ == "__main__":
    sys.exit(main())
