"""PTX, PCD, LAS, LAZ, E57, USD and 3MF: what scanners and film people write, viewpoints and colours included."""

from __future__ import annotations

import importlib.util
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from engine.errors import InputError
from engine.geometry.clouds import PointCloud
from engine.geometry.files import load, registry, write_cloud
from engine.geometry.meshes import Mesh, enclosed_volume

RNG = np.random.default_rng(3)
NORMALS = RNG.normal(size=(240, 3))
NORMALS /= np.linalg.norm(NORMALS, axis=1, keepdims=True)
POINTS = NORMALS * [0.5, 0.4, 0.3]
BYTES = RNG.integers(0, 256, (240, 3))
TURN = trimesh.transformations.rotation_matrix(0.7, [1, 2, 3])[:3, :3]
PLACE = np.array([2.0, -3.0, 1.5])
FAR = np.array([512430.25, 5405590.5, 350.0])


# --- PTX -------------------------------------------------------------------------------------------------------------


def ptx(points: np.ndarray, turn: np.ndarray, place: np.ndarray, columns: int = 7) -> str:
    """One scan, 20 columns of 12 pixels: the points as the scanner at `place` has them, after them its empty pixels."""
    local = (points - place) @ turn  # rows: turn.T @ (p - place)
    empty = 240 - len(local)
    rows = np.concatenate([np.c_[local, np.full(len(local), 0.5), BYTES[: len(local)]], np.zeros((empty, 7))])
    head = "20\n12\n" + lines([place, *turn.T])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[3, :3] = turn.T, place
    return head + lines(matrix) + lines(rows[:, :columns])


def lines(table: Any) -> str:
    return "".join(" ".join(f"{v:.9g}" for v in row) + "\n" for row in table)


@pytest.mark.parametrize("columns", [3, 4, 7])
def test_a_ptx_scan_in_its_place_with_the_scanner_as_viewpoint(tmp_path: Path, columns: int) -> None:
    (tmp_path / "a.ptx").write_text(ptx(POINTS[:200], TURN, PLACE, columns))
    loaded = load(tmp_path / "a.ptx")
    assert np.allclose(loaded.points, POINTS[:200], atol=1e-5) and np.allclose(loaded.viewpoint, PLACE)
    assert "40 pixels" in " ".join(loaded.notes)
    assert (loaded.colours is not None) == (columns == 7)
    if loaded.colours is not None:
        assert np.allclose(loaded.colours, BYTES[:200] / 255, atol=1e-6)


def test_several_ptx_scans_meet_and_each_has_its_own_viewpoint(tmp_path: Path) -> None:
    (tmp_path / "a.ptx").write_text(ptx(POINTS[:120], TURN, PLACE) + ptx(POINTS[120:], TURN.T, -PLACE))
    loaded = load(tmp_path / "a.ptx")
    assert np.allclose(loaded.points, POINTS, atol=1e-5) and loaded.viewpoint is None
    assert loaded.viewpoints is not None and np.allclose(loaded.viewpoints, [PLACE, -PLACE])
    assert loaded.scans is not None and loaded.scans.tolist() == 120 * [0] + (len(POINTS) - 120) * [1]
    assert "2 scans" in " ".join(loaded.notes)


# --- PCD -------------------------------------------------------------------------------------------------------------


def lzf(data: bytes) -> bytes:
    """LZF that knows literals and, where the last four bytes repeat, one copy from four bytes before."""
    out, i = bytearray(), 0
    while i < len(data):
        length = 0
        while i >= 4 and length < 264 and i + length < len(data) and data[i + length] == data[i + length - 4]:
            length += 1
        if length >= 3:
            out += bytes([7 << 5, length - 9, 3]) if length >= 9 else bytes([(length - 2) << 5, 3])
            i += length
        else:
            out += bytes([0, data[i]])
            i += 1
    return bytes(out)


