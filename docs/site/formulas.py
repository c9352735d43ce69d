"""Formulas as MathML, which browsers draw without a script."""

import html
import re

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

#: What arithmatex leaves of $...$ and $$...$$.
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(content: str, **_: object) -> str:
    """Replace the formulas of a page."""

    def drawn(found: re.Match[str]) -> str:
        tag, formula = found.groups()
        formula = html.unescape(formula).replace(r"\arg", r"\operatorname{arg}")
        drawing = convert(formula, display="block" if tag == "div" else "inline")
        if "\\" in drawing:
            raise PluginError(f"latex2mathml does not know a command of {formula}")
        return f'<{tag} class="formula">{drawing}</{tag}>'

    return FORMULA.sub(drawn, content)
