"""What Complete Shape tells of its results."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...completion.alignment import PoseEstimate, UpDoubt
from ...completion.answers import Answer, Answering
from ...completion.complete import Completion
from ...completion.confidence import Signals, calibration_of, confidence, most_confidence
from ...device import describe_device, peak_memory
from ...finish import soundness
from ...finish.colours import Look
from ...finish.colours import report as appearance
from ...frames import BOUND, axis_name
from ...geometry.cleaning import normals_not_believed
from ...geometry.clouds import FloatArray, PointCloud
from ...geometry.connected import is_watertight, loose_edges
from ...geometry.meshes import Mesh
from ...geometry.metrics import distances_to_surface, total_mutual_difference, unidirectional_hausdorff
from ...geometry.sampling import sample_surface
from ...geometry.transforms import Similarity
from ...jobs.base import JobArrays, about_prior, versions
from ...priors.file import Prior
from .request import CompleteRequest
from .scan import WORKING_POINTS, Scan


def row_of(
    completion: Completion, mesh: Mesh, placed: Mesh, observed: NDArray[np.float32], scale: float
) -> dict[str, Any]:
    """Of one answer. mesh: canonical; placed: in the input's frame, as the observed points (N, 3).  scale: from the
    canonical frame to it."""
    return {
        "score": completion.score,
        "data": completion.data,
        "empty": completion.empty,
        "latent": completion.latent,
        "symmetry": completion.symmetry,
        "closed": {
            "tunnels": completion.closed.tunnels, "pieces": completion.closed.pieces,
            "hollows": completion.closed.hollows,
        } if completion.closed is not None else None,
        "residual": _residual(distances_to_surface(placed, observed), scale),
        "vertices": len(placed.vertices),
        "faces": len(placed.faces),
        "watertight": is_watertight(placed),
        "loose_edges": loose_edges(placed),
        "soundness": soundness.report(mesh, scale=scale),
    }


def report(
    request: CompleteRequest,
    arrays: JobArrays,
    prior: Prior,
    scan: Scan,
    canonical: PointCloud,
    pose: PoseEstimate,
    to_input: Similarity,
    answering: Answering,
    answers: list[Answer],
    rows: list[dict[str, Any]],
    signals: Signals | None,
    looks: list[Look | None],
) -> dict[str, Any]:
    """canonical: the scan there.  pose: how the frame was found.  to_input: of the best answer.  rows: `row_of` each
    answer, looks: what each carries of the input's, best first."""
    warnings = []
    if scan.about["normals_doubt"]:
        warnings.append(normals_not_believed(scan.about["normals_doubt"]))
    calibration = calibration_of(prior)
    most = most_confidence(len(canonical.points))
    sure = None if signals is None else min(confidence(signals, calibration), most) * pose.up_share
    if most < min(1.0, calibration.threshold):
        warnings.append(_few_points(len(canonical.points)))
    elif sure is not None and sure < calibration.threshold:
        warnings.append(_not_known(prior, pose.classes, pose.up_doubt))
    if pose.up_doubt is not None and pose.up_doubt.clear:
        warnings.append(_lying(pose.up_doubt, request))
    # Compared in the frame of the pose as it was found: each answer has corrected it on its own.
    clouds = [answer.completion.pose.inverse().apply(_samples(answer.mesh)) for answer in answers]
    return {
        "kind": "complete",
        "prior": about_prior(prior),
        "seed": request.seed,
        "settings": {
            "align": request.align, "front": request.front, "up": request.up, "resolution": request.resolution,
            "hypotheses": request.hypotheses, "viewpoint": request.viewpoint, "seen_from": request.seen_from,
            "class_name": request.class_name, "noise": request.noise, "ground": request.ground,
            "close_gaps": request.close_gaps, "max_faces": request.max_faces,
        },
        "input_points": {
            "given": len(arrays.points), "used": len(canonical.points), "normals": arrays.normals is not None,
        },
        "noise": scan.noise,
        "evidence": scan.about,
        "alignment": {
            "mode": request.align, "found_by": pose.found_by, "symmetry": pose.symmetry, "scale": to_input.scale,
            "up": axis_name(to_input.rotation[:, 2]), "matrix": to_input.matrix().tolist(),
        },
        "classes": dict(sorted(pose.classes.items(), key=lambda item: -item[1])[:3]),
        "class": {"asked": request.class_name, "effect": class_effect(prior, request.class_name)},
        "confidence": None if signals is None else {
            "value": sure, "threshold": calibration.threshold, "signals": asdict(signals),
        },
        "residual": rows[0]["residual"],
        "diversity": {
            "total_mutual_difference": total_mutual_difference(clouds),
            "unidirectional_hausdorff": unidirectional_hausdorff(_inside(canonical.points), clouds),
        },
        "appearance": appearance(looks[0]),
        "warnings": warnings,
        "notes": left_out(arrays, scan),
        "hypotheses": [
            row if look is None else row | {"seen": look.share} for row, look in zip(rows, looks, strict=True)
        ],
        "evaluations": answering.evaluations,
        "peak_memory": {"process": peak_memory(), "device": answering.device_peak},
        "device": describe_device(prior.device),
        "versions": versions(),
    }  # fmt: skip


