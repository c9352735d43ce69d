"""What the README shows works, and is what the pages say."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md")]


@pytest.mark.drawn
def test_the_example_of_minimize(capsys):
    code = next(
        block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "ridge" in block
    )
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    lines = capsys.readouterr().out.splitlines()
    errors = [float(line.split()[1]) for line in lines[:60]]
    said = re.search(r"held-out error falls from (\d+\.\d+) to (\d+\.\d+)", README)
    assert [f"{errors[0]:.2f}", f"{errors[-1]:.2f}"] == list(said.groups())
    assert lines[-1].startswith("32 CONVERGED")


def test_it_is_short():
    assert len(README.splitlines()) <= 150


def block(pattern: str) -> list[str]:
    return re.findall(pattern, README, re.S | re.M)


@pytest.mark.parametrize("quote", block(r"```python\n(.*?)```") + block(r"(?:^\|[^\n]+\|\n){5,}"))
def test_it_quotes_the_pages(quote):
    """Its examples and its tables are a page's."""
    assert any(quote in page or quote.replace("](docs/", "](") in page for page in PAGES)


def test_links_are_there():
    links = re.findall(r"\]\(([^):]+)\)", README)
    assert len(links) > 15
    for link in links:
        assert (ROOT / link).exists(), link
