"""Where the Hydra configs lie: inside an installed package, or beside it in a checkout."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def conf_dir() -> str:
    """The absolute path of ``conf/``.

    The packaged copy comes first, so that another project's top-level ``conf`` cannot take its
    place; in a checkout, installed in editable form or not at all, there is no packaged copy.

    Raises:
        FileNotFoundError: if neither exists, which means a broken installation.
    """
    for folder in (PACKAGE / "conf", PACKAGE.parent / "conf"):
        if (folder / "config.yaml").is_file():
            return str(folder)
    raise FileNotFoundError(f"no conf/config.yaml in {PACKAGE} or beside it: reinstall savi")
