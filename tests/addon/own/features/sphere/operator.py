"""The operator of the feature: the engine's check of itself, its mesh as an object."""

import bpy
import numpy as np

from ... import session
from ...writers.side_by_side import SetWriter, grid
from ..job_operator import JobOperator, job_settings
from .settings import sphere_settings


class SHAPEWRIGHT_OT_check_sphere(JobOperator, bpy.types.Operator):
    bl_idname = "shapewright.check_sphere"
    bl_label = "Check Sphere"

    __annotations__ = {**sphere_settings(), **job_settings()}

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set:
        self.take_settings(context.scene.shapewright_sphere, sphere_settings())
        return self.run(context)

    def execute(self, context: bpy.types.Context) -> set:
        return self.run(context)

    def make_job(self, context: bpy.types.Context) -> session.Job:
        request = {"kind": "selftest", "steps": self.steps, "step_seconds": 0.0, "device": self.device or "cpu"}
        writer = SetWriter("Spheres", "Sphere", np.eye(4), grid(1, 1.0))
        return session.Job("Check Sphere", request, writer=writer)
