"""Every format there and back, the dialects that other programs write, and the checks on arrays."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import trimesh

from engine.errors import InputError
from engine.geometry import files
from engine.geometry.clouds import PointCloud
from engine.geometry.files import load, read_shape, write_cloud, write_mesh
from engine.geometry.meshes import Mesh, enclosed_volume
from tests.engine.geometry.makers import ball, cloud

AWKWARD = "ein Stuhl – 椅子 стул"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / AWKWARD
    path.mkdir()
    return path


def code_of(call: object, *args: object, **kwargs: object) -> str:
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)  # type: ignore[operator]
    assert caught.value.what and caught.value.why and caught.value.remedy
    return caught.value.code


# --- there and back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["ply", "obj", "glb", "PLY"])
@pytest.mark.parametrize("normals", [True, False])
def test_meshes_survive_writing_and_reading(folder: Path, suffix: str, normals: bool) -> None:
    mesh = ball()
    if not normals:
        mesh.normals = None
    path = folder / f"{AWKWARD}.{suffix}"
    write_mesh(path, mesh)
    back = read_shape(path)
    assert isinstance(back, Mesh)
    assert np.array_equal(back.vertices, mesh.vertices) and np.array_equal(back.faces, mesh.faces)
    assert back.vertices.dtype == np.float32 and back.faces.dtype == np.int32
    if normals:
        assert back.normals is not None and mesh.normals is not None
        assert np.allclose(back.normals, mesh.normals, atol=1e-6)
    else:
        assert back.normals is None


def test_stl_is_welded_again(folder: Path) -> None:
    mesh = ball()
    write_mesh(folder / "ball.stl", mesh)
    back = read_shape(folder / "ball.stl")
    assert isinstance(back, Mesh)
    assert len(back.vertices) == len(mesh.vertices)
    assert np.array_equal(back.vertices[back.faces], mesh.vertices[mesh.faces])


@pytest.mark.parametrize("suffix", ["ply", "obj", "xyz", "npy", "npz"])
@pytest.mark.parametrize("normals", [True, False])
def test_clouds_survive_writing_and_reading(folder: Path, suffix: str, normals: bool) -> None:
    given = cloud(normals=normals)
    path = folder / f"scan.{suffix}"
    write_cloud(path, given)
    back = read_shape(path)
    assert isinstance(back, PointCloud)
    assert np.array_equal(back.points, given.points) and back.points.dtype == np.float32
    assert (back.normals is None) == (not normals)
    if back.normals is not None and given.normals is not None:
        assert np.allclose(back.normals, given.normals, atol=1e-6)


@pytest.mark.parametrize("suffix", ["ply", "npz"])
def test_the_viewpoint_travels_with_the_points(folder: Path, suffix: str) -> None:
    given = cloud()
    given.viewpoint = np.float32([1.5, -2.25, 0.1])
    write_cloud(folder / f"scan.{suffix}", given)
    back = load(folder / f"scan.{suffix}")
    points, normals, faces, viewpoint = back.points, back.normals, back.faces, back.viewpoint
    assert viewpoint is not None and np.array_equal(viewpoint, given.viewpoint)
    assert np.array_equal(points, given.points) and normals is not None and faces is None


def test_loading_gives_a_meshs_arrays(folder: Path) -> None:
    mesh = ball()
    write_mesh(folder / "ball.ply", mesh)
    back = load(str(folder / "ball.ply"))
    points, normals, faces, viewpoint = back.points, back.normals, back.faces, back.viewpoint
    assert np.array_equal(points, mesh.vertices) and faces is not None and np.array_equal(faces, mesh.faces)
    assert normals is not None and viewpoint is None


@pytest.mark.parametrize("suffix", ["ply", "obj", "stl", "glb"])
def test_others_read_what_we_write(folder: Path, suffix: str) -> None:
    mesh = ball()
    write_mesh(folder / f"ball.{suffix}", mesh)
    other = trimesh.load(folder / f"ball.{suffix}", force="mesh")
    vertices = np.asarray(other.vertices)
    if suffix in ("glb", "obj"):  # y up, as the format says and Blender takes it
        vertices = vertices[:, [0, 2, 1]] * [1, -1, 1]
    assert other.is_watertight
    assert other.volume == pytest.approx(enclosed_volume(mesh), rel=1e-5)
    assert np.allclose(np.sort(vertices, axis=0), np.sort(mesh.vertices, axis=0), atol=1e-6)


@pytest.mark.parametrize("suffix", ["ply", "obj", "stl", "glb", "off"])
def test_we_read_what_others_write(folder: Path, suffix: str) -> None:
    mesh = ball()
    trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).export(folder / f"ball.{suffix}")
    back = read_shape(folder / f"ball.{suffix}")
    assert isinstance(back, Mesh)
    assert len(back.vertices) == len(mesh.vertices)
    assert enclosed_volume(back) == pytest.approx(enclosed_volume(mesh), rel=1e-4)
    centre = back.vertices.mean(axis=0)
    assert np.allclose(centre, [0.1, -3.0, -2.0] if suffix in ("glb", "obj") else [0.1, -2.0, 3.0], atol=1e-4)


def test_blenders_way_of_turning_gltf_is_ours(folder: Path) -> None:
    """A point high above Blender's origin (z) is high in the file (y), and Blender's front (-y) is the file's +z."""
    tetrahedron = Mesh(
        np.float32([[0, 0, 5], [1, 0, 0], [0, -2, 0], [0, 0, 0]]),
        np.int32([[0, 1, 3], [0, 2, 1], [1, 2, 3], [0, 3, 2]]),
    )
    write_mesh(folder / "t.glb", tetrahedron)
    raw = trimesh.load(folder / "t.glb", force="mesh", process=False)
    assert np.allclose(np.asarray(raw.vertices), [[0, 5, 0], [1, 0, 0], [0, 0, 2], [0, 0, 0]])


