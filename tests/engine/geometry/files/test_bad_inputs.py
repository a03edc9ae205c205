"""Every kind of bad file, read by a process that may not have more than 1 GB: each gets its InputError, and soon."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

BILLION = 10**9
FORMATS = ["ply", "obj", "stl", "off", "glb", "xyz", "npy", "npz"]
ROOT = Path(__file__).resolve().parents[4]
PROSE = b"Dear all,\nthis is a letter and not a mesh. v is a letter, f is another.\nYours, 1 2 3\n" * 50

Make = Callable[[Path], object]


def content(data: bytes | str) -> Make:
    return lambda path: path.write_bytes(data.encode() if isinstance(data, str) else data)


def half_of(write: Make) -> Make:
    def make(path: Path) -> None:
        write(path)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])

    return make


def sphere(path: Path) -> None:
    trimesh.creation.icosphere(3).export(path)


def text_sphere(path: Path) -> None:
    file_type = {".stl": "stl_ascii"}.get(path.suffix, path.suffix[1:])
    keywords: dict[str, Any] = {"encoding": "ascii"} if path.suffix == ".ply" else {}
    path.write_bytes(_encoded(trimesh.creation.icosphere(3).export(file_type=file_type, **keywords)))


def _encoded(data: bytes | str) -> bytes:
    return data.encode() if isinstance(data, str) else data


def array(value: Any, **keywords: Any) -> Make:
    return lambda path: np.save(path, value, **keywords)


def arrays(**values: Any) -> Make:
    return lambda path: np.savez_compressed(path, **values)


def npy_header(shape: str, dtype: str = "<f4") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def npz_of(**members: bytes) -> Make:
    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(f"{name}.npy", data)

    return make


def zip_bomb(path: Path) -> None:
    block = bytes(1 << 20)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("points.npy", "w") as stream:
        stream.write(npy_header("(19000000, 3)"))
        for _ in range(19_000_000 * 12 // len(block)):
            stream.write(block)
        stream.write(bytes(19_000_000 * 12 % len(block)))


def ply(elements: str, body: bytes = b"", encoding: str = "binary_little_endian") -> Make:
    return content(f"ply\nformat {encoding} 1.0\n{elements}end_header\n".encode() + body)


XYZ = "property float x\nproperty float y\nproperty float z\n"


def glb(tree: Any, binary: bytes = b"\0" * 64) -> Make:
    text = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return content(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)


def glb_tree(**changes: Any) -> dict[str, Any]:
    tree = {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
        "bufferViews": [{"buffer": 0, "byteLength": 36}],
        "buffers": [{"byteLength": 64}],
    }
    return tree | changes


def draco_tree() -> dict[str, Any]:
    """Required compression by Draco of bytes that are none; the data are nowhere else."""
    name = "KHR_draco_mesh_compression"
    primitive = {"attributes": {"POSITION": 0}, "extensions": {name: {"bufferView": 0, "attributes": {"POSITION": 0}}}}
    return glb_tree(
        extensionsRequired=[name],
        meshes=[{"primitives": [primitive]}],
        accessors=[{"componentType": 5126, "count": 3, "type": "VEC3"}],
    )


class Trap:
    """Unpickling this would leave a file behind."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("trap was sprung"),)


FIVE = np.random.default_rng(0).normal(size=(5, 3))
MANY = np.random.default_rng(0).normal(size=(1000, 3))
HUGE = np.where(np.arange(1000)[:, None] == 5, 1e30, MANY)


def rows(table: np.ndarray) -> str:
    return "".join(" ".join(f"{v:g}" for v in row) + "\n" for row in table)


def obj_rows(table: np.ndarray) -> str:
    return "".join("v " + " ".join(f"{v:g}" for v in row) + "\n" for row in table)


