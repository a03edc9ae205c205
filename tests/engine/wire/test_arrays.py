"""Arrays and meshes as they travel."""

from __future__ import annotations

import io
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InputError
from engine.geometry.meshes import Mesh
from engine.jobs.base import JobArrays, JobCallbacks
from engine.jobs.kinds import find
from engine.jobs.run import run_job
from engine.jobs.selftest.request import SelftestRequest
from engine.wire import npz as npz_reader
from engine.wire.arrays import checked_arrays, pack_arrays, pack_mesh, unpack_arrays, unpack_mesh

GENERATOR = np.random.default_rng(0)
POINTS = GENERATOR.normal(size=(50, 3)).astype(np.float32)
FACES = GENERATOR.integers(0, 50, (30, 3)).astype(np.int32)


def npz(**arrays: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def raw_npz(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def header(shape: str, descr: str = "'<f4'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


# -------------------------------------------------------------------------------------------------------------- arrays


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 40), st.booleans(), st.booleans())
def test_arrays_round_trip(count: int, with_normals: bool, with_faces: bool) -> None:
    points = GENERATOR.normal(size=(count, 3)).astype(np.float32)
    normals = points[::-1].copy() if with_normals else None
    faces = GENERATOR.integers(0, count, (7, 3)).astype(np.int32) if with_faces and count else None
    again = unpack_arrays(pack_arrays(JobArrays(points, normals, faces)))
    np.testing.assert_array_equal(again.points, points)
    for got, expected in ((again.normals, normals), (again.faces, faces)):
        if expected is None:
            assert got is None
        else:
            assert got is not None and got.dtype == expected.dtype
            np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<i4", "<f2", ">i8"])
def test_other_number_types_and_layouts_are_taken(dtype: str) -> None:
    values = np.asfortranarray(np.arange(30).reshape(10, 3).astype(dtype))
    again = unpack_arrays(npz(points=values))
    assert again.points.dtype == np.float32
    np.testing.assert_array_equal(again.points, np.arange(30, dtype=np.float32).reshape(10, 3))


def test_compressed_arrays_and_a_file_are_taken(tmp_path) -> None:
    path = tmp_path / "ünïcode name.npz"
    np.savez_compressed(path, points=POINTS, faces=FACES.astype(np.uint64))
    again = unpack_arrays(path)
    np.testing.assert_array_equal(again.points, POINTS)
    np.testing.assert_array_equal(again.faces, FACES)


def test_mesh_round_trip_makes_normals() -> None:
    corners = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [9, 9, 9]], np.float32)
    mesh = Mesh(corners, np.array([[0, 1, 2], [0, 2, 3]], np.int32))
    again, _ = unpack_mesh(pack_mesh(mesh))
    np.testing.assert_array_equal(again.vertices, mesh.vertices)
    np.testing.assert_array_equal(again.faces, mesh.faces)
    assert again.normals is not None
    np.testing.assert_allclose(again.normals[:4], [[0, 0, 1]] * 4, atol=1e-6)


def test_colours_and_the_offset_travel_and_rows_stay_together() -> None:
    colours = GENERATOR.uniform(size=(50, 3)).astype(np.float32)
    offset = np.array([500_000.0, 4_649_776.5, 12.25])
    points = POINTS.copy()
    points[7] = np.nan
    sent = JobArrays(points, colours=colours, offset=offset, others=[JobArrays(POINTS, None, FACES, colours=colours)])
    got = checked_arrays(find("blend"), unpack_arrays(pack_arrays(sent)))
    np.testing.assert_array_equal(got.colours, np.delete(colours, 7, axis=0))
    np.testing.assert_array_equal(got.points, np.delete(points, 7, axis=0))
    np.testing.assert_array_equal(got.others[0].colours, colours)
    assert got.offset is not None and got.offset.tolist() == offset.tolist()
    mesh = Mesh(POINTS, FACES, None, colours)
    again, _ = unpack_mesh(pack_mesh(mesh))
    np.testing.assert_array_equal(again.colours, colours)
    assert unpack_mesh(pack_mesh(Mesh(POINTS, FACES)))[0].colours is None


