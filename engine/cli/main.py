"""The command line. Exit status: 0 done; 2 bad usage or input; 3 failed; 130 cancelled.

With --json standard output is one JSON object and progress goes to standard error; errors go to standard error in
three sentences (what happened, why, what to do), and with --json as {"error": {...}} too.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from .. import PROTOCOL_VERSION, __version__
from ..device import DEVICES
from ..errors import Cancelled, EngineError, InputError
from .commands import MODULES

DONE, BAD_INPUT, FAILED, CANCELLED = 0, 2, 3, 130


class _Parser(argparse.ArgumentParser):
    """argparse, with its errors in the form of all others."""

    def error(self, message: str) -> NoReturn:
        raise InputError(
            "usage", f"{self.prog}: the command cannot be understood.", f"{message}.", f"Run '{self.prog} --help'."
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; never raises but for SystemExit of --help and --version."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in given
    for stream in (sys.stdout, sys.stderr):  # a Windows console or a C locale cannot print every name
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        options = _parser().parse_args(_join_signed(given))
        if not getattr(options, "verbose", False):
            logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
        else:
            logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        status: int = options.run(options)
        return status
    except (Cancelled, KeyboardInterrupt):
        error = EngineError("cancelled", "Cancelled.", "You asked for it.", "Nothing was written.")
        return _report(error, as_json, CANCELLED)
    except InputError as error:
        return _report(error, as_json, BAD_INPUT)
    except BrokenPipeError:
        return FAILED
    except Exception as error:
        from ..jobs.run import explain

        return _report(explain(error), as_json, FAILED)


def _report(error: EngineError, as_json: bool, status: int) -> int:
    print(f"{error.what}\n{error.why}\n{error.remedy}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": error.as_dict()}))
    return status


# --------------------------------------------------------------------------------------------------------- the options


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="shapewright", description="Completes 3D shapes with a learned prior.")
    parser.add_argument("--version", action="version", version=f"shapewright {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    common = _Parser(add_help=False)
    common.add_argument("--json", action="store_true", help="one JSON object on standard output")
    common.add_argument("--verbose", action="store_true", help="log what happens to standard error")

    complete = commands.add_parser(
        "complete",
        parents=[common],
        help="complete a partial scan or broken mesh",
        description="Complete a partial scan or a broken mesh to a whole, closed one, in the input's place and scale.",
    )
    complete.add_argument("input", type=Path, metavar="INPUT", help="a scan or mesh: PLY, OBJ, ...")
    complete.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="PLY, OBJ, GLB, STL or OFF")
    complete.add_argument("--prior", default="household", metavar="NAME|PATH", help="default: household")
    complete.add_argument("--align", choices=("none", "scale", "similarity"), default="scale", help="default: scale")
    complete.add_argument(
        "--front", choices=("given", "evident"), default="given",
        help="of --align scale: it faces -y (default), or does so unless the evidence clearly says another way",
    )  # fmt: skip
    complete.add_argument("--up", default="+z", metavar="AXIS", help="the input's up axis: +z (default), -z, +y, ...")
    complete.add_argument("--viewpoint", metavar="X,Y,Z", help="where the sensor stood, in the input's frame")
    complete.add_argument(
        "--pose-matrix", metavar="FILE|NUMBERS",
        help="a known alignment: a JSON file (a matrix, or the report of an earlier run), or 16 numbers, row by row",
    )  # fmt: skip
    complete.add_argument("--hypotheses", type=int, default=1, metavar="K", help="how many answers (1 to 16)")
    complete.add_argument("--resolution", type=int, default=128, metavar="N", help="cells a side (8 to 512)")
    complete.add_argument("--class", default="", dest="class_name", metavar="NAME", help="what it is (default: found)")
    complete.add_argument("--noise", type=float, metavar="S", help="standard deviation of the points, in their unit")
    complete.add_argument("--ground", choices=("auto", "keep"), default="auto", help="auto: leave out a floor below")
    complete.add_argument("--faces", type=int, default=0, metavar="N", help="decimate to at most N triangles")
    complete.add_argument("--device", choices=DEVICES, default="auto", help="default: auto")
    complete.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")
    complete.set_defaults(run=_complete)

    train = commands.add_parser(
        "train",
        parents=[common],
        help="learn a prior from a folder of meshes",
        description="Learn a prior from a shape library: a folder of meshes (a subfolder a class), or one with an "
        "index.tsv. Killed at any moment it goes on with --resume. More processes or machines: torchrun.",
    )
    train.add_argument("dataset", type=Path, metavar="DATASET", help="the folder of meshes")
    train.add_argument("--name", required=True, help="what the prior and its run are called")
    train.add_argument("--preset", choices=("cpu", "gpu"), default="cpu", help="default: cpu")
    train.add_argument("--minutes", type=_positive, metavar="M", help="as many steps as fit, instead of the preset's")
    train.add_argument("--from", dest="start_from", metavar="NAME|PATH", help="begin with the weights of this prior")
    train.add_argument("--resume", action="store_true", help="go on with the run of this name, if there is one")
    train.add_argument("--device", choices=DEVICES, default="auto", help="default: auto")
    train.add_argument("--output", type=Path, metavar="FILE", help="default: NAME.safetensors among the user's priors")
    train.add_argument("--runs", type=Path, metavar="FOLDER", help="for checkpoints (default: runs/ among the priors)")
    train.add_argument("--workers", type=_count, metavar="N", help="processes that prepare shapes (default: cores)")
    train.add_argument("--pose-steps", type=_count, default=2000, metavar="N", help="of the pose network (2000)")
    train.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="a setting of the training"
    )
    train.set_defaults(run=_train)

    evaluate = commands.add_parser(
        "evaluate", parents=[common], help="measure completions of unseen shapes, or fits of known solids",
        description="completion: complete simulated one-view scans of held-out shapes and judge the answers beside "
        "baselines. reconstruction: fit surfaces to scans of known solids, beside screened Poisson and others. "
        "generation: new shapes of the prior's latent distributions beside held-out ones, as sets. "
        "Writes report.json, report.md and contact_sheet.png; a run that was stopped goes on where it was.",
    )  # fmt: skip
    evaluate.add_argument("what", choices=("completion", "reconstruction", "generation"), help="the protocol")
    evaluate.add_argument(
        "--dataset", type=Path, metavar="FOLDER", help="a shape library; reconstruction has shapes of its own"
    )
    evaluate.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="for reports and pictures")
    evaluate.add_argument("--prior", default="household", metavar="NAME|PATH", help="default: household")
    evaluate.add_argument("--split", default="validation", help="default: validation")
    evaluate.add_argument("--classes", metavar="A,B,...", help="default: all that priors learn")
    evaluate.add_argument("--sources", metavar="A,B,...", help="parts of the library (default: all)")
    evaluate.add_argument("--align", choices=("none", "scale", "similarity"), default="none", help="default: none")
    evaluate.add_argument(
        "--front", choices=("given", "evident"), default="given", help="of --align scale, as of complete"
    )
    evaluate.add_argument(
        "--pose", choices=("canonical", "free", "any"), default="canonical",
        help="free: random yaw, scale (0.01 to 100) and place; any: random rotation too",
    )
    evaluate.add_argument(
        "--as-clicked", action="store_true",
        help="of completion: as Blender's panel asks before anything is set: scale and front found, no viewpoint",
    )
    evaluate.add_argument("--views", type=_count, default=1, metavar="N", help="scans a shape (default: 1)")
    evaluate.add_argument(
        "--hypotheses", type=_count, default=1, metavar="K",
        help="of completion: answers asked for a scan; the best is judged, their diversity is told (default: 1)",
    )
    evaluate.add_argument("--noise", type=float, default=0.0, metavar="S", help="of the scans, longest side 1")
    evaluate.add_argument(
        "--cloud", type=_count, default=0, metavar="N",
        help="of completion: complete clouds of N points from nobody knows where, instead of scans",
    )
    evaluate.add_argument(
        "--front-off", type=int, choices=(0, 1, 2, 3), default=0,
        help="of completion: quarter turns by which the front is wrong, in the canonical pose",
    )
    evaluate.add_argument(
        "--only", type=Path, metavar="FILE", help="of completion: the shapes to judge, source/class/name one a line"
    )
    evaluate.add_argument("--limit", type=_count, metavar="N", help="at most so many shapes")
    evaluate.add_argument("--points", type=_count, metavar="N", help="judged a shape (100000; reconstruction: 1000000)")
    evaluate.add_argument("--resolution", type=int, metavar="N", help="default: 128; reconstruction: 256")
    evaluate.add_argument("--methods", metavar="A,B,...", help="of reconstruction (default: auto and its peers)")
    evaluate.add_argument("--cases", metavar="A,B,...", help="of reconstruction (default: all)")
    evaluate.add_argument("--shapes", metavar="A,B,...", help="of reconstruction's own (default: all)")
    evaluate.add_argument("--iterations", type=_count, metavar="N", help="of reconstruction's trained methods")
    evaluate.add_argument("--distributions", metavar="A,B,...", help="of generation (default: all the prior has)")
    evaluate.add_argument("--temperature", type=float, default=0.9, metavar="T", help="of generation (default: 0.9)")
    evaluate.add_argument("--repeats", type=_count, default=1, metavar="N", help="sets judged, of generation (1)")
    evaluate.add_argument("--emd-points", type=_count, default=512, metavar="N", help="of generation (default: 512)")
    evaluate.add_argument("--baselines", default="input,input + mirror,retrieval,poisson,mean shape", metavar="A,B,...")
    evaluate.add_argument(
        "--reference", metavar="NAME|PATH",
        help="a prior of architecture deepsdf: the reference procedure (code by Adam, dense marching cubes) competes",
    )
    evaluate.add_argument("--reference-steps", type=_count, default=800, metavar="N", help="of Adam (default: 800)")
    evaluate.add_argument("--reference-points", type=_count, default=8000, metavar="N", help="a step (default: 8000)")
    evaluate.add_argument(
        "--reference-precision", choices=("float32", "bfloat16"), default="float32",
        help="of its wide layers (default: float32, as published)",
    )
    evaluate.add_argument("--device", choices=DEVICES, default="auto", help="default: auto")
    evaluate.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")
    evaluate.set_defaults(run=_evaluate)

    priors = commands.add_parser("priors", parents=[common], help="list, show, verify, import, export or remove priors")
    actions = priors.add_subparsers(dest="action", metavar="ACTION", parser_class=_Parser)
    listing = actions.add_parser("list", parents=[common], help="the installed priors")
    listing.set_defaults(run=_priors_list)
    show = actions.add_parser("show", parents=[common], help="the card of one prior")
    show.add_argument("prior", metavar="NAME|PATH")
    show.set_defaults(run=_priors_show)
    verify = actions.add_parser("verify", parents=[common], help="is this file a sound prior?")
    verify.add_argument("prior", metavar="NAME|PATH")
    verify.set_defaults(run=_priors_verify)
    bring = actions.add_parser("import", parents=[common], help="take a prior's file among the user's priors")
    bring.add_argument("file", type=Path, metavar="FILE")
    bring.add_argument("--name", default="", help="what it is called from now on (default: its own name)")
    bring.add_argument("--replace", action="store_true", help="also where another prior has that name")
    bring.set_defaults(run=_priors_import)
    export = actions.add_parser("export", parents=[common], help="write a prior to a file")
    export.add_argument("prior", metavar="NAME|PATH")
    export.add_argument("file", type=Path, metavar="FILE", help="a .safetensors file, or a folder for it")
    export.add_argument("--replace", action="store_true", help="overwrite the file")
    export.set_defaults(run=_priors_export)
    remove = actions.add_parser("remove", parents=[common], help="delete a prior that was trained or imported here")
    remove.add_argument("prior", metavar="NAME")
    remove.set_defaults(run=_priors_remove)
    priors.set_defaults(run=_priors_list)

    serve = commands.add_parser(
        "serve",
        parents=[common],
        help="answer Blender and other clients over HTTP",
        description="Serve jobs over HTTP. One line of JSON on standard output says where, once the server answers.",
    )
    serve.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1; another one needs --token-file")
    serve.add_argument("--port", type=int, default=0, help="default: 0, any free one")
    serve.add_argument("--token-file", type=Path, metavar="FILE", help="read where it exists, else written")
    serve.add_argument("--data-dir", type=Path, metavar="DIR", help="where jobs and results are kept")
    serve.add_argument("--announce", type=Path, metavar="FILE", help="also write the announcement to this file")
    serve.add_argument("--log-file", type=Path, metavar="FILE", help="log there instead of standard error")
    serve.add_argument("--parent-pid", type=int, metavar="PID", help="leave when this process has ended")
    serve.add_argument("--parent-stdin", action="store_true", help="leave when standard input closes")
    serve.add_argument("--job-timeout", type=_positive, default=3600.0, metavar="S", help="seconds (default: 3600)")
    serve.add_argument(
        "--train-timeout", type=_positive, default=604_800.0, metavar="S", help="of trainings (default: a week)"
    )
    serve.add_argument("--grace", type=_positive, default=10.0, metavar="S", help="seconds a cancelled job may take")
    serve.add_argument("--idle-minutes", type=_positive, default=30.0, metavar="M", help="then the worker leaves")
    serve.add_argument("--keep-hours", type=_positive, default=24.0, metavar="H", help="how long results are kept")
    serve.add_argument("--keep-megabytes", type=_positive, default=2048.0, metavar="MB", help="how much is kept")
    serve.set_defaults(run=_serve)

    doctor = commands.add_parser("doctor", parents=[common], help="check this installation")
    doctor.add_argument("--device", choices=DEVICES, default="auto", help="default: auto")
    doctor.set_defaults(run=_doctor)
    for module in MODULES:
        module.add(commands, common)
    return parser


def _join_signed(arguments: list[str]) -> list[str]:
    """argparse takes the value of '--up -y' or '--viewpoint -1,2,3' for an option of its own: join the two."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] in ("--up", "--viewpoint", "--pose-matrix"):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _parse_viewpoint(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 3:
        raise InputError(
            "usage",
            "--viewpoint cannot be understood.",
            f"It is {text!r}, not three numbers.",
            "Write it as --viewpoint=0.5,-2,1.4.",
        )
    return values


