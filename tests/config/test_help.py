"""The help of the commands, and the completion of their lines."""

import re
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from savi.config.catalogue import choices
from savi.config.comments import comments_of, head_of
from savi.config.completion import candidates
from savi.config.help import WIDTH, help_of
from savi.config.options import register_groups
from savi.config.schema import EvaluateConfig
from savi.config.store import conf_dir
from savi.config.words import GROUPS
from savi.settings import keys_of

CONF = Path(conf_dir())


@pytest.fixture(scope="module")
def loader():
    register_groups()
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        return GlobalHydra.instance().config_loader()


@pytest.fixture(scope="module")
def shown(loader):
    """The help of savi-train for a command line that chooses something."""
    return help_of(loader, "config", ["experiment=savi_unrolled", "seed=7", "model=conv"])


def test_a_comment_is_found_behind_its_key_or_above_it(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(
        "# @package _global_\n# What it is.\n# And more.\na: 1  # one\nb:\n  # above\n  # it\n"
        "  c: 'x#y'\n  d: '#'  # #two\ne: 2\n# of nothing\n"
    )
    assert head_of(file) == "What it is."
    assert comments_of([file]) == {"a": "one", "b.c": "above it", "b.d": "#two"}
    other = tmp_path / "b.yaml"
    other.write_text("a: 3  # three\ne: 4  # four\n")
    assert comments_of([other, file])["a"] == "three"
    assert comments_of([file, other])["e"] == "four"
    assert (head_of(other), head_of(file)) == ("", "What it is.")


def test_no_line_is_wider_than_a_terminal(shown, loader):
    for text in (shown, help_of(loader, "evaluate", [])):
        assert max(map(len, text.splitlines())) <= WIDTH == 80


def test_every_choice_has_its_line(shown):
    paragraphs = shown.partition("Keys (KEY=VALUE)")[0].split("\n\n")
    lines = {group: choices for group, _, choices in (p.partition("\n") for p in paragraphs)}
    for group in GROUPS:
        told = dict(re.findall(r"^[* ] (\w+) +(\S.*)$", lines[group], re.MULTILINE))
        assert told == {file.stem: head_of(file) for file in (CONF / group).glob("*.yaml")}


def test_what_is_chosen_is_marked(shown):
    for name in ("savi_unrolled", "conv", "digits"):
        assert f"\n* {name} " in shown
    assert "\n  mlp " in shown


def test_every_key_has_its_value_and_a_comment(shown):
    keys = shown.partition("Keys (KEY=VALUE)")[2].partition("Options of the choices")[0]
    found = re.findall(r"^  ([a-z][\w.]+)=(\S*)(.*(?:\n {30}.*)?)$", keys, re.MULTILINE)
    assert {key for key, _, comment in found if not comment.strip()} == set()
    values = {key: value for key, value, _ in found}
    assert (values["seed"], values["data.seed"]) == ("7", "7")
    assert (values["inner.optimizer"], values["inner.lr"]) == ("adam", "0.05")
    assert values["model.hidden"] == "32"
    # That of the chosen model.
    assert re.search(r"model.hidden=32 +channels of the first scale", keys)
    assert values.keys() >= {"trainer.max_epochs", "model.gamma.mode", "logger.tags", "resume"}


def test_every_option_of_a_choice_is_listed(shown):
    options = shown.partition("Options of the choices")[2]
    assert "  inner.optimizer=gd  " in options
    assert "    inner.momentum: float = 0.9\n" in options
    assert "    gradient.every: int | str = sqrt\n" in options
    assert "    data.options.eigenvalues: " in options


def test_the_help_of_an_evaluation_has_its_own_keys_alone(loader):
    text = help_of(loader, "evaluate", ["split=val"])
    assert "Choices" not in text
    assert re.findall(r"^  (\w+)=", text, re.MULTILINE) == keys_of(EvaluateConfig)
    assert re.search("^  split=val +or val", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("experiment=vae_s", ["experiment=vae_svi", "experiment=vae_svi_kl"]),
        ("model=lin", ["model=linear"]),
        ("exp", ["experiment="]),
        ("trainer.determ", ["trainer.deterministic="]),
        ("trainer.deterministic=", ["trainer.deterministic=false", "trainer.deterministic=true"]),
        ("inner.optimizer=g", ["inner.optimizer=gauss_newton", "inner.optimizer=gd"]),
        ("inner.optimizer=adam inner.beta", ["inner.beta1=", "inner.beta2="]),
        ("model.gamma.mode=l", ["model.gamma.mode=learned"]),
        ("model.activation=so", ["model.activation=softplus"]),
        ("gradient.solver=g", ["gradient.solver=gauss_newton", "gradient.solver=gmres"]),
        ("data.scale=g", ["data.scale=global"]),
        ("hydra/launcher=ba", ["hydra/launcher=basic"]),
        ("-m experiment=savi,vla", ["experiment=savi,vlae"]),
        ("+inner.da", ["+inner.damping="]),
        ("--mul", ["--multirun"]),
        ("data.path=here/fi", ["data.path=here/file.npy"]),
        ("data.path=nowhere/", []),
        ("experiment=wrong trainer.max_ep", ["trainer.max_epochs="]),
        ("nothing.at.all=", []),
    ],
)
def test_a_line_goes_on_with(line, expected, loader, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "file.npy").touch()
    assert sorted(candidates(loader, "config", line.split())) == expected


def test_a_line_of_an_evaluation_goes_on_with(loader, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "best.ckpt").touch()
    assert candidates(loader, "evaluate", ["checkpoint="]) == ["checkpoint=best.ckpt"]
    assert sorted(candidates(loader, "evaluate", ["split="])) == ["split=test", "split=val"]
    assert candidates(loader, "evaluate", ["ood=dig"]) == ["ood=digits"]
    assert sorted(candidates(loader, "evaluate", ["ood"])) == ["ood=", "ood_examples=", "ood_path="]
    assert len(candidates(loader, "evaluate", [""])) == len(keys_of(EvaluateConfig))


def test_everything_that_a_new_word_may_be(loader):
    words = candidates(loader, "config", [""])
    assert len(words) == len(set(words))
    assert {f"{group}=" for group in GROUPS} <= set(words)
    assert {"seed=", "model.gamma.value=", "hydra.run.dir=", "hydra/sweeper="} <= set(words)
    assert "hydra=" not in words
    assert all(word.endswith("=") for word in words)


def test_a_registered_name_is_shown_and_completed(loader):
    optimizers = choices("inner.optimizer")
    optimizers._entries["zigzag"] = optimizers["gd"]
    posteriors = choices("posterior")
    posteriors._entries["zigzag"] = posteriors["point_mass"]
    try:
        register_groups()
        assert candidates(loader, "config", ["inner.optimizer=zi"]) == ["inner.optimizer=zigzag"]
        assert candidates(loader, "config", ["posterior=zi"]) == ["posterior=zigzag"]
        text = help_of(loader, "config", [])
        assert "inner.optimizer=zigzag  " in text
        assert "\n  zigzag              All mass at z = λ.\n" in text
    finally:
        del optimizers._entries["zigzag"], posteriors._entries["zigzag"]
