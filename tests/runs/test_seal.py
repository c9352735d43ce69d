"""Checkpoints that carry a digest of themselves."""

import random
from dataclasses import asdict

import pytest
import torch

from savi.config.data import DataConfig
from savi.config.schema import Config
from savi.errors import InputError
from savi.experiments.checkpoint import read_checkpoint, write_checkpoint
from savi.runs.seal import is_damaged, seal


@pytest.fixture
def archive(tmp_path):
    file = tmp_path / "a.ckpt"
    torch.save({"weights": torch.arange(50.0), "name": "a"}, file)
    return file


def test_a_sealed_archive_reads_as_before(archive):
    seal(archive)
    assert not is_damaged(archive)
    for mapped in (False, True):
        contents = torch.load(archive, weights_only=True, mmap=mapped)
        assert torch.equal(contents["weights"], torch.arange(50.0))
        assert contents["name"] == "a"


def test_an_archive_of_an_earlier_version_is_taken_as_it_is(archive):
    assert not is_damaged(archive)


def test_no_bit_can_be_flipped(archive):
    seal(archive)
    whole = archive.read_bytes()
    # All of the end, which says that there is a seal, and many elsewhere.
    ends = range(8 * (len(whole) - 110), 8 * len(whole))
    for bit in [*random.Random(0).sample(range(8 * len(whole)), 300), *ends]:
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        archive.write_bytes(content)
        assert is_damaged(archive), bit


def test_no_part_passes_for_the_whole(archive):
    for sealed in (False, True):
        if sealed:
            seal(archive)
        whole = archive.read_bytes()
        for length in range(2, len(whole), 97):
            archive.write_bytes(whole[:length])
            assert is_damaged(archive)
        archive.write_bytes(whole)


def test_a_damaged_checkpoint_is_named(tmp_path):
    file = tmp_path / "a.ckpt"
    config = asdict(Config(data=DataConfig(name="digits")))
    write_checkpoint(file, {"savi_config": config, "state_dict": {"w": torch.ones(3)}})
    assert read_checkpoint(file)["savi_config"] == config
    content = bytearray(file.read_bytes())
    content[content.index(torch.ones(3).numpy().tobytes())] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.ckpt' is damaged: its contents are not those"):
        read_checkpoint(file)
