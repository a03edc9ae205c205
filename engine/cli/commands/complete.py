"""`complete`: the whole of a partial scan or a broken mesh."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

from .. import options as shared
from ..inputs import axis, check_output, numbered, pose_matrix, viewpoint
from ..terminal import answer, notes_of, warnings_of


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "complete",
        parents=[common],
        help="complete a partial scan or broken mesh",
        description="Complete a partial scan or a broken mesh to a whole, closed one, in the input's place and scale.",
    )
    shared.add_input(parser)
    shared.add_output_file(parser)
    shared.add_prior(parser)
    shared.add_align(parser)
    shared.add_front(parser)
    shared.add_up(parser)
    shared.add_viewpoint(parser)
    parser.add_argument(
        "--seen-from", choices=("estimate", "unknown"), default="estimate",
        help="without --viewpoint: estimate it from the points, where one sensor saw them (default), or use none",
    )  # fmt: skip
    parser.add_argument(
        "--pose-matrix", metavar="FILE|NUMBERS",
        help="a known alignment: a JSON file (a matrix, or the report of an earlier run), or 16 numbers, row by row",
    )  # fmt: skip
    parser.add_argument("--hypotheses", type=int, default=1, metavar="K", help="how many answers (1 to 16)")
    shared.add_resolution(parser)
    shared.add_class(parser, "what it is (default: found)")
    shared.add_noise(parser)
    parser.add_argument("--ground", choices=("auto", "keep"), default="auto", help="auto: leave out a floor below")
    parser.add_argument(
        "--keep-gaps", action="store_true", help="leave tunnels and gaps of a few cells that nobody looked through"
    )
    shared.add_finish(parser)
    shared.add_device_and_seed(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from ...jobs.kinds import parse_request
    from ..source import arrays_of, notes, read_input
    from ..work import finished, run, write

    began = time.perf_counter()
    request = parse_request({
        "kind": "complete",
        "prior": options.prior,
        "align": options.align,
        "front": options.front,
        "up": axis(options.up, options.input),
        "viewpoint": viewpoint(options.viewpoint),
        "seen_from": options.seen_from,
        "pose": pose_matrix(options.pose_matrix),
        "hypotheses": options.hypotheses,
        "resolution": options.resolution,
        "class_name": options.class_name,
        "noise": options.noise,
        "ground": options.ground,
        "close_gaps": not options.keep_gaps,
        "max_faces": options.max_faces,
        "uvs": options.uvs,
        "seed": options.seed,
        "device": options.device,
        "name": options.input.stem[:256],
    })
    check_output(options.output, options.input)
    source, request, local = read_input(options.input, request)
    loaded = time.perf_counter()
    result = run(local, arrays_of(source))
    ran = time.perf_counter()
    written = [numbered(options.output, number) for number in range(1, len(result.meshes) + 1)]
    for path, mesh in zip(written, result.meshes, strict=True):
        write(path, mesh, source.offset)
    report = finished(
        result, request, written, began, options.input, source,
        read_input=loaded - began, write_output=time.perf_counter() - ran,
    )  # fmt: skip
    return answer(options, report, [*notes(source, options.input, options.output), *summary(report)])


def summary(report: dict[str, Any]) -> Iterator[str]:
    """What people are told of a completion's report."""
    yield from (f"Wrote {path}" for path in report["outputs"])
    prior = report.get("prior")
    if isinstance(prior, dict):
        yield f"Prior {prior.get('name')} {prior.get('version', '')}".rstrip()
    residual = report.get("residual") or {}
    median, p95 = residual.get("median"), residual.get("p95")
    if median is not None and p95 is not None:
        yield f"Distance of the input to the surface: median {median:.4g}, 95 % {p95:.4g}"
    confidence = report.get("confidence")
    if isinstance(confidence, dict):
        yield f"Confidence {confidence['value']:.2f}"
    yield from notes_of(report)
    yield from warnings_of(report)
    yield f"Took {report['timings']['total']:.1f} s"
