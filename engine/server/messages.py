"""How server and worker talk: over pipes, each message a 4-byte big-endian length and that many bytes of JSON."""

from __future__ import annotations

import json
from typing import IO, Any

MAX_MESSAGE = 64 * 2**20


def write_message(stream: IO[bytes], message: dict[str, Any]) -> None:
    data = json.dumps(message, allow_nan=False).encode()
    stream.write(len(data).to_bytes(4, "big") + data)
    stream.flush()


def read_message(stream: IO[bytes]) -> dict[str, Any] | None:
    """The next message, or None where the other side has gone. Raises ValueError on anything but a message."""
    prefix = _read_exactly(stream, 4)
    if prefix is None:
        return None
    length = int.from_bytes(prefix, "big")
    if length > MAX_MESSAGE:
        raise ValueError(f"a message of {length} bytes")
    data = _read_exactly(stream, length)
    if data is None:
        return None
    message = json.loads(data)
    if not isinstance(message, dict):
        raise ValueError("a message that is not an object")
    return message


def _read_exactly(stream: IO[bytes], count: int) -> bytes | None:
    parts: list[bytes] = []
    while count:
        part = stream.read(count)
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
