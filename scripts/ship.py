"""Make a run's model one that comes with savi: ``python scripts/ship.py RUN NAME``.

Writes what ``savi.load(NAME)`` reads, the best epoch's weights without the state of its training,
and a model card beside it, both into ``savi/pretrained``.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from savi.console import say
from savi.errors import InputError
from savi.experiments.checkpoint import CONFIG_KEY, DATA_KEY, read_checkpoint, write_checkpoint
from savi.experiments.shipped import FOLDER
from savi.report.metrics import describe
from savi.report.runs import Run, read_run
from savi.runs.whole import write_text

#: What a model is loaded from.
KEPT = ("epoch", "global_step", "pytorch-lightning_version", "state_dict", "hyper_parameters",
        CONFIG_KEY, DATA_KEY)  # fmt: skip
#: What a card tells of it.
FIGURES = ("test/nll", "test/elbo", "test/kl", "test/gap/amortization", "test/active_units")
CARD = """# {name}

`savi.load("{name}")` opens it: a `TrainedModel`, which encodes, decodes, samples and refines in the
units of its data.

| | |
|---|---|
| data | `data={data}`: {shape}, {trained:,} training examples |
| method | `experiment={experiment}`, {latent} latents, {parameters:,} weights |
| command | `{command}` |
| best epoch | {epoch} |
{figures}

Figures are of the run's test split, log-likelihoods and gaps in nats. The model knows these data
alone: it is meant for trying the package out, for tests and for teaching, and says nothing of other
data. {source}
"""
#: Where data come from, and under which licence, by the name of the set.
SOURCES = {
    "digits": """The digits are those of the UCI repository's "Optical Recognition of Handwritten
Digits" (Alpaydin and Kaynak 1998, CC BY 4.0), as scikit-learn bundles them."""
}


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    asked = parser.parse_args()
    try:
        checkpoint = read_checkpoint(asked.run / "checkpoints" / "best.ckpt")
    except InputError as error:
        say(str(error))
        sys.exit(2)
    contents = {key: checkpoint[key] for key in KEPT}
    contents[CONFIG_KEY] = {**contents[CONFIG_KEY], "resume": None}
    file = FOLDER / f"{asked.name}.ckpt"
    FOLDER.mkdir(exist_ok=True)
    write_checkpoint(file, contents)
    run = read_run(asked.run, asked.name)
    write_text(file.with_suffix(".md"), card(asked.name, contents, run))
    say(f"{file}: {file.stat().st_size / 1e6:.2f} MB")


def card(name: str, contents: dict[str, Any], run: Run) -> str:
    """What is to be known of it."""
    config, data = contents[CONFIG_KEY], contents[DATA_KEY]
    figures = [
        f"| {metric.label} | {metric.format(run.metrics[key])} |"
        for key in FIGURES
        if (metric := describe(key)) is not None and key in run.metrics
    ]
    return (
        CARD.format(
            name=name,
            data=config["data"]["name"],
            shape="×".join(map(str, data["shape"])),
            trained=len(data["trained"]),
            experiment=config["experiment"],
            latent=config["model"]["latent_dim"],
            parameters=sum(value.numel() for value in contents["state_dict"].values()),
            command=" ".join(run.command.split()),
            epoch=contents["epoch"] + 1,
            figures="\n".join(figures),
            source=SOURCES.get(config["data"]["name"], ""),
        ).rstrip()
        + "\n"
    )


if __name__ == "__main__":
    main()