def pcd(data: str, height: int = 1, viewpoint: str = "0 0 0 1 0 0 0", packed: str = "U") -> bytes:
    """The cloud with normals, colours packed into one number, and a field in between that nobody knows."""
    rgb = (BYTES[:, 0] << 16 | BYTES[:, 1] << 8 | BYTES[:, 2]).astype("<u4")
    kind = "<f4" if packed == "F" else "<u4"
    row = np.dtype([("p", "<f4", 3), ("_", "u1", 2), ("rgb", kind), ("n", "<f4", 3)])
    rows = np.zeros(240, row)
    rows["p"], rows["n"], rows["rgb"] = POINTS, NORMALS, rgb.view(kind)
    head = "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z _ rgb normal_x normal_y normal_z\nSIZE 4 4 4 1 4 4 4 4\n"
    head += f"TYPE F F F U {packed} F F F\nCOUNT 1 1 1 2 1 1 1 1\nWIDTH {240 // height}\nHEIGHT {height}\n"
    head += f"VIEWPOINT {viewpoint}\nPOINTS 240\nDATA {data}\n"
    if data == "ascii":
        body = "".join(
            " ".join([*(f"{v:.9g}" for v in r["p"]), "0", "0", f"{r['rgb']:.9g}", *(f"{v:.9g}" for v in r["n"])]) + "\n"
            for r in rows
        ).encode()
    elif data == "binary":
        body = rows.tobytes()
    else:
        by_field = b"".join(np.ascontiguousarray(column).tobytes() for column in (
            rows["p"][:, 0], rows["p"][:, 1], rows["p"][:, 2], rows["_"], rows["rgb"],
            rows["n"][:, 0], rows["n"][:, 1], rows["n"][:, 2],
        ))  # fmt: skip
        squeezed = lzf(by_field)
        body = struct.pack("<II", len(squeezed), len(by_field)) + squeezed
    return head.encode() + body


@pytest.mark.parametrize("data", ["ascii", "binary", "binary_compressed"])
@pytest.mark.parametrize("packed", ["U", "F"])
def test_pcd_of_all_kinds(tmp_path: Path, data: str, packed: str) -> None:
    (tmp_path / "a.pcd").write_bytes(pcd(data, packed=packed))
    loaded = load(tmp_path / "a.pcd")
    assert np.allclose(loaded.points, POINTS, atol=1e-6)
    assert loaded.normals is not None and np.allclose(loaded.normals, NORMALS, atol=1e-6)
    assert loaded.colours is not None and np.allclose(loaded.colours, BYTES / 255, atol=1e-6)
    assert loaded.viewpoint is None


@pytest.mark.parametrize("height, viewpoint, expected", [
    (1, "1 2 3 1 0 0 0", [1, 2, 3]), (1, "0 0 0 1 0 0 0", None), (12, "0 0 0 1 0 0 0", [0, 0, 0]),
])  # fmt: skip
def test_pcd_viewpoints(tmp_path: Path, height: int, viewpoint: str, expected: Any) -> None:
    """The default place is the sensor's only in an image of points."""
    (tmp_path / "a.pcd").write_bytes(pcd("binary", height, viewpoint))
    found = load(tmp_path / "a.pcd").viewpoint
    assert (found is None) == (expected is None) and (found is None or np.array_equal(found, expected))


def test_pcd_and_ptx_there_and_back_far_from_the_origin(tmp_path: Path) -> None:
    cloud = PointCloud(POINTS.astype(np.float32), None, PLACE.astype(np.float32), (BYTES / 255).astype(np.float32))
    write_cloud(tmp_path / "a.pcd", cloud, FAR)
    loaded = load(tmp_path / "a.pcd")
    assert loaded.moved and np.abs(loaded.points + loaded.offset - cloud.points - FAR).max() < 1e-6
    assert loaded.viewpoint is not None and np.allclose(loaded.viewpoint + loaded.offset, PLACE + FAR)
    assert loaded.colours is not None and np.allclose(loaded.colours, BYTES / 255, atol=1e-6)