def _parse_pose(text: str | None) -> Any:
    """--pose-matrix: a JSON file with 4 rows of 4 numbers, 16 numbers or a report that holds them; or 16 numbers."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        pass
    try:
        value = json.loads(Path(text).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            "usage",
            "--pose-matrix cannot be understood.",
            f"It is neither 16 numbers nor a JSON file that can be read: {error}.",
            "Give a report of an earlier run, a file with 4 rows of 4 numbers, or 16 numbers row by row, with commas.",
        ) from None
    return value.get("alignment", {}).get("matrix", value) if isinstance(value, dict) else value


# ------------------------------------------------------------------------------------------------------------ complete


def _complete(options: argparse.Namespace) -> int:
    from ..geometry.files import write_mesh
    from ..jobs.base import JobCallbacks
    from ..jobs.complete.request import CompleteRequest
    from ..jobs.kinds import parse_request
    from ..jobs.run import run_job
    from ..plain_json import plain
    from .inputs import arrays_of, notes_text, offset_note, read_input, tell

    began = time.perf_counter()
    settings = {
        "kind": "complete",
        "prior": options.prior,
        "align": options.align,
        "front": options.front,
        "up": options.up if options.up[:1] in "+-" else f"+{options.up}",
        "viewpoint": _parse_viewpoint(options.viewpoint),
        "pose": _parse_pose(options.pose_matrix),
        "hypotheses": options.hypotheses,
        "resolution": options.resolution,
        "class_name": options.class_name,
        "noise": options.noise,
        "ground": options.ground,
        "max_faces": options.faces,
        "seed": options.seed,
        "device": options.device,
        "name": options.input.stem[:256],
    }
    request = parse_request(settings)
    assert isinstance(request, CompleteRequest)
    _check_output(options.output, options.input)
    source, request, local = read_input(options.input, request)
    loaded = time.perf_counter()

    show = _ProgressLine()
    with _stop_on_interrupt() as should_stop:
        result = run_job(local, arrays_of(source), JobCallbacks(show, should_stop=should_stop))
    show.end()

    ran = time.perf_counter()
    written = []
    for number, mesh in enumerate(result.meshes, start=1):
        path = numbered(options.output, number)
        write_mesh(path, mesh, source.offset)
        written.append(path)
    report: dict[str, Any] = plain(result.report)
    tell(report, source, request.up)
    timings = report.setdefault("timings", {})
    timings |= {"read_input": loaded - began, "write_output": time.perf_counter() - ran}
    timings["total"] = time.perf_counter() - began
    report["input"] = str(options.input.absolute())
    report["outputs"] = [str(path.absolute()) for path in written]
    report.setdefault("request", request.model_dump(mode="json"))
    versions = report.setdefault("versions", {})
    versions.setdefault("shapewright", __version__)
    if options.json:
        print(json.dumps(report))
    else:
        for line in [*notes_text(source, options.input.name), *offset_note(source, options.output)]:
            print(line)
        _summarise(report)
    return DONE


def numbered(output: Path, number: int) -> Path:
    """OUT for the first hypothesis, OUT_2, OUT_3, ... (before the suffix) for the others."""
    return output if number == 1 else output.with_name(f"{output.stem}_{number}{output.suffix}")


def _check_output(output: Path, source: Path) -> None:
    """Refuse before an hour of work, not after it."""
    from ..geometry.files import writable

    known = writable("mesh")
    if output.suffix.lower() not in known:
        raise InputError(
            "output_format",
            f"The output '{output.name}' cannot be written.",
            f"Its suffix is {output.suffix!r}; a mesh is written as {', '.join(known)}.",
            "Give the output file one of these suffixes.",
        )
    folder = output.absolute().parent
    if not folder.is_dir():
        raise InputError(
            "output_folder",
            f"The output '{output.name}' cannot be written.",
            f"The folder '{folder}' does not exist.",
            "Make the folder first, or choose another one.",
        )
    if output.is_dir():
        raise InputError(
            "output_is_folder",
            f"The output '{output.name}' cannot be written.",
            "It is a folder.",
            "Name a file in it.",
        )
    if output.exists() and source.exists() and output.samefile(source):
        raise InputError(
            "output_is_input",
            f"The output '{output.name}' cannot be written.",
            "It is the input itself, which would be lost.",
            "Choose another name for the output.",
        )


def _summarise(report: dict[str, Any]) -> None:
    for path in report["outputs"]:
        print(f"Wrote {path}")
    prior = report.get("prior")
    if isinstance(prior, dict):
        print(f"Prior {prior.get('name')} {prior.get('version', '')}".rstrip())
    residual = report.get("residual") or {}
    median, p95 = residual.get("median"), residual.get("p95")
    if median is not None and p95 is not None:
        print(f"Distance of the input to the surface: median {median:.4g}, 95 % {p95:.4g}")
    confidence = report.get("confidence")
    if isinstance(confidence, dict):
        print(f"Confidence {confidence['value']:.2f}")
    for warning in report.get("warnings") or []:
        print(f"Warning: {warning['what']} {warning['why']} {warning['remedy']}")
    print(f"Took {report['timings']['total']:.1f} s")


class _ProgressLine:
    """One line on standard error that changes in place on a terminal; one line a stage elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._stage = ""
        self._width = 0

    def __call__(self, progress: Any) -> None:
        if self._terminal:
            left = f", {progress.eta_s:.0f} s left" if progress.eta_s is not None else ""
            text = f"{100 * progress.fraction:3.0f} %  {progress.stage}{left}"
            print(f"\r{text:<{self._width}}", end="", file=sys.stderr, flush=True)
            self._width = len(text)
        elif progress.stage != self._stage:
            print(f"{progress.stage} ...", file=sys.stderr, flush=True)
        self._stage = progress.stage

    def end(self) -> None:
        if self._terminal and self._width:
            print(f"\r{'':<{self._width}}\r", end="", file=sys.stderr, flush=True)


