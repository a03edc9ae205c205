"""What other programs write in PLY, OBJ, OFF, STL, glTF and NumPy files: each kind that somebody stumbled over."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image

from engine.errors import InputError
from engine.geometry.files import load
from engine.geometry.meshes import Mesh, enclosed_volume, surface_area

# A U as one concave polygon of eight corners, area 0.52, and the prism of height 0.3 that stands on it.
U = np.array([[0, 0], [1, 0], [1, 1], [0.8, 1], [0.8, 0.2], [0.2, 0.2], [0.2, 1], [0, 1]])
U_POINTS = np.concatenate([np.c_[U, np.zeros(8)], np.c_[U, np.full(8, 0.3)]])
U_FACES = [[7, 6, 5, 4, 3, 2, 1, 0], [8, 9, 10, 11, 12, 13, 14, 15]]
U_FACES += [[i, (i + 1) % 8, 8 + (i + 1) % 8, 8 + i] for i in range(8)]
PERIMETER = float(np.linalg.norm(U - np.roll(U, 1, 0), axis=1).sum())
U_AREA, U_VOLUME = 2 * 0.52 + 0.3 * PERIMETER, 0.3 * 0.52
DART = np.array([[0, 0, 0], [2, 1, 0], [0, 2, 0], [0.5, 1, 0]], float)  # its last corner looks in

BOX = trimesh.creation.box((1.0, 0.6, 0.4)).subdivide().subdivide()
POINTS, FACES = np.asarray(BOX.vertices, np.float64), np.asarray(BOX.faces)
AREA = float(BOX.area)
CLOUD = np.random.default_rng(2).normal(size=(200, 3))


def obj(points: np.ndarray, faces: Any, extra: str = "", colours: np.ndarray | None = None) -> str:
    rows = points if colours is None else np.c_[points, colours]
    text = "".join("v " + " ".join(f"{v:.9g}" for v in row) + "\n" for row in rows) + extra
    return text + "".join("f " + " ".join(str(i + 1) for i in face) + "\n" for face in faces)


def off(points: np.ndarray, faces: Any, head: str = "OFF\n") -> str:
    rows = "".join(" ".join(f"{v:.9g}" for v in row) + "\n" for row in points)
    return f"{head}{len(points)} {len(faces)} 0\n{rows}" + "".join(
        f"{len(face)} " + " ".join(map(str, face)) + "\n" for face in faces
    )


def ply(elements: str, body: bytes, encoding: str = "binary_little_endian", comments: str = "") -> bytes:
    return f"ply\nformat {encoding} 1.0\n{comments}{elements}end_header\n".encode() + body


FLOATS = "property float x\nproperty float y\nproperty float z\n"


def polygons(faces: Any) -> bytes:
    return b"".join(struct.pack(f"<B{len(face)}I", len(face), *face) for face in faces)


def ply_mesh(points: np.ndarray, faces: Any) -> bytes:
    head = f"element vertex {len(points)}\n{FLOATS}element face {len(faces)}\nproperty list uchar uint vertex_indices\n"
    return ply(head, points.astype("<f4").tobytes() + polygons(faces))


# --- polygons --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["obj", "ply", "off"])
@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_concave_polygons_keep_their_area_and_their_outside(tmp_path: Path, suffix: str, turn: int) -> None:
    axes = np.roll([0, 1, 2], turn)
    mirrored = turn == 3  # the same polygon from the other side
    points = U_POINTS[:, axes] * ([1, 1, -1] if mirrored else [1, 1, 1])
    faces = [list(reversed(face)) for face in U_FACES] if mirrored else U_FACES
    faces = [face[turn:] + face[:turn] for face in faces]  # another corner first
    content = {"obj": lambda: obj(points, faces).encode(), "ply": lambda: ply_mesh(points, faces),
               "off": lambda: off(points, faces).encode()}[suffix]()  # fmt: skip
    (tmp_path / f"u.{suffix}").write_bytes(content)
    shape = load(tmp_path / f"u.{suffix}").shape
    assert isinstance(shape, Mesh) and len(shape.faces) == 2 * 6 + 8 * 2
    assert surface_area(shape) == pytest.approx(U_AREA, rel=1e-5)
    assert enclosed_volume(shape) == pytest.approx(U_VOLUME, rel=1e-5)


@pytest.mark.parametrize("first", range(4))
def test_a_dart_is_cut_along_its_inner_diagonal(tmp_path: Path, first: int) -> None:
    corners = [(first + i) % 4 for i in range(4)]
    (tmp_path / "dart.obj").write_text(obj(DART, [corners]))
    shape = load(tmp_path / "dart.obj").shape
    assert isinstance(shape, Mesh) and surface_area(shape) == pytest.approx(1.5, rel=1e-6)


def test_materials_follow_the_triangles_of_their_polygons(tmp_path: Path) -> None:
    text = obj(U_POINTS, [])
    for name, faces in (("lid", U_FACES[:2]), ("side", U_FACES[2:])):
        text += f"usemtl {name}\n" + "".join("f " + " ".join(str(i + 1) for i in face) + "\n" for face in faces)
    (tmp_path / "u.obj").write_text("mtllib u.mtl\n" + text)
    (tmp_path / "u.mtl").write_text("newmtl lid\nKd 1 0 0\nnewmtl side\nKd 0 0.5 0\n")
    loaded = load(tmp_path / "u.obj", as_written=True)
    assert [one.name for one in loaded.materials] == ["lid", "side"] and loaded.face_materials is not None
    assert [one.colour for one in loaded.materials] == [(1, 0, 0), (0, 0.5, 0)]
    assert np.array_equal(np.bincount(loaded.face_materials), [12, 16])
    assert isinstance(loaded.shape, Mesh) and loaded.colours is not None
    lids = np.ptp(loaded.shape.vertices[loaded.shape.faces[loaded.face_materials == 0], 2], axis=1)
    assert not lids.any(), "what is called lid is level"


# --- OBJ -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
def test_obj_in_any_unicode_keeps_its_first_vertex(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "box.obj").write_bytes(obj(POINTS, FACES).encode(encoding))
    shape = load(tmp_path / "box.obj").shape
    assert isinstance(shape, Mesh) and len(shape.vertices) == len(POINTS)
    assert surface_area(shape) == pytest.approx(AREA, rel=1e-5)


def test_obj_where_some_vertices_have_colours(tmp_path: Path) -> None:
    coloured = obj(POINTS[:9], [], colours=np.tile([1.0, 0.5, 0.0], (9, 1))) + obj(POINTS[9:], [])
    (tmp_path / "box.obj").write_text(coloured + obj(POINTS[:0], FACES))
    loaded = load(tmp_path / "box.obj")
    assert surface_area(loaded.shape) == pytest.approx(AREA, rel=1e-5)  # type: ignore[arg-type]
    assert loaded.colours is not None and np.allclose(loaded.colours[:9], [1, 0.5, 0])
    assert (loaded.colours[9:] == 1).all() and "9 of its" in " ".join(loaded.notes)


def test_obj_comments_behind_what_is_said(tmp_path: Path) -> None:
    normals = BOX.vertex_normals
    text = "".join(f"v {x} {y} {z} # p\n" for x, y, z in POINTS)
    text += "".join(f"vn {x} {y} {z} # n\n" for x, y, z in normals)
    text += "".join("f " + " ".join(f"{i + 1}//{i + 1}" for i in face) + " # f\n" for face in FACES)
    (tmp_path / "box.obj").write_text(text)
    loaded = load(tmp_path / "box.obj", as_written=True)
    assert loaded.normals is not None and np.allclose(loaded.normals, normals, atol=1e-5)


def test_obj_picture_gives_colours(tmp_path: Path) -> None:
    Image.fromarray(np.uint8([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]])).save(tmp_path / "t.png")
    (tmp_path / "b.mtl").write_text("newmtl skin\nmap_Kd t.png\n")
    text = "mtllib b.mtl\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\nusemtl skin\n"
    (tmp_path / "b.obj").write_text(text + "f 1/1 2/2 3/3 4/4\n")
    loaded = load(tmp_path / "b.obj")
    # The picture's first row is on top.
    expected = [[0, 0, 1], [1, 1, 1], [0, 1, 0], [1, 0, 0]]
    assert loaded.colours is not None and np.allclose(loaded.colours, expected, atol=0.01)


def test_obj_may_not_take_a_picture_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    Image.new("RGB", (2, 2), (255, 0, 0)).save(tmp_path / "secret.png")
    (tmp_path / "inner" / "b.mtl").write_text("newmtl skin\nmap_Kd ../secret.png\n")
    text = "mtllib b.mtl\nv 0 0 0\nv 1 0 0\nv 1 1 0\nvt 0 0\nusemtl skin\nf 1/1 2/1 3/1\n"
    (tmp_path / "inner" / "b.obj").write_text(text)
    assert load(tmp_path / "inner" / "b.obj").colours is None


# --- PLY -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("equal", [True, False])
def test_ply_lists_on_vertices(tmp_path: Path, order: str, equal: bool) -> None:
    rng = np.random.default_rng(0)
    body = b""
    for p in CLOUD:
        views = rng.integers(0, 9, 3 if equal else rng.integers(0, 5))
        body += struct.pack(f"{order}3f3B", *p, 10, 20, 30) + struct.pack(f"{order}B{len(views)}I", len(views), *views)
        body += struct.pack(f"{order}3f", 0, 0, 2)
    head = f"element vertex 200\n{FLOATS}property uchar red\nproperty uchar green\nproperty uchar blue\n"
    head += "property list uchar uint view_indices\nproperty float nx\nproperty float ny\nproperty float nz\n"
    name = "binary_little_endian" if order == "<" else "binary_big_endian"
    (tmp_path / "a.ply").write_bytes(ply(head, body, name))
    loaded = load(tmp_path / "a.ply")
    assert np.allclose(loaded.points, CLOUD, atol=1e-6) and loaded.normals is not None
    assert loaded.colours is not None and np.allclose(loaded.colours * 255, [10, 20, 30], atol=1e-3)


def test_text_ply_lists_on_vertices(tmp_path: Path) -> None:
    rows = "".join(f"{x} {y} {z} {i % 3} {'7 ' * (i % 3)}5\n" for i, (x, y, z) in enumerate(CLOUD))
    head = f"element vertex 200\n{FLOATS}property list uchar int views\nproperty uchar quality\n"
    (tmp_path / "a.ply").write_bytes(ply(head, rows.encode(), "ascii"))
    assert np.allclose(load(tmp_path / "a.ply").points, CLOUD, atol=1e-5)


def test_ply_comments_are_free_text_and_one_of_them_a_viewpoint(tmp_path: Path) -> None:
    comments = "comment\ncomment viewpoint of the left camera\ncomment it's – free\nobj_info num_cols 512\n"
    body = CLOUD.astype("<f4").tobytes()
    head = f"element vertex 200\n{FLOATS}"
    (tmp_path / "a.ply").write_bytes(ply(head, body, comments=comments))
    assert load(tmp_path / "a.ply").viewpoint is None
    (tmp_path / "a.ply").write_bytes(ply(head, body, comments=comments + "comment viewpoint 1 -2 3.5\n"))
    assert np.array_equal(load(tmp_path / "a.ply").viewpoint, [1, -2, 3.5])


@pytest.mark.parametrize("place", [(1.0, 2.0, 3.0), (0.0, 0.0, 0.0)])
def test_ply_camera_of_pcl_is_the_viewpoint_unless_nobody_set_it(tmp_path: Path, place: tuple[float, ...]) -> None:
    head = f"element vertex 200\n{FLOATS}element camera 1\n"
    head += "".join(f"property float view_p{axis}\n" for axis in "xyz") + "property int viewportx\n"
    body = CLOUD.astype("<f4").tobytes() + struct.pack("<3fi", *place, 200)
    (tmp_path / "a.ply").write_bytes(ply(head, body))
    viewpoint = load(tmp_path / "a.ply").viewpoint
    assert (viewpoint is None) == (not any(place)) and (viewpoint is None or np.array_equal(viewpoint, place))


def test_ply_with_free_text_that_is_called_nothing_and_lists_that_are_not_there(tmp_path: Path) -> None:
    rows = "".join(f"{x} {y} {z}\n" for x, y, z in CLOUD)
    head = f"Created by Blender3D 247 - www.blender.org\nelement vertex 200\n{FLOATS}"
    (tmp_path / "a.ply").write_bytes(ply(head, rows.encode(), "ascii"))
    assert np.allclose(load(tmp_path / "a.ply").points, CLOUD, atol=1e-5)
    head = f"element vertex 200\n{FLOATS}property list uchar uint vertex_indices\n"
    (tmp_path / "a.ply").write_bytes(ply(head, rows.encode(), "ascii"))
    assert np.allclose(load(tmp_path / "a.ply").points, CLOUD, atol=1e-5)
    for wrong in ("property float\n", "element vertex\n", "property quaternion q\n", "prpperty float q\n"):
        (tmp_path / "a.ply").write_bytes(ply(f"element vertex 200\n{FLOATS}{wrong}", rows.encode(), "ascii"))
        with pytest.raises(InputError):
            load(tmp_path / "a.ply")


def test_gltf_extensions_that_are_not_about_the_shape_may_be_required(tmp_path: Path) -> None:
    def change(tree: dict[str, Any], primitive: dict[str, Any]) -> None:
        tree["extensionsRequired"] = ["KHR_technique_webgl"]

    assert np.allclose(load(gltf(tmp_path, change)).points, POINTS, atol=1e-6)


def test_an_organised_ply_with_empty_pixels(tmp_path: Path) -> None:
    points = np.full((400, 3), np.nan, "<f4")
    points[::2] = CLOUD
    points[1] = np.inf
    (tmp_path / "a.ply").write_bytes(ply(f"element vertex 400\n{FLOATS}", points.tobytes()))
    loaded = load(tmp_path / "a.ply")
    assert np.allclose(loaded.points, CLOUD, atol=1e-6)
    assert loaded.dropped == 200 and "200 of its 400" in " ".join(loaded.notes)


def test_a_compressed_splat_is_called_by_its_name_and_a_plain_one_is_read(tmp_path: Path) -> None:
    packed = "element chunk 1\nproperty float min_x\nelement vertex 200\nproperty uint packed_position\n"
    (tmp_path / "s.ply").write_bytes(ply(packed, bytes(4 + 4 * 200)))
    with pytest.raises(InputError) as caught:
        load(tmp_path / "s.ply")
    assert caught.value.code == "file_unsupported" and "Gaussian splat" in caught.value.why
    names = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "rot_0"]
    rows = np.zeros((200, len(names)), "<f4")
    rows[:, :3], rows[:, 6] = CLOUD, 1.0
    head = "element vertex 200\n" + "".join(f"property float {name}\n" for name in names)
    (tmp_path / "s.ply").write_bytes(ply(head, rows.tobytes()))
    loaded = load(tmp_path / "s.ply")
    assert loaded.normals is None and "splats" in " ".join(loaded.notes)
    assert loaded.colours is not None and np.allclose(loaded.colours[0], [0.782, 0.5, 0.5], atol=1e-3)


# --- OFF, STL, NumPy -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["OFF", "OFF\n", "OFF ", "# ModelNet\nOFF", "\ufeffOFF\n"])
def test_off_headers_glued_to_their_counts(tmp_path: Path, head: str) -> None:
    (tmp_path / "box.off").write_text(off(POINTS, FACES, head), encoding="utf-8")
    shape = load(tmp_path / "box.off").shape
    assert isinstance(shape, Mesh) and surface_area(shape) == pytest.approx(AREA, rel=1e-5)


def stl_text(end: str = "endsolid box", mark: str = "vertex ", name: str = "box") -> str:
    text = f"solid {name}\n"
    for face in FACES:
        text += "facet normal 0 0 0\nouter loop\n"
        text += "".join(f"  {mark}{x} {y} {z}\n" for x, y, z in POINTS[face]) + "endloop\nendfacet\n"
    return text + end + "\n"


@pytest.mark.parametrize("text", [
    stl_text(), stl_text("end solid"), stl_text(mark="vertex\t"), stl_text("ENDSOLID", "VERTEX "),
    stl_text("endsolid", name=""),
    stl_text(name="endsolid of the vertex"), stl_text() + stl_text(name="a second one"), "\ufeff" + stl_text(),
])  # fmt: skip
def test_text_stl_of_all_kinds(tmp_path: Path, text: str) -> None:
    (tmp_path / "box.stl").write_text(text, encoding="utf-8")
    shape = load(tmp_path / "box.stl").shape
    assert isinstance(shape, Mesh) and len(shape.vertices) == len(POINTS)
    assert surface_area(shape) == pytest.approx(AREA * text.count("outer loop") / len(FACES), rel=1e-5)


def test_a_binary_stl_with_something_behind_it(tmp_path: Path) -> None:
    content = BOX.export(file_type="stl")
    (tmp_path / "box.stl").write_bytes(content + b"\0" * 7)
    loaded = load(tmp_path / "box.stl")
    assert surface_area(loaded.shape) == pytest.approx(AREA, rel=1e-5)  # type: ignore[arg-type]
    assert "7 bytes" in " ".join(loaded.notes)


@pytest.mark.parametrize("shape", ["(1, N, 3)", "(H, W, 3)", "(3, N)", "(1, 3, N)", "(N, 4)", "(N, 7)"])
def test_arrays_of_other_shapes(tmp_path: Path, shape: str) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (200, 3))
    array = {
        "(1, N, 3)": CLOUD[None], "(H, W, 3)": CLOUD.reshape(10, 20, 3), "(3, N)": CLOUD.T, "(1, 3, N)": CLOUD.T[None],
        "(N, 4)": np.c_[CLOUD, np.linspace(-7, 9, 200)], "(N, 7)": np.c_[CLOUD, np.linspace(0, 1, 200), colours],
    }[shape]  # fmt: skip
    np.save(tmp_path / "a.npy", array)
    loaded = load(tmp_path / "a.npy")
    assert np.allclose(loaded.points, CLOUD, atol=1e-6) and loaded.normals is None
    assert (loaded.colours is not None) == (shape == "(N, 7)")


# --- glTF ------------------------------------------------------------------------------------------------------------


def gltf(folder: Path, change: Any, extra: bytes = b"") -> Path:
    """The box as glTF, y up, with something changed: change(tree) may edit it; extra follows in the buffer."""
    y_up = POINTS[:, [0, 2, 1]] * [1, 1, -1]
    blob = y_up.astype("<f4").tobytes() + FACES.astype("<u2").tobytes()
    blob += b"\0" * (-len(blob) % 4)
    start = len(blob)
    blob += extra
    primitive: dict[str, Any] = {"attributes": {"POSITION": 0}, "indices": 1}
    tree: dict[str, Any] = {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": len(POINTS), "type": "VEC3"},
            {"bufferView": 1, "componentType": 5123, "count": FACES.size, "type": "SCALAR"},
        ],
        "bufferViews": [
            {"buffer": 0, "byteLength": 12 * len(POINTS)},
            {"buffer": 0, "byteOffset": 12 * len(POINTS), "byteLength": 2 * FACES.size},
            {"buffer": 0, "byteOffset": start, "byteLength": len(extra)},
        ],
        "buffers": [{"byteLength": len(blob), "uri": "data:;base64," + base64.b64encode(blob).decode()}],
    }
    change(tree, primitive)
    (folder / "a.gltf").write_text(json.dumps(tree))
    return folder / "a.gltf"


def test_gltf_normals_without_a_buffer_view_are_zeros(tmp_path: Path) -> None:
    def change(tree: dict[str, Any], primitive: dict[str, Any]) -> None:
        primitive["attributes"]["NORMAL"] = 2
        tree["accessors"].append({"componentType": 5126, "count": len(POINTS), "type": "VEC3"})

    loaded = load(gltf(tmp_path, change))
    assert np.allclose(loaded.points, POINTS, atol=1e-6) and loaded.normals is None


@pytest.mark.parametrize("base", [True, False])
def test_gltf_sparse_accessors(tmp_path: Path, base: bool) -> None:
    """Positions of which three are replaced; and positions that are all given as replacements of zeros."""
    which = np.arange(3) * 5 if base else np.arange(len(POINTS))
    moved = (POINTS[which] * 2)[:, [0, 2, 1]] * [1, 1, -1]
    extra = which.astype("<u2").tobytes()
    extra += b"\0" * (-len(extra) % 4)

    def change(tree: dict[str, Any], primitive: dict[str, Any]) -> None:
        tree["accessors"][0]["sparse"] = {
            "count": len(which),
            "indices": {"bufferView": 2, "componentType": 5123},
            "values": {"bufferView": 2, "byteOffset": len(extra)},
        }
        if not base:
            del tree["accessors"][0]["bufferView"]

    loaded = load(gltf(tmp_path, change, extra + moved.astype("<f4").tobytes()))
    expected = POINTS.copy()
    expected[which] *= 2
    assert np.allclose(loaded.points, expected, atol=1e-6)


def test_gltf_draco_used_beside_plain_data_is_read(tmp_path: Path) -> None:
    name = "KHR_draco_mesh_compression"

    def change(tree: dict[str, Any], primitive: dict[str, Any]) -> None:
        tree["extensionsUsed"] = [name]
        primitive["extensions"] = {name: {"bufferView": 2, "attributes": {"POSITION": 0}}}

    assert np.allclose(load(gltf(tmp_path, change, b"DRACO...")).points, POINTS, atol=1e-6)


def test_gltf_draco_is_read_where_its_package_is_and_named_where_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draco = pytest.importorskip("DracoPy")
    y_up = (POINTS[:, [0, 2, 1]] * [1, 1, -1]).astype(np.float32)
    name = "KHR_draco_mesh_compression"

    def change(tree: dict[str, Any], primitive: dict[str, Any]) -> None:
        tree["extensionsRequired"] = [name]
        primitive["extensions"] = {name: {"bufferView": 2, "attributes": {"POSITION": 0}}}
        for accessor in tree["accessors"]:
            del accessor["bufferView"]

    path = gltf(tmp_path, change, draco.encode(y_up, FACES.astype(np.uint32)))
    assert surface_area(load(path).shape) == pytest.approx(AREA, rel=0.01)  # type: ignore[arg-type]
    found = __import__("importlib.util").util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda wanted: None if wanted == "DracoPy" else found(wanted))
    with pytest.raises(InputError) as caught:
        load(path)
    assert caught.value.code == "package_missing" and "Draco" in caught.value.why
    assert "pip install DracoPy" in caught.value.remedy


def test_gltf_colours_of_vertices_materials_and_pictures(tmp_path: Path) -> None:
    linear = np.tile(np.float32([0.2140, 1.0, 0.0]), (len(POINTS), 1))  # 0.2140 is 0.5 in sRGB

    def by_vertex(tree: dict[str, Any], primitive: dict[str, Any]) -> None:
        primitive["attributes"]["COLOR_0"] = 2
        tree["accessors"].append({"bufferView": 2, "componentType": 5126, "count": len(POINTS), "type": "VEC3"})

    def by_material(tree: dict[str, Any], primitive: dict[str, Any]) -> None:
        primitive["material"] = 0
        tree["materials"] = [{"name": "paint", "pbrMetallicRoughness": {"baseColorFactor": [0.214, 1, 0, 1]}}]

    for change, extra in ((by_vertex, linear.tobytes()), (by_material, b"")):
        loaded = load(gltf(tmp_path, change, extra))
        assert loaded.colours is not None and np.allclose(loaded.colours, [0.5, 1, 0], atol=1e-3)
    assert [one.name for one in loaded.materials] == ["paint"]
    assert loaded.face_materials is not None and not loaded.face_materials.any()

    picture = Image.fromarray(np.uint8([[[255, 0, 0], [0, 0, 255]]]))
    uv = np.c_[(POINTS[:, 0] > 0).astype(float), np.full(len(POINTS), 0.5)]
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=picture)
    textured = trimesh.Trimesh(
        POINTS, FACES, process=False, visual=trimesh.visual.TextureVisuals(uv, material=material)
    )
    textured.export(tmp_path / "a.glb")
    loaded = load(tmp_path / "a.glb")
    right = loaded.points[:, 0] > 0.01
    assert loaded.colours is not None and np.allclose(loaded.colours[right], [0, 0, 1], atol=0.01)
    assert np.allclose(loaded.colours[~right], [1, 0, 0], atol=0.01)