# --- by optional packages --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["las", "laz"])
@pytest.mark.parametrize("bits", [8, 16])
def test_las_in_double_precision_with_colours(tmp_path: Path, suffix: str, bits: int) -> None:
    laspy = pytest.importorskip("laspy")
    header = laspy.LasHeader(point_format=3, version="1.2")
    header.offsets, header.scales = FAR.round(), [1e-5] * 3
    las = laspy.LasData(header)
    las.x, las.y, las.z = (POINTS + FAR).T
    las.red, las.green, las.blue = (BYTES * (1 if bits == 8 else 257)).T.astype(np.uint16)
    las.write(str(tmp_path / f"a.{suffix}"))
    loaded = load(tmp_path / f"a.{suffix}")
    assert loaded.moved and np.abs(loaded.points + loaded.offset - POINTS - FAR).max() < 1e-5
    assert loaded.colours is not None and np.allclose(loaded.colours, BYTES / 255, atol=1e-5)


def e57(path: Path, scans: int, pose: bool, colours: bool) -> None:
    pye57 = pytest.importorskip("pye57")
    with pye57.E57(str(path), mode="w") as file:
        for number, part in enumerate(np.array_split(np.arange(240), scans)):
            place = PLACE * (1 + number)
            local = (POINTS[part] - place) @ TURN if pose else POINTS[part]
            data = {f"cartesian{axis}": local[:, i] for i, axis in enumerate("XYZ")}
            if colours:
                names = ("colorRed", "colorGreen", "colorBlue")
                data |= {name: BYTES[part, i].astype(np.uint8) for i, name in enumerate(names)}
            matrix = np.eye(4)
            matrix[:3, :3] = TURN
            turn = trimesh.transformations.quaternion_from_matrix(matrix)
            keywords = {"rotation": turn, "translation": place} if pose else {}
            file.write_scan_raw(data, **keywords)


@pytest.mark.parametrize("scans", [1, 3])
@pytest.mark.parametrize("colours", [True, False])
def test_e57_scans_in_their_common_frame(tmp_path: Path, scans: int, colours: bool) -> None:
    e57(tmp_path / "a.e57", scans, True, colours)
    loaded = load(tmp_path / "a.e57")
    assert np.allclose(loaded.points, POINTS, atol=1e-5)
    assert (loaded.colours is not None) == colours
    if loaded.colours is not None:
        assert np.allclose(loaded.colours, BYTES / 255, atol=1e-5)
    if scans == 1:
        assert loaded.viewpoint is not None and np.allclose(loaded.viewpoint, PLACE)
    else:
        assert loaded.viewpoint is None and "3 scans" in " ".join(loaded.notes)
        assert loaded.viewpoints is not None and np.allclose(loaded.viewpoints, [PLACE, 2 * PLACE, 3 * PLACE])
        assert loaded.scans is not None and np.bincount(loaded.scans).tolist() == [80, 80, 80]


def test_merged_scans_at_the_origin_have_no_viewpoint(tmp_path: Path) -> None:
    e57(tmp_path / "a.e57", 3, False, False)  # pye57 writes the pose that moves nothing
    (tmp_path / "a.ptx").write_text(2 * ptx(POINTS, np.eye(3), np.zeros(3)))
    for name in ("a.e57", "a.ptx"):
        loaded = load(tmp_path / name)
        assert loaded.viewpoint is None and loaded.viewpoints is None and "at the origin" in " ".join(loaded.notes)
    (tmp_path / "b.ptx").write_text(2 * ptx(POINTS, TURN, PLACE))
    assert np.allclose(load(tmp_path / "b.ptx").viewpoint, PLACE)  # type: ignore[arg-type]


