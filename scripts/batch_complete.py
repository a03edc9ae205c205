"""Completes every shape of a folder, fits a surface to each, or generates new ones, in Blender without a window or in
plain Python with the bpy module.

    blender -b --python scripts/batch_complete.py --python-exit-code 1 -- --input FOLDER --output FOLDER [options]
    python scripts/batch_complete.py --input FOLDER --output FOLDER [options]
    python scripts/batch_complete.py --mode generate --class chair --count 10 --output FOLDER [options]

--mode fit fits surfaces with no prior, as Fit Shape does; --mode generate needs no input; without either, shapes are
completed. Every input of the folder and the folders in it, or every new shape, gets a mesh and a preview picture in
the output folder, which mirrors them, and a line in report.jsonl there; a shape that has a code gets it in a file
beside it.
A bad file is reported and skipped. Run it again and only what is missing, has failed, has changed or was asked for with
other settings is done; --force does everything anew.

Exit status: 0 all done, 1 something failed, 2 bad usage, 130 stopped with Ctrl-C (what was done is kept).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import math
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

try:
    import bpy
except ImportError:
    sys.exit(
        "This script needs Blender. This Python has no module bpy. Run it with 'blender -b --python "
        "scripts/batch_complete.py -- ...', or with the Python of .venv, which scripts/setup makes."
    )
import looks
import numpy as np
from mathutils import Matrix, Vector

from addon import session as blender_session
from addon.carried import code as blender_code
from addon.carried.pose import pose_of
from addon.features.fit.clouds import read_clouds
from addon.features.fit.settings import FIT_METHODS
from addon.features.fit.writer import FitWriter
from addon.link.connections.local import EngineProcess
from addon.link.mesh_arrays import MeshArrays
from addon.link.problem import EngineProblem
from addon.scene.appearance import SEEN, Appearance, dress, read_colours
from addon.scene.read import read_scan
from addon.scene.transform import transform_points
from addon.scene.write import build_mesh
from addon.writers.side_by_side import SetWriter, in_place
from engine.cli.inputs import axis
from engine.errors import EngineError
from engine.geometry.files import Loaded, axis_in_scene, load, readable, writable, write_mesh
from engine.geometry.meshes import Material, Mesh
from engine.jobs.base import ShapeCode
from engine.wire.codes import write_code

REPORT = "report.jsonl"
DONE_AS = {"complete": "complete", "fit": "fitted", "generate": "generated"}
FORMAT = 2  # of the fingerprint: raise it when the same settings would give another file


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    # Blender prints to the same terminal: ours are the lines with numbers, the log is for warnings.
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    inputs, ignored = new_shapes(options), 0
    if options.mode != "generate":
        inputs, ignored = find_inputs(options.input, options.output)
    if not inputs:
        where = f"in {options.input} or the folders in it"
        print(f"There is nothing to {options.mode} {where}: no file ends in {', '.join(readable())}.")
        return 2
    options.output.mkdir(parents=True, exist_ok=True)
    report = Report(options.output / REPORT)
    keys = {path: key_of(path, options.input) for path in inputs}
    names = output_names(keys.values(), options.format)
    wanted = {path: fingerprint(path, options) for path in inputs}
    todo = [path for path in inputs if options.force or not report.is_done(keys[path], wanted[path], options)]
    report.keep_only(keys[path] for path in inputs if path not in todo)
    print(f"{len(inputs)} inputs, {len(inputs) - len(todo)} done before, {len(todo)} to do. Output: {options.output}")
    if ignored:
        print(f"{ignored} other files were left alone.")

    running = blender_session.Session(EngineProcess(engine_folder(options), options.engine_python))
    failed = 0
    try:
        for number, path in enumerate(todo, 1):
            row = run_file(running, path, options.output / names[keys[path]], options)
            row |= {"input": keys[path], "fingerprint": wanted[path]}
            report.add(row)
            failed += row["status"] != "done"
            print(f"[{number}/{len(todo)}] {describe(row)}", flush=True)
    except KeyboardInterrupt:
        print("Stopped. Run the same command again to go on from here.")
        return 130
    finally:
        running.close()
    print(f"{len(inputs) - failed} of {len(inputs)} are {DONE_AS[options.mode]}, {failed} failed. See {report.path}")
    return 1 if failed else 0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="batch_complete.py",
        description="Completes every shape of a folder, fits a surface to each, or generates new ones.",
    )
    parser.add_argument(
        "--mode", default="complete", choices=tuple(DONE_AS), help="fit: a surface with no prior; default: complete"
    )
    parser.add_argument("--input", type=Path, metavar="FOLDER", help="of what is to be completed or fitted")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    formats = [suffix[1:] for suffix in writable()]  # a plugin's too
    parser.add_argument("--format", default="ply", choices=formats, help="default: ply")
    completing = parser.add_argument_group("to complete")
    completing.add_argument("--prior", default="household", metavar="NAME|PATH", help="default: household")
    completing.add_argument("--align", default="scale", choices=("none", "scale", "similarity"), help="default: scale")
    completing.add_argument(
        "--up", metavar="AXIS", choices=("+x", "-x", "+y", "-y", "+z", "-z"),
        help="the files' up axis (default: +z, and +y of OBJ)",
    )  # fmt: skip
    parser.add_argument(
        "--viewpoint", type=three_numbers, metavar="X,Y,Z", help="where the sensor stood, for all inputs"
    )
    completing.add_argument("--hypotheses", type=int, default=1, metavar="K", help="default: 1")
    generating = parser.add_argument_group("to generate (with --prior)")
    generating.add_argument("--class", default="", dest="class_name", metavar="NAME", help="default: any")
    generating.add_argument("--count", type=int, default=10, metavar="N", help="default: 10")
    generating.add_argument("--temperature", type=float, default=0.9, metavar="T", help="0 typical, 1 varied; 0.9")
    fitting = parser.add_argument_group("to fit")
    methods = [name for name, *_ in FIT_METHODS]
    fitting.add_argument("--method", default="auto", choices=methods, help="default: auto")
    fitting.add_argument("--smoothness", type=float, default=0.5, metavar="S", help="0 to 1; default: 0.5")
    fitting.add_argument("--normals", default="auto", choices=("auto", "given", "none"), help="default: auto")
    fitting.add_argument("--noise", type=float, metavar="D", help="of the points, in their unit; default: estimated")
    fitting.add_argument("--open-boundaries", action="store_true", help="leave holes open")
    fitting.add_argument("--iterations", type=int, metavar="N", help="of methods that train a network")
    parser.add_argument("--resolution", type=int, default=128, metavar="N", help="default: 128")
    parser.add_argument("--faces", type=int, default=0, metavar="N", help="exactly N triangles, or N - 1; default: all")
    parser.add_argument("--uvs", action="store_true", help="unwrap the results (.obj, .glb)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps; default: auto")
    parser.add_argument("--timeout", type=float, default=1800.0, metavar="S", help="seconds a file; default: 1800")
    parser.add_argument("--force", action="store_true", help="do everything anew")
    parser.add_argument("--no-previews", action="store_true", help="no pictures")
    parser.add_argument("--preview-size", type=int, default=320, metavar="PIXELS", help="default: 320")
    parser.add_argument(
        "--engine-python", default="", metavar="PATH", help="the Python that the engine is installed in"
    )
    # '--viewpoint -1,2,3' and '--up -y': argparse would take the value for an option
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] in ("--up", "--viewpoint"):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    options = parser.parse_args(joined)
    options.output = options.output.absolute()
    if options.mode == "generate":
        if options.input is not None or options.count < 1:
            parser.error("--mode generate takes no --input, and a --count of 1 or more")
    elif options.input is None:
        parser.error("--input is missing")
    else:
        options.input = options.input.absolute()
        if not options.input.is_dir():
            parser.error(f"there is no folder {options.input}")
    if options.input is not None and options.input.resolve() == options.output.resolve():
        parser.error("input and output are the same folder: the next run would take the results for inputs")
    if not options.engine_python and not os.environ.get("SHAPEWRIGHT_ENGINE_PYTHON"):
        python = ROOT / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        options.engine_python = str(python) if python.is_file() else ""
    return options


def three_numbers(text: str) -> tuple[float, float, float]:
    x, y, z = (float(part) for part in text.split(","))
    if not all(map(math.isfinite, (x, y, z))):
        raise ValueError
    return x, y, z


def engine_folder(options: argparse.Namespace) -> Path:
    """Where the engine's log and job store go: beside the results, so that a failure can be looked into."""
    folder: Path = options.output / ".engine"
    return folder