def test_the_report_repeats_the_offset() -> None:
    arrays = JobArrays(np.zeros((0, 3), np.float32), offset=np.array([1e6, 0.0, -3.5]))
    result = run_job(SelftestRequest(resolution=16, device="cpu"), arrays, JobCallbacks())
    assert result.report["offset"] == [1e6, 0.0, -3.5]


def test_what_the_checks_leave_out_is_in_the_report_and_not_only_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    points, normals = POINTS.copy(), np.ones((50, 3), np.float32)
    points[[3, 4]] = np.nan
    normals[:20] = 0.0
    sent = JobArrays(points, normals, kept=points, others=[JobArrays(points, None, FACES)])
    got = checked_arrays(find("vary"), JobArrays(points, normals, kept=points))
    assert got.normals is None and len(got.points) == 48 and got.kept is not None and len(got.kept) == 48
    two = checked_arrays(find("blend"), JobArrays(sent.points, others=sent.others))
    result = run_job(SelftestRequest(resolution=16, device="cpu"), got, JobCallbacks())
    first, second, third = result.report["notes"]
    assert first == "2 of its 50 points are not numbers and are left out."
    assert "normals" in second and "2 of the 50 kept points" in third
    assert two.notes[0] == first and two.notes[1].startswith("Shape 2: 2 of its vertices are not numbers")
    assert not caplog.records
    assert run_job(SelftestRequest(resolution=16, device="cpu"), None, JobCallbacks()).report.get("notes", []) == []


GOOD = npz(points=POINTS, faces=FACES)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"ply\nformat ascii 1.0\n", id="not a zip"),
        pytest.param(GOOD[:-60], id="truncated"),
        pytest.param(GOOD[: len(GOOD) // 2], id="half"),
        pytest.param(npz(faces=FACES), id="no points"),
        pytest.param(npz(points=POINTS, extra=POINTS), id="unexpected member"),
        pytest.param(npz(points=POINTS[:, :2]), id="two columns"),
        pytest.param(npz(points=POINTS.ravel()), id="flat"),
        pytest.param(npz(points=POINTS.astype(complex)), id="complex"),
        pytest.param(npz(points=POINTS.astype(str)), id="texts"),
        pytest.param(npz(points=POINTS.astype(object)), id="pickled objects"),
        pytest.param(npz(points=np.zeros(5, [("x", "f4")])), id="records"),
        pytest.param(npz(points=POINTS, normals=POINTS[:7]), id="too few normals"),
        pytest.param(npz(points=POINTS, faces=FACES.astype(np.float32)), id="faces of floats"),
        pytest.param(npz(points=POINTS, colours=POINTS), id="colours outside 0 to 1"),
        pytest.param(npz(points=POINTS, colours=np.full((50, 3), np.nan)), id="colours that are no numbers"),
        pytest.param(npz(points=POINTS, colours=np.zeros((50, 3), np.uint8)), id="colours as whole numbers"),
        pytest.param(npz(points=POINTS, colours=np.zeros((7, 3))), id="too few colours"),
        pytest.param(npz(points=POINTS, offset=np.zeros((1, 3))), id="an offset of another shape"),
        pytest.param(npz(points=POINTS, offset=np.array([0, np.inf, 0])), id="an offset without end"),
        pytest.param(npz(points=POINTS, offset_2=np.zeros(3)), id="two offsets"),
        pytest.param(npz(points=POINTS, faces=FACES + 40), id="faces beyond"),
        pytest.param(npz(points=POINTS, faces=FACES - 60), id="faces negative"),
        pytest.param(raw_npz({"points.npy": b"no npy"}), id="no npy"),
        pytest.param(raw_npz({"points.npy": b""}), id="empty member"),
        pytest.param(raw_npz({"points.npy": header("(-4, 3)")}), id="negative shape"),
        pytest.param(raw_npz({"points.npy": header("(2, 3)") + bytes(23)}), id="one byte short"),
        pytest.param(raw_npz({"points.npy": header("(2, 3)") + bytes(25)}), id="one byte long"),
        pytest.param(raw_npz({"points.npy": header("(1000000, 3)")}), id="declares what is not there"),
        pytest.param(raw_npz({"points.npy": header("(2, 3)", "'|O'") + bytes(48)}), id="object header"),
        pytest.param(raw_npz({"points.npy": header("__import__('os')")}), id="code in the header"),
        pytest.param(raw_npz({"../points.npy": header("(0, 3)")}), id="path"),
    ],
)
def test_malformed_arrays_are_refused(data: bytes) -> None:
    with pytest.raises(InputError) as caught:
        unpack_arrays(data)
    assert caught.value.code == "arrays_invalid"


