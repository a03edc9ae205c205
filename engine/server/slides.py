"""Slider's steps, answered beside the queue: a slider must not wait for a minute's work."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, JobFailed
from ..jobs.request import Request
from . import problems, storage

TIMEOUT_S = 120.0
_ENGINES_FAULTS = ("internal_error", "out_of_memory", "empty_surface", "field_not_finite")


@dataclass
class _Slide:
    """A step that somebody waits for."""

    request: Request
    answer: asyncio.Future[dict[str, Any]]
    sent: bool = False

    @property
    def stream(self) -> str:
        """Whose slider it is, '' = nobody else's."""
        return str(getattr(self.request, "stream", ""))


class Slides:
    """The steps that are waited for."""

    def __init__(self, send: Callable[[dict[str, Any]], bool], engage: Callable[[], problems.Error | None]) -> None:
        """send: a message to the worker, False where there is none that is ready.  engage: see that there is a worker;
        the error that prevents it."""
        self._send, self._engage = send, engage
        self._waiting: dict[str, _Slide] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    async def answer(self, request: Request, arrays: bytes) -> tuple[bytes, dict[str, Any]]:
        """The moved shape's mesh (NPZ) and report. Of one stream only the newest request is answered: the older ones
        get InputError 'superseded' at once."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="shapewright-slides-", ignore_cleanup_errors=True)
        folder = Path(self._folder.name)
        slide = _Slide(request, asyncio.get_running_loop().create_future())
        self._supersede(slide.stream)
        slide_id = secrets.token_hex(8)
        self._waiting[slide_id] = slide
        try:
            (folder / f"{slide_id}.npz").write_bytes(arrays)
            error = self._engage()
            self.send_waiting()
            if error is not None:
                self.fail(error)
            report = await asyncio.wait_for(slide.answer, TIMEOUT_S)
            return (folder / f"{slide_id}_mesh.npz").read_bytes(), report
        except TimeoutError:
            raise JobFailed(
                "worker_hung",
                "The engine's worker stopped answering.",
                f"A slider's step took longer than {TIMEOUT_S:.0f} seconds.",
                "Lower the resolution, or try again when the engine has less to do.",
            ) from None
        finally:
            self._waiting.pop(slide_id, None)
            storage.unlink(folder / f"{slide_id}.npz")
            storage.unlink(folder / f"{slide_id}_mesh.npz")

    def send_waiting(self) -> None:
        """Give the worker what it has not got yet."""
        if self._folder is None:
            return
        for slide_id, slide in self._waiting.items():
            if not slide.sent and not slide.answer.done():
                settings = slide.request.model_dump(mode="json")
                slide.sent = self._send(
                    {"type": "slide", "id": slide_id, "folder": self._folder.name, "request": settings}
                )

    def on_answer(self, message: dict[str, Any]) -> None:
        """The worker's 'slid'."""
        slide_id = message["id"]
        if slide_id not in self._waiting and self._folder is not None:  # nobody waits any more
            storage.unlink(Path(self._folder.name) / f"{slide_id}_mesh.npz")
        elif message.get("cancelled"):
            self._end(slide_id, error=_superseded())
        elif "error" in message:
            error = message["error"]
            kind = JobFailed if error["code"] in _ENGINES_FAULTS else InputError
            self._end(slide_id, error=kind(**error))
        else:
            self._end(slide_id, report=message["report"])

    def fail(self, error: problems.Error) -> None:
        """All that wait."""
        for slide_id in list(self._waiting):
            self._end(slide_id, error=JobFailed(**error))

    def close(self) -> None:
        self.fail(problems.stopped())
        if self._folder is not None:
            self._folder.cleanup()

    def _supersede(self, stream: str) -> None:
        for slide_id, slide in list(self._waiting.items()):
            if stream and slide.stream == stream:
                self._end(slide_id, error=_superseded())
                if slide.sent:
                    self._send({"type": "cancel", "id": slide_id})

    def _end(self, slide_id: str, *, report: dict[str, Any] | None = None, error: Exception | None = None) -> None:
        slide = self._waiting.get(slide_id)
        if slide is None or slide.answer.done():
            return
        if error is not None:
            slide.answer.set_exception(error)
        else:
            slide.answer.set_result(report or {})


def _superseded() -> InputError:
    return InputError(
        "superseded",
        "This step of the slider was left out.",
        "A newer one of the same stream came before it was done.",
        "Nothing: the newer one is answered.",
    )