CASES: dict[str, tuple[str, Make, str]] = {
    # name: (file name, how it is made, code expected)
    "missing": ("nothing.ply", lambda path: None, "file_missing"),
    "missing_folder": ("no folder/nothing.ply", lambda path: None, "file_missing"),
    "folder": ("folder.ply", lambda path: path.mkdir(), "file_is_folder"),
    "unknown_suffix": ("mesh.fbx", content(PROSE), "format_unknown"),
    "no_suffix": ("mesh", content(PROSE), "format_unknown"),
    **{f"empty_{s}": (f"empty.{s}", content(b""), "file_empty") for s in FORMATS},
    **{f"prose_{s}": (f"prose.{s}", content(PROSE), "file_damaged") for s in [*FORMATS, "gltf"]},
    **{
        f"noise_{s}": (f"noise.{s}", content(np.random.default_rng(0).bytes(100_000)), "file_damaged")
        for s in [*FORMATS, "gltf"]
    },
    **{f"truncated_{s}": (f"half.{s}", half_of(sphere), "file_damaged") for s in ("ply", "stl", "glb", "off")},
    **{f"truncated_text_{s}": (f"half.{s}", half_of(text_sphere), "file_damaged") for s in ("ply", "stl")},
    "truncated_npy": ("half.npy", half_of(array(MANY)), "file_damaged"),
    "truncated_npz": ("half.npz", half_of(arrays(points=MANY)), "file_damaged"),
    "truncated_xyz": ("half.xyz", content(rows(MANY)[:-12] + "1.0 2"), "file_damaged"),
    "obj_without_its_vertices": ("half.obj", content(obj_rows(MANY) + "f 1 2 3\nf 5 6 5000\n"), "mesh_faces_invalid"),
    "obj_cut_in_a_line": ("cut.obj", content(obj_rows(MANY) + "v 1.0 2"), "file_damaged"),
    "million_nan_xyz": ("nan.xyz", content("nan nan nan\n" * 1_000_000), "cloud_not_finite"),
    "million_nan_obj": ("nan.obj", content("v nan nan nan\n" * 1_000_000), "cloud_not_finite"),
    "million_nan_npy": ("nan.npy", array(np.full((1_000_000, 3), np.nan, np.float32)), "cloud_not_finite"),
    "million_nan_npz": (
        "nan.npz",
        arrays(points=np.random.default_rng(0).normal(size=(10**6, 3)) * np.nan),
        "cloud_not_finite",
    ),
    "million_nan_ply": (
        "nan.ply",
        ply(f"element vertex 1000000\n{XYZ}", np.full((1_000_000, 3), np.nan, "<f4").tobytes()),
        "cloud_not_finite",
    ),
    "million_nan_stl": (
        "nan.stl",
        content(bytes(80) + struct.pack("<I", 333_334) + (struct.pack("<12f", *[np.nan] * 12) + b"\0\0") * 333_334),
        "cloud_not_finite",
    ),
    "one_point_xyz": ("one.xyz", content("1 2 3\n"), "cloud_too_small"),
    "one_point_ply": ("one.ply", ply(f"element vertex 1\n{XYZ}", bytes(12)), "cloud_too_small"),
    "one_point_obj": ("one.obj", content("v 1 2 3\n"), "cloud_too_small"),
    "one_point_npy": ("one.npy", array(np.ones((1, 3))), "cloud_too_small"),
    "five_points": ("five.xyz", content(rows(FIVE)), "cloud_too_small"),
    "five_points_many_times": ("five.npy", array(np.tile(FIVE, (1000, 1))), "cloud_too_small"),
    "no_points_npy": ("none.npy", array(np.zeros((0, 3))), "cloud_too_small"),
    "no_points_ply": ("none.ply", ply(f"element vertex 0\n{XYZ}"), "cloud_too_small"),
    "equal_points_xyz": ("equal.xyz", content("1 2 3\n" * 10_000), "cloud_degenerate"),
    "equal_points_npy": ("equal.npy", array(np.ones((1_000_000, 3))), "cloud_degenerate"),
    "equal_points_mesh": ("equal.obj", content("v 1 2 3\n" * 30 + "f 1 2 3\nf 4 5 6\n"), "cloud_degenerate"),
    "points_on_a_line": ("line.xyz", content(rows(np.arange(100)[:, None] * [[1.0, 2, 3]])), "cloud_degenerate"),
    "mesh_without_area": (
        "flat.obj",
        content(obj_rows(np.arange(30)[:, None] * [[1.0, 2, 3]]) + "f 1 2 3\n"),
        "mesh_without_area",
    ),
    "huge_xyz": ("huge.xyz", content(rows(HUGE)), "coordinates_absurd"),
    "huge_obj": ("huge.obj", content(obj_rows(HUGE)), "coordinates_absurd"),
    "huge_npy": ("huge.npy", array(HUGE), "coordinates_absurd"),
    "huge_npy_double": ("huge.npy", array(MANY * 1e300), "coordinates_absurd"),
    "huge_ply": ("huge.ply", ply(f"element vertex 1000\n{XYZ}", HUGE.astype("<f4").tobytes()), "coordinates_absurd"),
    "nothing_but_infinity": ("inf.xyz", content(rows(FIVE) + "inf 0 0\n" * 50), "coordinates_absurd"),
    "billion_ply": ("b.ply", ply(f"element vertex {BILLION}\n{XYZ}", bytes(100)), "file_damaged"),
    "billion_ply_text": ("b.ply", ply(f"element vertex {BILLION}\n{XYZ}", b"1 2 3\n" * 9, "ascii"), "file_damaged"),
    "billion_faces_ply": (
        "b.ply",
        ply(f"element vertex 20\n{XYZ}element face {BILLION}\nproperty list uchar int vertex_indices\n", bytes(300)),
        "file_damaged",
    ),
    "billion_long_list_ply": (
        "b.ply",
        ply(
            f"element vertex 20\n{XYZ}element face 1\nproperty list uint int vertex_indices\n",
            bytes(240) + struct.pack("<I", BILLION) + bytes(40),
        ),
        "file_damaged",
    ),
    "billion_rows_of_nothing_ply": (
        "b.ply",
        ply(f"element vertex 20\n{XYZ}element nothing {BILLION}\n", bytes(240)),
        "file_too_large",
    ),
    "negative_ply": ("n.ply", ply(f"element vertex -5\n{XYZ}", bytes(100)), "file_damaged"),
    "endless_header_ply": ("e.ply", content(b"ply\nformat ascii 1.0\n" + b"comment x\n" * 10**6), "file_damaged"),
    "billion_npy": ("b.npy", content(npy_header(f"({BILLION}, 3)") + bytes(100)), "file_damaged"),
    "overflowing_npy": ("b.npy", content(npy_header(f"({2**62}, 3)") + bytes(100)), "file_damaged"),
    "negative_npy": ("b.npy", content(npy_header("(-1, 3)") + bytes(100)), "file_damaged"),
    "billion_npz": ("b.npz", npz_of(points=npy_header(f"({BILLION}, 3)") + bytes(100)), "file_damaged"),
    "zip_bomb": ("bomb.npz", zip_bomb, "file_damaged"),
    "npz_without_points": ("x.npz", arrays(a=MANY, b=MANY), "file_damaged"),
    "billion_stl": ("b.stl", content(bytes(80) + struct.pack("<I", BILLION) + bytes(1000)), "file_damaged"),
    "billion_off": ("b.off", content(f"OFF\n{BILLION} {BILLION} 0\n1 2 3\n"), "file_damaged"),
    "billion_xyz": ("b.xyz", content(f"{BILLION}\n1 2 3\n"), "file_damaged"),
    "billion_glb": (
        "b.glb",
        glb(glb_tree(accessors=[{"bufferView": 0, "componentType": 5126, "count": BILLION, "type": "VEC3"}])),
        "file_damaged",
    ),
    "billion_glb_sparse": (
        "b.glb",
        glb(glb_tree(accessors=[{"componentType": 5126, "count": BILLION, "type": "VEC3"}])),
        "file_too_large",
    ),
    "circular_glb": ("c.glb", glb(glb_tree(nodes=[{"children": [0]}])), "file_damaged"),
    "nested_glb": ("c.glb", glb(b"[" * 100_000), "file_damaged"),
    "nonsense_glb": ("c.glb", glb(glb_tree(meshes="none", accessors=None)), "file_damaged"),
    "negative_glb": (
        "c.glb",
        glb(glb_tree(bufferViews=[{"buffer": 0, "byteOffset": -9, "byteLength": 36}])),
        "file_damaged",
    ),
    "draco_glb": ("d.glb", glb(draco_tree()), "file_damaged"),
    "meshopt_glb": ("d.glb", glb(glb_tree(extensionsRequired=["EXT_meshopt_compression"])), "file_unsupported"),
    "pickled_npy": ("p.npy", array(np.array([Trap()] * 20, object), allow_pickle=True), "file_pickled"),
    "pickled_npz": ("p.npz", arrays(points=np.array([Trap()] * 20, object)), "file_pickled"),
    "bare_pickle": ("p.npy", content(pickle.dumps(Trap())), "file_damaged"),
    "words_npy": ("w.npy", array(np.array([["a", "b", "c"]] * 20)), "file_damaged"),
    "wrong_shape_npy": ("w.npy", array(np.zeros((50, 2))), "file_damaged"),
    "deep_shape_npy": ("w.npy", array(np.zeros((5, 5, 5, 3))), "file_damaged"),
    "faces_of_floats_npz": ("f.npz", arrays(points=MANY, faces=MANY[:5]), "mesh_faces_invalid"),
    "faces_beyond_npz": ("f.npz", arrays(points=MANY, faces=np.array([[1, 2, 1000]])), "mesh_faces_invalid"),
    "faces_before_off": ("f.off", content("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 -2\n"), "mesh_faces_invalid"),
    "bad_viewpoint_npz": ("v.npz", arrays(points=MANY, viewpoint=np.array([1.0, np.nan, 0])), "viewpoint_invalid"),
}

