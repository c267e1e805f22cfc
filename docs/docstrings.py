"""For the site alone: an aligned list in a docstring becomes a list of Markdown, which would run its lines together.

    pipe        a loaded pipeline,          - `pipe`: a loaded pipeline,
                left as it is                 left as it is
    batch       images in lockstep          - `batch`: images in lockstep
"""

from __future__ import annotations

import re
from typing import Any

import griffe

ENTRY = re.compile(r"^(?P<indent> *)(?P<names>[a-z]\w*(?:, [a-z]\w*)*) {2,}(?P<text>\S.*)$")


def listed(text: str) -> str:
    """The text with its aligned lists written as Markdown; everything else as it was."""
    lines: list[str] = []
    indent: int | None = None  # of the list that is open
    for line in text.splitlines():
        found = ENTRY.match(line)
        if found and (indent is None or len(found["indent"]) == indent):
            lines += [""] if indent is None and lines and lines[-1] else []
            indent = len(found["indent"])
            lines.append("- " + ", ".join(f"`{name}`" for name in found["names"].split(", ")) + f": {found['text']}")
        elif indent is not None and len(line) - len(line.lstrip()) > indent + 4:
            lines.append(f"  {line.strip()}")
        else:
            lines += [""] if indent is not None and line else []
            indent = None
            lines.append(line)
    return "\n".join(lines)


class AlignedLists(griffe.Extension):
    """What mkdocs.yml names: applied to the docstring of everything that is shown."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = listed(obj.docstring.value)
