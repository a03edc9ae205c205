"""Generate: new shapes from the prior, in a grid."""

import bpy
import numpy as np
from bpy.props import StringProperty

from ... import session
from ...ui.choices import prior_named, shape_settings
from ...writers import side_by_side
from ..job_operator import JobOperator, job_settings
from .settings import generate_settings


class SHAPEWRIGHT_OT_generate(JobOperator, bpy.types.Operator):
    bl_idname = "shapewright.generate"
    bl_label = "Generate"
    bl_description = "Make new shapes that the prior finds likely, in a grid at the 3D cursor, in a new collection"

    __annotations__ = {
        **shape_settings(),
        **generate_settings(),
        "class_name": StringProperty(name="Class", description="One of the prior's classes; empty: any"),
        **prior_named(),
        **job_settings(),
    }

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set:
        settings = context.scene.shapewright_generation
        if not self.properties.is_property_set("class_name"):
            self.class_name = "" if settings.class_name == "ANY" else settings.class_name
        self.take_settings(settings, (*shape_settings(), *generate_settings()))
        return self.run(context)

    def execute(self, context: bpy.types.Context) -> set:
        return self.run(context)

    def make_job(self, context: bpy.types.Context) -> session.Job:
        what = self.class_name.replace("_", " ").capitalize() or "Shape"
        request = {
            "kind": "generate",
            "prior": self.prior,
            "class_name": self.class_name,
            "count": self.count,
            "temperature": self.temperature,
            "avoid_duplicates": self.avoid_duplicates,
            **self.common_request(context, what),
        }
        frame = np.diag([self.size] * 3 + [1.0])
        frame[:3, 3] = context.scene.cursor.location
        title = f"Generate {self.count} {what}" + ("s" if self.count > 1 else "")
        place = side_by_side.grid(self.count, side_by_side.GAP * self.size)
        writer = side_by_side.SetWriter(f"Generated {what}", what, frame, place)
        return session.Job(title, request, writer=writer, want_previews=False, result_count=self.count)