def find_inputs(folder: Path, output: Path) -> tuple[list[Path], int]:
    """All files of a folder and the folders in it that can be read, and how many others there are. What is hidden and
    the output, which may lie in the folder, are no inputs."""
    files = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        made = output.is_relative_to(folder) and path.is_relative_to(output)
        if path.is_file() and not hidden and not made:
            files.append(path)
    known = readable()
    found = [path for path in files if path.suffix.lower() in known]
    return found, len(files) - len(found)


def key_of(path: Path, folder: Path | None) -> str:
    """What an input is called in the report: its path within the folder, with '/'; the name of what is new."""
    return path.name if folder is None else path.relative_to(folder).as_posix()


def new_shapes(options: argparse.Namespace) -> list[Path]:
    """What stands for the inputs where there are none: a name for each new shape, numbered from 0."""
    return [Path(f"{options.class_name or 'shape'}_{number:03d}") for number in range(options.count)]


def output_names(keys: Iterable[str], extension: str) -> dict[str, str]:
    """Input -> output, both within their folders: 'a/chair.ply', but 'a/chair_obj.ply' where two inputs of a folder
    differ in nothing but their ending (or in upper and lower case, which is nothing to some file systems)."""
    paths = [PurePosixPath(key) for key in keys]
    stems = [str(path.with_suffix("")).casefold() for path in paths]
    names = {}
    for path, stem in zip(paths, stems, strict=True):
        ending = f"_{path.suffix[1:].lower()}" if stems.count(stem) > 1 else ""
        names[str(path)] = str(path.with_name(f"{path.stem}{ending}.{extension}"))
    return names


