"""`fit`: a surface from raw points or triangle soup, without a prior."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

from ...errors import InputError
from ...jobs.fit.request import FIT_METHODS
from .. import options as shared
from ..inputs import check_output, viewpoint
from ..terminal import answer, notes_of, warnings_of


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "fit", parents=[common], help="a surface from raw points or triangle soup, without a prior",
        description="A clean closed surface from points with or without normals, a mesh with holes or a triangle "
        "soup, in the input's place and scale, by no prior.",
    )  # fmt: skip
    shared.add_input(parser, "?")
    shared.add_output_file(parser)
    parser.add_argument("--method", choices=FIT_METHODS, default="auto", help="default: auto; others train a network")
    shared.add_resolution(parser, "detail: cells a side (16 to 512)")
    shared.add_finish(parser)
    parser.add_argument("--smoothness", type=float, default=0.5, metavar="S", help="0 every point .. 1 smooth (0.5)")
    parser.add_argument(
        "--normals", choices=("auto", "given", "none"), default="auto", help="the input's: auto = checked"
    )
    shared.add_viewpoint(parser)
    shared.add_noise(parser)
    parser.add_argument("--open", action="store_true", help="leave holes open: cut off what no points are near to")
    parser.add_argument("--iterations", type=int, metavar="N", help="of methods that train (default: the method's own)")
    parser.add_argument("--reuse", default="", metavar="ID", help="extract an earlier fit's field again, without INPUT")
    shared.add_device_and_seed(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from ...jobs.kinds import parse_request
    from ..source import arrays_of, notes, read_input
    from ..work import finished, run, write

    began = time.perf_counter()
    if (options.input is None) == (not options.reuse):
        raise InputError(
            "usage",
            "shapewright fit: the command cannot be understood.",
            "It needs either an INPUT, or --reuse with the id of an earlier fit.",
            "Run 'shapewright fit --help'.",
        )
    request = parse_request({
        "kind": "fit", "method": options.method, "resolution": options.resolution, "smoothness": options.smoothness,
        "normals": options.normals, "viewpoint": viewpoint(options.viewpoint), "noise": options.noise,
        "open_boundaries": options.open, "iterations": options.iterations, "reuse": options.reuse,
        "max_faces": options.max_faces, "uvs": options.uvs,
        "seed": options.seed, "device": options.device, "name": options.input.stem[:256] if options.input else "",
    })  # fmt: skip
    check_output(options.output, options.input)
    source, arrays, local = None, None, request
    if options.input is not None:
        source, request, local = read_input(options.input, request)
        arrays = arrays_of(source)
    loaded = time.perf_counter()
    result = run(local, arrays)
    ran = time.perf_counter()
    write(options.output, result.meshes[0], None if source is None else source.offset)
    report = finished(
        result, request, [options.output], began, options.input, source,
        read_input=loaded - began, write_output=time.perf_counter() - ran,
    )  # fmt: skip
    said = [] if source is None else notes(source, options.input, options.output)
    return answer(options, report, [*said, *_summary(report)])


def _summary(report: dict[str, Any]) -> Iterator[str]:
    yield f"Wrote {report['outputs'][0]}"
    yield f"{report['faces']:,} triangles, {'closed' if report['watertight'] else 'open'}, method {report['method']}"
    median, p95 = report["residual"]["median"], report["residual"]["p95"]
    yield f"Distance of the input to the surface: median {median:.4g}, 95 % {p95:.4g}"
    yield from notes_of(report)
    yield from warnings_of(report)
    if report["field_id"]:
        yield f"Extract it again in another resolution: --reuse {report['field_id']}"
    yield f"Took {report['timings']['total']:.1f} s"
