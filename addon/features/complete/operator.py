"""Complete Shape: from the active object to a whole one beside it."""

import bpy
from bpy.props import BoolProperty, EnumProperty, StringProperty

from ... import session
from ...carried import alignment
from ...carried.source import source_of
from ...link.problem import EngineProblem
from ...scene import read as scene
from ...scene import viewpoint
from ...ui.drawing import duration
from ..job_operator import JobOperator, job_settings
from .settings import completion_settings

UP_AXES = tuple((axis, axis.upper(), "") for axis in ("+z", "-z", "+y", "-y", "+x", "-x"))

FEWEST_FACES = 100
"""The engine simplifies to no fewer."""


class _Complete(JobOperator):
    __annotations__ = {
        **completion_settings(),
        "class_name": StringProperty(name="Class", description="One of the prior's classes; empty: found"),
        "up": EnumProperty(
            name="Up",
            description="Which of the object's world axes points up",
            items=UP_AXES,
            default="+z",
            options={"HIDDEN"},
        ),
        "previews": BoolProperty(
            name="Previews", description="Show the shape while it forms", default=True, options={"HIDDEN"}
        ),
        **job_settings(),
    }

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set:
        settings = context.scene.shapewright
        self.take_settings(settings, completion_settings())
        if not self.properties.is_property_set("class_name"):
            self.class_name = "" if settings.class_name == "ANY" else settings.class_name
        return self.execute(context)

    def execute(self, context: bpy.types.Context) -> set:
        return self.run(context)

    def told(self, job: session.Job) -> str:
        return f"Completed '{job.scan.source.name}' in {duration(job.seconds)}"

    def subject(self, context: bpy.types.Context) -> tuple[bpy.types.Object, bpy.types.Object | None]:
        """The object to complete, and the empty whose alignment is taken, or None: the engine finds one."""
        raise NotImplementedError

    def make_job(self, context: bpy.types.Context) -> session.Job:
        source, empty = self.subject(context)
        depsgraph = context.evaluated_depsgraph_get()
        seen_from = viewpoint.viewpoint_of(self.viewpoint, self.viewpoint_location, context, depsgraph)
        if not self.prior:
            raise EngineProblem(
                "prior_unknown",
                "Complete Shape was not started.",
                "The prior chosen in this scene is not among the engine's.",
                "Choose another prior.",
            )
        scan = scene.read_scan(source, depsgraph, self.align, seen_from)
        request = {
            "kind": "complete",
            "prior": self.prior,
            "align": self.align,
            "front": "evident" if self.align == "scale" and not viewpoint.was_turned(source) else "given",
            "up": self.up,
            "viewpoint": scan.viewpoint,
            "seen_from": "estimate" if self.viewpoint == "ESTIMATE" else "unknown",
            "hypotheses": self.hypotheses,
            "class_name": self.class_name,
            "max_faces": 0 if self.max_faces == 0 else max(self.max_faces, FEWEST_FACES),
            **self.common_request(context, source.name),
        }
        if empty is not None:
            request["pose"] = alignment.matrix_for(empty, scan.frame)
        return session.Job(f"Complete {source.name}", request, scan, want_previews=self.previews)


class SHAPEWRIGHT_OT_complete_shape(_Complete, bpy.types.Operator):
    bl_idname = "shapewright.complete_shape"
    bl_label = "Complete Shape"
    bl_description = (
        "Complete the active object, a partial scan or a broken mesh, to a whole shape. "
        "The result is a new object in its place; the source stays as it is"
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return cls.allowed(scene.why_unreadable(context.active_object))

    def subject(self, context: bpy.types.Context) -> tuple[bpy.types.Object, bpy.types.Object | None]:
        source = context.active_object
        return source, None if self.align == "none" else alignment.locked_for(source)


class SHAPEWRIGHT_OT_complete_again(_Complete, bpy.types.Operator):
    bl_idname = "shapewright.complete_again"
    bl_label = "Complete Again with This Pose"
    bl_description = (
        "Complete the source once more, with the alignment where its empty stands now: "
        "move, turn or scale the empty first to correct what was found"
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        empty = alignment.alignment_of(context.active_object)
        why = "Select an alignment, its result or its source"
        if empty is not None:
            source = alignment.aligned_object(empty)
            why = f"The object that '{empty.name}' was found for is gone"
            why = why if source is None else scene.why_unreadable(source)
        return cls.allowed(why)

    def subject(self, context: bpy.types.Context) -> tuple[bpy.types.Object, bpy.types.Object | None]:
        empty = alignment.alignment_of(context.active_object)
        return alignment.aligned_object(empty), empty


class SHAPEWRIGHT_OT_show_alignment(bpy.types.Operator):
    bl_idname = "shapewright.show_alignment"
    bl_label = "Show Alignment"
    bl_description = "Show the alignment that this result was found with, as an empty that can be moved"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if context.active_object is None or not alignment.knows(context.active_object):
            cls.poll_message_set("Select a result that knows its alignment")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set:
        result = context.active_object
        alignment.show_alignment(result, source_of(result))
        return {"FINISHED"}
