"""How an engine is reached: one file a connection. A module in here that defines `CONNECTION` is found by itself.

The session drives whatever keeps to the protocol `Connection`, and the preferences show what the chosen kind lists in
`settings`: a connection to another machine is one more file here. No bpy.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ... import registry
from ..client import EngineClient
from ..problem import EngineProblem

STOPPED, STARTING, READY, FAILED = "stopped", "starting", "ready", "failed"
"""The states of a connection. From STARTING it goes to READY or FAILED by itself, from READY to FAILED at any time."""

DEFAULT = "local"


@dataclass(frozen=True)
class Fact:
    """A line about the connection in the preferences. path: a file that a button opens, or None."""

    text: str
    path: Path | None = None


class Connection(Protocol):
    """One engine and the way to it. Every method returns at once: what is slow happens on threads.

    state: one of the four above.  problem: why it is FAILED.  client: to talk with while it is READY.
    info: what `GET /v1/info` answered; {} while it is not READY.  pid: of an engine on this machine, else None.
    """

    state: str
    problem: EngineProblem | None
    client: EngineClient | None
    info: dict[str, Any]
    pid: int | None

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Takes over the values of the kind's settings; they hold from the next start on."""

    def start(self) -> None:
        """Begins to connect. Nothing happens where it is STARTING or READY already."""

    def poll(self) -> str:
        """The state now. Cheap: called on the main thread, many times a second."""

    def stop(self, wait: bool = False) -> None:
        """Lets the engine go. wait: only return when that has happened."""

    def facts(self) -> list[Fact]:
        """What the preferences say about it, a line each."""


@dataclass(frozen=True)
class Setting:
    """One setting of a connection, kept in the preferences. kind: "text", "file", "folder", "secret" or "number"."""

    name: str
    label: str
    description: str
    kind: str = "text"
    default: str | int = ""


@dataclass(frozen=True)
class ConnectionKind:
    """What a connection's file defines as `CONNECTION`. make: given a folder for its files.

    The names of the settings of all kinds lie side by side in the preferences and differ from one another.
    """

    name: str
    label: str
    description: str
    make: Callable[[Path], Connection]
    settings: tuple[Setting, ...] = ()


def kinds() -> dict[str, ConnectionKind]:
    """All kinds there are by their names, the default one first."""
    found = {kind.name: kind for kind in registry.discover(sys.modules[__name__], "CONNECTION").values()}
    return dict(sorted(found.items(), key=lambda item: (item[0] != DEFAULT, item[0])))
