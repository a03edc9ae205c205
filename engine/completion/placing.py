"""A scan's place in the canonical frame, and which way its normals look there."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import torch

from ..errors import InputError
from ..fields.base import Clouds
from ..frames import BOUND, axis_name, up_rotation
from ..geometry.clouds import PointCloud
from ..geometry.standing import to_up
from ..geometry.support import Support
from ..geometry.transforms import Float64Array, Similarity, moved_cloud
from ..priors.file import Prior
from .alignment import PoseEstimate, find_pose, network_pose
from .upright import doubt_up


def align(
    prior: Prior,
    cloud: PointCloud,
    how: Literal["none", "scale", "similarity"] = "scale",
    up: str = "+z",
    front_evident: bool = False,
    pose: Similarity | None = None,
    support: Support | None = None,
    image_up: Float64Array | None = None,
) -> PoseEstimate:
    """Canonical -> the cloud's frame, and how it was found.

    how, up, front_evident: as in CompleteRequest; the last speaks of what is up as well.  pose: where it is known;
    nothing is found then.  support: what it stands on, where that was seen: tilted, it says what is up, and the front
    is found.  image_up: (3,) in a camera's own frame, of which `up` says nothing: without a support the whole rotation
    is found.
    """
    if pose is not None:
        seen = moved_cloud(cloud, pose.inverse())
        return PoseEstimate(pose, network_pose(prior, seen).classes if prior.pose is not None else {}, "caller")
    if how != "none" and support is None and image_up is not None:
        held = Similarity(rotation=to_up(image_up))
        found = find_pose(prior, moved_cloud(cloud, held), "camera")
        return replace(found, to_scene=held.inverse().after(found.to_scene))
    tilted = support is not None and not support.level
    upright = Similarity(rotation=to_up(support.normal) if support and tilted else up_rotation(up))
    standing = moved_cloud(cloud, upright)
    doubt = doubt_up(prior, standing) if how == "scale" and support is None else None
    if doubt is not None:  # in the cloud's own frame; and where that may be doubted, the scan is stood up
        doubt = replace(doubt, axis=axis_name(upright.rotation.T @ up_rotation(doubt.axis)[2]))
        if doubt.clear and front_evident:
            upright = Similarity(rotation=up_rotation(doubt.axis))
            standing = moved_cloud(cloud, upright)
    if how == "none":
        classes = network_pose(prior, standing).classes if prior.pose is not None else {}
        return PoseEstimate(upright.inverse(), classes, "given")
    found = find_pose(prior, standing, "yaw" if tilted else how, front_evident)
    share = 1.0 if doubt is None or (doubt.clear and front_evident) else doubt.share
    return replace(found, to_scene=upright.inverse().after(found.to_scene), up_doubt=doubt, up_share=share)


def check_inside(cloud: PointCloud) -> None:
    """InputError 'outside_frame' where most of a cloud in the canonical frame lies outside of its box."""
    within = float((np.abs(cloud.points) < BOUND).all(1).mean())
    if within < 0.5:
        raise InputError(
            "outside_frame",
            "The input does not lie where the prior expects it.",
            f"Only {within:.0%} of the points are within the canonical box of side 1.1 about the origin.",
            "Use the alignment 'scale', or bring the shape to the canonical frame (centre 0, longest side 1).",
        )


def outward(prior: Prior, cloud: PointCloud) -> tuple[PointCloud, str]:
    """A cloud in the canonical frame whose normals agree with one another, turned outward by what the encoder takes for
    the inside; without them where it cannot tell."""
    assert cloud.normals is not None
    some = np.random.default_rng(0).permutation(len(cloud.points))[:2048]
    points = torch.as_tensor(cloud.points[some], dtype=torch.float32, device=prior.device)
    normals = torch.as_tensor(cloud.normals[some], dtype=torch.float32, device=prior.device)
    with torch.no_grad():
        posterior = prior.field.encode(prior.field.observe(Clouds.seen(points, None)))
        shape = prior.field.decode(posterior.mean, posterior.evidence)
        if not shape.signed:
            return replace(cloud, normals=None), "of unknown side, not used"
        ahead, behind = (shape.values((points + s * 0.015 * normals)[None])[0] for s in (1, -1))
    share = float((ahead > behind).float().mean())
    if share > 0.65:
        return cloud, "given"
    if share < 0.35:
        return replace(cloud, normals=-cloud.normals), "given, turned outward"
    return replace(cloud, normals=None), "of unknown side, not used"
