"""What came out, below Complete Shape: the hypotheses to browse, and the alignment to correct."""

import bpy

from ...carried import alignment as poses
from ...carried import answers as hypotheses
from ...ui.panel import ShapewrightPanel


class SHAPEWRIGHT_PT_hypotheses(ShapewrightPanel, bpy.types.Panel):
    bl_label = "Hypotheses"
    bl_idname = "SHAPEWRIGHT_PT_hypotheses"
    bl_parent_id = "SHAPEWRIGHT_PT_complete"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return hypotheses.of_object(context.active_object) is not None

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        collection = hypotheses.of_object(context.active_object)
        found = hypotheses.members(collection)
        number = hypotheses.shown(collection)
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
        return obj is not None and (poses.knows(obj) or poses.of_object(obj) is not None)

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        empty = poses.of_object(context.active_object)
        if empty is None:
            layout.operator("shapewright.show_alignment", icon="EMPTY_AXIS")
            return
        locked = bool(empty.get(poses.LOCKED))
        row = layout.row()
        row.label(text=empty.name, icon="EMPTY_AXIS")
        row.prop(
            empty, f'["{poses.LOCKED}"]', text="Locked" if locked else "Lock", icon="LOCKED" if locked else "UNLOCKED",
            toggle=True,
        )  # fmt: skip
        if locked:
            layout.label(text="Complete Shape takes this alignment", icon="INFO")
        elif empty.get(poses.FOUND_BY):
            layout.label(text=f"Found by: {empty[poses.FOUND_BY]}")
        layout.operator("shapewright.complete_again", icon="SHADERFX")
