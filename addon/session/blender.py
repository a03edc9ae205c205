"""The session of this Blender: one, made when first asked for, driven by a timer, told what Blender does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import bpy
from bpy.app.handlers import persistent

from ..carried.alignment import SOURCE
from ..carried.source import let_go_of_deleted
from ..link import connections
from ..scene import write
from . import notices
from .session import Companion, Session

log = logging.getLogger(__name__)

STEP_INTERVAL_S = 0.05

COMPANIONS: dict[str, Callable[[Session], Companion]] = {}
"""What the features have driven beside the jobs, by their names: filled while they register."""

_session: Session | None = None
_kind = connections.DEFAULT
"""Which kind of connection the session's engine is reached by."""


def current() -> Session:
    """The session of this Blender; made when first asked for."""
    global _session
    if _session is None:
        _session = Session(_connect(_kind), COMPANIONS)
        _session.on_change = notices.redraw_panels
    return _session


def _connect(kind: str) -> connections.Connection:
    return connections.kinds()[kind].make(engine_folder())


def use_preferences(kind: str, settings: Mapping[str, Any]) -> None:
    """Takes over the preferences: by which kind of connection the engine is reached, and the settings of all kinds.

    Another kind takes effect now, and ends what runs; settings hold from the next start of the engine on.
    """
    global _kind
    changed, _kind = kind != _kind, kind
    running = current()
    if changed:
        running.use(_connect(kind))
    running.engine.configure(settings)


def engine_folder() -> Path:
    """Where the engine's log and finished jobs lie: the extension's own folder, which survives updates."""
    package = (__package__ or "").rpartition(".")[0]  # the add-on itself, not this room
    if package.startswith("bl_ext."):
        return Path(bpy.utils.extension_path_user(package, path="engine", create=True))
    return Path(bpy.utils.user_resource("DATAFILES", path="shapewright/engine", create=True))


def drive() -> None:
    """Makes sure that a timer steps the session for as long as there is something to do."""
    if not bpy.app.background and not bpy.app.timers.is_registered(_tick):
        bpy.app.timers.register(_tick, first_interval=0.0, persistent=True)


def _tick() -> float | None:
    if _session is None:
        return None
    try:
        if not _session.step():
            return None
        return min([STEP_INTERVAL_S, *(companion.interval_s for companion in _session.busy_companions)])
    except Exception:  # a timer that raises is never called again, and every job would hang
        log.exception("Shapewright's step failed")
        return 1.0


@persistent
def _on_undo(*_: object) -> None:
    if _session is not None:
        _session.sweep_needed = True  # not here: Blender is still in the middle of its undo
        drive()


@persistent
def _on_load_pre(*_: object) -> None:
    if _session is not None:
        _session.before_load()


@persistent
def _on_load_post(*_: object) -> None:
    write.remove_stray_previews(job.id for job in (_session.active if _session is not None else ()))


@persistent
def _on_save_pre(*_: object) -> None:
    let_go_of_deleted([SOURCE])
    if _session is not None:
        _session.before_save()


_HANDLERS = (
    ("undo_post", _on_undo),
    ("redo_post", _on_undo),
    ("load_pre", _on_load_pre),
    ("load_post", _on_load_post),
    ("save_pre", _on_save_pre),
)


def register() -> None:
    for name, handler in _HANDLERS:
        getattr(bpy.app.handlers, name).append(handler)


def unregister() -> None:
    """Leaves nothing behind: no handler, timer, thread, engine or preview."""
    global _session, _kind
    for name, handler in _HANDLERS:
        handlers = getattr(bpy.app.handlers, name)
        while handler in handlers:
            handlers.remove(handler)
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
    if _session is not None:
        session, _session = _session, None
        session.close()
    _kind = connections.DEFAULT