@contextmanager
def _stop_on_interrupt() -> Any:
    """Ctrl-C asks the job to stop; a second one ends it where it stands."""
    asked = threading.Event()

    def on_interrupt(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)


# --------------------------------------------------------------------------------------------------------------- train


def _evaluate(options: argparse.Namespace) -> int:
    if options.what == "generation":
        from .generate import evaluate as evaluate_generation

        with _stop_on_interrupt() as should_stop:
            evaluate_generation(options, should_stop)
        return DONE
    if options.what == "reconstruction":
        from .reconstruction import evaluate

        with _stop_on_interrupt() as should_stop:
            evaluate(options, should_stop)
        return DONE
    if options.dataset is None:
        raise InputError(
            "usage", "The evaluation cannot start.", "There are no shapes to complete.", "Name a library: --dataset."
        )
    options.resolution, options.points = options.resolution or 128, options.points or 100_000
    from ..device import resolve_device
    from ..evaluation.completers import AS_CLICKED, mean_shape, product
    from ..evaluation.completion import run_completion_evaluation
    from ..training.library import load_library, read_keys

    def names(text: str | None) -> list[str] | None:
        return [part.strip() for part in text.split(",") if part.strip()] if text else None

    baselines = names(options.baselines) or []
    device = str(resolve_device(options.device))
    asked = {key: getattr(options, key) for key in ("align", "front", "resolution", "hypotheses")}
    asked = AS_CLICKED if options.as_clicked else asked
    mark, complete = product(options.prior, device=device, seed=options.seed, **asked)
    others = []
    if options.reference is not None:
        from ..evaluation.reference import ReferenceSettings, reference_completer

        settings = ReferenceSettings(
            options.reference_steps, options.reference_points, resolution=options.resolution,
            precision=options.reference_precision, seed=options.seed,
        )
        knows_frame = asked["align"] == "none"
        others.append(("deepsdf", *reference_completer(options.reference, settings, device, knows_frame)))
    if "mean shape" in baselines:
        baselines.remove("mean shape")
        others.append(("mean shape", *mean_shape(options.prior, options.resolution, device)))

    def show(done: int, total: int, what: str) -> None:
        print(f"{done}/{total} {what}", file=sys.stderr, flush=True)

    with _stop_on_interrupt() as should_stop:
        report = run_completion_evaluation(
            complete,
            load_library(options.dataset),
            name="shapewright",
            fingerprint=mark,
            split=options.split,
            classes=names(options.classes),
            sources=names(options.sources),
            views=options.views,
            noise=options.noise,
            seed=options.seed,
            out_dir=options.out,
            baselines=baselines,
            others=others,
            limit=options.limit,
            pose=options.pose,
            points=options.points,
            cloud=options.cloud,
            front_off=options.front_off,
            only=None if options.only is None else read_keys(options.only),
            on_progress=show,
            should_stop=should_stop,
        )
    if options.json:
        print(json.dumps(report))
    else:
        print((options.out / "report.md").read_text(encoding="utf-8"))
    return DONE