def fingerprint(path: Path, options: argparse.Namespace) -> str:
    """Of the file's content and everything that decides about its result."""
    names: tuple[str, ...] = ("format", "prior", "align", "up", "viewpoint", "hypotheses", "resolution", "seed")
    if options.mode == "fit":
        own = ("method", "smoothness", "normals", "noise", "open_boundaries", "iterations")
        names = ("mode", "format", "viewpoint", "resolution", "seed", *own)
    elif options.mode == "generate":
        names = ("mode", "format", "prior", "class_name", "temperature", "resolution", "seed")
    if options.faces or options.uvs:
        names += ("faces", "uvs")
    digest = hashlib.sha256(json.dumps([FORMAT, *[getattr(options, name) for name in names]]).encode())
    if options.mode == "generate":  # shape number k of a seed is the same whatever else is asked for
        digest.update(path.name.encode())
        return digest.hexdigest()[:32]
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:  # it will fail with its reason when its turn comes
        digest.update(str(error).encode())
    return digest.hexdigest()[:32]


class Report:
    """report.jsonl: one line a finished input, written as it finishes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}
        if path.is_file():
            for line in path.read_text("utf-8").splitlines():
                try:
                    row = json.loads(line)
                    self.rows[row["input"]] = row
                except (ValueError, KeyError, TypeError):
                    continue  # the line that was being written when a run was killed

    def is_done(self, name: str, wanted: str, options: argparse.Namespace) -> bool:
        row = self.rows.get(name)
        if row is None or row.get("status") != "done" or row.get("fingerprint") != wanted:
            return False
        files = [*row.get("outputs", []), *([] if options.no_previews else [row.get("preview")])]
        return all(file and (options.output / file).is_file() for file in files)

    def keep_only(self, names: Any) -> None:
        kept = set(names)
        self.rows = {name: row for name, row in self.rows.items() if name in kept}
        unfinished = self.path.with_suffix(".part")
        unfinished.write_text("".join(json.dumps(row) + "\n" for row in self.rows.values()), "utf-8")
        unfinished.replace(self.path)

    def add(self, row: dict[str, Any]) -> None:
        self.rows[row["input"]] = row
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def describe(row: dict[str, Any]) -> str:
    if row["status"] == "done":
        note = f" (no preview: {row['preview_error']})" if row.get("preview_error") else ""
        note += "".join(f" (warning: {warning.get('what')})" for warning in row["report"].get("warnings") or [])
        return f"{row['input']} -> {row['outputs'][0]} in {row['seconds']:.1f} s{note}"
    error = row["error"]
    return f"{row['input']} FAILED: {error['what']} {error['why']} {error['remedy']}"


# ---------------------------------------------------------------------------------------------------------- one input


def make_job(
    path: Path, source: bpy.types.Object, viewpoint: Any, depsgraph: bpy.types.Depsgraph,
    options: argparse.Namespace, up: str = "+z",
) -> blender_session.Job:
    """The same job as the operator's."""
    common = {
        "kind": options.mode,
        "resolution": options.resolution,
        "max_faces": options.faces,
        "uvs": options.uvs,
        "seed": options.seed,
        "device": options.device,
        "name": path.name[:256],
    }
    if options.mode == "fit":
        scan = read_clouds([source], depsgraph, viewpoint)
        request = {
            "method": options.method,
            "smoothness": options.smoothness,
            "normals": options.normals,
            "noise": options.noise,
            "open_boundaries": options.open_boundaries,
            "iterations": options.iterations,
        }
        writer, title = FitWriter(scan, [source]), f"Fit {path.name}"
    else:
        scan = read_scan(source, depsgraph, options.align, viewpoint)
        request = {
            "prior": options.prior,
            "align": options.align,
            "up": up,
            "hypotheses": options.hypotheses,
        }
        writer, title = None, f"Complete {path.name}"
    request = {**common, **request, "viewpoint": scan.viewpoint}
    return blender_session.Job(title, request, scan, want_previews=False, undo=False, writer=writer)