@pytest.mark.parametrize("up", ["Y", "Z"])
@pytest.mark.parametrize("suffix", ["usda", "usdc", "usdz"])
def test_usd_meshes_stand_upright_in_their_world(tmp_path: Path, up: str, suffix: str) -> None:
    pytest.importorskip("pxr")
    from pxr import Gf, Usd, UsdGeom, UsdUtils

    ball = trimesh.creation.icosphere(2)
    file = tmp_path / ("a.usdc" if suffix == "usdz" else f"a.{suffix}")
    stage = Usd.Stage.CreateNew(str(file))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y if up == "Y" else UsdGeom.Tokens.z)
    mesh = UsdGeom.Mesh.Define(stage, "/parent/ball")
    mesh.CreatePointsAttr(ball.vertices.astype(np.float32))
    mesh.CreateFaceVertexCountsAttr([3] * len(ball.faces))
    mesh.CreateFaceVertexIndicesAttr(ball.faces.ravel().tolist())
    mesh.CreateDisplayColorAttr([Gf.Vec3f(1, 0, 0)])
    # One and a half as high along the stage's own up axis, and mirrored.
    UsdGeom.Xformable(mesh).AddScaleOp().Set(Gf.Vec3f(-1, 1.5, 1) if up == "Y" else Gf.Vec3f(-1, 1, 1.5))
    stage.GetRootLayer().Save()
    if suffix == "usdz":
        UsdUtils.CreateNewUsdzPackage(str(file), str(tmp_path / "a.usdz"))
    loaded = load(tmp_path / f"a.{suffix}")
    assert isinstance(loaded.shape, Mesh)
    assert np.allclose(np.ptp(loaded.points, axis=0), np.ptp(ball.vertices, axis=0) * [1, 1, 1.5], atol=1e-3)
    assert enclosed_volume(loaded.shape) == pytest.approx(1.5 * ball.volume, rel=1e-4)
    assert loaded.colours is not None and np.allclose(loaded.colours, [1, 0, 0])


def test_a_usd_stage_may_not_reach_outside_its_folder(tmp_path: Path) -> None:
    pytest.importorskip("pxr")
    from pxr import Usd, UsdGeom

    other = Usd.Stage.CreateNew(str(tmp_path / "secret.usda"))
    other.SetDefaultPrim(UsdGeom.Xform.Define(other, "/a").GetPrim())
    other.GetRootLayer().Save()
    (tmp_path / "inner").mkdir()
    stage = Usd.Stage.CreateNew(str(tmp_path / "inner" / "a.usda"))
    UsdGeom.Xform.Define(stage, "/b").GetPrim().GetReferences().AddReference("../secret.usda")
    stage.GetRootLayer().Save()
    with pytest.raises(InputError) as caught:
        load(tmp_path / "inner" / "a.usda")
    assert caught.value.code == "file_unsupported" and "secret.usda" in caught.value.why


def test_3mf_parts_in_their_places(tmp_path: Path) -> None:
    pytest.importorskip("lxml")
    ball = trimesh.creation.icosphere(2)
    scene = trimesh.Scene()
    scene.add_geometry(ball)
    scene.add_geometry(ball, transform=trimesh.transformations.translation_matrix([5, 0, 0]))
    scene.export(tmp_path / "a.3mf")
    shape = load(tmp_path / "a.3mf").shape
    assert isinstance(shape, Mesh) and enclosed_volume(shape) == pytest.approx(2 * ball.volume, rel=1e-4)
    assert shape.vertices[:, 0].max() == pytest.approx(6, abs=1e-3)


OPTIONAL = [(one.suffixes[0], module, pip) for one in registry.formats() for module, pip in one.packages]


@pytest.mark.parametrize("suffix, module, pip", OPTIONAL)
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, module: str, pip: str
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == module else found(name))
    (tmp_path / f"a{suffix}").write_bytes(b"anything")
    with pytest.raises(InputError) as caught:
        load(tmp_path / f"a{suffix}")
    assert caught.value.code == "package_missing"
    assert pip in caught.value.why and "-m pip install" in caught.value.remedy and pip in caught.value.remedy


# --- several scans in one file ---------------------------------------------------------------------------------------


PLACES = np.float32([[3, 0, 1], [-4, 2, 0], [0, 0, 9]])
OF_SCANS = (np.arange(len(POINTS)) % 3).astype(np.int32)


