"""Prices that have been measured are not measured again."""

import json

from study.plan import Block, Study
from study.seconds import prices

METHODS = {"vae": ("experiment=vae",), "aggressive": ("callbacks.aggressive_encoder_steps=5",)}


def test_methods_of_which_callbacks_do_a_part_have_no_price(tmp_path):
    study = Study((), {"tiny": Block("Tiny", (), METHODS, (), seeds=1)})
    (tmp_path / "seconds_tiny.json").write_text(json.dumps({"vae": 0.5}))
    assert prices(study, "tiny", tmp_path) == {"vae": 0.5}