def _train(options: argparse.Namespace) -> int:
    import os

    from ..device import resolve_device
    from ..priors.registry import SUFFIX, read_card, sha256, user_folder
    from ..training.prior_training import parse_overrides, train_prior

    began = time.perf_counter()
    overrides = parse_overrides(options.overrides)
    runs = options.runs or user_folder() / "runs"
    output = options.output or user_folder() / f"{options.name}{SUFFIX}"
    if output.suffix != SUFFIX:
        raise InputError(
            "output_format",
            f"The output '{output.name}' cannot be written.",
            f"Its suffix is {output.suffix!r}; a prior is a {SUFFIX} file.",
            f"Name it NAME{SUFFIX}.",
        )
    if output.exists() and not options.resume:
        raise InputError(
            "output_exists",
            f"The prior '{output.name}' is there already.",
            f"{output} would be overwritten.",
            "Choose another name or --output, go on with its run (--resume), or remove the file.",
        )
    first = int(os.environ.get("RANK", 0)) == 0  # of the processes that torchrun started
    show = _TrainingLine()
    try:
        with _stop_on_interrupt() as should_stop:
            train_prior(
                options.dataset,
                options.name,
                preset=options.preset,
                output=output,
                runs=runs,
                resume=options.resume,
                overrides=overrides,
                pose_steps=options.pose_steps,
                minutes=options.minutes,
                start_from=options.start_from,
                workers=options.workers or os.cpu_count() or 1,
                device=resolve_device(options.device),
                on_progress=show if first else lambda *state: None,
                should_stop=should_stop,
            )
    except Cancelled:
        show.end()
        remedy = f"What was done is kept in {runs}; the same command with --resume goes on there."
        return _report(EngineError("cancelled", "Cancelled.", "You asked for it.", remedy), options.json, CANCELLED)
    show.end()
    if not first:
        return DONE
    card = read_card(str(output))
    report = {
        "prior": {"name": card["name"], "version": card["version"], "sha256": sha256(output)},
        "output": str(output.absolute()),
        "run": str((runs / options.name).absolute()),
        "classes": card["class_counts"],
        "training": card["training"],
        "validation": show.validation,
        "seconds": time.perf_counter() - began,
    }
    if options.json:
        print(json.dumps(report))
    else:
        print(f"Wrote {report['output']}")
        print(f"Learnt from {card['training']['shapes']} shapes in {card['training']['steps']} steps")
        if show.validation:
            print("Held-out shapes: " + ", ".join(f"{key} {value:.3f}" for key, value in show.validation.items()))
    return DONE


