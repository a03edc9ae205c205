"""Start, stop and test the engine."""

import time

import bpy

from ... import preferences, session
from ...ui.drawing import duration


class SHAPEWRIGHT_OT_engine_start(bpy.types.Operator):
    bl_idname = "shapewright.engine_start"
    bl_label = "Start Engine"
    bl_description = "Start the engine now, so that the first job need not wait for it"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if session.current().engine.poll() in ("ready", "starting"):
            cls.poll_message_set("The engine runs already")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set:
        preferences.configure(context)
        running = session.current()
        running.engine.start()
        if not bpy.app.background:
            session.drive()
            return {"FINISHED"}
        while running.step():
            time.sleep(0.01)
        if running.engine.problem is not None:
            self.report({"ERROR"}, str(running.engine.problem))
            return {"CANCELLED"}
        return {"FINISHED"}


class SHAPEWRIGHT_OT_engine_stop(bpy.types.Operator):
    bl_idname = "shapewright.engine_stop"
    bl_label = "Stop Engine"
    bl_description = "Stop the engine and free its memory; running jobs end"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if session.current().engine.poll() not in ("ready", "starting"):
            cls.poll_message_set("The engine does not run")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set:
        running = session.current()
        for job in running.active:
            running.cancel(job)
        running.engine.stop(wait=bpy.app.background)
        session.drive()
        return {"FINISHED"}


class SHAPEWRIGHT_OT_engine_test(bpy.types.Operator):
    bl_idname = "shapewright.engine_test"
    bl_label = "Test Engine"
    bl_description = "Let the engine compute a known shape on its device and check the result"
    bl_options = {"INTERNAL"}

    def execute(self, context: bpy.types.Context) -> set:
        preferences.configure(context)
        running = session.current()
        device = preferences.of(context).device
        request = {"kind": "selftest", "steps": 1, "step_seconds": 0.0, "device": device}
        job = running.submit(session.Job("Test of the engine", request, want_previews=False))
        if not bpy.app.background:
            session.drive()
            return {"FINISHED"}
        running.wait(job)
        if job.problem is not None:
            self.report({"ERROR"}, str(job.problem))
            return {"CANCELLED"}
        self.report({"INFO"}, f"The engine works: tested in {duration(job.seconds)}")
        return {"FINISHED"}
