"""Short calls: something asked of the engine that is answered soon, beside the jobs. The work is done on a thread."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..link.client import EngineClient
from ..link.connections import FAILED, READY, STARTING, Connection
from ..link.problem import EngineProblem, fault
from .job import engine_stopped

log = logging.getLogger(__name__)

CALL_TIMEOUT_S = 400.0
"""The engine checks a file that was brought in a process of its own, which imports torch first."""


class Host(Protocol):
    """Whose calls they are: a session, as far as they know it."""

    engine: Connection
    known_priors: list[Any]


@dataclass(eq=False)
class Call:
    """Something asked of the engine that is answered soon. work: given the client, off the main thread.

    said: what to tell when it went well, made of the work's answer. The list of priors is fetched anew after it.
    """

    title: str
    work: Callable[[EngineClient], Any]
    said: Callable[[Any], str] = lambda answer: "Done"
    message: str = ""
    problem: EngineProblem | None = None
    finished: bool = False
    _thread: threading.Thread | None = None
    _outcome: Any = None
    _info: dict[str, Any] | None = None

    def poll(self, session: Host) -> bool:
        """Starts the work once the engine is there, and takes what came of it. True where it has just ended."""
        if self.finished:
            return False
        if self._thread is None:
            state = session.engine.poll()
            if state == READY and session.engine.client is not None:
                client = dataclasses.replace(session.engine.client, answer_timeout_s=CALL_TIMEOUT_S)
                self._thread = threading.Thread(target=self._run, args=(client,), name="shapewright-call", daemon=True)
                self._thread.start()
                return False
            if state == STARTING:
                return False
            self.problem = session.engine.problem if state == FAILED else engine_stopped(f"{self.title}: not done.")
        elif self._thread.is_alive():
            return False
        elif self._info is not None:
            session.engine.info = self._info
            session.known_priors = self._info.get("priors") or session.known_priors
        self.finished = True
        if self.problem is None:
            self.message = self.said(self._outcome)
        return True

    def _run(self, client: EngineClient) -> None:
        try:
            self._outcome = self.work(client)
            self._info = client.info()
        except EngineProblem as problem:
            self.problem = problem
        except Exception as error:
            log.exception("%s failed", self.title)
            self.problem = fault(f"{self.title} failed in the add-on.", error)


@dataclass
class Calls:
    """The calls that are open, and those that ended after the last one was begun: the newest last."""

    listed: list[Call] = field(default_factory=list)

    @property
    def busy(self) -> bool:
        return any(not call.finished for call in self.listed)

    @property
    def newest(self) -> Call | None:
        return self.listed[-1] if self.listed else None

    def begin(self, call: Call) -> Call:
        self.listed = [other for other in self.listed if not other.finished] + [call]
        return call

    def step(self, session: Host) -> bool:
        """True where one has ended."""
        ended = [call.poll(session) for call in list(self.listed)]
        return any(ended)