class _TrainingLine:
    """Training's progress on standard error: in place on a terminal, a line every ten seconds elsewhere."""

    def __init__(self) -> None:
        self._line = _ProgressLine()
        self._terminal = sys.stderr.isatty()
        self._stage, self._next = "", 0.0
        self.validation: dict[str, float] | None = None

    def __call__(self, stage: str, fraction: float, left: float | None, state: Any) -> None:
        text = stage
        if state is not None:
            text += f", step {state.step} of {state.steps}, loss {state.loss:.4g}"
            self.validation = state.validation or self.validation
            if self.validation:
                text += "".join(f", {key} {value:.3f}" for key, value in self.validation.items())
        if self._terminal:
            from ..jobs.base import Progress

            self._line(Progress(text, fraction, left))
            return
        measured = state is not None and state.validation is not None
        if stage != self._stage or measured or time.monotonic() >= self._next or fraction >= 1:
            duration = "" if left is None else f", {left:.0f} s left"
            print(f"{100 * fraction:3.0f} %  {text}{duration}", file=sys.stderr, flush=True)
            self._stage, self._next = stage, time.monotonic() + 10

    def end(self) -> None:
        self._line.end()


# -------------------------------------------------------------------------------------------------------------- priors


def _priors_list(options: argparse.Namespace) -> int:
    from ..priors.registry import list_priors

    found = [prior.as_json() for prior in list_priors()]
    if options.json:
        print(json.dumps({"priors": found}))
    elif not found:
        print("No priors are installed.")
    else:
        for prior in found:
            print(f"{prior['name']:<20} {prior.get('version', ''):<10} {', '.join(prior.get('classes') or [])}")
    return DONE


