"""What a job's state.json must hold to be believed. It lies on a disk, where anything can happen to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..plain_json import parse_strictly

MAX_STATE = 16 * 2**20
"""Bytes. A request may have 1 MB, and reports are shorter."""

FINISHED = ("done", "failed", "cancelled")
STATES = ("queued", "running", *FINISHED)
_LAST_SECOND = 253_402_300_799  # of the year 9999
_CLOCK_SLACK_S = 86_400.0
_ERROR = {"code", "what", "why", "remedy"}


def read_state(folder: Path) -> dict[str, Any]:
    """What folder/state.json holds, so far an object with the folder's name as its id. Raises OSError where it cannot
    be read, ValueError where it is damaged."""
    path = folder / "state.json"
    with path.open("rb") as file:
        data = file.read(MAX_STATE + 1)
    if len(data) > MAX_STATE:
        raise ValueError(f"it has more than {MAX_STATE // 2**20} MB")
    state = parse_strictly(data)
    if not isinstance(state, dict):
        raise ValueError("it is no JSON object")
    if state.get("id") != folder.name:
        raise ValueError("its 'id' is another job's")
    return state


def check_state(state: dict[str, Any]) -> None:
    """Raise ValueError, naming the field, where `state` is not one that the queue has written."""
    ended = state.get("state") in FINISHED
    expected = {
        "kind": _is_text(state.get("kind")) and state["kind"] != "",
        "name": _is_text(state.get("name")),
        "request": isinstance(state.get("request"), dict),
        "state": _is_text(state.get("state")) and state["state"] in STATES,
        "created": _is_time(state.get("created")),
        "started": "started" in state and (state["started"] is None or _is_time(state["started"])),
        "finished": _is_time(state.get("finished")) if ended else "finished" in state and state["finished"] is None,
        "meshes": isinstance(state.get("meshes"), list) and all(_is_count(n) for n in state["meshes"]),
        "report": isinstance(state.get("report"), dict) or ("report" in state and state.get("state") != "done"
                                                            and state["report"] is None),
        "error": _is_error(state.get("error")) or ("error" in state and state.get("state") != "failed"
                                                   and state["error"] is None),
        "last_event": _is_count(state.get("last_event")) and state["last_event"] > 0,  # the first save is of event 1
    }  # fmt: skip
    wrong = [name for name, right in expected.items() if not right]
    if wrong:
        raise ValueError(f"its {', '.join(repr(name) for name in wrong)} cannot be so")
    if ended and state["finished"] < state["created"] - _CLOCK_SLACK_S:
        raise ValueError("it was finished before it was created")  # believed, its results would count as old and go


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_time(value: Any) -> bool:
    """Seconds since 1970."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LAST_SECOND


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _is_error(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == _ERROR and all(isinstance(text, str) for text in value.values())
