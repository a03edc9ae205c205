"""What scripts/demo does inside Blender (the bpy module): install, load, complete, arrange, render, save."""

from __future__ import annotations

import argparse
import json
import math
import os
import runpy
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BEGAN = time.monotonic()

ORANGE, BLUE, FLOOR = (0.95, 0.26, 0.03, 1.0), (0.16, 0.34, 0.62, 1.0), (0.82, 0.80, 0.77, 1.0)


def say(text: str) -> None:
    print(f"[{time.monotonic() - BEGAN:5.1f} s] {text}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scan", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    name = options.scan.stem.removesuffix("_scan")

    with tempfile.TemporaryDirectory(prefix="shapewright-demo-", ignore_cleanup_errors=True) as resources:
        os.environ["BLENDER_USER_RESOURCES"] = resources  # read when bpy is imported: nobody's Blender is touched
        import bpy

        archive = runpy.run_path(str(ROOT / "scripts" / "build_extension"))["build"](ROOT / "dist")
        say(f"Blender {bpy.app.version_string} as a module; extension built: {shown(archive)}")
        bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
        bpy.ops.extensions.package_install_files(
            repo="user_default", filepath=str(archive), enable_on_install=True, overwrite=True
        )
        say("Extension installed into a throwaway Blender and enabled")
        try:
            result = complete(options)
            mesh_path = options.output / f"{name}_completed.ply"
            export(result, mesh_path)
            blend_path, picture_path = options.output / f"{name}.blend", options.output / f"{name}.png"
            arrange(bpy.context.view_layer.objects.active, result, options.quick)
            bpy.context.preferences.filepaths.save_version = 0
            bpy.ops.wm.save_as_mainfile(filepath=str(blend_path))
            say("Rendering with Cycles on the processor")
            bpy.context.scene.render.filepath = str(picture_path)
            bpy.ops.render.render(write_still=True)
        except RuntimeError as error:  # how an operator's error report reaches Python
            print(f"The demo stopped. {error}", file=sys.stderr)
            return 3
        finally:
            bpy.ops.preferences.addon_disable(module="bl_ext.user_default.shapewright")  # the engine leaves with it
        say("Done")
        print(f"  completed mesh  {shown(mesh_path)}")
        print(f"  scene           {shown(blend_path)}")
        print(f"  picture         {shown(picture_path)}")
    return 0


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def complete(options: argparse.Namespace) -> Any:
    """Imports the scan and presses the extension's button; the result object."""
    import bpy

    bpy.ops.wm.ply_import(filepath=str(options.scan), forward_axis="Y", up_axis="Z")
    scan = bpy.context.view_layer.objects.active
    scan.name = "Scan"
    facts_path = options.scan.with_suffix(".json")
    facts = json.loads(facts_path.read_text("utf-8")) if facts_path.is_file() else {}
    viewpoint = facts.get("viewpoint")
    say(f"Scan imported: {len(scan.data.vertices):,} points" + (f", seen from {viewpoint}" if viewpoint else ""))

    settings: dict[str, Any] = {"resolution": options.resolution, "seed": options.seed, "up": facts.get("up", "+z")}
    if viewpoint:
        settings |= {"viewpoint": "POINT", "viewpoint_location": viewpoint}
    bpy.ops.shapewright.complete_shape(**settings)
    result = bpy.data.objects["Scan Complete"]
    report = json.loads(result["shapewright_report"])
    residual = report.get("residual") or {}
    timings = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in (report.get("timings") or {}).items())
    prior = f"'{result['shapewright_prior']}' ({result['shapewright_prior_hash'][:12]})"
    counts = f"{len(result.data.vertices):,} vertices, {len(result.data.polygons):,} triangles"
    say(f"Completed with prior {prior}, seed {result['shapewright_seed']}: {counts}")
    if timings:
        say(f"Engine: {timings}")
    step = sys.modules["bl_ext.user_default.shapewright.session"].current().longest_step_seconds
    say(f"Longest step on Blender's main thread: {1000 * step:.1f} ms")
    if residual:
        say(f"Scan to surface: median {1000 * residual['median']:.1f} mm, 95 % within {1000 * residual['p95']:.1f} mm")
    return result