def make_generate_job(path: Path, options: argparse.Namespace, scene: bpy.types.Scene) -> blender_session.Job:
    """One shape of those that Generate would lay out in a grid, by itself: so that a run can be resumed."""
    request = {
        "kind": "generate",
        "prior": options.prior,
        "class_name": options.class_name,
        "temperature": options.temperature,
        "first": int(path.name.rsplit("_", 1)[1]),
        "count": 1,
        "resolution": options.resolution,
        "max_faces": options.faces,
        "uvs": options.uvs,
        "seed": options.seed,
        "device": options.device,
        "name": path.name,
    }
    writer = SetWriter(path.name, path.name, np.eye(4), in_place, scene=scene)
    return blender_session.Job(f"Generate {path.name}", request, want_previews=False, undo=False, writer=writer)


def code_of(obj: bpy.types.Object) -> tuple[ShapeCode, dict[str, str]]:
    """A result's code, its pose in the world, and name and hash of the prior that it belongs to."""
    pose = np.array(obj.matrix_basis, np.float64) @ pose_of(obj)
    prior = {"name": str(obj[blender_code.PRIOR]), "sha256": str(obj[blender_code.PRIOR_HASH])}
    return ShapeCode(blender_code.code_of(obj), pose), prior


def run_file(running: blender_session.Session, path: Path, target: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Completes or fits one file; its row for the report. Only Ctrl-C gets out of here."""
    began = time.monotonic()
    row: dict[str, Any] = {"input": path.name, "status": "failed", "outputs": [], "preview": None}
    stage = Stage()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        source, offset, loaded = None, None, None
        if options.mode == "generate":
            job = make_generate_job(path, options, stage.scene)
        else:
            loaded = load(path)
            offset = loaded.offset
            row["input_file"] = {"notes": loaded.notes, "dropped_points": loaded.dropped, "offset": offset.tolist()}
            source, viewpoint = load_into(stage, path.stem, loaded)
            if options.viewpoint is not None:
                viewpoint = tuple(float(v) for v in loaded.turn @ np.array(options.viewpoint) - offset)
            job = make_job(path, source, viewpoint, stage.depsgraph(), options, up_of(path, loaded, options))
            if loaded.viewpoints is not None and viewpoint is None:
                add_scans(job, loaded)
        running.wait(running.submit(job), options.timeout)
        running.dismiss(job)
        if job.state != blender_session.DONE:
            raise job.problem or RuntimeError("the job was stopped")
        row["report"] = job.report
        for number, result in enumerate(job.results):
            name = target if number == 0 else target.with_name(f"{target.stem}_{number + 1}{target.suffix}")
            write_mesh(name, mesh_of(result, () if loaded is None else loaded.materials), offset)
            row["outputs"].append(name.relative_to(options.output).as_posix())
            if blender_code.has_code(result):
                write_code(name.with_suffix(".npz"), *code_of(result))
                row["outputs"].append(name.with_suffix(".npz").relative_to(options.output).as_posix())
        row["status"] = "done"
        if not options.no_previews:
            try:
                picture = stage.render(target.with_suffix(".png"), source, job.results[0], options.preview_size)
                row["preview"] = picture.relative_to(options.output).as_posix()
            except (RuntimeError, TypeError, AttributeError) as error:  # no Cycles: the mesh is what counts
                row["preview_error"] = str(error)
    except (EngineProblem, EngineError) as error:
        row["error"] = error.as_dict()
    except (OSError, MemoryError, RuntimeError, ValueError) as error:
        row["error"] = {
            "code": "batch_failed",
            "what": f"{path.name} was not {DONE_AS[options.mode]}.",
            "why": f"{type(error).__name__}: {error}.",
            "remedy": "Look at the engine's log in the output folder.",
        }
    finally:
        stage.clear()
    row["seconds"] = round(time.monotonic() - began, 3)
    return row


def add_scans(job: blender_session.Job, loaded: Loaded) -> None:
    """The viewpoints of several scans beside the points that Blender gives, which are in the file's order and frame."""
    points = job.scan.arrays
    job.scan.arrays = lambda: {**points(), "viewpoints": loaded.viewpoints, "scans": loaded.scans}


def up_of(path: Path, loaded: Loaded, options: argparse.Namespace) -> str:
    """The up axis of the shape that was loaded: what the user says of the file, or its format."""
    return axis_in_scene(axis(getattr(options, "up", None), path), loaded.turn)


def load_into(stage: Stage, name: str, loaded: Loaded) -> tuple[bpy.types.Object, tuple[float, float, float] | None]:
    """A file as an object at the world's origin, read as the command line reads it, and its viewpoint; both about the
    file's offset."""
    points, normals, faces, viewpoint = loaded.points, loaded.normals, loaded.faces, loaded.viewpoint
    if faces is not None:
        arrays = MeshArrays.of(points, faces, None, loaded.shape.colours, None, loaded.face_materials)
        mesh = build_mesh(name, arrays)
        for one in loaded.materials if loaded.face_materials is not None else ():
            mesh.materials.append(looks.material(one.name, (*(one.colour or (0.8, 0.8, 0.8)), 1.0), 0.8))
        if len(mesh.materials) and bool((loaded.face_materials < 0).any()):
            arrays.face_materials = np.where(arrays.face_materials < 0, len(mesh.materials), arrays.face_materials)
            mesh.materials.append(None)
        dress(mesh, arrays, Appearance())
    else:
        mesh = bpy.data.meshes.new(name)
        mesh.vertices.add(len(points))
        mesh.attributes["position"].data.foreach_set("vector", np.ascontiguousarray(points, np.float32).reshape(-1))
        if normals is not None:
            attribute = mesh.attributes.new("normal", "FLOAT_VECTOR", "POINT")
            attribute.data.foreach_set("vector", np.ascontiguousarray(normals, np.float32).reshape(-1))
        dress(mesh, MeshArrays.of(points, np.zeros((0, 3), np.int32), colours=loaded.colours), Appearance())
    seen_from = None if viewpoint is None else (float(viewpoint[0]), float(viewpoint[1]), float(viewpoint[2]))
    return stage.add(bpy.data.objects.new(name, mesh)), seen_from


def mesh_of(obj: bpy.types.Object, materials: tuple[Material, ...] = ()) -> Mesh:
    """A result's triangles in world space, with its colours and materials. materials: those of its first slots."""
    mesh = obj.data
    vertices = np.empty(3 * len(mesh.vertices), np.float32)
    faces = np.empty(3 * len(mesh.polygons), np.int32)
    mesh.attributes["position"].data.foreach_get("vector", vertices)
    mesh.attributes[".corner_vert"].data.foreach_get("value", faces)
    # A result object has no parent: its own matrix is where it stands.
    world = np.array(obj.matrix_basis, np.float64)
    found = Mesh(transform_points(vertices.reshape(-1, 3), world), faces.reshape(-1, 3), None)
    found.own_frame = np.array(Matrix.LocRotScale(obj.location, obj.rotation_euler, None), np.float64)
    found.colours = read_colours(mesh, len(found.vertices))
    if SEEN in mesh.attributes:
        found.seen = np.empty(len(found.vertices), bool)
        mesh.attributes[SEEN].data.foreach_get("value", found.seen)
    if mesh.uv_layers.active is not None:
        found.uvs = np.empty((len(found.faces), 3, 2), np.float32)
        mesh.uv_layers.active.uv.foreach_get("vector", found.uvs.reshape(-1))
    if materials and len(found.faces):
        numbers = np.empty(len(found.faces), np.int32)
        mesh.polygons.foreach_get("material_index", numbers)
        found.materials, found.face_materials = materials, np.where(numbers < len(materials), numbers, -1)
    return found


class Stage:
    """A scene of its own for one input, so that whatever file Blender has open stays as it is."""

    def __init__(self) -> None:
        self.scene = bpy.data.scenes.new("Shapewright batch")
        self.before = {kind: {block.session_uid for block in getattr(bpy.data, kind)} for kind in KINDS}

    def add(self, obj: bpy.types.Object) -> bpy.types.Object:
        self.scene.collection.objects.link(obj)
        return obj

    def depsgraph(self) -> bpy.types.Depsgraph:
        layer = self.scene.view_layers[0]
        layer.update()
        return layer.depsgraph

    def clear(self) -> None:
        """Removes all that was made since this stage was set up."""
        for kind in KINDS:
            blocks = getattr(bpy.data, kind)
            for block in list(blocks):
                if block.session_uid not in self.before[kind]:
                    blocks.remove(block)
        bpy.data.scenes.remove(self.scene)

    def render(self, path: Path, source: bpy.types.Object | None, result: bpy.types.Object, size: int) -> Path:
        """A small picture of the result from in front and above, with the source's points on it in orange."""
        scene = self.scene
        looks.use_cycles(scene, size, size, samples=12, denoise=False)
        scene.view_settings.view_transform = "Standard"
        vertices = mesh_of(result).vertices.astype(float)
        low, high = vertices.min(0), vertices.max(0)
        extent = max(float((high - low).max()), 1e-9)
        # All is drawn at size 1 about the origin: camera and lamps need not know the scale.
        to_view = Matrix.Scale(1 / extent, 4) @ Matrix.Translation(-(low + high) / 2)
        for obj in (source, result) if source is not None else (result,):
            obj.matrix_world = to_view @ obj.matrix_basis
        result.data.materials.append(looks.material("Result", (0.55, 0.6, 0.68, 1.0), 0.6))
        if source is not None:
            looks.show_points(source, 0.006 * extent, looks.material("Scan", (0.9, 0.25, 0.03, 1.0), 0.6))
        looks.white_world(scene, 0.55)
        sun, camera = bpy.data.lights.new("Sun", "SUN"), bpy.data.cameras.new("Camera")
        sun.energy, sun.angle, camera.angle = 2.5, 0.3, math.radians(34)
        for name, data, place in (("Sun", sun, (-1.0, -2.0, 3.0)), ("Camera", camera, (-1.1, -2.1, 1.15))):
            obj = looks.looking(name, data, place, Vector((0, 0, 0)))
            scene.collection.objects.link(obj)
            if data == camera:
                scene.camera = obj
        scene.render.filepath = str(path)
        bpy.ops.render.render(write_still=True, scene=scene.name)
        if not path.is_file():
            raise RuntimeError(f"Blender wrote no picture to {path}")
        return path


KINDS = ("objects", "meshes", "cameras", "lights", "worlds", "materials", "node_groups", "pointclouds")


if __name__ == "__main__":
    # Under `blender --python` the script's own arguments come after '--', under plain Python they are all there are.
    given = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv[1:]
    if "--" not in sys.argv and bpy.app.binary_path:
        given = []  # all of sys.argv is Blender's
    outcome = main(given)
    if bpy.app.version < (4, 3) and not bpy.app.binary_path:
        # Blender 4.2 as a module frees its panel types after Python has ended and crashes: say the outcome before that.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(outcome)
    sys.exit(outcome)
