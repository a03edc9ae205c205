"""`generate`, `vary`, `blend` and `arithmetic`: new shapes from a prior, from the command line.

Every mesh is written as soon as it is done, with its code beside it (the same name, .npz), which the other commands
take as input in place of a mesh: the shape itself then, not what an encoder makes of its mesh.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..device import DEVICES
from ..errors import Cancelled, EngineError, InputError

if TYPE_CHECKING:
    from ..jobs.base import FinishedMesh, JobArrays

FORMATS = ("ply", "obj", "glb", "stl")


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    generate = commands.add_parser(
        "generate", parents=[common], help="new shapes from a prior",
        description="New shapes of a class, or of any, from the prior's latent distribution. Number k of a seed is the "
        "same shape whatever else is asked for.",
    )  # fmt: skip
    _add_folder(generate)
    generate.add_argument("--class", default="", dest="class_name", metavar="NAME", help="default: any")
    generate.add_argument("-n", "--count", type=int, default=1, metavar="N", help="how many (default: 1)")
    generate.add_argument("--first", type=int, default=0, metavar="K", help="number of the first (default: 0)")
    generate.add_argument("--temperature", type=float, default=0.9, metavar="T", help="0 typical .. 1 varied (0.9)")
    generate.add_argument(
        "--distribution", choices=("default", "gaussian", "mixture", "diffusion"), default="default",
        help="default: the prior's own",
    )  # fmt: skip
    generate.add_argument("--allow-duplicates", action="store_true", help="also near-copies of training shapes")
    generate.add_argument("--allow-pieces", action="store_true", help="also shapes that do not hold together")
    _add_common(generate)
    generate.set_defaults(run=_generate)

    vary = commands.add_parser(
        "vary", parents=[common], help="relatives of a shape",
        description="Relatives of a shape: of a code, of a whole mesh, or of a partial scan, which is completed first.",
    )  # fmt: skip
    vary.add_argument("input", type=Path, metavar="INPUT", help="a mesh, a scan, or the .npz with a shape's code")
    _add_folder(vary)
    vary.add_argument("-n", "--count", type=int, default=5, metavar="N", help="how many (default: 5)")
    vary.add_argument("--first", type=int, default=0, metavar="K", help="number of the first (default: 0)")
    vary.add_argument("--strength", type=float, default=0.5, metavar="S", help="0 itself .. 2 another shape (0.5)")
    vary.add_argument("--allow-pieces", action="store_true", help="also shapes that do not hold together")
    vary.add_argument("--keep", type=Path, metavar="FILE", help="points of the part that stays as it is")
    _add_of_shapes(vary)
    _add_common(vary)
    vary.set_defaults(run=_vary)

    blend = commands.add_parser(
        "blend", parents=[common], help="in-betweens of shapes",
        description="In-betweens of two or more shapes along a path that stays plausible.",
    )  # fmt: skip
    blend.add_argument("inputs", type=Path, nargs="+", metavar="INPUT", help="meshes, scans or codes, in order")
    _add_folder(blend)
    blend.add_argument("--steps", type=int, default=5, metavar="N", help="between each pair (default: 5)")
    blend.add_argument("--path", choices=("plausible", "spherical", "straight"), default="plausible")
    blend.add_argument("--one-mesh", action="store_true", help="all with the first one's triangles, for shape keys")
    blend.add_argument("--no-ends", action="store_true", help="only what lies between")
    _add_of_shapes(blend)
    _add_common(blend)
    blend.set_defaults(run=_blend)

    arithmetic = commands.add_parser(
        "arithmetic", parents=[common], help="A - B + C of shapes",
        description="What makes A out of B, done to C: the shape of the code C + amount (A - B), in C's place.",
    )  # fmt: skip
    for name in "ABC":
        arithmetic.add_argument(name.lower(), type=Path, metavar=name, help="a mesh, a scan or a code")
    arithmetic.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help=".ply, .obj, .glb or .stl")
    arithmetic.add_argument("--amount", type=float, default=1.0, metavar="X", help="default: 1")
    _add_of_shapes(arithmetic)
    _add_common(arithmetic)
    arithmetic.set_defaults(run=_arithmetic)


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="made where there is none")
    parser.add_argument("--format", choices=FORMATS, default="ply", help="of the meshes (default: ply)")
    parser.add_argument("--overwrite", action="store_true", help="replace files of an earlier run")


def _add_of_shapes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--input-is", choices=("auto", "whole", "partial"), default="auto",
        help="whether a mesh or scan is whole or has to be completed (auto: a closed mesh is whole)",
    )  # fmt: skip
    parser.add_argument("--align", choices=("none", "scale", "similarity"), default="scale", help="default: scale")
    parser.add_argument("--up", default="+z", metavar="AXIS", help="the inputs' up axis (default: +z)")


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prior", metavar="NAME|PATH", help="default: that of the given codes, else household")
    parser.add_argument("--resolution", type=int, default=128, metavar="N", help="cells a side (8 to 512)")
    parser.add_argument("--device", choices=DEVICES, default="auto", help="default: auto")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")


def _settings(options: argparse.Namespace, kind: str, *names: str) -> dict[str, Any]:
    settings = {n: getattr(options, n) for n in ("resolution", "device", "seed", *names)}
    return {"kind": kind, "prior": options.prior or "household"} | settings


def _generate(options: argparse.Namespace) -> int:
    settings = _settings(options, "generate", "class_name", "count", "first", "temperature", "distribution")
    settings |= {"avoid_duplicates": not options.allow_duplicates, "avoid_pieces": not options.allow_pieces}
    numbers = range(options.first, options.first + options.count)
    return _run(options, settings, None, _Folder(options, "shape", numbers))


def _vary(options: argparse.Namespace) -> int:
    settings = _settings(options, "vary", "count", "first", "strength", "input_is", "align", "up")
    settings["avoid_pieces"] = not options.allow_pieces
    arrays, origin = _shapes(options, [options.input], settings)
    if options.keep is not None:
        from ..geometry.files import load

        kept = load(options.keep)
        moved = kept.offset - origin
        arrays.kept = (kept.points.astype(np.float64) + moved).astype(np.float32) if moved.any() else kept.points
        arrays.kept_normals = kept.normals
    numbers = range(options.first, options.first + options.count)
    return _run(options, settings, arrays, _Folder(options, f"{options.input.stem}_variant", numbers), origin)


def _blend(options: argparse.Namespace) -> int:
    settings = _settings(options, "blend", "steps", "path", "one_mesh", "input_is", "align", "up")
    settings["ends"] = not options.no_ends
    arrays, origin = _shapes(options, options.inputs, settings)
    pairs = len(options.inputs) - 1
    count = pairs * options.steps + (0 if options.no_ends else pairs + 1)
    return _run(options, settings, arrays, _Folder(options, "blend", range(count)), origin)


def _arithmetic(options: argparse.Namespace) -> int:
    from .main import _check_output

    settings = _settings(options, "arithmetic", "amount", "input_is", "align", "up")
    for source in (options.a, options.b, options.c):
        _check_output(options.output, source)
    arrays, origin = _shapes(options, [options.a, options.b, options.c], settings)
    return _run(options, settings, arrays, _File(options.output), origin)


# -------------------------------------------------------------------------------------------------------------- inputs


def _shapes(
    options: argparse.Namespace, files: list[Path], settings: dict[str, Any]
) -> tuple[JobArrays, NDArray[np.float64]]:
    """The files' shapes as a job takes them, all about the first offset that a file has, and that offset (3,); settings
    gets name and hash of the prior that their codes belong to."""
    from ..geometry.files import load
    from ..jobs.base import JobArrays
    from ..wire.codes import read_code
    from .inputs import arrays_of

    every: list[JobArrays] = []
    offsets: list[NDArray[np.float64]] = []
    digests: dict[str, Path] = {}
    for path in files:
        coded = read_code(path)
        if coded is not None:
            code, name, digest = coded
            digests.setdefault(digest, path)
            settings["prior"], settings["prior_sha256"] = options.prior or name, digest
            every.append(JobArrays(np.zeros((0, 3), np.float32), code=code))
            offsets.append(np.zeros(3))
        else:
            loaded = load(path)
            offsets.append(loaded.offset)
            if loaded.viewpoint is not None and settings["kind"] == "vary":
                settings["viewpoint"] = [float(v) for v in loaded.viewpoint]
            every.append(arrays_of(loaded))
    if len(digests) > 1:
        listed = ", ".join(f"{path.name} ({digest[:12]})" for digest, path in digests.items())
        raise InputError(
            "priors_differ",
            "The shapes cannot be combined.",
            f"Their codes belong to different priors: {listed}.",
            "Give the meshes in place of the codes: they are encoded anew by one prior.",
        )
    origin = next((offset for offset in offsets if offset.any()), np.zeros(3))
    for arrays, offset in zip(every, offsets, strict=True):
        _shift(arrays, offset - origin)
    first = every[0]
    first.others = every[1:]
    return first, origin


def _moved_pose(pose: NDArray[np.float64], by: NDArray[np.float64]) -> NDArray[np.float64]:
    moved = pose.copy()
    moved[:3, 3] += by
    return moved


def _shift(arrays: JobArrays, by: NDArray[np.float64]) -> None:
    if not by.any():
        return
    arrays.points = (arrays.points.astype(np.float64) + by).astype(np.float32)
    if arrays.code is not None:
        arrays.code.pose = _moved_pose(arrays.code.pose, by)


# ------------------------------------------------------------------------------------------------------------- outputs


class _Folder:
    """DIR/STEM_007.ply and its code."""

    def __init__(self, options: argparse.Namespace, stem: str, numbers: range) -> None:
        self.folder, self.stem, self.format = options.output, stem, options.format
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


class _File:
    """One named file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def path(self, number: int) -> Path:
        return self._path

    def prepare(self) -> None:
        pass


