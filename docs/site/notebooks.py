"""Notebooks as pages, with the outputs that they hold."""

import base64
import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files


def on_files(files: Files, *, config: Any) -> Files:
    """Put a page, and files for its pictures, in the place of every notebook."""
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        files.remove(file)
        cells = json.loads(Path(file.abs_src_path).read_text("utf-8"))["cells"]
        stem = file.src_uri.removesuffix(".ipynb")
        text, pictures = page(cells, Path(stem).name)
        files.append(File.generated(config, f"{stem}.md", content=text))
        for name, picture in pictures.items():
            uri = f"{Path(stem).parent}/{name}"
            files.append(File.generated(config, uri, content=picture))
    return files


def page(cells: list[dict[str, Any]], stem: str) -> tuple[str, dict[str, bytes]]:
    """The Markdown of a notebook's cells, and its pictures by their names."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in cells:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{stem}_{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode(data["image/png"])
                parts.append(f"![What the code above draws]({name})")
            else:
                shown = "".join(output.get("text", data.get("text/plain", "")))
                parts.append(f"```text\n{shown.rstrip()}\n```")
    return "\n\n".join(parts) + "\n", pictures


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Let links to a notebook lead to its page."""
    return re.sub(r"(\]\([\w./]+)\.ipynb\)", r"\1.md)", markdown)