def test_writing_is_all_or_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "out.ply"
    path.write_bytes(b"the old one")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.registry.os, "fsync", full)
    assert code_of(write_mesh, path, ball()) == "output_unwritable"
    assert path.read_bytes() == b"the old one"
    assert [p.name for p in folder.iterdir()] == ["out.ply"]
    monkeypatch.undo()
    write_mesh(path, ball())
    assert isinstance(read_shape(path), Mesh)
    assert [p.name for p in folder.iterdir()] == ["out.ply"]


def test_writing_where_one_cannot(folder: Path) -> None:
    assert code_of(write_mesh, folder / "out.fbx", ball()) == "format_unknown"
    assert code_of(write_mesh, folder / "out", ball()) == "format_unknown"
    assert code_of(write_mesh, folder / "nowhere" / "out.ply", ball()) == "output_unwritable"
    (folder / "taken.ply").mkdir()
    assert code_of(write_mesh, folder / "taken.ply", ball()) == "output_unwritable"
    assert code_of(write_cloud, folder / "out.stl", cloud()) == "format_unknown"


# --- dialects --------------------------------------------------------------------------------------------------------

QUAD_POINTS = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0.5, 0.5, 1]], np.float32)
QUAD_AND_TRIANGLES = [[3, 2, 1, 0], [0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]]


def assert_is_the_pyramid(shape: Mesh | PointCloud, y_up: bool = False) -> None:
    """y_up: the points stand in the file as they are, and y is the file's up axis."""
    assert isinstance(shape, Mesh)
    vertices = shape.vertices[:, [0, 2, 1]] * [1, 1, -1] if y_up else shape.vertices
    assert np.array_equal(vertices, QUAD_POINTS)
    assert len(shape.faces) == 6
    assert enclosed_volume(shape) == pytest.approx(1 / 3, rel=1e-5)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("mixed", [True, False])
