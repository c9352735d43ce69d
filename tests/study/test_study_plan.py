"""Which runs a study has, in which order, and the words of each."""

import pytest
from study.__main__ import STUDIES, chosen
from study.kim2018 import KIM
from study.plan import Block, Job, Study

from savi.errors import InputError

STUDY = Study(
    ("logger=csv",),
    {
        "small": Block(
            "Small", ("data=digits",), {"vae": ("experiment=vae",), "svi": ()}, (), seeds=2
        ),
        "large": Block("Large", ("data=mnist",), {"vae": ("experiment=vae",)}, (), seeds=1),
    },
)


def test_a_seed_is_finished_before_the_next_begins():
    assert STUDY.jobs() == [
        Job("small", "vae", 0),
        Job("small", "svi", 0),
        Job("large", "vae", 0),
        Job("small", "vae", 1),
        Job("small", "svi", 1),
    ]
    assert len(STUDY.jobs(1)) == 3


def test_words_that_come_later_overrule():
    part = STUDY.part(["small"], ["vae"], ["data.limit=60"])
    (job, *_) = part.jobs()
    words = ("logger=csv", "data=digits", "experiment=vae", "seed=0", "data.limit=60")
    assert part.command(job) == words
    assert {job.method for job in part.jobs()} == {"vae"}


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(InputError, match="unknown study 'kim': choose one of implicit, kim2018"):
        chosen("kim", None, None, [])
    with pytest.raises(InputError, match="unknown block 'tiny': choose one of large, small"):
        STUDY.part(["tiny"], None, [])
    with pytest.raises(InputError, match="unknown method 'sav': choose one of svi, vae"):
        STUDY.part(None, ["sav"], [])


def test_every_command_of_the_studies_composes():
    """Names of experiments and keys are those that there are."""
    from benchmarks.harness import run_config

    for study in STUDIES.values():
        seen = set()
        for job in study.jobs(1):
            # Each method once, and each block.
            if not {job.block, job.method} <= seen:
                seen |= {job.block, job.method}
                assert run_config(study.command(job))["seed"] == 0
    assert {"vae", "svi", "savi_unrolled"} <= set(KIM.blocks["lstm_oracle"].methods)