def export(result: Any, path: Path) -> None:
    import bpy

    scan = bpy.context.view_layer.objects.active
    for obj in bpy.context.view_layer.objects:
        obj.select_set(obj == result)
    bpy.ops.wm.ply_export(
        filepath=str(path), export_selected_objects=True, forward_axis="Y", up_axis="Z", export_normals=True
    )
    bpy.context.view_layer.objects.active = scan
    say(f"Mesh written, in the scan's place and scale: {shown(path)}")


def arrange(scan: Any, result: Any, quick: bool) -> None:
    """Scan on the left, result on the right, turned so that the side that the scanner never saw faces the camera."""
    import bpy
    import looks
    from mathutils import Matrix, Vector

    scene = bpy.context.scene
    bpy.context.view_layer.update()
    corners = [result.matrix_world @ Vector(corner) for corner in result.bound_box]
    low = Vector([min(c[i] for c in corners) for i in range(3)])
    high = Vector([max(c[i] for c in corners) for i in range(3)])
    foot = Vector(((low.x + high.x) / 2, (low.y + high.y) / 2, low.z))
    size = max(high - low)
    turn = Matrix.Rotation(math.radians(38), 4, "Z")
    # All is shown in units of the object's size, so that lamps and camera fit a cup and a cupboard alike.
    for obj, side in ((scan, -0.62), (result, 0.62)):
        show = Matrix.Translation((side, 0, 0)) @ turn @ Matrix.Scale(1 / size, 4) @ Matrix.Translation(-foot)
        obj.matrix_world = show @ obj.matrix_world
    result.data.materials.append(looks.material("Completed", BLUE, 0.42))
    looks.show_points(scan, 0.0045 * size, looks.material("Scan", ORANGE, 0.6))
    tall = (high.z - low.z) / size

    floor = bpy.data.objects.new("Studio", studio())
    floor.data.materials.append(looks.material("Studio", FLOOR, 0.9))
    scene.collection.objects.link(floor)
    for text, side in (("Scan", -0.62), ("Completed", 0.62)):
        curve = bpy.data.curves.new(text, "FONT")
        curve.body, curve.size, curve.align_x, curve.extrude = text, 0.1, "CENTER", 0.002
        label = bpy.data.objects.new(text + " label", curve)
        label.location = (side, -0.88, 0.003)
        curve.materials.append(looks.material(text + " label", (0.12, 0.12, 0.13, 1.0), 0.8))
        scene.collection.objects.link(label)
    aim = Vector((0, -0.12, 0.42 * tall))
    for name, place, energy, width in (
        ("Key", (-2.2, -2.4, 3.0), 150, 2.2),
        ("Fill", (3.0, -1.6, 1.6), 25, 3.0),
        ("Rim", (0.8, 2.4, 2.6), 90, 1.4),
    ):
        lamp = bpy.data.lights.new(name, "AREA")
        lamp.energy, lamp.size = energy, width
        scene.collection.objects.link(looks.looking(name, lamp, place, aim))
    looks.white_world(scene, 0.15)

    camera = looks.looking("Camera", bpy.data.cameras.new("Camera"), (0, -4.6, 1.75), aim)
    camera.data.angle = math.radians(34)
    scene.collection.objects.link(camera)
    scene.camera = camera

    width, height = (640, 360) if quick else (960, 540)
    looks.use_cycles(scene, width, height, samples=16 if quick else 24, denoise=True)
    scene.view_settings.view_transform = "AgX"
    scene.view_settings.look = "AgX - High Contrast"
    scene.view_settings.exposure = -0.2


def studio() -> Any:
    """A floor that bends up into a wall: no horizon in the picture."""
    import bpy

    profile = [(-8.0, 0.0), (2.0, 0.0)]
    profile += [(2.0 + 2 * math.sin(a), 2 - 2 * math.cos(a)) for a in (math.pi / 2 * i / 12 for i in range(1, 13))]
    profile += [(4.0, 8.0)]
    vertices = [(x, y, z) for y, z in profile for x in (-12.0, 12.0)]
    faces = [(2 * i, 2 * i + 1, 2 * i + 3, 2 * i + 2) for i in range(len(profile) - 1)]
    mesh = bpy.data.meshes.new("Studio")
    mesh.from_pydata(vertices, [], faces)
    mesh.shade_smooth()
    return mesh


if __name__ == "__main__":
    sys.exit(main())