@pytest.mark.parametrize("offset", [np.zeros(3), FAR])
@pytest.mark.parametrize("suffix", ["ply", "pcd", "npz"])
def test_clouds_of_several_scans_come_back(tmp_path: Path, suffix: str, offset: np.ndarray) -> None:
    cloud = PointCloud(POINTS.astype(np.float32), None, PLACES, scans=OF_SCANS)
    write_cloud(tmp_path / f"a.{suffix}", cloud, offset)
    loaded = load(tmp_path / f"a.{suffix}")
    assert loaded.viewpoint is None and loaded.viewpoints is not None and loaded.scans is not None
    there = (loaded.viewpoints + loaded.offset)[loaded.scans]
    assert np.allclose(there, PLACES[OF_SCANS] + offset, atol=1e-4)
    assert np.allclose(loaded.points + loaded.offset, POINTS + offset, atol=1e-4)


def test_a_point_that_is_dropped_takes_its_scan_along(tmp_path: Path) -> None:
    points = POINTS.astype(np.float32).copy()
    points[[0, 7]] = np.nan
    np.savez(tmp_path / "a.npz", points=points, viewpoint=PLACES, scans=OF_SCANS)
    loaded = load(tmp_path / "a.npz")
    assert loaded.scans is not None and np.array_equal(loaded.scans, np.delete(OF_SCANS, [0, 7]))


def test_viewpoints_of_which_nobody_says_whose_they_are(tmp_path: Path) -> None:
    write_cloud(tmp_path / "a.ply", PointCloud(POINTS.astype(np.float32), None, PLACES[0]))
    head = (tmp_path / "a.ply").read_bytes()
    (tmp_path / "a.ply").write_bytes(head.replace(b"comment viewpoint", b"comment viewpoint 1 2 3\ncomment viewpoint"))
    loaded = load(tmp_path / "a.ply")
    assert loaded.viewpoint is None and loaded.viewpoints is None and "2 viewpoints" in " ".join(loaded.notes)


@pytest.mark.parametrize("scans", [np.full(len(POINTS), 3), np.full(len(POINTS), -1), np.zeros(7, int), OF_SCANS / 2])
def test_scans_that_are_not_there_are_refused(tmp_path: Path, scans: np.ndarray) -> None:
    np.savez(tmp_path / "a.npz", points=POINTS, viewpoint=PLACES, scans=scans)
    with pytest.raises(InputError) as caught:
        load(tmp_path / "a.npz")
    assert caught.value.code in ("viewpoint_invalid", "file_damaged")


# --- what a LAS header declares beside its points --------------------------------------------------------------------


@pytest.mark.parametrize("version, place, size", [("1.2", 100, 4), ("1.4", 100, 4), ("1.4", 243, 4)])
@pytest.mark.parametrize("suffix", ["las", "laz"])
def test_las_records_that_are_not_there_are_refused(
    tmp_path: Path, suffix: str, version: str, place: int, size: int
) -> None:
    """laspy reads them all, past the file's end, and takes all memory for it."""
    laspy = pytest.importorskip("laspy")
    if suffix == "laz":
        pytest.importorskip("lazrs")
    header = laspy.LasHeader(point_format=6 if version == "1.4" else 3, version=version)
    survey = laspy.LasData(header)
    survey.x, survey.y, survey.z = POINTS.T
    survey.write(str(tmp_path / f"a.{suffix}"))
    content = bytearray((tmp_path / f"a.{suffix}").read_bytes())
    assert len(load(tmp_path / f"a.{suffix}").points) == len(POINTS)
    content[place : place + size] = (2_000_000_000).to_bytes(size, "little")
    (tmp_path / f"b.{suffix}").write_bytes(content)
    with pytest.raises(InputError) as caught:
        load(tmp_path / f"b.{suffix}")
    assert caught.value.code == "file_damaged" and "records" in caught.value.why