def test_binary_ply_of_both_byte_orders_with_extras(folder: Path, order: str, mixed: bool) -> None:
    polygons = QUAD_AND_TRIANGLES if mixed else [[3, 2, 1], [3, 1, 0], *QUAD_AND_TRIANGLES[1:]]
    name = "little" if order == "<" else "big"
    header = (
        f"ply\r\nformat binary_{name}_endian 1.0\r\ncomment by hand\r\nelement vertex 5\r\nproperty uchar red\r\n"
        "property double x\r\nproperty float y\r\nproperty float z\r\nelement junk 2\r\nproperty list uchar short s\r\n"
        f"element face {len(polygons)}\r\nproperty uchar flag\r\nproperty list uint uint vertex_index\r\n"
        "property float quality\r\nend_header\r\n"
    )
    body = b"".join(struct.pack(f"{order}Bdff", 7, *map(float, p)) for p in QUAD_POINTS)
    body += struct.pack(f"{order}BhhB", 2, 1, 2, 0)
    body += b"".join(struct.pack(f"{order}BI{len(p)}If", 1, len(p), *p, 0.5) for p in polygons)
    (folder / "p.ply").write_bytes(header.encode() + body)
    assert_is_the_pyramid(read_shape(folder / "p.ply"))


@pytest.mark.parametrize("mixed", [True, False])
def test_text_ply_with_normals_colours_and_polygons(folder: Path, mixed: bool) -> None:
    polygons = QUAD_AND_TRIANGLES if mixed else [[3, 2, 1], [3, 1, 0], *QUAD_AND_TRIANGLES[1:]]
    lines = ["ply", "format ascii 1.0", "obj_info x", "element vertex 5", *(f"property float {n}" for n in "xyz")]
    lines += ["property float nx", "property float ny", "property float nz", "property uchar red"]
    lines += [f"element face {len(polygons)}", "property list uchar int vertex_indices", "end_header"]
    lines += [f"{x} {y} {z} 0 0 2 255" for x, y, z in QUAD_POINTS]
    lines += [" ".join(map(str, [len(p), *p])) for p in polygons]
    (folder / "p.ply").write_text("\n".join(lines))
    shape = read_shape(folder / "p.ply")
    assert_is_the_pyramid(shape)
    assert shape.normals is not None and np.array_equal(shape.normals, [[0, 0, 1]] * 5)


def test_obj_dialects(folder: Path) -> None:
    vertices = "".join(f"v {x} {y} {z} 0.5 0.5 0.5\n" for x, y, z in QUAD_POINTS)
    one_based = [[i + 1 for i in polygon] for polygon in QUAD_AND_TRIANGLES]
    plain = "".join("f " + " ".join(map(str, p)) + "\n" for p in one_based)
    with_texture = "".join("f " + " ".join(f"{i}/1" for i in p) + "\n" for p in one_based)
    with_normals = "".join("f " + " ".join(f"{i}//1" for i in p) + "\n" for p in one_based)
    relative = "".join("f " + " ".join(str(i - 6) for i in p) + "\n" for p in one_based)
    texts = [
        "# a comment\nmtllib x.mtl\no thing\n" + vertices + "vt 0 0\n" + with_texture.replace("5/1", "\\\n5/1 # top"),
        vertices + relative + "l 1 2\n",
        (vertices + "vn 0 0 1\n" + with_normals).replace("\n", "\r\n"),
        plain + vertices,
    ]
    for text in texts:
        (folder / "p.obj").write_bytes(text.encode())
        assert_is_the_pyramid(read_shape(folder / "p.obj"), y_up=True)
        assert_is_the_pyramid(load(folder / "p.obj", as_written=True).shape)


def test_obj_normals_that_differ_at_a_crease_are_not_forced_on_vertices(folder: Path) -> None:
    cube = trimesh.creation.box()
    lines = [f"v {x} {y} {z}" for x, y, z in cube.vertices] + [f"vn {x} {y} {z}" for x, y, z in cube.face_normals]
    lines += ["f " + " ".join(f"{v + 1}//{i + 1}" for v in face) for i, face in enumerate(cube.faces)]
    (folder / "cube.obj").write_text("\n".join(lines))
    shape = read_shape(folder / "cube.obj")
    assert isinstance(shape, Mesh) and shape.normals is None and len(shape.vertices) == 8


