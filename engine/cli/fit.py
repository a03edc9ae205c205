"""`fit`: a surface from raw points or triangle soup, from the command line."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from .. import __version__
from ..device import DEVICES
from ..errors import InputError
from ..jobs.fit.request import FIT_METHODS


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    fit = commands.add_parser(
        "fit", parents=[common], help="a surface from raw points or triangle soup, without a prior",
        description="A clean closed surface from points with or without normals, a mesh with holes or a triangle "
        "soup, in the input's place and scale, by no prior.",
    )  # fmt: skip
    fit.add_argument("input", type=Path, nargs="?", metavar="INPUT", help="a scan or mesh: PLY, OBJ, ...")
    fit.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help=".ply, .obj, .glb, .stl or .off")
    fit.add_argument("--method", choices=FIT_METHODS, default="auto", help="default: auto; the others train a network")
    fit.add_argument("--resolution", type=int, default=128, metavar="N", help="detail: cells a side (16 to 512)")
    fit.add_argument("--smoothness", type=float, default=0.5, metavar="S", help="0 every point .. 1 very smooth (0.5)")
    fit.add_argument("--normals", choices=("auto", "given", "none"), default="auto", help="the input's: auto = checked")
    fit.add_argument("--viewpoint", metavar="X,Y,Z", help="where the sensor stood, in the input's frame")
    fit.add_argument("--noise", type=float, metavar="S", help="standard deviation of the points (default: estimated)")
    fit.add_argument("--open", action="store_true", help="leave holes open: cut off what no points are near to")
    fit.add_argument("--iterations", type=int, metavar="N", help="of methods that train (default: the method's own)")
    fit.add_argument("--reuse", default="", metavar="ID", help="extract an earlier fit's field again, without INPUT")
    fit.add_argument("--device", choices=DEVICES, default="auto", help="default: auto")
    fit.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")
    fit.set_defaults(run=_fit)


def _fit(options: argparse.Namespace) -> int:
    from ..geometry.files import write_mesh
    from ..jobs.base import JobCallbacks
    from ..jobs.fit.request import FitRequest
    from ..jobs.kinds import parse_request
    from ..jobs.run import run_job
    from ..plain_json import plain
    from .inputs import arrays_of, notes_text, offset_note, read_input, tell
    from .main import DONE, _check_output, _parse_viewpoint, _ProgressLine, _stop_on_interrupt

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
        "normals": options.normals, "viewpoint": _parse_viewpoint(options.viewpoint), "noise": options.noise,
        "open_boundaries": options.open, "iterations": options.iterations, "reuse": options.reuse,
        "seed": options.seed, "device": options.device, "name": options.input.stem[:256] if options.input else "",
    })  # fmt: skip
    assert isinstance(request, FitRequest)
    _check_output(options.output, options.input or Path())
    source, arrays, local = None, None, request
    if options.input is not None:
        source, request, local = read_input(options.input, request)
        arrays = arrays_of(source)
    loaded = time.perf_counter()

    show = _ProgressLine()
    with _stop_on_interrupt() as should_stop:
        result = run_job(local, arrays, JobCallbacks(show, should_stop=should_stop))
    show.end()

    ran = time.perf_counter()
    write_mesh(options.output, result.meshes[0], None if source is None else source.offset)
    report: dict[str, Any] = plain(result.report)
    said: list[str] = []
    if source is not None:
        tell(report, source)
        said = [*notes_text(source, options.input.name), *offset_note(source, options.output)]
    report["timings"] |= {"read_input": loaded - began, "write_output": time.perf_counter() - ran}
    report["timings"]["total"] = time.perf_counter() - began
    report["input"] = None if options.input is None else str(options.input.absolute())
    report["outputs"] = [str(options.output.absolute())]
    report["request"] = request.model_dump(mode="json")
    report.setdefault("versions", {}).setdefault("shapewright", __version__)
    if options.json:
        print(json.dumps(report))
        return DONE
    for line in said:
        print(line)
    print(f"Wrote {report['outputs'][0]}")
    print(f"{report['faces']:,} triangles, {'closed' if report['watertight'] else 'open'}, method {report['method']}")
    median, p95 = report["residual"]["median"], report["residual"]["p95"]
    print(f"Distance of the input to the surface: median {median:.4g}, 95 % {p95:.4g}")
    for warning in report["warnings"]:
        print(f"{warning['what']} {warning['why']} {warning['remedy']}")
    if report["field_id"]:
        print(f"Extract it again in another resolution: --reuse {report['field_id']}")
    print(f"Took {report['timings']['total']:.1f} s")
    return DONE
