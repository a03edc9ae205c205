"""What the engine says when it cannot go on: a code for programs, and three sentences for people."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class EngineError(Exception):
    """A failure with a cause and a remedy, the same on the wire, the command line and in Blender.

    code: stable, machine-readable, lower_snake_case.
    what: what happened.  why: the cause.  remedy: what the user can do now.
    """

    code: str
    what: str
    why: str
    remedy: str

    def __post_init__(self) -> None:
        # They quote files and names, which may hold what no text can: half a surrogate pair could not be sent or shown.
        self.what, self.why, self.remedy = map(_as_text, (self.what, self.why, self.remedy))

    def __str__(self) -> str:
        return f"{self.what} {self.why} {self.remedy}"

    def as_dict(self) -> dict[str, str]:
        return {"code": self.code, "what": self.what, "why": self.why, "remedy": self.remedy}

    def __reduce__(self) -> tuple[type[EngineError], tuple[str, str, str, str]]:
        return type(self), (self.code, self.what, self.why, self.remedy)


def _as_text(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class InputError(EngineError):
    """The request or its data is at fault: exit code 2, HTTP 400/422."""


class JobFailed(EngineError):
    """The engine is at fault or out of resources: exit code 3, HTTP 500."""


class Cancelled(Exception):
    """The user asked the job to stop: exit code 130."""