def _run(
    options: argparse.Namespace, settings: dict[str, Any], arrays: JobArrays | None, out: _Folder | _File,
    origin: NDArray[np.float64] | None = None,
) -> int:
    from ..geometry.files import write_mesh
    from ..jobs.base import JobCallbacks, ShapeCode
    from ..jobs.kinds import find, parse_request
    from ..jobs.run import run_job
    from ..plain_json import plain
    from ..wire.arrays import checked_arrays
    from ..wire.codes import write_code
    from .main import CANCELLED, DONE, _ProgressLine, _report, _stop_on_interrupt

    began = time.perf_counter()
    if str(settings.get("up", "+z"))[:1] not in "+-":
        settings["up"] = "+" + settings["up"]
    request = parse_request(settings)
    if arrays is not None:
        arrays = checked_arrays(find(request.kind), arrays)
    out.prepare()
    written: list[Path] = []
    show = _ProgressLine()

    def on_mesh(one: FinishedMesh) -> None:
        path = out.path(one.about["number"])
        write_mesh(path, one.mesh, origin)
        if one.code is not None:
            code = one.code if origin is None else ShapeCode(one.code.code, _moved_pose(one.code.pose, origin))
            write_code(path.with_suffix(".npz"), code, one.about["prior"])
        written.append(path)

    try:
        with _stop_on_interrupt() as should_stop:
            result = run_job(request, arrays, JobCallbacks(show, should_stop=should_stop, on_mesh=on_mesh))
    except Cancelled:
        show.end()
        kept = f"{len(written)} shapes were finished and are kept." if written else "Nothing was written."
        return _report(EngineError("cancelled", "Cancelled.", "You asked for it.", kept), options.json, CANCELLED)
    show.end()
    report: dict[str, Any] = plain(result.report)
    report["outputs"] = [str(path.absolute()) for path in written]
    report["request"] = request.model_dump(mode="json")
    report["timings"]["total"] = time.perf_counter() - began
    if options.json:
        print(json.dumps(report))
        return DONE
    for path, row in zip(written, report["shapes"], strict=True):
        print(f"Wrote {path}" + _remark(row))
    lost = report.get("duplicates")
    if lost and (lost["training"] or lost["each_other"]):
        print(f"Drawn again: {lost['training']} near-copies of training shapes, {lost['each_other']} of one another")
    if report.get("pieces"):
        print(f"Drawn again: {report['pieces']} that did not hold together")
    if report["empty"]:
        print(f"Left out, without a surface: {', '.join(str(n) for n in report['empty'])}")
    print(f"Took {report['timings']['total']:.1f} s")
    return DONE


