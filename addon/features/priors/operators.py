"""Priors as files: import, export, remove."""

from pathlib import Path

import bpy
from bpy.props import BoolProperty, StringProperty

from ... import preferences, session
from ...ui.choices import DEFAULT_PRIOR
from . import files


class _CallOperator:
    """What the operators here share: a call to the engine beside the window, or waited for without one."""

    bl_options = {"REGISTER"}

    def call(self, call: session.Call, context: bpy.types.Context) -> set:
        preferences.configure(context)
        running = session.current()
        running.ask(call)
        if not bpy.app.background:
            session.drive()
            return {"FINISHED"}
        running.wait_for_answer(call)
        if call.problem is not None:
            self.report({"ERROR"}, str(call.problem))
            return {"CANCELLED"}
        self.report({"INFO"}, call.message)
        return {"FINISHED"}


class SHAPEWRIGHT_OT_import_prior(_CallOperator, bpy.types.Operator):
    bl_idname = "shapewright.import_prior"
    bl_label = "Import Prior"
    bl_description = "Take a prior's file among the engine's priors. A damaged or foreign file is refused with a reason"

    filepath: StringProperty(subtype="FILE_PATH", options={"SKIP_SAVE"})
    filter_glob: StringProperty(default=f"*{files.SUFFIX}", options={"HIDDEN"})
    name: StringProperty(
        name="Name", description="What it is called from now on; empty takes its own name", options={"SKIP_SAVE"}
    )
    replace: BoolProperty(
        name="Replace", description="Also where another prior has that name", default=False, options={"SKIP_SAVE"}
    )

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> set:
        path, name, replace = Path(bpy.path.abspath(self.filepath)), self.name.strip(), self.replace
        return self.call(
            session.Call(
                f"Importing {path.name}",
                lambda client: files.bring(client, path, name, replace),
                lambda answer: f"Imported the prior '{answer.get('name', '')}'",
            ),
            context,
        )


class SHAPEWRIGHT_OT_export_prior(_CallOperator, bpy.types.Operator):
    bl_idname = "shapewright.export_prior"
    bl_label = "Export Prior"
    bl_description = "Write the chosen prior to a file, to keep it or to give it away"

    filepath: StringProperty(subtype="FILE_PATH", options={"SKIP_SAVE"})
    filter_glob: StringProperty(default=f"*{files.SUFFIX}", options={"HIDDEN"})
    check_existing: BoolProperty(default=True, options={"HIDDEN"})
    prior: StringProperty(name="Prior", description="Which one", options={"HIDDEN", "SKIP_SAVE"})

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set:
        self.prior = self.prior or context.scene.shapewright.prior
        self.filepath = f"{self.prior or DEFAULT_PRIOR}{files.SUFFIX}"
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> set:
        name, path = self.prior or context.scene.shapewright.prior, Path(bpy.path.abspath(self.filepath))
        if not self.filepath or path.is_dir():
            self.report({"ERROR"}, "No file was chosen. Name the file to write.")
            return {"CANCELLED"}
        return self.call(
            session.Call(
                f"Exporting {name}",
                lambda client: files.fetch(client, name, path),
                lambda written: f"Wrote {written}",
            ),
            context,
        )


class SHAPEWRIGHT_OT_remove_prior(_CallOperator, bpy.types.Operator):
    bl_idname = "shapewright.remove_prior"
    bl_label = "Remove Prior"
    bl_description = "Delete the chosen prior from the engine's priors. Those that come with the engine stay"

    prior: StringProperty(name="Prior", description="Which one", options={"HIDDEN", "SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if session.current().prior(context.scene.shapewright.prior).get("shipped"):
            cls.poll_message_set("This prior comes with the engine")
            return False
        return True

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set:
        return context.window_manager.invoke_confirm(self, event)

    def execute(self, context: bpy.types.Context) -> set:
        name = self.prior or context.scene.shapewright.prior
        if not name:
            self.report({"ERROR"}, "Nothing was removed. No prior is chosen. Choose one.")
            return {"CANCELLED"}
        call = session.Call(
            f"Removing {name}", lambda client: files.remove(client, name), lambda _: f"Removed the prior '{name}'"
        )
        if context.scene.shapewright.prior == name:
            context.scene.shapewright.prior = DEFAULT_PRIOR
        return self.call(call, context)
