"""The engine's priors as files: bring one, fetch one, remove one; and the short calls to the engine that takes.

A `Call` does its work on a thread of its own, so that the window never waits; `step()` brings what it found.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy

from ...link.client import EngineClient, EngineProblem
from ...link.engine_process import FAILED, READY, STARTING
from ...scene import read as scene
from ...session import session

log = logging.getLogger(__name__)

SUFFIX = ".safetensors"
CALL_TIMEOUT_S = 400.0
"""The engine checks a file that was brought in a process of its own, which imports torch first."""
MAX_PRIOR_BYTES = 1 << 30
STEP_INTERVAL_S = 0.1


# ---------------------------------------------------------------------------------------------------------------------
# Over the wire


def bring(client: EngineClient, path: Path, name: str = "", replace: bool = False) -> dict[str, Any]:
    """`POST /v1/priors`: the prior as it is listed now. Raises EngineProblem with the reason for a refusal."""
    try:
        if path.stat().st_size > MAX_PRIOR_BYTES:
            raise EngineProblem(
                "prior_too_large",
                f"'{path.name}' was not imported.",
                f"It has more than {MAX_PRIOR_BYTES >> 20} MB.",
                "Choose the file of a prior.",
            )
        content = path.read_bytes()
    except OSError as error:
        raise EngineProblem(
            "file_unreadable",
            f"'{path.name}' was not imported.",
            f"{error.strerror or error}.",
            "Choose a file that exists and may be read.",
        ) from error
    boundary = uuid.uuid4().hex
    # Only letters that need no quoting; the engine reads the prior's name from the file itself.
    shown = "".join(c if c.isascii() and (c.isalnum() or c in " ._-") else "_" for c in path.name)
    body = bytearray()
    for field, value in (("name", name), ("replace", "true" if replace else "false")):
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'.encode()
    body += (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{shown}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode("ascii")
    body += content + f"\r\n--{boundary}--\r\n".encode("ascii")
    return client._json("POST", "/v1/priors", bytes(body), f"multipart/form-data; boundary={boundary}")


def fetch(client: EngineClient, name: str, target: Path) -> Path:
    """`GET /v1/priors/{name}/file` into a file, which appears whole or not at all."""
    content = client._call("GET", f"{_address(name)}/file", limit=MAX_PRIOR_BYTES)
    if target.suffix != SUFFIX:
        target = target.with_name(target.name + SUFFIX)
    unfinished = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, target)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise EngineProblem(
            "file_unwritable",
            f"The prior '{name}' was not exported.",
            f"{error.strerror or error}.",
            "Choose a folder that exists and can be written to.",
        ) from error
    return target


def remove(client: EngineClient, name: str) -> None:
    """`DELETE /v1/priors/{name}`."""
    client._json("DELETE", _address(name))


def _address(name: str) -> str:
    return f"/v1/priors/{urllib.parse.quote(name, safe='')}"


# ---------------------------------------------------------------------------------------------------------------------
# Calls


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

    def poll(self, running: session.Session) -> None:
        """On the main thread: starts the work once the engine is there, and takes what came of it."""
        if self.finished:
            return
        if self._thread is None:
            state = running.engine.poll()
            if state == READY and running.engine.client is not None:
                client = dataclasses.replace(running.engine.client, answer_timeout_s=CALL_TIMEOUT_S)
                self._thread = threading.Thread(target=self._run, args=(client,), name="shapewright-call", daemon=True)
                self._thread.start()
            elif state == FAILED:
                self._end(running.engine.problem)
            elif state != STARTING:
                self._end(
                    EngineProblem(
                        "engine_stopped", f"{self.title}: not done.", "The engine was stopped.", "Start it again."
                    )
                )
            return
        if self._thread.is_alive():
            return
        if self._info is not None:
            running.engine.info = self._info
            running.known_priors = self._info.get("priors") or running.known_priors
        if self.problem is None:
            self.message = self.said(self._outcome)
        self._end(self.problem)

    def _run(self, client: EngineClient) -> None:
        try:
            self._outcome = self.work(client)
            self._info = client.info()
        except EngineProblem as problem:
            self.problem = problem
        except Exception as error:  # a fault of ours must reach the person, not vanish with the thread
            log.exception("%s failed", self.title)
            self.problem = EngineProblem(
                "addon_fault",
                f"{self.title} failed in the add-on.",
                f"{type(error).__name__}: {error}",
                "Please report this with the text of Blender's console.",
            )

    def _end(self, problem: EngineProblem | None) -> None:
        self.problem, self.finished = problem, True
        scene.redraw_panels()


calls: list[Call] = []
"""The newest last; the panel shows the last one."""


def start(call: Call) -> Call:
    """Takes a call on; starts the engine where none runs. Returns at once."""
    calls[:] = [other for other in calls if not other.finished] + [call]
    session.current().engine.start()
    session.drive()
    if not bpy.app.background and not bpy.app.timers.is_registered(_tick):
        bpy.app.timers.register(_tick, first_interval=0.0, persistent=True)
    return call


def wait(call: Call) -> Call:
    """Until the call is answered: the way without a window."""
    while not call.finished:
        session.current().step()
        step()
        time.sleep(0.01)
    return call


def step() -> bool:
    """Brings the calls' answers. True while one is open."""
    running = session.current()
    for call in calls:
        call.poll(running)
    return any(not call.finished for call in calls)


