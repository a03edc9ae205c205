"""Train Prior: learn a prior from a collection or a folder of meshes."""

import json
from pathlib import Path

import bpy
from bpy.props import BoolProperty, StringProperty

from ... import preferences, session
from ...link.problem import EngineProblem
from ..job_operator import JobOperator, job_settings
from . import library
from .settings import NO_PRIOR, train_settings
from .writer import TrainingWriter, beside


class SHAPEWRIGHT_OT_train_prior(JobOperator, bpy.types.Operator):
    bl_idname = "shapewright.train_prior"
    bl_label = "Train Prior"
    bl_description = (
        "Learn a prior from a collection of meshes (each subcollection is a class) or from a folder of mesh files. "
        "It takes minutes to hours beside Blender; cancelled, it can be resumed"
    )

    __annotations__ = {
        **train_settings(),
        "start_from": StringProperty(name="Start From", description="A prior that the training begins with"),
        "collection": StringProperty(
            name="Collection", description="The collection to learn from; empty: the active one", options={"SKIP_SAVE"}
        ),
        "resume": BoolProperty(
            name="Resume",
            description="Go on with the training of this name that was cancelled",
            default=False,
            options={"HIDDEN", "SKIP_SAVE"},
        ),
        "settings_json": StringProperty(
            name="Settings",
            description="Settings of the training by name, as a JSON object: see the command 'shapewright train'",
            options={"HIDDEN", "SKIP_SAVE"},
        ),
        **job_settings(),
    }

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set:
        settings = context.scene.shapewright_train
        self.take_settings(settings, train_settings())
        if not self.collection and settings.collection is not None:
            self.collection = settings.collection.name
        return self.execute(context)

    def execute(self, context: bpy.types.Context) -> set:
        outcome = self.run(context)
        if (self.blocking or bpy.app.background) and "FINISHED" in outcome:
            running = session.current()
            running.wait_for_answer(running.calls.newest)  # a script's next line may name the new prior
        return outcome

    def make_job(self, context: bpy.types.Context) -> session.Job:
        if not self.name.strip():
            raise EngineProblem(
                "prior_name", "Train Prior was not started.", "The new prior has no name.", "Give it one."
            )
        request = {
            "kind": "train",
            "name": self.name.strip(),
            "minutes": self.minutes,
            "start_from": "" if self.start_from == NO_PRIOR else self.start_from,
            "resume": self.resume,
            "device": self.device or preferences.of(context).device,
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
        writer = TrainingWriter(request["name"], *beside(collection))
        return session.Job(
            f"Train {request['name']}", request, arrays=arrays, undo=False, writer=writer, on_done=refresh_priors
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


def refresh_priors(_job: session.Job) -> None:
    """The list of priors anew: the training has added one."""
    session.current().ask(session.Call("Reading the list of priors", lambda client: None, lambda answer: ""))
    session.drive()
