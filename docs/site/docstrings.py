"""What the readers of docstrings should see, where the code says it in another way."""

import re
from itertools import takewhile
from typing import Any

import griffe

#: A role such as :class:`Solution` or :func:`~savi.minimize`.
ROLE = re.compile(r":(?:class|meth|func|attr|mod|data):`~?([\w.]+)`")

#: A paragraph of a Python session.
SESSION = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)

#: The functions of savi.settings that declare a field with its bounds.
DECLARATIONS = ("setting", "positive")


class Docstrings(griffe.Extension):
    """Prepare what griffe has read for Markdown."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Take a comment ``#:`` for a docstring, and the 1e-3 of ``setting(1e-3, at_least=0)``."""
        call = attr.value
        if isinstance(call, griffe.ExprCall) and str(call.function) in DECLARATIONS:
            given = [a for a in call.arguments if not isinstance(a, griffe.ExprKeyword)]
            attr.value = given[0] if given else None
        if attr.docstring is None and attr.lineno:
            before = reversed(attr.parent.lines_collection[attr.filepath][: attr.lineno - 1])
            comment = takewhile(lambda line: line.lstrip().startswith("#:"), before)
            if said := [line.strip().removeprefix("#:").strip() for line in comment]:
                attr.docstring = griffe.Docstring("\n".join(reversed(said)), parent=attr)

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Link the roles, if what they name is on a page, and let code look like code."""
        if obj.docstring:
            text = ROLE.sub(lambda role: linked(obj, role[1]), obj.docstring.value)
            text = SESSION.sub(lambda said: f"```pycon\n{said[0]}\n```", text)
            obj.docstring.value = re.sub(r"::$", ":", text, flags=re.MULTILINE)


def linked(scope: griffe.Object, name: str) -> str:
    """A link to what a name means in a scope."""
    first, *rest = name.split(".")
    try:
        path = ".".join([scope.resolve(first), *rest])
    except griffe.NameResolutionError:
        path = name
    return f'<autoref optional identifier="{path}"><code>{name}</code></autoref>'
