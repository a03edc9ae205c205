"""Cancel a job or take it off the list; tell what the engine wants a person to know."""

import bpy
from bpy.props import StringProperty

from ... import session


class SHAPEWRIGHT_OT_cancel_job(bpy.types.Operator):
    bl_idname = "shapewright.cancel_job"
    bl_label = "Cancel"
    bl_description = "Stop this job and leave the scene as it was; of a finished job, remove this entry"
    bl_options = {"INTERNAL"}

    job_id: StringProperty(options={"HIDDEN", "SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not session.current().jobs:
            cls.poll_message_set("No job is running")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set:
        running = session.current()
        job = running.find(self.job_id) if self.job_id else next(reversed(running.active), None)
        if job is None:
            self.report({"WARNING"}, "There is no such job any more")
            return {"CANCELLED"}
        if job.finished:
            running.dismiss(job)
        else:
            running.cancel(job)
            session.drive()
        return {"FINISHED"}


class SHAPEWRIGHT_OT_tell(bpy.types.Operator):
    bl_idname = "shapewright.tell"
    bl_label = "Warning"
    bl_description = "Show a warning of the engine in the status bar and keep it in the Info log"
    bl_options = {"INTERNAL"}

    text: StringProperty(options={"HIDDEN", "SKIP_SAVE"})

    def execute(self, context: bpy.types.Context) -> set:
        self.report({"WARNING"}, self.text)
        return {"FINISHED"}
