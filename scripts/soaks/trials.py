"""Programs with an input that was right and has been changed, a function for each kind of input."""

from __future__ import annotations

import gzip
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import torch

from savi.experiments.checkpoint import write_checkpoint
from soaks.limited import SCRIPTS, ended
from soaks.mutants import changed_bytes, changed_text, changed_tree, changed_value
from soaks.torn import tear

TRAIN, EVALUATE, REPORT = (f"from savi import cli; cli.{name}()" for name in
                           ("train", "evaluate", "report"))  # fmt: skip
BENCHMARK = f"import sys; sys.path[:0] = [{str(SCRIPTS)!r}]; import benchmark; benchmark.main()"
LOAD = "import sys; from savi.experiments.reload import load; load(sys.argv[1])"

#: A run of a second.
TINY = (
    "debug=quick", "logger=csv", "data.limit=60", "trainer.max_epochs=2", "model.hidden=4",
    "model.latent_dim=2", "inner.max_steps=3", "evaluation.ais_examples=0",
    "evaluation.gap_examples=0", "evaluation.autoencoder_steps=0", "callbacks.figures=false",
    "evaluation.importance_samples=8", "trainer.threads=1",
)  # fmt: skip

#: An evaluation of a second.
BRIEF = ("ais_examples=0", "gap_examples=0", "autoencoder_steps=0", "importance_samples=8")

#: Words that are right, of which a few are added to the line that is changed.
WORDS = (
    *("experiment=vae", "experiment=savi_ift", "model=conv", "posterior=laplace", "gradient=ift"),
    *("inner=proximal", "inner.rho=0.5", "encoder_loss=elbo_at_init", "optimizer.lr=1e-3"),
    *("seed=1", "data.path=x.npz", "data=arrays", "data.scale=global", "data.batch_size=16"),
    *("logger.tags=[a,b]", "logger.name='a b'", "model.kl.weight=0.5", "model.gamma.mode=learned"),
    *("trainer.vary={inner.rho: [1, 2]}", "trainer.replicas=2", "imports=[]", "resume=auto"),
    *("hydra.run.dir=run", "optimized_metric=val/elbo", "trainer.gradient_clip_val=1", "-m"),
    *("hydra.sweep.dir=sweep", "model.activation=tanh", "inner.noise=crn", "data.options={}"),
    *("+inner.damping=1", "~sweep", "hypergradient.tune=[beta]", "trainer.precision=64-true"),
)  # fmt: skip


class Trial(NamedTuple):
    """What is tried: a program with arguments in a folder, and what was changed before."""

    code: str
    arguments: list[str]
    what: str


def make(right: Path) -> None:
    """Inputs of every kind that are right."""
    chance = np.random.default_rng(0)
    right.mkdir(parents=True)
    values = chance.normal(size=(80, 6)).astype(np.float32)
    np.save(right / "x.npy", values)
    np.savez_compressed(
        right / "x.npz", train=values, test=values[:20], train_labels=np.arange(80),
        test_labels=np.arange(20),
    )  # fmt: skip
    np.save(right / "images.npy", chance.integers(0, 256, size=(80, 8, 8), dtype=np.uint8))
    (right / "idx").mkdir()
    for prefix, count in (("train", 80), ("t10k", 20)):
        images = chance.integers(0, 256, size=(count, 28, 28), dtype=np.uint8)
        labels = chance.integers(0, 10, size=count, dtype=np.uint8)
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            with gzip.open(right / "idx" / f"{prefix}-{name}-ubyte.gz", "wb") as file:
                file.write(header + array.tobytes())
    for arguments in (
        ["hydra.run.dir=digits", "callbacks.figures=true", "experiment=vae"],
        ["hydra.run.dir=arrays", "data=arrays", "data.path=x.npz", "experiment=savi_ift"],
        ["-m", "hydra.sweep.dir=sweep", "experiment=vae", "seed=0,1"],
    ):
        # The first one waits until everything has been imported.
        end = ended(TRAIN, [*arguments, *TINY], right, seconds=300)
        shutil.rmtree(right.with_name("right streams"))
        if end.code:
            raise RuntimeError(f"exit code {end.code}: {end.said}")