def _remark(row: dict[str, Any]) -> str:
    if "class_name" in row:
        return f" ({row['class_name']})"
    if "kept" in row:
        return f" (kept part off by {row['kept']['mean']:.4g} in the mean, 95 % {row['kept']['p95']:.4g})"
    if "t" in row:
        return f" ({row['from'] + 1} to {row['to'] + 1}: {row['t']:.2f})"
    return ""


# ---------------------------------------------------------------------------------------------------------- evaluation


def evaluate(options: argparse.Namespace, should_stop: Callable[[], bool]) -> None:
    """`shapewright evaluate generation`: the prior's latent distributions against a split of a shape library."""
    import sys

    from ..device import resolve_device
    from ..evaluation.generation import latent_family, run_generation_evaluation
    from ..generation.codes import latent_of
    from ..priors.file import load_prior
    from ..training.library import load_library

    if options.dataset is None:
        raise InputError(
            "usage", "There is nothing to compare with.", "--dataset is missing.", "Name the folder of a shape library."
        )
    device = resolve_device(options.device)
    prior = load_prior(options.prior, str(device))
    latent = latent_of(prior)
    have = ["gaussian", "mixture"] + (["diffusion"] if latent.denoiser is not None else [])
    wanted = [part.strip() for part in (options.distributions or ",".join(have)).split(",") if part.strip()]
    classes = [part.strip() for part in (options.classes or ",".join(latent.classes)).split(",") if part.strip()]
    for name in classes:
        latent.label(name)
    families = [
        (name, *latent_family(prior, name, options.temperature, options.seed, options.resolution or 64))
        for name in wanted
    ]

    def show(done: int, total: int, what: str) -> None:
        print(f"{done}/{total} {what}", file=sys.stderr, flush=True)

    report = run_generation_evaluation(
        families,
        load_library(options.dataset),
        classes=classes,
        split=options.split,
        out_dir=options.out,
        points=options.points or 2048,
        emd_points=options.emd_points,
        limit=options.limit,
        repeats=options.repeats,
        seed=options.seed,
        device=device,
        on_progress=show,
        should_stop=should_stop,
    )
    print(json.dumps(report) if options.json else (options.out / "report.md").read_text(encoding="utf-8"))