def _tick() -> float | None:
    return STEP_INTERVAL_S if step() else None


def refresh(_job: object = None) -> None:
    """The list of priors anew: a training has added one."""
    start(Call("Reading the list of priors", lambda client: None, lambda answer: ""))


def about(name: str) -> dict[str, Any]:
    """What the engine lists of the prior; {} where it does not run yet or has none of that name."""
    running = session.current()
    for prior in running.engine.info.get("priors") or running.known_priors:
        if isinstance(prior, dict) and prior.get("name") == name:
            return prior
    return {}


def card_lines(prior: dict[str, Any]) -> list[tuple[str, str]]:
    """(heading, text) of a prior's card, as a person reads it."""
    facts = prior.get("about") if isinstance(prior.get("about"), dict) else {}
    lines: list[tuple[str, str]] = []
    counts = facts.get("class_counts")
    if isinstance(counts, dict) and counts:
        ordered = sorted(counts.items(), key=lambda item: -_number(item[1]))
        lines.append(("Classes", ", ".join(f"{name} {count}" for name, count in ordered)))
    elif prior.get("classes"):
        lines.append(("Classes", ", ".join(map(str, prior["classes"]))))
    data = facts.get("data")
    for source, entry in data.items() if isinstance(data, dict) else ():
        licences = entry.get("licences") if isinstance(entry, dict) else None
        named = ", ".join(f"{name or 'unknown'} ({count})" for name, count in licences.items()) if licences else ""
        shapes = entry.get("shapes", "?") if isinstance(entry, dict) else "?"
        lines.append(("Data", f"{source}: {shapes} shapes" + (f"; {named}" if named else "")))
    training = facts.get("training")
    if isinstance(training, dict):
        text = f"{training.get('steps', '?')} steps"
        if _number(training.get("seconds")):
            text += f" in {_number(training['seconds']) / 60:.1f} min"
        text += f" on {training['device']}" if training.get("device") else ""
        text += f", {training['date']}" if training.get("date") else ""
        lines.append(("Training", text))
        started = training.get("started_from")
        if isinstance(started, dict) and started.get("prior"):
            lines.append(("Started from", str(started["prior"])))
    quality = facts.get("quality")
    if isinstance(quality, dict):
        if quality.get("protocol"):
            lines.append(("Quality", str(quality["protocol"])))
        for key, values in quality.items():
            if isinstance(values, dict) and values and all(isinstance(v, int | float) for v in values.values()):
                shown = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in _rounded(values).items())
                lines.append(("", f"{key.replace('_', ' ').capitalize()}: {shown}"))
    elif facts:
        lines.append(("Quality", "not measured"))
    if facts.get("licence"):
        lines.append(("Licence", str(facts["licence"])))
    size = _number(prior.get("bytes"))
    if size:
        lines.append(("File", f"{size / 2**20:.1f} MB, version {prior.get('version', '?')}"))
    return lines


def _rounded(values: dict[str, Any]) -> dict[str, float]:
    return {str(name): round(float(value), 3) for name, value in values.items()}


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def register() -> None:
    """Nothing to set up; in the add-on's list of modules for what `unregister` clears away."""


def unregister() -> None:
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
    calls.clear()