def _line(chance: Random, right: Path, place: Path) -> Trial:
    """A command line with a character, a word, or a value changed."""
    kind = chance.choice(("train", "train", "train", "evaluate", "report", "benchmark"))
    for name in ("x.npz", "digits", "sweep"):
        (place / name).symlink_to(right / name)
    if kind == "train":
        code, words = TRAIN, [*TINY, *chance.sample(WORDS, chance.randrange(1, 4))]
        words += ["hydra.run.dir=run"] * (not any("hydra.run" in word for word in words))
    elif kind == "evaluate":
        words = ["checkpoint=digits/checkpoints/best.ckpt", *BRIEF, "split=val", "output=o.json"]
        code, words = (
            EVALUATE,
            [*words, "ood=linear_gaussian", "device=cpu"][: 6 + chance.randrange(3)],
        )
    elif kind == "report":
        code, words = REPORT, ["digits", "sweep", "--output", "r.html", "--title", "T"]
    else:
        code, words = BENCHMARK, ["qp", "repetitions=1", "seed=0", "threads=1", "hydra.run.dir=b"]
    first = len(TINY) if kind == "train" else 0
    for _ in range(chance.choice((1, 1, 2))):
        number = chance.randrange(chance.choice((0, first)), len(words))
        word = words[number]
        key, equals, value = word.partition("=")
        change = chance.choice(("text", "text", "value", "value", "key", "swap", "twice", "drop"))
        if change == "text":
            words[number] = changed_text(chance, word)
        elif change == "value" and equals:
            words[number] = f"{key}={changed_value(chance, value)}"
        elif change == "key" and equals:
            words[number] = f"{changed_text(chance, key)}={value}"
        elif change == "swap":
            other = chance.randrange(len(words))
            words[number], words[other] = words[other], word
        elif change == "twice":
            words.append(f"{key}={chance.choice(words).partition('=')[2]}")
        elif change == "drop" and len(words) > 1:
            del words[number]
    # What the system hands to no program.
    encoded = [word.replace("\0", "").encode("utf-8", "surrogatepass") for word in words]
    words = [word.decode("utf-8", "surrogateescape") for word in encoded]
    return Trial(code, words, f"{kind} {words[first:]}")


def _checkpoint(chance: Random, right: Path, place: Path) -> Trial:
    """A checkpoint with a value changed under a right digest, or bytes under none, or anything."""
    run = right / chance.choice(("digits", "arrays"))
    (place / "x.npz").symlink_to(right / "x.npz")
    source, target = (
        run / "checkpoints" / chance.choice(("best.ckpt", "last.ckpt")),
        place / "x.ckpt",
    )
    kind = chance.choice(("value", "value", "value", "unsealed", "bytes"))
    if kind == "value":
        contents = torch.load(source, weights_only=True)
        contents, what = changed_tree(chance, contents)
        write_checkpoint(target, contents)
    elif kind == "unsealed":
        torch.save(torch.load(source, weights_only=True), target)
        target.write_bytes(changed_bytes(chance, target.read_bytes()))
        what = "bytes of one without a digest"
    else:
        target.write_bytes(changed_bytes(chance, source.read_bytes()))
        what = "bytes"
    used = chance.choice(("evaluate", "evaluate", "load", "resume"))
    what = f"{used} {run.name} with {what}"
    if used == "evaluate":
        return Trial(EVALUATE, [f"checkpoint={target.name}", *BRIEF], what)
    if used == "load":
        return Trial(LOADED, [str(target)], what)
    return Trial(TRAIN, [*_resumed(run.name), "hydra.run.dir=again", f"resume={target.name}"], what)


#: As a notebook does it: whatever is wrong is an ``InputError``.
LOADED = f"""
from savi.errors import InputError
try:
    {LOAD}
except InputError as error:
    sys.stderr.write(f"savi: {{error}}\\n")
    sys.exit(2)
"""


def _resumed(name: str) -> list[str]:
    """The words of a run of that name, for one epoch more."""
    data = ["data=arrays", "data.path=x.npz", "experiment=savi_ift"]
    return [*TINY, *(data if name == "arrays" else ["experiment=vae"]), "trainer.max_epochs=3"]


