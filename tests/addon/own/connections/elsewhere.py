"""A connection that is not the add-on's: to an engine that runs already and that nobody here starts or stops."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..client import EngineClient
from ..problem import EngineProblem
from . import FAILED, READY, STOPPED, ConnectionKind, Fact, Setting


class Elsewhere:
    pid = None

    def __init__(self, _folder: Path) -> None:
        self.state = STOPPED
        self.problem: EngineProblem | None = None
        self.client: EngineClient | None = None
        self.info: dict[str, Any] = {}
        self._address: tuple[int, str] = (0, "")

    def configure(self, settings: Mapping[str, Any]) -> None:
        self._address = (settings["elsewhere_port"], settings["elsewhere_token"])

    def start(self) -> None:
        if self.state == READY:
            return
        client = EngineClient(*self._address)
        try:  # a test may wait; a connection of the add-on's would do this on a thread
            self.info, self.client, self.problem, self.state = client.info(), client, None, READY
        except EngineProblem as problem:
            self.problem, self.state = problem, FAILED

    def poll(self) -> str:
        return self.state

    def stop(self, wait: bool = False) -> None:
        self.state, self.client, self.info = STOPPED, None, {}

    def facts(self) -> list[Fact]:
        return [Fact(f"Port {self._address[0]}")]


CONNECTION = ConnectionKind(
    "elsewhere",
    "Elsewhere",
    "An engine that runs already",
    Elsewhere,
    (
        Setting("elsewhere_port", "Port", "Where it listens", "number", 0),
        Setting("elsewhere_token", "Token", "What it asks for", "secret"),
    ),
)
