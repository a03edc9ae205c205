"""Multipart forms, as the engine takes them: built here and nowhere else. No bpy."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """One field of a form. filename: of a field that is a file; letters, digits and ' ._-' of it are kept."""

    name: str
    content: bytes
    content_type: str = ""
    filename: str = ""


def form(parts: Sequence[Part]) -> tuple[bytes, str]:
    """(body, content type) of a form of these parts."""
    boundary = uuid.uuid4().hex
    body = bytearray()
    for part in parts:
        # Only letters that need no quoting.
        shown = "".join(c if c.isascii() and (c.isalnum() or c in " ._-") else "_" for c in part.filename)
        filename = f'; filename="{shown}"' if shown else ""
        content_type = f"\r\nContent-Type: {part.content_type}" if part.content_type else ""
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{part.name}"{filename}{content_type}\r\n\r\n'
        body += head.encode("ascii") + part.content + b"\r\n"
    body += f"--{boundary}--\r\n".encode("ascii")
    return bytes(body), f"multipart/form-data; boundary={boundary}"
