"""Formulas as MathML, which browsers draw without a script."""

import html
import re

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

#: What arithmatex leaves of $...$ and $$...$$.
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


#: What latex2mathml or a browser does not draw, and what they do.
SPELLINGS = {
    r"\arg": r"\operatorname{arg}",
    r"\mathbf{1}": "\N{MATHEMATICAL BOLD DIGIT ONE}",
}
#: Bars grow with what stands above them, unless they are told not to.
BAR = re.compile(r"<mo>(?=&#x(?:02016|0007C);)")


def on_page_content(content: str, **_: object) -> str:
    """Replace the formulas of a page."""

    def drawn(found: re.Match[str]) -> str:
        tag, formula = found.groups()
        formula = html.unescape(formula)
        for written, known in SPELLINGS.items():
            formula = formula.replace(written, known)
        drawing = convert(formula, display="block" if tag == "div" else "inline")
        drawing = BAR.sub('<mo stretchy="false">', drawing)
        if "\\" in drawing:
            raise PluginError(f"latex2mathml does not know a command of {formula}")
        return f'<{tag} class="formula">{drawing}</{tag}>'

    return FORMULA.sub(drawn, content)
