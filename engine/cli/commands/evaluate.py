"""`evaluate`: completions, fits of known solids or new shapes, measured."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...errors import InputError
from .. import options as shared
from ..inputs import count, names
from ..terminal import answer, show_count, stop_on_interrupt

ShouldStop = Callable[[], bool]


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "evaluate", parents=[common], help="measure completions of unseen shapes, or fits of known solids",
        description="completion: complete simulated one-view scans of held-out shapes and judge the answers beside "
        "baselines. reconstruction: fit surfaces to scans of known solids, beside screened Poisson and others. "
        "generation: new shapes of the prior's latent distributions beside held-out ones, as sets. "
        "Writes report.json, report.md and contact_sheet.png; a run that was stopped goes on where it was.",
    )  # fmt: skip
    parser.add_argument("what", choices=sorted(PROTOCOLS), help="the protocol")
    parser.add_argument(
        "--dataset", type=Path, metavar="FOLDER", help="a shape library; reconstruction has shapes of its own"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="for reports and pictures")
    shared.add_prior(parser)
    parser.add_argument("--split", default="validation", help="default: validation")
    parser.add_argument("--classes", metavar="A,B,...", help="default: all that priors learn")
    parser.add_argument("--sources", metavar="A,B,...", help="parts of the library (default: all)")
    shared.add_align(parser, "none")
    shared.add_front(parser)
    parser.add_argument(
        "--pose", choices=("canonical", "free", "any"), default="canonical",
        help="free: random yaw, scale (0.01 to 100) and place; any: random rotation too",
    )  # fmt: skip
    parser.add_argument(
        "--as-clicked", action="store_true",
        help="of completion: as Blender's panel asks before anything is set: scale and front found, no viewpoint",
    )  # fmt: skip
    parser.add_argument("--views", type=count, default=1, metavar="N", help="scans a shape (default: 1)")
    parser.add_argument(
        "--hypotheses", type=count, default=1, metavar="K",
        help="of completion: answers asked for a scan; the best is judged, their diversity is told (default: 1)",
    )  # fmt: skip
    parser.add_argument("--noise", type=float, default=0.0, metavar="S", help="of the scans, longest side 1")
    parser.add_argument(
        "--pictures", type=int, default=48, metavar="N", help="of completion: rows of the contact sheet; 0: none"
    )
    parser.add_argument("--limit", type=count, metavar="N", help="at most so many shapes")
    parser.add_argument("--points", type=count, metavar="N", help="judged a shape (100000; reconstruction: 1000000)")
    parser.add_argument("--resolution", type=int, metavar="N", help="default: 128; reconstruction: 256")
    parser.add_argument("--baselines", default="input,input + mirror,retrieval,poisson,mean shape", metavar="A,B,...")
    _add_of_protocols(parser)
    shared.add_device_and_seed(parser)
    parser.set_defaults(run=_run)


def _add_of_protocols(parser: argparse.ArgumentParser) -> None:
    """What one protocol alone listens to."""
    parser.add_argument(
        "--cloud", type=count, default=0, metavar="N",
        help="of completion: complete clouds of N points from nobody knows where, instead of scans",
    )  # fmt: skip
    parser.add_argument(
        "--front-off", type=int, choices=(0, 1, 2, 3), default=0,
        help="of completion: quarter turns by which the front is wrong, in the canonical pose",
    )  # fmt: skip
    parser.add_argument(
        "--only", type=Path, metavar="FILE", help="of completion: the shapes to judge, source/class/name one a line"
    )
    parser.add_argument("--methods", metavar="A,B,...", help="of reconstruction (default: auto and its peers)")
    parser.add_argument("--cases", metavar="A,B,...", help="of reconstruction (default: all)")
    parser.add_argument("--shapes", metavar="A,B,...", help="of reconstruction's own (default: all)")
    parser.add_argument("--iterations", type=count, metavar="N", help="of reconstruction's trained methods")
    parser.add_argument("--distributions", metavar="A,B,...", help="of generation (default: all the prior has)")
    parser.add_argument("--temperature", type=float, default=0.9, metavar="T", help="of generation (default: 0.9)")
    parser.add_argument("--repeats", type=count, default=1, metavar="N", help="sets judged, of generation (1)")
    parser.add_argument("--emd-points", type=count, default=512, metavar="N", help="of generation (default: 512)")
    parser.add_argument(
        "--reference", metavar="NAME|PATH",
        help="a prior of architecture deepsdf: the reference procedure (code by Adam, dense marching cubes) competes",
    )  # fmt: skip
    parser.add_argument("--reference-steps", type=count, default=800, metavar="N", help="of Adam (default: 800)")
    parser.add_argument("--reference-points", type=count, default=8000, metavar="N", help="a step (default: 8000)")
    parser.add_argument(
        "--reference-precision", choices=("float32", "bfloat16"), default="float32",
        help="of its wide layers (default: float32, as published)",
    )  # fmt: skip


def _run(options: argparse.Namespace) -> int:
    with stop_on_interrupt() as should_stop:
        report = PROTOCOLS[options.what](options, should_stop)
    lines = [] if options.json else [(options.out / "report.md").read_text(encoding="utf-8")]
    return answer(options, report, lines)


def _library(options: argparse.Namespace) -> Any:
    from ...training.library import load_library

    if options.dataset is None:
        raise InputError(
            "usage", "The evaluation cannot start.", "There are no shapes to compare with.",
            "Name a shape library: --dataset.",
        )  # fmt: skip
    return load_library(options.dataset)


def _completion(options: argparse.Namespace, should_stop: ShouldStop) -> dict[str, Any]:
    from ...device import resolve_device
    from ...evaluation.completers import AS_CLICKED, mean_shape, product
    from ...evaluation.completion import run_completion_evaluation
    from ...training.library import read_keys

    library = _library(options)
    baselines = names(options.baselines) or []
    device, resolution = str(resolve_device(options.device)), options.resolution or 128
    asked = {"align": options.align, "front": options.front, "resolution": resolution, "hypotheses": options.hypotheses}
    asked = AS_CLICKED if options.as_clicked else asked
    mark, complete = product(options.prior, device=device, seed=options.seed, **asked)
    others = []
    if options.reference is not None:
        from ...evaluation.reference import ReferenceSettings, reference_completer

        settings = ReferenceSettings(
            options.reference_steps, options.reference_points, resolution=resolution,
            precision=options.reference_precision, seed=options.seed,
        )  # fmt: skip
        knows_frame = asked["align"] == "none"
        others.append(("deepsdf", *reference_completer(options.reference, settings, device, knows_frame)))
    if "mean shape" in baselines:
        baselines.remove("mean shape")
        others.append(("mean shape", *mean_shape(options.prior, resolution, device)))
    return run_completion_evaluation(
        complete,
        library,
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
        points=options.points or 100_000,
        pictures=options.pictures,
        cloud=options.cloud,
        front_off=options.front_off,
        only=None if options.only is None else read_keys(options.only),
        on_progress=show_count,
        should_stop=should_stop,
    )


def _reconstruction(options: argparse.Namespace, should_stop: ShouldStop) -> dict[str, Any]:
    from ...device import resolve_device
    from ...evaluation.reconstruction import CASES, PEERS, Protocol, run_reconstruction_evaluation
    from ...evaluation.solids import SOLIDS

    return run_reconstruction_evaluation(
        methods=names(options.methods) or ["auto", *PEERS],
        cases=names(options.cases) or list(CASES),
        shapes=list(SOLIDS) if options.shapes is None else names(options.shapes) or [],
        library=None if options.dataset is None else _library(options),
        limit=options.limit or 6,
        protocol=Protocol(
            samples=options.points or 1_000_000,
            resolution=options.resolution or 256,
            seed=options.seed,
            iterations=options.iterations,
        ),
        out_dir=options.out,
        device=str(resolve_device(options.device)),
        on_progress=show_count,
        should_stop=should_stop,
    )


def _generation(options: argparse.Namespace, should_stop: ShouldStop) -> dict[str, Any]:
    from ...device import resolve_device
    from ...evaluation.generation import latent_maker, run_generation_evaluation
    from ...generation.codes import latent_of
    from ...priors.file import load_prior

    library = _library(options)
    device = resolve_device(options.device)
    prior = load_prior(options.prior, str(device))
    latent = latent_of(prior)
    have = ["gaussian", "mixture"] + (["diffusion"] if latent.denoiser is not None else [])
    classes = names(options.classes) or list(latent.classes)
    for name in classes:
        latent.label(name)  # an unknown one is refused before anything is made
    makers = [
        (name, *latent_maker(prior, name, options.temperature, options.seed, options.resolution or 64))
        for name in names(options.distributions) or have
    ]
    return run_generation_evaluation(
        makers,
        library,
        classes=classes,
        split=options.split,
        out_dir=options.out,
        points=options.points or 2048,
        emd_points=options.emd_points,
        limit=options.limit,
        repeats=options.repeats,
        seed=options.seed,
        device=device,
        on_progress=show_count,
        should_stop=should_stop,
    )


PROTOCOLS: dict[str, Callable[[argparse.Namespace, ShouldStop], dict[str, Any]]] = {
    "completion": _completion, "reconstruction": _reconstruction, "generation": _generation,
}  # fmt: skip
