"""Parts, hollows and handles of meshes where they are known."""

from __future__ import annotations

import numpy as np
import pytest

from engine.finish.soundness import report, soundness
from engine.finish.topology import components, topology, welded
from engine.geometry.meshes import Mesh
from tests.engine.finish.shapes import blocks, box, joined, rubble, slatted_back, table, torus, turned_inside_out

UNIT = box((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("mesh", "handles"),
    [
        (UNIT, 0),
        (torus(), 1),
        (joined(torus((-0.5, 0, 0)), torus((0.5, 0, 0))), 2),
        (slatted_back(1), 1),
        (slatted_back(5), 5),
        (table(), 0),
    ],
    ids=["box", "torus", "two tori", "frame", "slatted back", "table"],
)
def test_handles_are_the_genus(mesh: Mesh, handles: int) -> None:
    told = topology(mesh)
    assert told.handles == handles
    assert told.watertight


def test_a_mesh_of_loose_triangles_is_welded_first() -> None:
    ring = torus()
    soup = Mesh(ring.vertices[ring.faces].reshape(-1, 3), np.arange(3 * len(ring.faces), dtype=np.int32).reshape(-1, 3))
    assert topology(soup) == topology(ring)
    assert len(welded(soup).vertices) == len(ring.vertices)


def test_an_open_rim_is_no_handle_and_not_watertight() -> None:
    ring = torus()
    torn = Mesh(ring.vertices, np.delete(ring.faces, [100, 900], axis=0))  # two small holes
    told = topology(torn)
    assert (told.handles, told.parts, told.watertight) == (1, 1, False)


def test_faces_that_look_the_wrong_way_are_not_watertight() -> None:
    faces = UNIT.faces.copy()
    faces[0] = faces[0][::-1]
    assert not topology(Mesh(UNIT.vertices, faces)).watertight


def test_boxes_that_share_an_edge_are_two_parts_without_handles() -> None:
    told = topology(blocks(((0, 0, 0), (0.2, 0.2, 0.2)), ((0.2, 0.2, 0), (0.4, 0.4, 0.2)), step=0.1))
    assert (told.parts, told.handles, told.watertight) == (2, 0, False)


def test_a_ring_that_touches_itself_at_a_corner_keeps_its_handle() -> None:
    ring = torus()
    far = int(np.argmax(ring.vertices[:, 0])), int(np.argmin(ring.vertices[:, 0]))
    faces = ring.faces.copy()
    faces[faces == far[1]] = far[0]  # pinched: one vertex, two fans of faces
    assert topology(Mesh(ring.vertices, faces)).handles == 1


def test_a_hollow_is_no_part_and_a_crumb_neither() -> None:
    hollow = turned_inside_out(box((-0.3, -0.3, -0.3), (0.3, 0.3, 0.3)))
    crumb = box((0.9, 0.9, 0.9), (0.91, 0.91, 0.91))
    other = box((0.9, -0.1, -0.1), (1.1, 0.1, 0.1))
    told = topology(joined(UNIT, hollow, crumb, other))
    assert (told.parts, told.cavities, told.crumbs) == (2, 1, 1)


def test_edges_are_measured_and_faces_without_a_size_are_not_told_of() -> None:
    told = topology(UNIT)
    assert told.smallest_edge == pytest.approx(1.0)
    assert told.median_edge == pytest.approx(1.0)
    assert topology(joined(UNIT, box((2, 2, 2), (2.001, 2.001, 2.001)))).smallest_edge == pytest.approx(1e-3, rel=1e-2)


def test_components_are_numbered_by_edges_in_common() -> None:
    two = joined(UNIT, box((2, 2, 2), (3, 3, 3)))
    assert len(np.unique(components(welded(two)))) == 2
    assert len(np.unique(components(two))) > 2  # sides that are not welded


def test_nothing_has_no_topology_and_no_report() -> None:
    nothing = Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    with pytest.raises(ValueError, match="without faces"):
        topology(nothing)
    assert report(nothing) == {}


# Soundness without a truth ------------------------------------------------------------------------------------------


def test_feet_in_one_plane_and_one_that_floats() -> None:
    level, lame = soundness(table()), soundness(table(lower=0.01))
    assert (level.feet, level.floor) == (4, pytest.approx(0.0, abs=1e-6))
    assert (lame.feet, lame.floor) == (4, pytest.approx(0.01, abs=1e-4))
    assert soundness(UNIT).feet == 1 and soundness(UNIT).floor is None
    assert soundness(table(), standing=False).feet is None


def test_thin_walls_are_found_and_their_thickness_is_told() -> None:
    board = soundness(box((-0.5, -0.5, 0.0), (0.5, 0.5, 0.02), cells=40)).walls
    assert board.share > 0.85
    assert board.thickness == pytest.approx(0.02, rel=0.05)
    assert board.unevenness == pytest.approx(0.0, abs=0.01)
    assert soundness(box((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5), cells=20)).walls.share < 0.05


def test_the_thinnest_wall_is_what_rays_inward_meet() -> None:
    wedge = box((-0.5, -0.5, 0.0), (0.5, 0.5, 1.0), cells=40)
    wedge.vertices[:, 2] *= 0.02 + 0.02 * (wedge.vertices[:, 0] + 0.5)  # 2 % thick at one end, 4 % at the other
    assert soundness(wedge).walls.thinnest == pytest.approx(0.02, rel=0.05)
    assert report(wedge, scale=50.0)["walls"]["thinnest"] == pytest.approx(1.0, rel=0.05)
    plate = box((-0.5, -0.5, 0.0), (0.5, 0.5, 0.03), cells=1)  # of few large triangles
    fine = box((-0.5, 0.6, 0.0), (-0.4, 0.7, 0.5), cells=30)
    assert soundness(joined(plate, fine)).walls.thinnest == pytest.approx(0.03, rel=1e-3)
    assert soundness(box((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5), cells=20)).walls.thinnest is None


def test_an_uneven_board_is_told_from_an_even_one() -> None:
    board = box((-0.5, -0.5, 0.0), (0.5, 0.5, 0.02), cells=40)
    wavy = board.vertices.copy()
    rng = np.random.default_rng(0)
    wavy[:, 2] += rng.normal(0.0, 0.003, len(wavy))
    uneven = soundness(Mesh(wavy, board.faces)).walls.unevenness
    assert uneven is not None and uneven > 0.05


def test_rubble_is_never_sound() -> None:
    rng = np.random.default_rng(1)
    strewn = topology(rubble(table(), rng))
    assert strewn.parts + strewn.crumbs == 400
    assert topology(joined(table(), rubble(table(), rng))).crumbs == 400


def test_the_report_tells_lengths_in_the_scenes_unit_and_nothing_else_depends_on_it() -> None:
    small, large = report(table()), report(table(), scale=100.0)
    assert large["smallest_edge"] == pytest.approx(100.0 * small["smallest_edge"])
    assert large["parts"] == small["parts"] and large["walls"] == small["walls"] and large["floor"] == small["floor"]
    moved = Mesh((table().vertices * 7.0 + [3.0, -20.0, 11.0]).astype(np.float32), table().faces)
    assert report(moved)["handles"] == small["handles"]
    assert report(moved)["floor"] == pytest.approx(small["floor"], abs=1e-5)