def _arrays(chance: Random, right: Path, place: Path) -> Trial:
    """A file of arrays with its header, its values or its bytes changed."""
    name = chance.choice(("x.npy", "x.npz", "images.npy"))
    target, what = place / name, "bytes"
    if chance.random() < 0.5:
        target.write_bytes(changed_bytes(chance, (right / name).read_bytes()))
    else:
        array = np.load(right / "images.npy" if name == "images.npy" else right / "x.npy")
        kinds: dict[str, Callable[[], Any]] = {
            "type": lambda: array.astype(chance.choice(
                ("f2", "f4", ">f4", "f8", "g", "i4", "?", "c8", "U3", "S2", "O", "u2", "V4")
            )),
            "axes": lambda: array.reshape(chance.choice(
                ((-1,), (*array.shape, 1), (*array.shape, 1, 1, 1), (1, -1), (-1, 1), (0, 4, 0))
            )) if chance.random() < 0.8 else np.zeros((0, 3)),
            "values": lambda: np.full(array.shape, chance.choice(
                (0, 1, 255) if array.dtype == np.uint8 else (np.nan, np.inf, 1e38, -1e38, 1e-45, 0)
            ), array.dtype),
            "rows": lambda: array[: chance.randrange(5)],
            "labels": lambda: {"train": array, "train_labels": array[: chance.randrange(90)]},
            "keys": lambda: {changed_text(chance, "train"): array, "test": array},
            "header": lambda: None,
        }  # fmt: skip
        what = chance.choice(list(kinds))
        try:
            made = kinds[what]()
        except ValueError:
            made = array[:0]
        if what == "header":
            text = chance.choice(
                (
                    "(1000000000000, 6)",
                    "(80, 6, 6, 6, 6)",
                    "()",
                    "(-1, 6)",
                    "(80, 1e3)",
                    "(",
                    "0" * 99,
                )
            )
            header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {text}, }}"
            header = header.ljust(118) + "\n"
            start = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()
            target.write_bytes(start + array.tobytes())
            target = target.rename(target.with_suffix(".npy"))
        else:
            named = made if isinstance(made, dict) else {"train": made}
            target = target.with_suffix(".npz")
            try:
                np.savez(target, **named)
            except (ValueError, OSError):
                target.write_bytes(b"")
    data = ["data=arrays", f"data.path={target.name}"]
    words = [*TINY, "experiment=vae", *data, "hydra.run.dir=run"]
    return Trial(TRAIN, words, f"{target.name} {what}")


def _idx(chance: Random, right: Path, place: Path) -> Trial:
    """One of the four files of MNIST with its header or its bytes changed, packed or not."""
    shutil.copytree(right / "idx", place / "idx")
    target = chance.choice(sorted((place / "idx").iterdir()))
    content, what = gzip.decompress(target.read_bytes()), "packed bytes"
    kind = chance.choice(("packed", "bytes", "header", "dims"))
    if kind == "packed":
        target.write_bytes(changed_bytes(chance, target.read_bytes()))
    else:
        if kind == "bytes":
            content = changed_bytes(chance, content)
        elif kind == "header":
            size = chance.choice((0, 1, 79, 81, 2**31, 2**32 - 1))
            place_of = 4 * chance.randrange(1, 2 if "labels" in target.name else 4)
            content = content[:place_of] + struct.pack(">I", size) + content[place_of + 4 :]
        else:
            content = content[:3] + bytes([chance.choice((0, 1, 2, 4, 255))]) + content[4:]
        what = f"{kind} unpacked" if chance.random() < 0.3 else kind
        if what == kind:
            target.write_bytes(gzip.compress(content))
        else:
            target.unlink()
            target.with_suffix("").write_bytes(content)
    return Trial(
        TRAIN, [*TINY, "experiment=vae", "data=mnist", "data.path=idx", "hydra.run.dir=run"],
        f"{target.name} {what}",
    )  # fmt: skip


def _folder(chance: Random, right: Path, place: Path) -> Trial:
    """A run folder or a sweep in which files are torn, replaced, removed or made up."""
    name = chance.choice(("digits", "arrays", "sweep"))
    (place / "x.npz").symlink_to(right / "x.npz")
    copied = place / name
    shutil.copytree(right / name, copied)
    done = [tear(chance, copied) for _ in range(chance.choice((1, 1, 2, 3)))]
    used = chance.choice(("report", "report", "resume", "evaluate"))
    what = f"{used} {name} with {'; '.join(done)}"
    if used == "report" or name == "sweep":
        return Trial(REPORT, [name], what)
    if used == "evaluate":
        return Trial(EVALUATE, [f"checkpoint={name}/checkpoints/best.ckpt", *BRIEF], what)
    return Trial(TRAIN, [*_resumed(name), f"hydra.run.dir={name}", "resume=auto"], what)


KINDS: dict[str, Callable[[Random, Path, Path], Trial]] = {
    "command line": _line,
    "checkpoint": _checkpoint,
    "arrays": _arrays,
    "idx": _idx,
    "run folder": _folder,
}
