"""y up in an OBJ, z up elsewhere: every pair of formats, the command line's --up, viewpoints and poses."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import trimesh

from engine.cli import main
from engine.cli.source import tell
from engine.cli.terminal import warnings_of
from engine.geometry.clouds import PointCloud
from engine.geometry.files import axis_in_scene, format_of, load, writable, write_cloud, write_mesh
from engine.geometry.files.axes import TO_SCENE
from engine.geometry.meshes import Mesh, vertex_normals

EXAMPLES = Path(__file__).resolve().parents[4] / "examples"
SUFFIXES = writable("mesh")
CLOUDS = writable("cloud")


def arrow() -> Mesh:
    """Something without any symmetry, taller (z) than wide and wider than deep."""
    cone = trimesh.creation.cone(radius=0.3, height=2.0, sections=9)
    vertices = np.asarray(cone.vertices) * [1, 0.5, 1] + [0.1, 0.2, 3.0] + 0.1 * np.asarray(cone.vertices)[:, [2, 0, 1]]
    mesh = Mesh(vertices.astype(np.float32), np.asarray(cone.faces, np.int32))
    mesh.normals = vertex_normals(mesh)
    return mesh


def corners(mesh: Mesh) -> np.ndarray:
    return mesh.vertices[mesh.faces].astype(np.float64)


@pytest.mark.parametrize("first, second", list(itertools.product(SUFFIXES, SUFFIXES)))
def test_a_mesh_stands_the_same_after_any_two_formats(tmp_path: Path, first: str, second: str) -> None:
    given = arrow()
    write_mesh(tmp_path / f"a{first}", given)
    write_mesh(tmp_path / f"b{second}", load(tmp_path / f"a{first}").shape)  # type: ignore[arg-type]
    back = load(tmp_path / f"b{second}").shape
    assert isinstance(back, Mesh) and np.array_equal(corners(back), corners(given))
    if back.normals is not None:
        assert np.allclose(back.normals, given.normals, atol=1e-6)


@pytest.mark.parametrize("first, second", list(itertools.product(CLOUDS, CLOUDS)))
def test_a_cloud_stands_the_same_after_any_two_formats(tmp_path: Path, first: str, second: str) -> None:
    mesh = arrow()
    given = PointCloud(mesh.vertices, mesh.normals, np.float32([3, -4, 5]))
    write_cloud(tmp_path / f"a{first}", given)
    write_cloud(tmp_path / f"b{second}", load(tmp_path / f"a{first}").shape)  # type: ignore[arg-type]
    back = load(tmp_path / f"b{second}").shape
    assert isinstance(back, PointCloud) and np.array_equal(back.points, given.points)
    assert back.normals is not None and np.allclose(back.normals, given.normals, atol=1e-6)
    assert back.viewpoint is None or np.array_equal(back.viewpoint, given.viewpoint)


def test_an_obj_has_y_up_in_the_file(tmp_path: Path) -> None:
    write_mesh(tmp_path / "a.obj", arrow())
    rows = [line.split()[1:] for line in (tmp_path / "a.obj").read_text().splitlines() if line.startswith("v ")]
    written = np.array(rows, float)
    assert np.allclose(written, arrow().vertices[:, [0, 2, 1]] * [1, 1, -1], atol=1e-6)
    assert "-0 " not in (tmp_path / "a.obj").read_text()
    assert np.array_equal(load(tmp_path / "a.obj", as_written=True).points, written.astype(np.float32))


@pytest.mark.parametrize("up, there", [("+y", "+z"), ("-y", "-z"), ("+z", "-y"), ("-z", "+y"), ("+x", "+x")])
def test_an_axis_of_the_file_by_its_name_in_the_scene(up: str, there: str) -> None:
    assert axis_in_scene(up, TO_SCENE["+y"]) == there and axis_in_scene(up, TO_SCENE["+z"]) == up


def test_a_warning_names_the_axis_of_the_file(tmp_path: Path) -> None:
    """The job speaks of the scene's axes; of a file with y up, its --up of the file's own."""
    for suffix, there in ((".obj", "-z"), (".ply", "+y")):
        write_mesh(tmp_path / f"a{suffix}", arrow())
        report = {"warnings": [{"code": "lies", "what": "W.", "why": "Y.", "remedy": "R.", "up": "+y"}]}
        tell(report, load(tmp_path / f"a{suffix}"))
        (line,) = warnings_of(report)
        assert f"--up={there}" in line and line.startswith("Warning: W. Y. R. ")
        stood = {"warnings": [report["warnings"][0] | {"code": "stood_up"}]}
        assert "--front given" in warnings_of(stood)[0]


def test_a_viewpoint_that_was_found_is_told_in_the_frame_of_the_file(tmp_path: Path) -> None:
    found = [1.0, 2.0, 3.0]  # in the scene, z up
    for suffix, there in ((".obj", [1.0, 3.0, -2.0]), (".ply", found)):
        write_mesh(tmp_path / f"a{suffix}", arrow())
        report = {"evidence": {"ground": None, "viewpoint_found": {"at": list(found)}}}
        tell(report, load(tmp_path / f"a{suffix}"))
        assert report["evidence"]["viewpoint_found"]["at"] == pytest.approx(there)


def scan_in(path: Path, up: str) -> tuple[np.ndarray, np.ndarray]:
    """The example scan written raw into a file with `up` as its up axis; and the turn from scene to file."""
    scan = load(EXAMPLES / "chair_scan.ply").shape
    assert isinstance(scan, PointCloud)
    viewpoint = json.loads((EXAMPLES / "chair_scan.json").read_text("utf-8"))["viewpoint"]
    turn = {"+z": np.eye(3), "+y": TO_SCENE["+y"].T}[up]
    rows = scan.points.astype(np.float64) @ turn.T
    mark = "v " if path.suffix == ".obj" else ""
    path.write_text("".join(f"{mark}{x:.7f} {y:.7f} {z:.7f}\n" for x, y, z in rows))
    return turn, turn @ np.array(viewpoint, np.float64)


@pytest.mark.parametrize("suffix, up, said", [
    (".xyz", "+z", None), (".obj", "+y", None), (".obj", "+y", "+y"), (".obj", "+z", "+z"), (".xyz", "+y", "+y"),
])  # fmt: skip
def test_the_command_line_speaks_of_the_files_own_axes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str, up: str, said: str | None
) -> None:
    """The same scan however it lies in its file: the same chair, in its place, and the report in the file's axes."""
    turn, viewpoint = scan_in(tmp_path / f"scan{suffix}", up)
    arguments = ["complete", str(tmp_path / f"scan{suffix}"), "-o", str(tmp_path / "whole.off"), "--resolution", "32",
                 "--device", "cpu", "--json", "--viewpoint", ",".join(f"{v:.6f}" for v in viewpoint)]  # fmt: skip
    assert main([*arguments, *([] if said is None else ["--up", said])]) == 0
    report = json.loads(capsys.readouterr().out)
    whole = load(tmp_path / "whole.off").points.astype(np.float64)
    # The result is where the scan is when both are imported, whatever the file's axes are.
    seen = load(tmp_path / f"scan{suffix}").points.astype(np.float64)
    assert np.abs(np.percentile(whole, [2, 98], axis=0) - np.percentile(seen, [2, 98], axis=0)).max() < 0.25
    matrix = np.array(report["alignment"]["matrix"]).reshape(4, 4)
    top = matrix[:3, :3] @ [0, 0, 1] / np.cbrt(np.linalg.det(matrix[:3, :3]))
    assert np.allclose(top, turn @ [0, 0, 1], atol=1e-6), "canonical up is the file's up"
    assert report["settings"]["up"] == up and np.allclose(report["settings"]["viewpoint"], viewpoint, atol=1e-5)
    assert format_of(tmp_path / f"scan{suffix}").up == ("+y" if suffix == ".obj" else "+z")  # type: ignore[union-attr]
