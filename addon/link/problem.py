"""What went wrong, in three parts that a person reads. No bpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PROTOCOL_VERSION = "1.0"
"""The wire that this client speaks. An engine whose major number differs is refused."""


@dataclass(eq=False)
class EngineProblem(Exception):
    """A failure for a person to read. code: stable and for programs; what happened; why; remedy: what to do now."""

    code: str
    what: str
    why: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what} {self.why} {self.remedy}"

    def as_dict(self) -> dict[str, str]:
        return {"code": self.code, "what": self.what, "why": self.why, "remedy": self.remedy}


class JobUnknown(EngineProblem):
    """The engine no longer knows the job: it was replaced by another one, or the job aged out."""


def problem_from(error: object, status: int | None = None) -> EngineProblem:
    """The engine's `{code, what, why, remedy}` as an EngineProblem; anything else becomes a `bad_answer`."""
    if isinstance(error, Mapping) and error.get("what"):
        code = str(error.get("code") or "engine_error")
        kind = JobUnknown if status == 404 else EngineProblem
        return kind(code, str(error["what"]), str(error.get("why") or ""), str(error.get("remedy") or ""))
    if status == 404:
        return JobUnknown(
            "not_found",
            "The engine does not have what was asked for.",
            "The job is too old, or another engine has taken its place.",
            "Run the command again.",
        )
    shown = f"HTTP status {status}" if status else repr(error)[:200]
    return bad_answer(f"It answered with {shown} and no explanation.")


def bad_answer(why: str) -> EngineProblem:
    return EngineProblem(
        "bad_answer",
        "The engine's answer could not be understood.",
        why,
        "Restart the engine in the add-on's preferences; update it if this comes back.",
    )


def unreachable(error: Exception) -> EngineProblem:
    if isinstance(error, TimeoutError):
        return EngineProblem(
            "engine_silent",
            "The engine did not answer in time.",
            "It is busy or stuck.",
            "Try again; if this comes back, stop and start the engine in the add-on's preferences.",
        )
    return EngineProblem(
        "engine_unreachable",
        "The engine cannot be reached.",
        f"The connection failed ({error or type(error).__name__}).",
        "Start the engine again in the add-on's preferences; its log file says why it left.",
    )


def check_protocol(version: str | None, address: str) -> None:
    """Raises EngineProblem where what answers is no Shapewright engine, or one of another major protocol version."""
    if not version:
        raise EngineProblem(
            "not_an_engine",
            f"What answers at {address} is not a Shapewright engine.",
            "Its answer does not name the protocol.",
            "Stop and start the engine in the add-on's preferences.",
        )
    if version.split(".")[0] != PROTOCOL_VERSION.split(".")[0]:
        raise EngineProblem(
            "protocol_mismatch",
            "The add-on and the engine do not speak the same version.",
            f"The add-on speaks protocol {PROTOCOL_VERSION}, the engine {version}.",
            "Install the add-on and the engine of the same release.",
        )


def fault(what: str, error: Exception) -> EngineProblem:
    """A fault of ours: it must reach the person, not vanish with the thread that it happened on."""
    return EngineProblem(
        "addon_fault",
        what,
        f"{type(error).__name__}: {error}",
        "Please report this with the text of Blender's console.",
    )
