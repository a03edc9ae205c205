"""Generate: new shapes from the prior, in a grid."""

import bpy
import numpy as np
from bpy.props import StringProperty

from ...session import session
from ...ui.job_operator import JobOperator, job_settings, prior_named
from ...writers import side_by_side as generation


class SHAPEWRIGHT_OT_generate(JobOperator, bpy.types.Operator):
    bl_idname = "shapewright.generate"
    bl_label = "Generate"
    bl_description = "Make new shapes that the prior finds likely, in a grid at the 3D cursor, in a new collection"

    __annotations__ = {
        **generation.common_settings(),
        **generation.generate_settings(),
        "class_name": StringProperty(name="Class", description="One of the prior's classes; empty: any"),
        **prior_named(),
        **job_settings(),
    }

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set:
        settings = context.scene.shapewright_generation
        if not self.properties.is_property_set("class_name"):
            self.class_name = "" if settings.class_name == "ANY" else settings.class_name
        self.take_settings(settings, (*generation.common_settings(), *generation.generate_settings()))
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
        place = generation.grid(self.count, generation.GAP * self.size)
        writer = generation.SetWriter(f"Generated {what}", what, frame, place)
        return session.Job(title, request, writer=writer, want_previews=False, result_count=self.count)


CLASSES = (SHAPEWRIGHT_OT_generate,)