def _priors_show(options: argparse.Namespace) -> int:
    from ..plain_json import plain
    from ..priors.registry import read_card

    card = plain(read_card(options.prior))
    print(json.dumps(card, indent=None if options.json else 2))
    return DONE


def _priors_verify(options: argparse.Namespace) -> int:
    from ..priors.registry import read_card, verify

    verify(options.prior)
    name = read_card(options.prior).get("name", options.prior)
    if options.json:
        print(json.dumps({"ok": True, "prior": str(options.prior), "name": name}))
    else:
        print(f"{name}: sound")
    return DONE


def _priors_import(options: argparse.Namespace) -> int:
    from ..priors.exchange import import_prior

    info = import_prior(options.file, options.name, options.replace)
    print(json.dumps({"prior": info.as_json()}) if options.json else f"Imported {info.name}")
    return DONE


def _priors_export(options: argparse.Namespace) -> int:
    from ..priors.exchange import export_prior

    path = export_prior(options.prior, options.file, options.replace).absolute()
    print(json.dumps({"output": str(path)}) if options.json else f"Wrote {path}")
    return DONE


def _priors_remove(options: argparse.Namespace) -> int:
    from ..priors.exchange import remove_prior

    path = remove_prior(options.prior)
    print(json.dumps({"removed": str(path)}) if options.json else f"Removed {path}")
    return DONE


