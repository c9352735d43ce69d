"""What the docstrings' readers should see: roles as links, and settings as their defaults."""

import re
from typing import Any

import griffe

#: A role such as :class:`Solution` or :func:`~savi.minimize`.
ROLE = re.compile(r":(?:class|meth|func|attr|mod|data):`~?([\w.]+)`")

#: The functions of savi.settings that declare a field with its bounds.
DECLARATIONS = ("setting", "positive")


class Docstrings(griffe.Extension):
    """Prepare what griffe has read for Markdown."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Link the roles, if what they name is on a page."""
        if obj.docstring:
            obj.docstring.value = ROLE.sub(lambda role: linked(obj, role[1]), obj.docstring.value)

    def on_attribute(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Leave of ``setting(1e-3, at_least=0)`` the 1e-3, before dataclasses get signatures."""
        call = attr.value
        if isinstance(call, griffe.ExprCall) and str(call.function) in DECLARATIONS:
            given = [a for a in call.arguments if not isinstance(a, griffe.ExprKeyword)]
            attr.value = given[0] if given else None


def linked(scope: griffe.Object, name: str) -> str:
    """A link to what a name means in a scope."""
    first, *rest = name.split(".")
    try:
        path = ".".join([scope.resolve(first), *rest])
    except griffe.NameResolutionError:
        path = name
    return f'<autoref optional identifier="{path}"><code>{name}</code></autoref>'