READ_ALL = """
import json, sys, time
try:
    import resource
    limit = 1 << 30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
except ImportError:  # Windows
    pass
from engine.errors import InputError
from engine.geometry.files import read_shape
for line in sys.stdin.buffer:
    name, path = json.loads(line)
    began = time.process_time()
    try:
        answer = {"read": repr(type(read_shape(path)))}
    except InputError as error:
        answer = error.as_dict()
    except BaseException as error:
        answer = {"raised": f"{type(error).__name__}: {error}"}
    answer |= {"name": name, "seconds": time.process_time() - began}
    sys.stdout.write(json.dumps(answer) + "\\n")
    sys.stdout.flush()
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """One process, limited to 1 GB where the system can, reads them all. Time is the processor's, not the wall's."""
    folder = tmp_path_factory.mktemp("schlechte Dateien – 壊れた")
    lines = []
    for name, (file, make, _) in CASES.items():
        (folder / name).mkdir()
        make(folder / name / file)
        lines.append(json.dumps([name, str(folder / name / file)]))
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL],
        input="\n".join(lines).encode(),
        capture_output=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert not list(folder.rglob("trap*"))
    return {answer["name"]: answer for answer in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", CASES)
def test_a_bad_file_gets_its_error_soon_and_in_little_memory(answers: dict[str, dict[str, Any]], name: str) -> None:
    answer = answers[name]
    assert answer.get("code") == CASES[name][2], answer
    assert all(len(answer[part]) > 10 and answer[part].endswith(".") for part in ("what", "why", "remedy")), answer
    assert answer["seconds"] < 5.0
