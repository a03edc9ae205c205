"""What came out, below Complete Shape: the hypotheses to browse, and the alignment to correct."""

import bpy

from ...carried import alignment, answers
from ...ui.panel import ShapewrightPanel


class SHAPEWRIGHT_PT_hypotheses(ShapewrightPanel, bpy.types.Panel):
    bl_label = "Hypotheses"
    bl_idname = "SHAPEWRIGHT_PT_hypotheses"
    bl_parent_id = "SHAPEWRIGHT_PT_complete"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return answers.answers_of(context.active_object) is not None

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        collection = answers.answers_of(context.active_object)
        found = answers.answers_in(collection)
        number = answers.shown(collection)
        layout.label(text=f"{number + 1} of {len(found)}")
        row = layout.row(align=True)
        row.operator("shapewright.previous_hypothesis", text="Previous", icon="TRIA_LEFT")
        row.operator("shapewright.next_hypothesis", text="Next", icon="TRIA_RIGHT")
        column = layout.column(align=True)
        for rank, obj in enumerate(found):
            score = obj.get("shapewright_score")
            text = obj.name if score is None else f"{obj.name}: score {score:.3g}"
            column.label(text=text, icon="HIDE_OFF" if rank == number else "HIDE_ON")
        layout.operator("shapewright.keep_hypothesis", icon="CHECKMARK")


class SHAPEWRIGHT_PT_alignment(ShapewrightPanel, bpy.types.Panel):
    bl_label = "Alignment"
    bl_idname = "SHAPEWRIGHT_PT_alignment"
    bl_parent_id = "SHAPEWRIGHT_PT_complete"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        obj = context.active_object
        return obj is not None and (alignment.knows(obj) or alignment.alignment_of(obj) is not None)

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        empty = alignment.alignment_of(context.active_object)
        if empty is None:
            layout.operator("shapewright.show_alignment", icon="EMPTY_AXIS")
            return
        locked = bool(empty.get(alignment.LOCKED))
        row = layout.row()
        row.label(text=empty.name, icon="EMPTY_AXIS")
        text, icon = ("Locked", "LOCKED") if locked else ("Lock", "UNLOCKED")
        row.prop(empty, f'["{alignment.LOCKED}"]', text=text, icon=icon, toggle=True)
        if locked:
            layout.label(text="Complete Shape takes this alignment", icon="INFO")
        elif empty.get(alignment.FOUND_BY):
            layout.label(text=f"Found by: {empty[alignment.FOUND_BY]}")
        layout.operator("shapewright.complete_again", icon="SHADERFX")
