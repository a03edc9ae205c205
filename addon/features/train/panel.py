"""Train Prior in the sidebar."""

import bpy

from ... import session
from ...ui.drawing import draw_job, draw_text
from ...ui.panel import ShapewrightPanel, big_button, settings_column
from . import library


class SHAPEWRIGHT_PT_train(ShapewrightPanel, bpy.types.Panel):
    bl_label = "Train Prior"
    bl_idname = "SHAPEWRIGHT_PT_train"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        settings = context.scene.shapewright_train
        big_button(layout).operator("shapewright.train_prior", icon="MODIFIER")
        for job in session.current().jobs:
            if job.kind != "train":
                continue
            draw_job(layout, job)
            if job.state in (session.CANCELLED, session.JOB_FAILED):
                again = layout.operator("shapewright.train_prior", text="Resume", icon="PLAY")
                again.resume, again.name = True, job.request["name"]
        column = settings_column(layout)
        column.prop(settings, "name")
        column.prop(settings, "learn_from")
        if settings.learn_from == "FOLDER":
            column.prop(settings, "folder")
        else:
            column.prop(settings, "collection")
            chosen = settings.collection or context.collection
            found = library.shapes_in(chosen) if chosen is not None else []
            classes = sorted({name for name, _ in found})
            draw_text(
                layout.column(align=True),
                f"'{chosen.name}': {len(found)} shapes of {len(classes)} classes" if found else "No shapes in there",
                "INFO",
            )
        column = settings_column(layout)
        for name in ("minutes", "steps", "start_from"):
            column.prop(settings, name)
