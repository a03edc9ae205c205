"""What the commands that make new shapes share: shapes given as files, meshes written one by one with their codes.

Every mesh is written as soon as it is done, with its code beside it (the same name, .npz), which these commands take as
input in place of a mesh: the shape itself then, not what an encoder makes of its mesh.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Cancelled, InputError
from ..priors.registry import DEFAULT
from . import options as shared
from .inputs import axis, check_suffix
from .terminal import answer

if TYPE_CHECKING:
    from ..jobs.base import FinishedMesh, JobArrays, ShapeCode

Offset = NDArray[np.float64]
_NOWHERE = np.zeros(3)


# ------------------------------------------------------------------------------------------------------------- options


def add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for meshes and codes")
    add_format(parser)
    parser.add_argument("--overwrite", action="store_true", help="also where files of these names are there")


def add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format", default="ply", metavar="NAME", help="of the meshes: ply (default), obj, glb, stl, off, ..."
    )


def add_given(parser: argparse.ArgumentParser) -> None:
    """How shapes without a code are read."""
    parser.add_argument(
        "--input-is", choices=("auto", "whole", "partial"), default="auto",
        help="whether a mesh or scan is whole or has to be completed (auto: a closed mesh is whole)",
    )  # fmt: skip
    shared.add_align(parser)
    shared.add_up(parser)


def add_making(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prior", metavar="NAME|PATH", help=f"default: that of the given codes, else {DEFAULT}")
    shared.add_resolution(parser)
    shared.add_finish(parser)
    shared.add_device_and_seed(parser)


def settings_of(options: argparse.Namespace, kind: str, *names: str) -> dict[str, Any]:
    """The request's fields of these names and of `add_making`, as the options say them."""
    settings = {name: getattr(options, name) for name in ("resolution", "max_faces", "uvs", "device", "seed", *names)}
    return {"kind": kind, "prior": options.prior or DEFAULT} | settings


# -------------------------------------------------------------------------------------------------------------- inputs


def given(
    files: Sequence[Path], settings: dict[str, Any], prior: str | None, codes: bool = True
) -> tuple[JobArrays, Offset]:
    """The files' shapes as a job takes them (meshes, scans and, where it takes them, codes), all about the first offset
    that a file has, and that offset (3,).

    settings gets name (or `prior`, which the user named) and hash of the prior that their codes belong to, and a scan's
    viewpoint where it has a place for one, and which way up the first file's shape is.  Raises InputError.
    """
    from ..geometry.files import axis_in_scene, load
    from ..jobs.base import JobArrays
    from ..wire.codes import read_code
    from .source import arrays_of

    every: list[JobArrays] = []
    offsets: list[Offset] = []
    digests: dict[str, Path] = {}
    up = ""
    for path in files:
        coded = read_code(path) if codes else None
        if coded is not None:
            code, name, digest = coded
            digests.setdefault(digest, path)
            settings["prior"], settings["prior_sha256"] = prior or name, digest
            every.append(JobArrays(np.zeros((0, 3), np.float32), code=code))
            offsets.append(np.zeros(3))
        else:
            loaded = load(path)
            if loaded.viewpoint is not None and settings.get("viewpoint", ()) is None:
                settings["viewpoint"] = [float(v) for v in loaded.viewpoint]
            up = up or axis_in_scene(axis(settings.get("up"), path), loaded.turn)
            every.append(arrays_of(loaded))
            offsets.append(loaded.offset)
    if len(digests) > 1:
        listed = ", ".join(f"{path.name} ({digest[:12]})" for digest, path in digests.items())
        raise InputError(
            "priors_differ",
            "The shapes cannot be combined.",
            f"Their codes belong to different priors: {listed}.",
            "Give the meshes in place of the codes: they are encoded anew by one prior.",
        )
    if "up" in settings:
        settings["up"] = up or "+z"
    origin = next((offset for offset in offsets if offset.any()), np.zeros(3))
    for arrays, offset in zip(every, offsets, strict=True):
        _shift(arrays, offset - origin)
    first = every[0]
    first.others = every[1:]
    return first, origin


def keep(arrays: JobArrays, path: Path, origin: Offset) -> None:
    """The file's points as the part of the arrays, which lie about `origin`, that variants leave as it is."""
    from ..geometry.files import load

    kept = load(path)
    moved = kept.offset - origin
    arrays.kept = (kept.points.astype(np.float64) + moved).astype(np.float32) if moved.any() else kept.points
    arrays.kept_normals = kept.normals