def test_off_dialects(folder: Path) -> None:
    points = "".join(f"{x} {y} {z}\n" for x, y, z in QUAD_POINTS)
    coloured = "".join(" ".join(map(str, [len(p), *p, 255, 0, 0])) + "\n" for p in QUAD_AND_TRIANGLES)
    with_normals = "".join(f"{x} {y} {z} 0 0 1\n" for x, y, z in QUAD_POINTS)
    for text in [
        f"OFF\n5 5 0\n{points}{coloured}",
        f"OFF 5 5 0\n# hello\n\n{points}{coloured}",
        f"NOFF\n5 5 8\n{with_normals}{coloured}",
    ]:
        (folder / "p.off").write_text(text)
        assert_is_the_pyramid(read_shape(folder / "p.off"))
    given = cloud(normals=False)
    rows = "".join(f"{x:.9g} {y:.9g} {z:.9g}\n" for x, y, z in given.points)
    (folder / "points.off").write_text(f"OFF\n{len(given.points)} 0 0\n{rows}")
    back = read_shape(folder / "points.off")
    assert isinstance(back, PointCloud) and np.array_equal(back.points, given.points)


def test_text_stl_and_a_binary_one_that_begins_with_solid(folder: Path) -> None:
    mesh = ball(1)
    corners = mesh.vertices[mesh.faces]
    text = "solid ball\n"
    for triangle in corners:
        rows = "".join(f"      vertex {x:.9g} {y:.9g} {z:.9g}\n" for x, y, z in triangle)
        text += f"  facet normal 0 0 0\n    outer loop\n{rows}    endloop\n  endfacet\n"
    (folder / "text.stl").write_text(text + "endsolid ball\n")
    write_mesh(folder / "binary.stl", mesh)
    content = (folder / "binary.stl").read_bytes()
    (folder / "binary.stl").write_bytes(b"solid" + content[5:])
    for name in ("text.stl", "binary.stl"):
        back = read_shape(folder / name)
        assert isinstance(back, Mesh)
        assert np.array_equal(back.vertices[back.faces], corners)


def test_xyz_dialects(folder: Path) -> None:
    given = cloud(normals=False)
    rows = [f"{x:.9g},{y:.9g};\t{z:.9g}" for x, y, z in given.points]
    (folder / "scan.xyz").write_text("\ufeff# scanner\n// more\n60\n" + "\n".join(rows) + "\n\n", encoding="utf-8")
    assert np.array_equal(read_shape(folder / "scan.xyz").points, given.points)  # type: ignore[union-attr]
    coloured = [f"{x:.9g} {y:.9g} {z:.9g} 200 100 50" for x, y, z in given.points]
    (folder / "scan.xyz").write_text("\r\n".join(coloured))
    back = load(folder / "scan.xyz")
    assert back.normals is None and back.colours is not None
    assert np.allclose(back.colours, np.float32([200, 100, 50]) / 255) and "4, 5, 6 are colours" in " ".join(back.notes)


def test_numpy_dialects(folder: Path) -> None:
    given = cloud()
    np.save(folder / "fortran.npy", np.asfortranarray(given.points.astype(">f8")))
    np.savez(folder / "any_name.npz", scan=given.points)
    np.savez(
        folder / "extras.npz", vertices=given.points, normals=given.normals, labels=np.arange(5), words=np.array(["a"])
    )
    for name in ("fortran.npy", "any_name.npz", "extras.npz"):
        assert np.array_equal(read_shape(folder / name).points, given.points)  # type: ignore[union-attr]
    mesh = ball()
    np.savez(folder / "mesh.npz", vertices=mesh.vertices, faces=mesh.faces.astype(np.uint16))
    back = read_shape(folder / "mesh.npz")
    assert isinstance(back, Mesh) and np.array_equal(back.faces, mesh.faces)


