"""How the Python page reads docstrings: ours call one example `Example:`, griffe `Examples:`."""

from __future__ import annotations

import re
from typing import Any

import griffe


class OneExample(griffe.Extension):
    """Read `Example:` as the section of examples that it is."""

    def on_instance(self, *, obj: griffe.Object, **others: Any) -> None:
        """Rename the section in a docstring that has one."""
        if obj.docstring:
            obj.docstring.value = re.sub(
                r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE
            )
