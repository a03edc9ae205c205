"""Browse the hypotheses of a scan, and keep one of them."""

import bpy

from ...carried import alignment, answers


class _Browse:
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if answers.answers_of(context.active_object) is None:
            cls.poll_message_set("Select a hypothesis, or the object that it was made from")
            return False
        return True

    def turn(self, context: bpy.types.Context, by: int) -> set:
        collection = answers.answers_of(context.active_object)
        before = answers.answers_in(collection)[answers.shown(collection)]
        after = answers.show_answer(collection, answers.shown(collection) + by)
        alignment.follow_answer(before, after)
        return {"FINISHED"}


class SHAPEWRIGHT_OT_next_hypothesis(_Browse, bpy.types.Operator):
    bl_idname = "shapewright.next_hypothesis"
    bl_label = "Next Hypothesis"
    bl_description = "Show the next of the shapes that explain the scan; after the last one comes the best again"

    def execute(self, context: bpy.types.Context) -> set:
        return self.turn(context, 1)


class SHAPEWRIGHT_OT_previous_hypothesis(_Browse, bpy.types.Operator):
    bl_idname = "shapewright.previous_hypothesis"
    bl_label = "Previous Hypothesis"
    bl_description = "Show the previous of the shapes that explain the scan"

    def execute(self, context: bpy.types.Context) -> set:
        return self.turn(context, -1)


class SHAPEWRIGHT_OT_keep_hypothesis(_Browse, bpy.types.Operator):
    bl_idname = "shapewright.keep_hypothesis"
    bl_label = "Keep This One"
    bl_description = "Keep the hypothesis that is shown and remove the others"

    def execute(self, context: bpy.types.Context) -> set:
        collection = answers.answers_of(context.active_object)
        removed = len(answers.answers_in(collection)) - 1
        kept = answers.keep(collection)
        self.report({"INFO"}, f"Kept '{kept.name}' and removed {removed} others")
        return {"FINISHED"}
