"""Densify: from a sparse cloud to a dense one, or to a surface, with a gradient field."""

import bpy
from bpy.props import IntProperty, StringProperty

from ... import session
from ...scene.read import read_scan, why_unreadable
from ...writers.in_place import ResultWriter
from ..job_operator import JobOperator, job_settings
from .settings import densify_settings


class SHAPEWRIGHT_OT_densify(JobOperator, bpy.types.Operator):
    bl_idname = "shapewright.densify"
    bl_label = "Densify"
    bl_description = (
        "Make a dense cloud, or a surface, of the active object's sparse points, which cover all of the shape. "
        "The result is a new object in its place"
    )

    __annotations__ = {
        **densify_settings(),
        "field": StringProperty(name="Gradient Field", description="What is known about clouds", default="household"),
        "resolution": IntProperty(
            name="Resolution", description="Cells along the longest side of a surface", default=128, min=16, max=512
        ),
        "seed": IntProperty(name="Seed", description="Where the randomness begins", default=0, min=0),
        **job_settings(),
    }

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return cls.allowed(why_unreadable(context.active_object))

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set:
        settings = context.scene.shapewright_generation
        self.take_settings(settings, (*densify_settings(), "resolution", "seed"))
        return self.run(context)

    def execute(self, context: bpy.types.Context) -> set:
        return self.run(context)

    def make_job(self, context: bpy.types.Context) -> session.Job:
        obj = context.active_object
        scan = read_scan(obj, context.evaluated_depsgraph_get())
        request = {
            "kind": "gradient",
            "mode": "densify",
            "field": self.field,
            "output": self.output,
            "points": self.points,
            **self.common_request(context, obj.name),
        }
        writer = ResultWriter(scan, label="Dense", clouds=True)
        return session.Job(f"Densify {obj.name}", request, scan, writer=writer, want_previews=False)