# ------------------------------------------------------------------------------------------------------- serve, doctor


def _serve(options: argparse.Namespace) -> int:
    from ..server.options import QueueOptions
    from ..server.serve import ServeOptions, serve

    stop_after = options.idle_minutes * 60
    queue = QueueOptions(
        job_timeout_s=options.job_timeout,
        train_timeout_s=options.train_timeout,
        grace_s=options.grace,
        stop_after_s=stop_after,
        release_after_s=min(300.0, stop_after / 2),
        keep_s=options.keep_hours * 3600,
        keep_bytes=int(options.keep_megabytes * 2**20),
    )
    return serve(
        ServeOptions(
            host=options.host,
            port=options.port,
            token_file=options.token_file,
            data_dir=options.data_dir,
            announce=options.announce,
            parent_pid=options.parent_pid,
            parent_stdin=options.parent_stdin,
            log_file=options.log_file,
            queue=queue,
        )
    )


def _doctor(options: argparse.Namespace) -> int:
    from .doctor import run_checks

    print_each: Callable[[Any], None] = lambda check: None  # noqa: E731
    if not options.json:

        def print_each(check: Any) -> None:
            print(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:<12} {check.detail}", flush=True)
            if check.remedy:
                print(f"                    {check.remedy}", flush=True)

    checks = run_checks(options.device, print_each)
    ok = all(check.ok for check in checks)
    if options.json:
        answer = {"ok": ok, "version": __version__, "protocol": PROTOCOL_VERSION}
        print(json.dumps(answer | {"checks": [vars(check) for check in checks]}))
    return DONE if ok else FAILED


if __name__ == "__main__":
    sys.exit(main())
