"""Text clouds as scanners, CloudCompare, spreadsheets and people write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.errors import InputError
from engine.geometry.files import load

RNG = np.random.default_rng(5)
NORMALS = RNG.normal(size=(300, 3))
NORMALS /= np.linalg.norm(NORMALS, axis=1, keepdims=True)
POINTS = NORMALS * [0.5, 0.4, 0.3] + [0.1, 0.0, 2.0]
BYTES = RNG.integers(0, 256, (300, 3))
INTENSITY = RNG.integers(-2000, 2000, 300)


def table(*columns: np.ndarray, separator: str = " ", form: str = "%.6f") -> str:
    rows = np.concatenate([np.asarray(c, float).reshape(300, -1) for c in columns], axis=1)
    return "".join(separator.join(form % v if v != round(v) else f"{v:.0f}" for v in row) + "\n" for row in rows)


def comma(text: str) -> str:
    return text.replace(".", ",")


def lines_with(text: str, end: str) -> str:
    return text.replace("\n", end + "\n")


XYZ = table(POINTS)
PLAIN: dict[str, tuple[str, str]] = {
    "tabs": ("a.txt", table(POINTS, separator="\t")),
    "semicolons": ("a.csv", table(POINTS, separator=";")),
    "commas": ("a.csv", table(POINTS, separator=",")),
    "commas and blanks": ("a.asc", table(POINTS, separator=", ")),
    "header": ("a.xyz", "x y z\n" + XYZ),
    "header with units": ("a.csv", "X[m],Y[m],Z[m]\n" + table(POINTS, separator=",")),
    "header in a comment": ("a.txt", "# exported by hand\n//X Y Z\n" + XYZ),
    "count before": ("a.pts", "300\n" + XYZ),
    "header and count": ("a.txt", "//X Y Z\n300\n" + XYZ),
    "comments between": ("a.xyz", "# a\n" + XYZ[: len(XYZ) // 2].rsplit("\n", 1)[0] + "\n% b\n! c\n"
                         + XYZ[len(XYZ[: len(XYZ) // 2].rsplit("\n", 1)[0]) + 1 :]),
    "one column too many": ("a.csv", lines_with(table(POINTS, separator=";"), ";")),
    "one column too many under a header": ("a.csv", "x;y;z\n" + lines_with(table(POINTS, separator=";"), ";")),
    "another order": ("a.csv", "z,id,y,x\n" + table(POINTS[:, 2:], np.arange(300), POINTS[:, 1:2], POINTS[:, :1],
                                                     separator=",")),
    "an index without a name": ("a.csv", ",x,y,z\n" + table(np.arange(300), POINTS, separator=",")),
    "an index that the header leaves out": ("a.csv", "x,y,z\n" + table(np.arange(300), POINTS, separator=",")),
    "an index without a header": ("a.txt", table(np.arange(1, 301), POINTS)),
    "decimal commas": ("a.xyz", comma(XYZ)),
    "decimal commas and semicolons": ("a.csv", comma(table(POINTS, separator=";"))),
    "decimal commas, semicolons, header": ("a.csv", "X;Y;Z\n" + comma(table(POINTS, separator=";"))),
    "intensity": ("a.xyz", table(POINTS, INTENSITY)),
    "time and class": ("a.txt", table(POINTS, 1e6 + np.arange(300) * 0.1, np.arange(300) % 7)),
    "words in a column": ("a.csv", "x,y,z,label\n" + lines_with(table(POINTS, separator=","), ",leg")),
    "quotes": ("a.csv", '"x","y","z"\n' + table(POINTS, separator=",")),
    "ParaView": ("a.csv", '"Points:0","Points:1","Points:2"\n' + table(POINTS, separator=",")),
    "Windows": ("a.txt", XYZ.replace("\n", "\r\n")),
    "old Macintosh": ("a.txt", XYZ.replace("\n", "\r")),
    "upper case name": ("A.XYZ", XYZ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
def test_points_are_read_however_they_are_written(tmp_path: Path, name: str) -> None:
    file, text = PLAIN[name]
    (tmp_path / file).write_bytes(text.encode())
    loaded = load(tmp_path / file)
    assert np.allclose(loaded.points, POINTS, atol=1e-5)
    assert loaded.normals is None and loaded.colours is None


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_any_unicode(tmp_path: Path, encoding: str) -> None:
    mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(encoding, b"")
    (tmp_path / "a.csv").write_bytes(mark + ("x,y,z\n" + table(POINTS, separator=",")).encode(encoding))
    assert np.allclose(load(tmp_path / "a.csv").points, POINTS, atol=1e-5)


COLOURED: dict[str, tuple[str, str, str]] = {
    # name: (file, text, what is there: n = normals, c = colours)
    "normals": ("a.xyz", table(POINTS, NORMALS), "n"),
    "colours": ("a.xyz", table(POINTS, BYTES), "c"),
    "colours from 0 to 1": ("a.xyz", table(POINTS, BYTES / 255, form="%.8f"), "c"),
    "intensity and colours": ("a.pts", "300\n" + table(POINTS, INTENSITY, BYTES), "c"),
    "intensity that could be a colour": ("a.pts", table(POINTS, INTENSITY % 256, BYTES), "c"),
    "colours and normals": ("a.txt", table(POINTS, BYTES, NORMALS), "cn"),
    "normals and colours": ("a.txt", table(POINTS, NORMALS, BYTES), "cn"),
    "CloudCompare": ("a.asc", "//X Y Z R G B Intensity Nx Ny Nz\n" + table(POINTS, BYTES, INTENSITY, NORMALS), "cn"),
    "named, in another order": ("a.csv", "nx;ny;nz;red;green;blue;x;y;z\n"
                                + table(NORMALS, BYTES, POINTS, separator=";"), "cn"),
    "decimal commas": ("a.csv", "X;Y;Z;Nx;Ny;Nz\n" + comma(table(POINTS, NORMALS, separator=";")), "n"),
}  # fmt: skip


@pytest.mark.parametrize("name", COLOURED)
def test_columns_are_told_by_header_and_range(tmp_path: Path, name: str) -> None:
    file, text, there = COLOURED[name]
    (tmp_path / file).write_text(text)
    loaded = load(tmp_path / file)
    assert np.allclose(loaded.points, POINTS, atol=1e-5)
    assert (loaded.normals is not None) == ("n" in there) and (loaded.colours is not None) == ("c" in there)
    if loaded.normals is not None:
        assert np.allclose(loaded.normals, NORMALS, atol=1e-5)
    if loaded.colours is not None:
        assert np.allclose(loaded.colours, BYTES / 255, atol=1e-5)
    assert loaded.notes, "what was decided is told"


@pytest.mark.parametrize("constant", [(1.0, 0, 0), (0, 0, 1), (255, 0, 0), (0.5, 0.5, 0.5), (128, 128, 128)])
def test_a_constant_colour_is_no_normal(tmp_path: Path, constant: tuple[float, float, float]) -> None:
    (tmp_path / "a.xyz").write_text(table(POINTS, np.tile(constant, (300, 1))))
    loaded = load(tmp_path / "a.xyz")
    assert loaded.normals is None and loaded.colours is not None and "colours" in " ".join(loaded.notes)


def test_the_number_of_scans_in_a_pts_file_does_not_matter(tmp_path: Path) -> None:
    rows = XYZ.splitlines(keepends=True)
    (tmp_path / "a.pts").write_text("100\n" + "".join(rows[:100]) + "200\n" + "".join(rows[100:]))
    assert np.allclose(load(tmp_path / "a.pts").points, POINTS, atol=1e-5)


def test_pixels_without_numbers_are_dropped_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y,z\n" + table(POINTS, separator=",") + "nan,nan,nan\n" * 400 + ",,\n" * 5)
    loaded = load(tmp_path / "a.csv")
    assert len(loaded.points) == 300 and loaded.dropped == 405 and "405 of its 705" in " ".join(loaded.notes)


REFUSED: dict[str, tuple[str, str, str]] = {
    "letters": ("a.txt", "Dear all,\nthis is no cloud\n" * 50, "file_damaged"),
    "two columns": ("a.xyz", table(POINTS[:, :2]), "file_damaged"),
    "a row cut short": ("a.xyz", XYZ + "1.0 2\n", "file_damaged"),
    "a word among the numbers": ("a.csv", XYZ.replace(" ", ",") + "1,2,three\n", "file_damaged"),
    "fewer rows than declared": ("a.pts", "301\n" + XYZ, "file_damaged"),
    "a grid of heights": ("a.asc", "ncols 4\nnrows 5\nxllcorner 0\n" + "1 2 3 4\n" * 5, "file_unsupported"),
    "commas that may be either": ("a.csv", "".join(f"{i},{i * 7 % 100:02d},{i % 9},{i * 3 % 100:02d},2,50\n"
                                                   for i in range(100)), "file_ambiguous"),
    "one endless line": ("a.xyz", "1.5 " * 100_000, "file_damaged"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_cloud_or_has_two_meanings_is_refused(tmp_path: Path, name: str) -> None:
    file, text, code = REFUSED[name]
    (tmp_path / file).write_text(text)
    with pytest.raises(InputError) as caught:
        load(tmp_path / file)
    assert caught.value.code == code
    if code == "file_ambiguous":
        assert "comma" in caught.value.why.lower()


def test_integer_coordinates_with_colours_are_not_ambiguous(tmp_path: Path) -> None:
    whole = np.round(POINTS * 1000)
    (tmp_path / "a.csv").write_text(table(whole, BYTES, separator=","))
    loaded = load(tmp_path / "a.csv")
    assert np.allclose(loaded.points, whole) and loaded.colours is not None


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes the limit of points, and of rows looked at in one go, small."""
    from engine.geometry.files import gates, thinning

    def limit(count: int) -> None:
        monkeypatch.setattr(thinning.Thinner.__init__, "__defaults__", (count,))
        monkeypatch.setattr(gates, "CHUNK_ROWS", 64)

    return limit


def test_more_points_than_the_limit_are_thinned_evenly(tmp_path: Path, few: Callable[[int], None]) -> None:
    few(100)
    (tmp_path / "a.xyz").write_text(table(POINTS, NORMALS))
    loaded = load(tmp_path / "a.xyz")
    assert 40 <= len(loaded.points) <= 100 and "300 points" in " ".join(loaded.notes)
    # In order, each one of the file's, with its own normal.
    rows = [int(np.abs(POINTS - p).sum(1).argmin()) for p in loaded.points]
    assert rows == sorted(set(rows)) and loaded.normals is not None
    assert np.allclose(loaded.normals, NORMALS[rows], atol=1e-5)
    assert np.array_equal(load(tmp_path / "a.xyz").points, loaded.points), "the same file gives the same points"