@pytest.mark.parametrize("shape", ["(10**9, 3)", "(1000000000, 3)", f"({10**30}, 3)", "(20000001, 3)"])
def test_too_many_declared_points_are_refused_by_the_header(shape: str) -> None:
    with pytest.raises(InputError):
        unpack_arrays(raw_npz({"points.npy": header(shape) + bytes(64)}))


def test_zip_bombs_are_refused_without_unpacking(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 2_000_000
    bomb = raw_npz({"points.npy": header(f"({rows}, 3)") + bytes(rows * 12)}, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 100_000
    monkeypatch.setattr(npz_reader._npy, "read_array", lambda *_, **__: pytest.fail("it was unpacked"))
    with pytest.raises(InputError):
        unpack_arrays(bomb)


def test_a_member_that_lies_about_its_size_is_refused() -> None:
    # The directory says 24 bytes of data; the stream would go on for a megabyte.
    compressor = zlib.compressobj(wbits=-15)
    stream = compressor.compress(header("(2, 3)") + bytes(10**6)) + compressor.flush()
    honest = raw_npz({"points.npy": header("(2, 3)") + bytes(24)}, zipfile.ZIP_DEFLATED)
    declared = len(header("(2, 3)")) + 24
    name = b"points.npy"
    local = b"PK\x03\x04\x14\0\0\0\x08\0" + bytes(8)
    local += len(stream).to_bytes(4, "little") + declared.to_bytes(4, "little")
    local += len(name).to_bytes(2, "little") + b"\0\0" + name
    central = b"PK\x01\x02\x14\0\x14\0\0\0\x08\0" + bytes(8)
    central += len(stream).to_bytes(4, "little") + declared.to_bytes(4, "little")
    central += len(name).to_bytes(2, "little") + bytes(16) + name
    body = local + stream
    end = b"PK\x05\x06" + bytes(4) + b"\x01\0\x01\0" + len(central).to_bytes(4, "little")
    end += len(body).to_bytes(4, "little") + b"\0\0"
    assert len(unpack_arrays(honest).points) == 2
    with pytest.raises(InputError):
        unpack_arrays(body + central + end)


def test_too_large_as_a_whole_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz_reader, "MAX_BYTES", 1000)
    with pytest.raises(InputError) as caught:
        unpack_arrays(npz(points=np.ones((500, 3), np.float32)))
    assert caught.value.code == "arrays_too_large"


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_any_flipped_byte_decodes_or_is_refused(position: int, change: int) -> None:
    data = bytearray(GOOD)
    data[position] ^= change
    try:
        arrays = unpack_arrays(bytes(data))
    except InputError:
        return
    assert arrays.points.ndim == 2 and arrays.points.shape[1] == 3
    if arrays.faces is not None and len(arrays.faces):
        assert arrays.faces.min() >= 0 and arrays.faces.max() < len(arrays.points)
