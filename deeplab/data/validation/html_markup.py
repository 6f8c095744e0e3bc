"""Elements of HTML and SVG in which every text is escaped, so that no file name can become markup."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable

VOID = ("br", "img", "input", "meta", "wbr")  # elements without an end tag


class Markup(str):
    """Text that is HTML already; any other text is escaped when it enters an element."""


Part = str | Iterable["Part"] | None  # an iterable of parts stands for all of them


def element(name: str, /, *content: Part, **attributes: object) -> Markup:
    """An element.

    Args:
      name: its tag.
      content: texts, escaped unless they are Markup; None is nothing.
      attributes: by name; `class_` means class, other underscores are hyphens; None and False leave one out.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(value)}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    start = f"<{name}{given}>"
    return Markup(start if name in VOID else f"{start}{join(content)}</{name}>")


def join(parts: Part) -> Markup:
    """Parts one after the other."""
    if parts is None:
        return Markup()
    if isinstance(parts, Markup):
        return parts
    return Markup(escaped(parts) if isinstance(parts, str) else "".join(map(join, parts)))


def escaped(value: object) -> str:
    """A value as text in which nothing is markup; what HTML forbids (control characters) becomes the sign for it."""
    text = "".join("\ufffd" if ord(char) < 32 and char not in "\t\n" else char for char in str(value))
    return html.escape(text.encode("utf-8", "replace").decode(), quote=True)


def jpeg(data: bytes, alternative: str, **attributes: object) -> Markup:
    """A JPEG inside the page."""
    source = "data:image/jpeg;base64," + base64.b64encode(data).decode()
    return element("img", src=source, alt=alternative, loading="lazy", **attributes)