def about(code: ShapeCode, origin: Offset) -> ShapeCode:
    """The code with its pose moved by `origin`."""
    from ..jobs.base import ShapeCode

    pose = code.pose.copy()
    pose[:3, 3] += origin
    return ShapeCode(code.code, pose)


def _shift(arrays: JobArrays, by: Offset) -> None:
    if not by.any():
        return
    arrays.points = (arrays.points.astype(np.float64) + by).astype(np.float32)
    if arrays.viewpoints is not None:
        arrays.viewpoints = (arrays.viewpoints.astype(np.float64) + by).astype(np.float32)
    if arrays.code is not None:
        arrays.code = about(arrays.code, by)


# ------------------------------------------------------------------------------------------------------------- outputs


class Folder:
    """DIR/STEM_007.ply, with its code beside it."""

    def __init__(self, options: argparse.Namespace, stem: str, numbers: range) -> None:
        """numbers: of the shapes to come. Raises InputError where one of their files is there, but for --overwrite."""
        self.folder, self.stem, self.format = options.output, stem, options.format.removeprefix(".")
        check_suffix(self.path(0))
        if self.folder.is_file():
            raise InputError(
                "output_folder", f"The output '{self.folder.name}' cannot be written.", "It is a file.",
                "Name a folder.",
            )  # fmt: skip
        there = next((path for n in numbers if (path := self.path(n)).exists()), None)
        if there is not None and not options.overwrite:
            raise InputError(
                "output_exists",
                f"The output '{there.name}' is there already.",
                f"{there.absolute()} would be overwritten.",
                "Choose another folder, or say --overwrite.",
            )

    def path(self, number: int) -> Path:
        path: Path = self.folder / f"{self.stem}_{number:03d}.{self.format}"
        return path

    def prepare(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                "output_folder", f"The folder '{self.folder}' cannot be made.", f"{error.strerror}.",
                "Choose another folder.",
            ) from None  # fmt: skip


class File:
    """One named file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def path(self, number: int) -> Path:
        return self._path

    def prepare(self) -> None:
        pass


def make(
    options: argparse.Namespace, settings: dict[str, Any], arrays: JobArrays | None, out: Folder | File,
    origin: Offset = _NOWHERE,
) -> int:  # fmt: skip
    """Run the job, write each mesh when it is done, tell. What was finished before an interrupt stays.

    origin: (3,), what the arrays lie about."""
    from ..geometry.files import write_mesh
    from ..jobs.kinds import find, parse_request
    from ..wire.arrays import checked_arrays
    from ..wire.codes import write_code
    from .work import finished, run

    began = time.perf_counter()
    request = parse_request(settings)
    if arrays is not None:
        arrays = checked_arrays(find(request.kind), arrays)
    out.prepare()
    written: list[Path] = []

    def on_mesh(one: FinishedMesh) -> None:
        path = out.path(one.about["number"])
        write_mesh(path, one.mesh, origin)
        if one.code is not None:
            write_code(path.with_suffix(".npz"), about(one.code, origin), one.about["prior"])
        written.append(path)

    try:
        result = run(request, arrays, on_mesh)
    except Cancelled:
        raise Cancelled(f"{len(written)} shapes were finished and are kept." if written else "") from None
    report = finished(result, request, written, began)
    return answer(options, report, _summary(report, written))


def _summary(report: dict[str, Any], written: list[Path]) -> Iterator[str]:
    for path, row in zip(written, report["shapes"], strict=True):
        yield f"Wrote {path}" + _remark(row)
    lost = report.get("duplicates")
    if lost and (lost["training"] or lost["each_other"]):
        yield f"Drawn again: {lost['training']} near-copies of training shapes, {lost['each_other']} of one another"
    if report.get("pieces"):
        yield f"Drawn again: {report['pieces']} that did not hold together"
    if report["empty"]:
        yield f"Left out, without a surface: {', '.join(str(n) for n in report['empty'])}"
    yield f"Took {report['timings']['total']:.1f} s"


def _remark(row: dict[str, Any]) -> str:
    if "class_name" in row:
        return f" ({row['class_name']})"
    if "kept" in row:
        return f" (kept part off by {row['kept']['mean']:.4g} in the mean, 95 % {row['kept']['p95']:.4g})"
    if "t" in row:
        return f" ({row['from'] + 1} to {row['to'] + 1}: {row['t']:.2f})"
    return ""
