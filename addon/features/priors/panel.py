"""The priors in the sidebar: what the chosen one knows, and its file."""

import bpy

from ... import session
from ...ui.drawing import draw_problem, draw_text
from ...ui.panel import ShapewrightPanel
from .card import card_lines


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
        call = session.current().calls.newest
        if call is not None:
            if call.problem is not None:
                draw_problem(layout, call.problem)
            elif not call.finished or call.message:
                icon = "CHECKMARK" if call.finished else "SORTTIME"
                draw_text(layout.column(align=True), call.message or f"{call.title} ...", icon)
        prior = session.current().prior(settings.prior)
        if not prior:
            layout.label(text="The engine tells more once it runs", icon="INFO")
            return
        column = layout.box().column(align=True)
        for heading, text in card_lines(prior):
            if heading:
                column.separator(factor=0.5)
                column.label(text=heading, icon="DOT")
            draw_text(column, text)
