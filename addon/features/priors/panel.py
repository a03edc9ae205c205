"""The priors: what the chosen one knows, its file, and how to learn another one."""

import bpy

from ... import preferences
from ...session import session
from ...ui.panel import ShapewrightPanel
from ..train import library
from . import priors


class SHAPEWRIGHT_PT_priors(ShapewrightPanel, bpy.types.Panel):
    bl_label = "Priors"
    bl_idname = "SHAPEWRIGHT_PT_priors"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        settings = context.scene.shapewright
        layout.prop(settings, "prior")
        row = layout.row(align=True)
        row.operator("shapewright.import_prior", text="Import", icon="IMPORT")
        row.operator("shapewright.export_prior", text="Export", icon="EXPORT")
        row.operator("shapewright.remove_prior", text="", icon="TRASH")
        if priors.calls:
            call = priors.calls[-1]
            if call.problem is not None:
                preferences.draw_problem(layout, call.problem)
            elif not call.finished or call.message:
                icon = "CHECKMARK" if call.finished else "SORTTIME"
                preferences.draw_text(layout.column(align=True), call.message or f"{call.title} ...", icon)
        prior = priors.about(settings.prior)
        if not prior:
            layout.label(text="The engine tells more once it runs", icon="INFO")
            return
        column = layout.box().column(align=True)
        for heading, text in priors.card_lines(prior):
            if heading:
                column.separator(factor=0.5)
                column.label(text=heading, icon="DOT")
            preferences.draw_text(column, text)


class SHAPEWRIGHT_PT_train(ShapewrightPanel, bpy.types.Panel):
    bl_label = "Train Prior"
    bl_idname = "SHAPEWRIGHT_PT_train"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        settings = context.scene.shapewright_train
        column = layout.column()
        column.scale_y = 1.4
        column.operator("shapewright.train_prior", icon="MODIFIER")
        for job in session.current().jobs:
            if job.request.get("kind") != "train":
                continue
            preferences.draw_job(layout, job)
            if job.state in (session.CANCELLED, session.JOB_FAILED):
                again = layout.operator("shapewright.train_prior", text="Resume", icon="PLAY")
                again.resume, again.name = True, job.request["name"]
        column = layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        column.prop(settings, "name")
        column.prop(settings, "learn_from")
        if settings.learn_from == "FOLDER":
            column.prop(settings, "folder")
        else:
            column.prop(settings, "collection")
            chosen = settings.collection or context.collection
            found = library.members(chosen) if chosen is not None else []
            classes = sorted({name for name, _ in found})
            preferences.draw_text(
                layout.column(align=True),
                f"'{chosen.name}': {len(found)} shapes of {len(classes)} classes" if found else "No shapes in there",
                "INFO",
            )
        column = layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        for name in ("minutes", "steps", "start_from"):
            column.prop(settings, name)


CLASSES = (SHAPEWRIGHT_PT_priors, SHAPEWRIGHT_PT_train)
