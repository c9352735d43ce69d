"""Formulas as MathML, which browsers draw without a script."""

import html
import re

from latex2mathml.converter import convert

#: What arithmatex leaves of $...$ and $$...$$.
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(content: str, **_: object) -> str:
    """Replace the formulas of a page."""

    def drawn(found: re.Match[str]) -> str:
        tag, formula = found.groups()
        display = "block" if tag == "div" else "inline"
        return f'<{tag} class="formula">{convert(html.unescape(formula), display=display)}</{tag}>'

    return FORMULA.sub(drawn, content)
