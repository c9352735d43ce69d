"""Values of a config that exclude each other."""

import pytest

from savi.errors import InputError
from savi.experiments.check import check


@pytest.mark.parametrize("warmup", [0, 11])
def test_cycles_in_which_the_kl_weight_does_not_rise_to_its_end_are_refused(config, warmup):
    check(config("model.kl.cycle_steps=10", "model.kl.warmup_steps=10"))
    words = "model.kl.cycle_steps=10", f"model.kl.warmup_steps={warmup}"
    with pytest.raises(InputError, match=r"so set model\.kl\.warmup_steps between 1 and 10, such"):
        check(config(*words))
