"""What the operators share that give the engine a job."""

import bpy
from bpy.props import BoolProperty, StringProperty

from .. import preferences, session
from ..link.problem import EngineProblem
from ..ui.drawing import duration


def job_settings() -> dict[str, object]:
    """The settings that every such operator has beside its own."""
    return {
        "device": StringProperty(
            name="Device", description="Instead of the device of the preferences", options={"HIDDEN", "SKIP_SAVE"}
        ),
        "blocking": BoolProperty(
            name="Blocking",
            description="Return only when the result is there; always so without a window",
            default=False,
            options={"HIDDEN", "SKIP_SAVE"},
        ),
    }


class JobOperator:
    """Starts a job and returns at once in a window, or waits for its end without one: the same job either way."""

    # No 'UNDO': nothing has changed when this returns. The session pushes one step when the result is there.
    bl_options = {"REGISTER"}

    @classmethod
    def allowed(cls, why: str) -> bool:
        """What a `poll` answers where `why` ("" = nothing) stands in the way: the button says so."""
        if why:
            cls.poll_message_set(why)
        return not why

    def make_job(self, context: bpy.types.Context) -> session.Job:
        """Raises EngineProblem where there is nothing to do."""
        raise NotImplementedError

    def told(self, job: session.Job) -> str:
        """What is said when the job is done."""
        return f"{job.title}: {duration(job.seconds)}"

    def take_settings(self, settings: bpy.types.PropertyGroup, names: object) -> None:
        """A click takes the settings that the panel shows; a call from a script says what it wants."""
        for name in names:
            if not self.properties.is_property_set(name):
                setattr(self, name, getattr(settings, name))

    def run(self, context: bpy.types.Context) -> set:
        running = session.current()
        try:
            preferences.configure(context)
            job = running.submit(self.make_job(context))
        except EngineProblem as problem:
            self.report({"ERROR"}, str(problem))
            return {"CANCELLED"}
        said = job.notes
        for note in said:
            self.report({"WARNING"}, note)
        if not (self.blocking or bpy.app.background):
            session.drive()
            return {"FINISHED"}
        running.wait(job)
        if job.problem is not None:
            self.report({"ERROR"}, str(job.problem))
        elif job.state == session.DONE:
            for warning in job.warnings:
                self.report({"WARNING"}, str(warning))
            for note in job.notes[len(said) :]:
                self.report({"INFO"}, note)
            self.report({"INFO"}, self.told(job))
        return {"FINISHED"} if job.state == session.DONE else {"CANCELLED"}

    def common_request(self, context: bpy.types.Context, name: str) -> dict[str, object]:
        return {
            "resolution": self.resolution,
            "seed": self.seed,
            "device": self.device or preferences.of(context).device,
            "name": name,
        }
