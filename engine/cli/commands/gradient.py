"""`gradient`: train, densify, reconstruct, generate and evaluate with gradient fields (ShapeGF, Cai 2020)."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from ... import __version__
from ...errors import InputError
from ...priors.registry import DEFAULT
from .. import options as shared
from ..inputs import axis, check_output, names
from ..terminal import answer, stop_on_interrupt


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    gradient = commands.add_parser(
        "gradient", parents=[common], help="points and surfaces from a learned gradient field",
        description="Gradient fields (ShapeGF): dense clouds from sparse ones, and new clouds.",
    )
    actions = gradient.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=type(gradient))

    train = actions.add_parser("train", parents=[common], help="learn a family from a shape library")
    train.add_argument("dataset", type=Path, metavar="DATASET")
    train.add_argument("--name", required=True, help="what it is called")
    train.add_argument(
        "--prior", default=DEFAULT, metavar="NAME|PATH", help=f"whose codes it reads (default: {DEFAULT})"
    )
    train.add_argument("--classes", metavar="A,B,...", help="default: all")
    train.add_argument("--steps", type=int, default=8000, metavar="N", help="default: 8000")
    train.add_argument("--batch", type=int, default=8, metavar="N", help="shapes a step (default: 8)")
    train.add_argument(
        "--precision", choices=("bfloat16", "float32"), default="bfloat16", help="of wide layers (default: bfloat16)"
    )
    train.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="that prepare shapes")
    train.add_argument("--output", type=Path, metavar="FILE", help="default: among the user's gradient fields")
    train.add_argument("--runs", type=Path, metavar="FOLDER", help="for checkpoints and prepared shapes")
    shared.add_device_and_seed(train)
    train.set_defaults(run=_train)

    for mode, text in (("densify", "a dense cloud from a sparse one"), ("reconstruct", "through the code and back")):
        one = actions.add_parser(mode, parents=[common], help=text)
        shared.add_input(one)
        shared.add_output_file(one)
        one.add_argument("--align", choices=("none", "scale"), default="scale", help="default: scale")
        shared.add_up(one)
        _add_common(one)
        one.set_defaults(run=_run, mode=mode)
    generate = actions.add_parser("generate", parents=[common], help="new shapes")
    generate.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    generate.add_argument("-n", "--count", type=int, default=1, metavar="N")
    shared.add_class(generate)
    generate.add_argument("--latent", choices=("gan", "gaussian", "mixture", "diffusion"), default="gan")
    generate.add_argument("--temperature", type=float, default=1.0, metavar="T")
    _add_common(generate)
    generate.set_defaults(run=_run, mode="generate")

    evaluate = actions.add_parser(
        "evaluate", parents=[common], help="auto-encoding and generation, measured as the paper does"
    )
    evaluate.add_argument("--dataset", type=Path, required=True, metavar="DATASET")
    evaluate.add_argument(
        "--supervision", type=Path, metavar="FILE", help="prepared shapes; without them generation is measured"
    )
    evaluate.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    evaluate.add_argument("--field", default="household", metavar="NAME|PATH")
    evaluate.add_argument("--classes", metavar="A,B,...", help="default: all")
    evaluate.add_argument(
        "--limit", type=int, metavar="N", help="held-out shapes (default: 40), for generation of a class (default: all)"
    )
    evaluate.add_argument(
        "--emd-points", type=int, default=256, metavar="N", help="for generation, of a cloud (default: 256)"
    )
    evaluate.add_argument(
        "--latent", default="gan,diffusion", metavar="A,B,...", help="for generation (default: gan,diffusion)"
    )
    evaluate.add_argument("--points", type=int, default=2048, metavar="N", help="a cloud (default: 2048, the paper's)")
    shared.add_device_and_seed(evaluate)
    evaluate.set_defaults(run=_evaluate)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--field", default="household", metavar="NAME|PATH", help="default: household")
    parser.add_argument("--as", dest="kind_of_output", choices=("points", "mesh"), default="points")
    parser.add_argument("--points", type=int, default=20_000, metavar="N", help="a cloud (default: 20000)")
    shared.add_resolution(parser, "of meshes")
    shared.add_device_and_seed(parser)


def _run(options: argparse.Namespace) -> int:
    from ...jobs.kinds import parse_request
    from ..source import arrays_of, read_input
    from ..work import finished, run, write

    began = time.perf_counter()
    settings: dict[str, Any] = {
        "kind": "gradient", "mode": options.mode, "field": options.field, "output": options.kind_of_output,
        "points": options.points, "resolution": options.resolution, "device": options.device, "seed": options.seed,
    }  # fmt: skip
    if options.mode == "generate":
        settings |= {
            "class_name": options.class_name, "count": options.count, "latent": options.latent,
            "temperature": options.temperature,
        }  # fmt: skip
    else:
        settings |= {"align": options.align, "up": axis(options.up, options.input)}
    request = parse_request(settings)
    path, source, arrays, local = None, None, None, request
    if options.mode == "generate":
        options.output.mkdir(parents=True, exist_ok=True)
    else:
        path = options.input
        check_output(options.output, path)
        source, request, local = read_input(path, request)
        arrays = arrays_of(source)
    result = run(local, arrays)
    numbers = range(1, len(result.meshes) + 1)
    written = [options.output / f"shape_{n:03d}.ply" if options.mode == "generate" else options.output for n in numbers]
    for file, mesh in zip(written, result.meshes, strict=True):
        write(file, mesh, None if source is None else source.offset)
    report = finished(result, request, written, began, path, source)
    return answer(options, report, [f"Wrote {file.absolute()}" for file in written])


def _train(options: argparse.Namespace) -> int:
    import numpy as np

    from ...device import resolve_device
    from ...fields.base import require
    from ...gradient_fields.model import SUFFIX, save_gradient_field
    from ...gradient_fields.registry import gradient_folders
    from ...gradient_fields.training import train_gradient_field
    from ...priors.file import load_prior
    from ...training.library import load_library
    from ...training.prior_training import LICENCE, data_credits, fingerprint, select
    from ...training.supervision import build_supervision

    runs = options.runs or gradient_folders()[0] / "runs"
    output = options.output or gradient_folders()[0] / f"{options.name}{SUFFIX}"
    library = load_library(options.dataset)
    device = resolve_device(options.device)
    prior = load_prior(options.prior, str(device))
    require(prior.field, "features", prior.name)  # refused before anything is prepared

    def show(stage: str, done: float, loss: float, left: float) -> None:
        print(f"{100 * done:3.0f} %  {stage}, loss {loss:.4f}, {left:.0f} s left", file=sys.stderr, flush=True)

    with stop_on_interrupt() as should_stop:
        records = build_supervision(
            options.dataset, runs / f"supervision-{fingerprint(library)}.npy", options.workers,
            lambda done, total, left: show("Preparing shapes", done / total, 0.0, left)
            if done % 50 == 0 or done == total else None,
            should_stop=should_stop,
        )
        selection = select(library, records["done"] == 1)
        indices, weights = selection.indices, selection.weights
        wanted = names(options.classes)
        if wanted:
            kept = np.array([library.shapes[k].category in wanted for k in indices], bool)
            indices, weights = indices[kept], weights[kept]
            if len(indices) == 0:
                raise InputError(
                    "no_training_shapes", "There is nothing to train on.",
                    f"No training shape is of class {options.classes}.", f"Classes are {', '.join(selection.classes)}.",
                )
        counts = Counter(library.shapes[k].category for k in indices)
        model = train_gradient_field(
            prior, records, indices, sorted(counts), runs / options.name, weights=weights, steps=options.steps,
            batch=options.batch, precision=options.precision, seed=options.seed, device=device, on_progress=show,
            should_stop=should_stop,
        )
    model.card |= {
        "name": options.name, "version": __version__, "class_counts": dict(sorted(counts.items())),
        "data": data_credits(library, indices), "licence": LICENCE,
    }
    save_gradient_field(output, model)
    told = {"output": str(output.absolute()), "classes": sorted(counts), "shapes": len(indices)}
    return answer(options, told, [f"Wrote {output}"])


def _evaluate(options: argparse.Namespace) -> int:
    from ...device import resolve_device
    from ...evaluation.generation import markdown, run_generation_evaluation
    from ...evaluation.gradient_fields import evaluate_gradient_field, generated_clouds
    from ...gradient_fields.registry import find_gradient_field
    from ...training.library import load_library

    model = find_gradient_field(options.field, resolve_device(options.device))
    library = load_library(options.dataset)
    classes = names(options.classes) or model.card["classes"]

    def show(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with stop_on_interrupt() as should_stop:
        if options.supervision is not None:
            report = evaluate_gradient_field(
                model, library, options.supervision, options.out, classes=classes, limit=options.limit or 40,
                points=options.points, seed=options.seed, should_stop=should_stop, on_progress=show,
            )
            table = report["table"]
        else:
            kinds = names(options.latent) or []
            makers = [
                (f"gradient field, {kind}",
                 *generated_clouds(model, options.field, kind, options.seed, options.points))
                for kind in kinds
            ]
            report = run_generation_evaluation(
                makers, library, classes=classes, out_dir=options.out, points=options.points,
                emd_points=options.emd_points, limit=options.limit, seed=options.seed, device=model.device,
                on_progress=lambda done, total, what: show(f"{done}/{total} {what}"), should_stop=should_stop,
            )
            table = markdown(report)
    return answer(options, report, [table])
