"""Dependencies point one way: the library layers work without the training stack."""

import subprocess
import sys

import pytest

HEAVY = ("pytorch_lightning", "hydra", "omegaconf", "wandb", "matplotlib", "sklearn", "torchvision")


@pytest.mark.slow
def test_the_library_imports_no_training_stack():
    code = (
        "import sys, savi, savi.vae.build, savi.inference, savi.gradients, savi.linear\n"
        "import savi.implicit\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
