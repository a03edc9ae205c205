"""Fit Shape: from raw points or triangles to a surface, with no prior; and its field at another resolution."""

import bpy
from bpy.props import BoolProperty, IntProperty, StringProperty

from ... import preferences, session
from ...carried.fit_field import FIELD, field_frame, has_field
from ...link.problem import EngineProblem
from ...scene import read as scene
from ...scene.viewpoint import viewpoint_of
from ..job_operator import JobOperator, job_settings
from . import clouds, refit, writer
from .settings import fit_settings


class SHAPEWRIGHT_OT_fit_shape(JobOperator, bpy.types.Operator):
    bl_idname = "shapewright.fit_shape"
    bl_label = "Fit Shape"
    bl_description = (
        "Fit a surface to the selected objects, all of them together: point clouds, loose vertices, "
        "meshes with holes or without an inside. No prior knowledge of the shape is used"
    )

    __annotations__ = {
        **fit_settings(),
        "source": StringProperty(
            name="Source",
            description="Fit this object instead of the selected ones",
            options={"HIDDEN", "SKIP_SAVE"},
        ),
        "previews": BoolProperty(
            name="Previews", description="Show the shape while it forms", default=True, options={"HIDDEN"}
        ),
        **job_settings(),
    }

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        # Of another source than the selection, the button that names it speaks.
        if not bpy.data.objects:
            cls.poll_message_set("Select the objects to fit a surface to")
            return False
        return True

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set:
        self.take_settings(context.scene.shapewright_fit, fit_settings())
        return self.execute(context)

    def execute(self, context: bpy.types.Context) -> set:
        return self.run(context)

    def make_job(self, context: bpy.types.Context) -> session.Job:
        if self.source:
            named = bpy.data.objects.get(self.source)
            why = f"There is no object '{self.source}' any more" if named is None else scene.why_unreadable(named)
            sources = [named]
        else:
            sources = clouds.sources_of(context)
            why = "" if sources else scene.why_unreadable(context.active_object) or "Nothing is selected"
        if why:
            raise EngineProblem(
                "source_unusable", "Fit Shape was not started.", f"{why}.", "Select point clouds or meshes."
            )
        depsgraph = context.evaluated_depsgraph_get()
        viewpoint = viewpoint_of(self.viewpoint, self.viewpoint_location, context, depsgraph)
        if self.becomes != "BESIDE" and any(obj.library is not None for obj in sources):
            raise EngineProblem(
                "source_linked",
                "Fit Shape was not started.",
                "A selected object is linked from another file, so that nothing can take its place.",
                "Choose the result 'New Object', or make the object local.",
            )
        scan = clouds.read_clouds(sources, depsgraph, viewpoint)
        request = {
            "kind": "fit",
            "method": self.method,
            "resolution": self.resolution,
            "smoothness": self.smoothness,
            "normals": self.normals,
            "viewpoint": scan.viewpoint,
            "noise": self.noise or None,
            "open_boundaries": self.open_boundaries,
            "iterations": self.iterations or None,
            "seed": self.seed,
            "device": self.device or preferences.of(context).device,
            "name": sources[0].name,
        }
        made_by = writer.FitWriter(scan, sources, self.becomes)
        name = sources[0].name if len(sources) == 1 else f"{sources[0].name} and {len(sources) - 1} more"
        return session.Job(f"Fit {name}", request, scan, want_previews=self.previews, writer=made_by)


class SHAPEWRIGHT_OT_refit_resolution(JobOperator, bpy.types.Operator):
    bl_idname = "shapewright.refit_resolution"
    bl_label = "Change Detail"
    bl_description = (
        "Take the surface from the fitted field again, with another detail or with open boundaries, "
        "without fitting anew"
    )

    __annotations__ = {
        "resolution": IntProperty(
            name="Detail", description="Cells along the longest side of the result", default=256, min=16, max=512
        ),
        "open_boundaries": BoolProperty(
            name="Keep Open", description="Leave holes open: the surface ends where no points are near", default=False
        ),
        **job_settings(),
    }

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        why = ""
        obj = context.active_object
        if not has_field(obj):
            why = "Select a surface that Fit Shape has made"
        elif obj.mode != "OBJECT":
            why = "Leave Edit Mode first"
        elif obj.library is not None or obj.data.library is not None:
            why = "The object is linked from another file"
        return cls.allowed(why)

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set:
        self.take_settings(context.scene.shapewright_fit, ("resolution", "open_boundaries"))
        return self.execute(context)

    def execute(self, context: bpy.types.Context) -> set:
        return self.run(context)

    def make_job(self, context: bpy.types.Context) -> session.Job:
        obj = context.active_object
        field_frame(obj)  # where it cannot be told, that is said before anything starts
        request = {
            "kind": "fit",
            "reuse": obj[FIELD],
            "resolution": self.resolution,
            "open_boundaries": self.open_boundaries,
            "device": self.device or preferences.of(context).device,
            "name": obj.name,
        }
        return session.Job(f"Detail of {obj.name}", request, want_previews=False, writer=refit.RefitWriter(obj))
