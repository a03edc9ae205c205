"""The shapes of story_generation.py once more, by the same operators under `blender -b`."""

import os
import sys
from pathlib import Path

import bpy

sys.path.insert(0, str(Path(__file__).resolve().parent))

from shapes import BLENDED, CLASS, COUNT, RESOLUTION, SEED, STEPS, STRENGTH, save_shapes

OUT = Path(os.environ["STORY_OUT"])
ASKED = {"seed": SEED, "resolution": RESOLUTION, "device": "cpu"}


def made_by(operator, **asked):
    """The objects with a code that a call leaves behind."""
    before = set(bpy.data.objects.keys())
    if operator(**asked, **ASKED) != {"FINISHED"}:
        raise RuntimeError(f"{operator.idname_py()} came to nothing")
    bpy.context.view_layer.update()
    return [obj for obj in bpy.data.objects if "shapewright_code" in obj and obj.name not in before]


def select(*names):
    for obj in bpy.context.view_layer.objects:
        obj.select_set(obj.name in names)
    bpy.context.view_layer.objects.active = bpy.data.objects[names[0]]


generate = made_by(bpy.ops.shapewright.generate, class_name=CLASS, count=COUNT)
save_shapes(OUT / "background_generate.npz", generate)
select(BLENDED[0])
save_shapes(OUT / "background_vary.npz", made_by(bpy.ops.shapewright.vary, variants=1, strength=STRENGTH))
select(*BLENDED)
save_shapes(OUT / "background_blend.npz", made_by(bpy.ops.shapewright.blend, steps=STEPS))