def gltf_pyramid(folder: Path, how: str) -> Path:
    """The pyramid as a glTF tree: two nodes, one turned and scaled, quantised positions, indices of one byte."""
    triangles = np.array([[3, 2, 1], [3, 1, 0], [0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]], np.uint8)
    positions = np.zeros((5, 4), np.uint8)  # stride 4
    positions[:, :3] = np.round(QUAD_POINTS[:, [0, 2, 1]] * [200, 200, -200] + [0, 0, 200])
    blob = positions.tobytes() + triangles.tobytes() + b"\0\0"
    tree = {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": [1]}],
        "nodes": [
            # Undoes its parent's turn by 90 degrees about y, the quantisation and its shift.
            {"mesh": 0, "rotation": [0, -(0.5**0.5), 0, 0.5**0.5], "scale": [255 / 200] * 3, "translation": [1, 0, 0]},
            {"children": [0], "rotation": [0, 0.5**0.5, 0, 0.5**0.5]},
        ],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5121, "normalized": True, "count": 5, "type": "VEC3"},
            {"bufferView": 1, "componentType": 5121, "count": 18, "type": "SCALAR"},
        ],
        "bufferViews": [
            {"buffer": 0, "byteLength": 20, "byteStride": 4},
            {"buffer": 0, "byteOffset": 20, "byteLength": 18},
        ],
        "buffers": [{"byteLength": len(blob)}],
    }
    buffers = tree["buffers"]
    assert isinstance(buffers, list)
    if how == "glb":
        text = json.dumps(tree).encode()
        text += b" " * (-len(text) % 4)
        content = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(blob), b"BIN\0") + blob
        (folder / "p.glb").write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(content)) + content)
        return folder / "p.glb"
    if how == "beside":
        (folder / "ein Puffer.bin").write_bytes(blob)
        buffers[0]["uri"] = "ein%20Puffer.bin"
    else:
        buffers[0]["uri"] = "data:application/octet-stream;base64," + base64.b64encode(blob).decode()
    (folder / "p.gltf").write_text(json.dumps(tree))
    return folder / "p.gltf"


@pytest.mark.parametrize("how", ["glb", "beside", "inline"])
def test_gltf_trees_quantised_positions_and_buffers_of_all_kinds(folder: Path, how: str) -> None:
    shape = read_shape(gltf_pyramid(folder, how))
    assert isinstance(shape, Mesh) and len(shape.faces) == 6
    # x along the file's x: the child's shift by 1 along the parent's x, turned, is one along -z, which is +y here.
    moved = shape.vertices - shape.vertices.min(axis=0)
    assert np.allclose(moved, QUAD_POINTS, atol=1e-5)
    assert enclosed_volume(shape) == pytest.approx(1 / 3, rel=1e-4)


def test_a_mirrored_gltf_node_keeps_its_outside(folder: Path) -> None:
    scene = trimesh.Scene()
    mirror = np.diag([-1.0, 2.0, 1.0, 1.0])
    scene.add_geometry(trimesh.creation.icosphere(2), transform=mirror)
    scene.add_geometry(trimesh.creation.icosphere(2), transform=trimesh.transformations.translation_matrix([9, 0, 0]))
    scene.export(folder / "two.glb")
    back = read_shape(folder / "two.glb")
    assert isinstance(back, Mesh)
    assert enclosed_volume(back) == pytest.approx(3 * trimesh.creation.icosphere(2).volume, rel=1e-4)


def test_a_gltf_may_not_reach_outside_its_folder(folder: Path) -> None:
    path = gltf_pyramid(folder, "beside")
    inner = folder / "inner"
    inner.mkdir()
    (inner / "p.gltf").write_text(path.read_text().replace("ein%20Puffer.bin", "../ein%20Puffer.bin"))
    assert code_of(read_shape, inner / "p.gltf") == "file_damaged"
