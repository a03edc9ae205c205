"""Train Prior: learn a prior from a collection or a folder of meshes."""

import json
from pathlib import Path

import bpy
from bpy.props import BoolProperty, StringProperty

from .. import library, preferences, priors, properties, session
from ..engine_client import EngineProblem


class SHAPEWRIGHT_OT_train_prior(bpy.types.Operator):
    bl_idname = "shapewright.train_prior"
    bl_label = "Train Prior"
    bl_description = (
        "Learn a prior from a collection of meshes (each subcollection is a class) or from a folder of mesh files. "
        "It takes minutes to hours beside Blender; cancelled, it can be resumed"
    )
    # No 'UNDO': the scene stays as it is.
    bl_options = {"REGISTER"}

    __annotations__ = {
        **properties.train_settings(),
        "collection": StringProperty(name="Collection", description="The collection to learn from"),
        "resume": BoolProperty(
            name="Resume",
            description="Go on with the training of this name that was cancelled",
            default=False,
            options={"HIDDEN", "SKIP_SAVE"},
        ),
        "device": StringProperty(
            name="Device", description="Instead of the device of the preferences", options={"HIDDEN", "SKIP_SAVE"}
        ),
        "settings_json": StringProperty(
            name="Settings",
            description="Settings of the training by name, as a JSON object: see the command 'shapewright train'",
            options={"HIDDEN", "SKIP_SAVE"},
        ),
        "blocking": BoolProperty(
            name="Blocking",
            description="Return only when the prior is there; always so without a window",
            default=False,
            options={"HIDDEN", "SKIP_SAVE"},
        ),
    }

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set:
        """A click takes the settings that the panel shows; a call from a script says what it wants."""
        settings = context.scene.shapewright_train
        for name in properties.train_settings():
            if not self.properties.is_property_set(name):
                setattr(self, name, getattr(settings, name))
        if not self.collection and settings.collection is not None:
            self.collection = settings.collection.name
        return self.execute(context)

    def execute(self, context: bpy.types.Context) -> set:
        running = session.current()
        try:
            job = running.submit(self._make_job(context))
        except EngineProblem as problem:
            self.report({"ERROR"}, str(problem))
            return {"CANCELLED"}
        if not (self.blocking or bpy.app.background):
            session.drive()
            return {"FINISHED"}
        running.wait(job)
        if job.problem is not None:
            self.report({"ERROR"}, str(job.problem))
        elif job.state == session.DONE:
            for warning in job.warnings:
                self.report({"WARNING"}, str(warning))
            priors.wait(priors.calls[-1])
            self.report({"INFO"}, f"Learnt '{self.name}' in {preferences.duration(job.seconds)}")
        return {"FINISHED"} if job.state == session.DONE else {"CANCELLED"}

    def _make_job(self, context: bpy.types.Context) -> session.Job:
        chosen = preferences.of(context)
        session.configure(chosen.engine_python)
        if not self.name.strip():
            raise EngineProblem(
                "prior_name", "Train Prior was not started.", "The new prior has no name.", "Give it one."
            )
        request = {
            "kind": "train",
            "name": self.name.strip(),
            "minutes": self.minutes,
            "start_from": "" if self.start_from == properties.NO_PRIOR else self.start_from,
            "resume": self.resume,
            "device": self.device or chosen.device,
            "settings": self._settings(),
        }
        collection = None
        arrays = None
        if self.learn_from == "FOLDER":
            folder = bpy.path.abspath(self.folder)
            if not folder or not Path(folder).is_dir():
                raise EngineProblem(
                    "folder_missing",
                    "Train Prior was not started.",
                    f"There is no folder {folder}." if folder else "No folder was chosen.",
                    "Choose a folder of mesh files; each of its subfolders is a class.",
                )
            request["folder"] = str(Path(folder).absolute())
        else:
            collection = bpy.data.collections.get(self.collection) if self.collection else context.collection
            if collection is None:
                raise EngineProblem(
                    "collection_missing",
                    "Train Prior was not started.",
                    f"There is no collection '{self.collection}'.",
                    "Choose a collection of meshes.",
                )
            shapes = library.read_shapes(collection, context.evaluated_depsgraph_get())
            request["shapes"], arrays = shapes.rows, shapes.arrays
            for name in shapes.skipped[:5]:
                self.report({"WARNING"}, f"'{name}' has no surface and is left out")
        writer = library.TrainingWriter(request["name"], *library.beside(collection))
        return session.Job(
            f"Train {request['name']}", request, arrays=arrays, undo=False, writer=writer, on_done=priors.refresh
        )

    def _settings(self) -> dict[str, object]:
        settings = {"steps": self.steps} if self.steps else {}
        try:
            more = json.loads(self.settings_json or "{}")
            if not isinstance(more, dict):
                raise ValueError("it is not an object")
        except ValueError as error:
            raise EngineProblem(
                "settings_invalid",
                "Train Prior was not started.",
                f"Its settings cannot be read: {error}.",
                'Write them as a JSON object such as {"batch": 2}.',
            ) from error
        return {**settings, **more}


CLASSES = (SHAPEWRIGHT_OT_train_prior,)