def left_out(arrays: JobArrays, scan: Scan) -> list[str]:
    """What reading the scan dropped or decided, a sentence each."""
    about, ground, used = scan.about, scan.about["ground"], len(scan.cloud.points)
    told: list[str] = []
    if used == WORKING_POINTS and (arrays.faces is None or not len(arrays.faces)):
        told.append(f"Of its {len(arrays.points):,} points {used:,}, evenly spread, are used.")
    if about["duplicates"]:
        told.append(f"{about['duplicates']:,} points lie where others do and count once.")
    if about["strays"]:
        told.append(f"{about['strays']:,} stray points, far from all others, are left out.")
    if ground is not None:
        told.append(f"What it stands on is left out with what lies beyond and beside it: {ground['points']:,} points.")
    if about["frame"] != "given":
        told.append("The points are in their camera's frame: its place is the viewpoint, its axes say nothing of up.")
    if about["normals"].endswith("not used"):
        told.append("Its normals are not used: on which side of the surface they are cannot be told.")
    return told


def class_effect(prior: Prior, name: str) -> str:
    """What choosing a class the prior knows, or none (''), does."""
    if not name:
        return "found automatically"
    if prior.latent is None:
        return "none: this prior was trained without a distribution of codes by class"
    return "what was not seen leans towards the codes of this class"


def _samples(mesh: Mesh) -> FloatArray:
    return sample_surface(mesh, 4000, np.random.default_rng(0))[0]


def _inside(points: FloatArray) -> FloatArray:
    """Points within the canonical box: beyond it there can be no surface."""
    within: FloatArray = points[(np.abs(points) < BOUND).all(1)]
    return within


def _residual(distances: NDArray[np.float64], scale: float) -> dict[str, float]:
    """In the input's unit; relative: the median as a fraction of the whole's size."""
    median = float(np.median(distances))
    return {"median": median, "p95": float(np.percentile(distances, 95)), "relative": median / scale}


def _not_known(prior: Prior, classes: dict[str, float], doubt: UpDoubt | None) -> dict[str, str]:
    kinds = ", ".join(prior.classes)
    likeliest = max(classes, key=lambda name: classes[name], default="")
    told = {
        "code": "prior_does_not_know",
        "what": "The result may be made up.",
        "why": f"The prior '{prior.name}' does not explain this scan well: it knows {kinds}"
        + (f", and took it for a {likeliest}." if likeliest else "."),
        "remedy": "Use Fit Shape, which follows the points alone, or choose a prior trained on such shapes.",
    }
    if doubt is None or doubt.clear:  # of what is clear there is a warning of its own
        return told
    return told | {"remedy": f"{_UPRIGHT} If it stands, use Fit Shape instead.", "up": doubt.axis}


def _few_points(count: int) -> dict[str, str]:
    return {
        "code": "few_points",
        "what": "The result is mostly made up.",
        "why": f"{count} points of the scan are too few to tell what it is of, or whether the prior knows such things.",
        "remedy": "Give a denser scan, of some hundreds of points at least; or compare several alternatives.",
    }


_UPRIGHT = "If the scan lies on its side, turn it upright, or set the axis that is up."
"""Which axis, `up` of the warning says; how to set it, says whoever shows the warning."""


def _lying(doubt: UpDoubt, request: CompleteRequest) -> dict[str, str]:
    why = "By what the prior knows and by how its points lie, another axis of it is up than the one given."
    if request.front == "evident":
        return {
            "code": "stood_up", "what": "The scan lay on its side and was stood up.", "why": why,
            "remedy": "If it stood as it was, complete it again with its front given.", "up": doubt.axis,
        }  # fmt: skip
    return {
        "code": "lies", "what": "The scan seems to lie on its side.", "why": why, "remedy": _UPRIGHT, "up": doubt.axis,
    }  # fmt: skip
