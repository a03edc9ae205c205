"""From the scene to the canonical frame: where the whole shape is, of which only a part was seen.

The input's own bounding box is no answer (its centre and size are those of the part); the pose network says where the
whole is. Rotations are first reduced to a few by the points themselves (walls, edges and legs give the yaw up to
quarter turns, layers give directions that may be up), then the network looks at each. What a completion at every
candidate looks like (distance of the points, depth in seen-empty space, what it foresees of held-back blocks) was tried
as a further judge and added little: the encoder explains a scan in a wrong pose nearly as well. The points' own mirror
plane is a better one, and a symmetry that they show says exactly where the middle is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..fields.pose import SAMPLE, PoseGuess, PoseNet, pose_grid
from ..geometry.clouds import PointCloud
from ..geometry.sampling import estimate_normals
from ..geometry.standing import entropy_along, layer_directions, standing_signs, to_up
from ..geometry.transforms import Float64Array, Similarity, yaw_rotation
from ..priors.file import Prior
from .symmetry import centred_by_symmetry, revolution_direction

SURELY_UP, UP_BONUS = 1.0, 4.0
"""Logits of the network's belief that a direction is up: beyond the first z is not doubted, the second speaks for z (of
fifty scenes one lies on its side)."""

IN_CAMERA, LAYERS = 0.8, -1.5
"""What a logit of that belief is worth in a camera's frame, where z says nothing, and what the entropy of the layers
(geometry.standing) is: logistic regression over the directions that come into question (docs/inputs.md)."""

SYMMETRY_BONUS = 4.0
"""Logits for a rotation whose mirror plane explains all points and contradicts none."""

NEARLY_STRAIGHT, CLEARLY = 20.0, 3.0
"""Degrees within which a front is as given; logits by which another must be ahead of it to be evident (what that does
to things that face the right way and to others: docs/quality.md, "front doubted")."""

LEAST_SHARE = 0.01
"""Ways to face that the network believes in less are not looked at."""


@dataclass
class UpDoubt:
    """Another axis than the given one is likelier up.  axis: which.  clear: so clearly that it may be taken for up.
    share: how likely the given one is still, 0..1 (engine.completion.upright)."""

    axis: str
    clear: bool
    share: float


@dataclass
class PoseEstimate:
    """to_scene: canonical -> scene.  classes: name -> probability.  found_by: how, in words.  log_share: logarithm of
    the belief that it is this one, among those in question.  symmetry: what corrected its place, '' = nothing.
    up_doubt: whether another axis is up.  up_share: 0..1, how likely its up is, among the directions in question."""

    to_scene: Similarity
    classes: dict[str, float]
    found_by: str = ""
    log_share: float = 0.0
    symmetry: str = ""
    up_doubt: UpDoubt | None = None
    up_share: float = 1.0


def yaw_frame(points: NDArray[np.floating[Any]]) -> float:
    """Turn about z, in radians, of the axes that the points' walls, legs and edges follow; up to quarter turns.

    Of all turns the one whose two horizontal marginal distributions are the most peaked (least entropy), searched from
    the points' principal axis on, so that the answer turns with them. Within half a degree for nearly all furniture;
    arbitrary, but still turning with the points, for what is round.
    """
    xy = np.asarray(points[:: max(1, len(points) // 1024), :2], np.float64)
    xy = xy - xy.mean(0)
    size = float(np.sqrt((xy**2).sum(1).mean()))
    if size <= 0:
        return 0.0
    (xx, xy_), (_, yy) = xy.T @ xy
    best = 0.5 * float(np.arctan2(2 * xy_, xx - yy))
    for count, step, cell in ((30, np.pi / 60, size / 24), (9, np.pi / 180, size / 48), (9, np.pi / 900, size / 48)):
        first = 0 if count == 30 else -(count // 2)
        angles = best + step * np.arange(first, first + count)
        cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
        across = entropy_along(cos * xy[:, 0] + sin * xy[:, 1], cell)
        along = entropy_along(cos * xy[:, 1] - sin * xy[:, 0], cell)
        best = float(angles[int(np.argmin(across + along))])
    return best


def up_directions(points: NDArray[np.floating[Any]], most: int = 6) -> list[Float64Array]:
    """(3,) unit vectors, one of which is up: along which the points lie in layers (seats, table tops, shelves), the
    axes that go with these, and the principal axes; each with its opposite. They turn with the points."""
    lines, axes, x = layer_directions(points, most)
    for line in lines[:2]:
        up = to_up(line)
        lines += list((yaw_rotation(-yaw_frame(x @ up.T)) @ up)[:2])
    lines += list(axes.T)
    kept: list[Float64Array] = []
    for line in lines:
        if all(abs(line @ other) < np.cos(np.deg2rad(10)) for other in kept):
            kept.append(line)
    return [sign * line for line in kept for sign in (1.0, -1.0)]


def observed_frame(points: NDArray[np.floating[Any]]) -> Similarity:
    """Scene -> observed frame: bounding box of the points (without a few wild ones) centred at 0, longest side 1."""
    low, high = np.percentile(points.astype(np.float64), [0.5, 99.5], axis=0)
    # Outliers stretch a bounding box; the percentiles shrink it by the half per cent of points they leave out.
    tight = points[((points >= low - 0.1 * (high - low)) & (points <= high + 0.1 * (high - low))).all(1)]
    if len(tight) >= 10:
        low, high = tight.min(0).astype(np.float64), tight.max(0).astype(np.float64)
    scale = 1.0 / float((high - low).max())
    return Similarity(scale, np.eye(3), -(low + high) / 2 * scale)


def _turned(cloud: PointCloud, rotation: Float64Array) -> PointCloud:
    return replace(
        cloud,
        points=(cloud.points @ rotation.T).astype(np.float32),
        normals=None,
        viewpoint=None if cloud.viewpoint is None else (cloud.viewpoint @ rotation.T).astype(np.float32),
    )


def _look(
    network: PoseNet, cloud: PointCloud, rotations: Sequence[Float64Array], turned: Sequence[bool]
) -> tuple[PoseGuess, list[Similarity]]:
    """The network's answers for the cloud turned by each rotation, and the transforms from there to the observed frame.

    Asked in one batch; turned: whether the yaw is in question, one for every rotation.
    """
    count = len(cloud.points)
    index = np.arange(count) if count <= SAMPLE else np.linspace(0, count - 1, SAMPLE).astype(np.int64)
    sample = cloud.at(index)
    device = next(network.parameters()).device
    frames, points, origins = [], [], []
    for rotation in rotations:
        facing = _turned(sample, rotation)
        frame = observed_frame(facing.points)
        frames.append(frame)
        points.append(frame.apply(facing.points))
        eyes = facing.seen_from
        origin = np.zeros((1, 3), np.float32) if eyes is None else frame.apply(eyes.reshape(-1, 3))
        origins.append(np.broadcast_to(origin, facing.points.shape))
    at = torch.as_tensor(np.stack(points), device=device)
    seen_from = torch.as_tensor(np.stack(origins), device=device)
    weights = at.new_full(at.shape[:2], min(1.0, SAMPLE / len(index)))
    rays = weights if cloud.viewpoint is not None else torch.zeros_like(weights)
    flags = torch.tensor([float(t) for t in turned], device=device)
    with torch.no_grad():
        return network(pose_grid(at, weights, seen_from, rays, network.resolution), flags), frames


def _place(guess: PoseGuess, k: int, rotation: Float64Array, frame: Similarity, turn: bool) -> Similarity:
    """Canonical -> the cloud's frame, from answer k of a look at the cloud turned by `rotation`."""
    yaw = float(guess.offset[k, 0]) if turn else 0.0
    seen = Similarity(
        float(guess.log_scale[k].exp()), yaw_rotation(yaw), guess.centre[k].cpu().double().numpy()
    )
    return Similarity(rotation=rotation).inverse().after(frame.inverse().after(seen))


def _classes(prior: Prior, logits: Tensor) -> dict[str, float]:
    return dict(zip(prior.classes, logits.cpu().double().softmax(0).tolist(), strict=True))


def network_pose(prior: Prior, cloud: PointCloud, turned: bool = False) -> PoseEstimate:
    """The pose network's answer for a cloud with z up that faces -y: where the whole is, how large, and its class.

    turned: the front may look anywhere, so the yaw is found too.
    """
    if turned:
        return yaw_search(prior, cloud)[0]
    assert prior.pose is not None
    guess, frames = _look(prior.pose, cloud, [np.eye(3)], [False])
    found = _place(guess, 0, np.eye(3), frames[0], False)
    return PoseEstimate(found, _classes(prior, guess.classes[0]), "pose network")


def quarter_turns(origin: float) -> list[Float64Array]:
    """The four rotations about z that bring axes turned by `origin` radians to the frame's own."""
    return [yaw_rotation(-(origin + k * np.pi / 2)) for k in range(4)]


def _yaw_candidates(
    prior: Prior, cloud: PointCloud, up: Float64Array, most: int, least: float
) -> list[PoseEstimate]:
    """At most `most` ways the cloud, turned by `up` so that z is up, may face, each with a share of `least` or more.

    The network looks at the cloud from four sides, so that its answer turns with the cloud, and the belief of all
    four is averaged.
    """
    assert prior.pose is not None
    origin = yaw_frame(cloud.points @ up.T)
    sides = [turn @ up for turn in quarter_turns(origin)]
    guess, _ = _look(prior.pose, cloud, sides, [True] * 4)
    bins = guess.yaw.shape[1]
    beliefs = guess.yaw.cpu().double().log_softmax(1).numpy()
    offsets = guess.offset.cpu().double().numpy()
    quarter = bins // 4
    rolled = np.stack([np.roll(beliefs[k], k * quarter) for k in range(4)])
    share = np.exp(rolled.mean(0))
    share /= share.sum()
    offset = np.stack([np.roll(offsets[k], k * quarter) for k in range(4)])
    weight = np.exp(rolled)
    offset = (offset * weight).sum(0) / weight.sum(0).clip(1e-12)
    peaks = [k for k in range(bins) if share[k] >= max(share[k - 1], share[(k + 1) % bins], least)]
    peaks = sorted(peaks, key=lambda k: -share[k])[:most] or [int(share.argmax())]
    rotations = [yaw_rotation(-(origin + 2 * np.pi * k / bins + offset[k])) @ up for k in peaks]
    placed, frames = _look(prior.pose, cloud, rotations, [False] * len(peaks))
    return [
        PoseEstimate(
            _place(placed, n, rotation, frames[n], True), _classes(prior, placed.classes[n]), "yaw search",
            float(np.log(share[k - 1] + share[k] + share[(k + 1) % bins])),
        )
        for n, (k, rotation) in enumerate(zip(peaks, rotations, strict=True))
    ]


def yaw_search(prior: Prior, cloud: PointCloud, most: int = 6) -> list[PoseEstimate]:
    """Ways a cloud with z up may face, the likeliest first."""
    return _yaw_candidates(prior, cloud, np.eye(3), most, LEAST_SHARE)


def stands(
    prior: Prior, cloud: PointCloud, directions: Sequence[Float64Array], sides: Literal[1, 4] = 1
) -> NDArray[np.float64]:
    """(D,) logits of the network's belief that each of D directions (3,) of a cloud is up, in one batch. sides: from
    how many it looks at each; of four, the mean."""
    assert prior.pose is not None
    rotations = []
    for up in map(to_up, directions):
        rotations += [turn @ up for turn in quarter_turns(yaw_frame(cloud.points @ up.T))[:sides]]
    guess, _ = _look(prior.pose, cloud, rotations, [True] * len(rotations))
    return np.asarray(guess.upright.cpu().double().numpy().reshape(len(directions), sides).mean(1))


def rotation_search(prior: Prior, cloud: PointCloud, ups: int = 4, camera: bool = False) -> list[PoseEstimate]:
    """Ways a cloud may lie whose up axis is z as a rule but need not be, the likeliest first.

    camera: z is only up in the image of the camera at the cloud's viewpoint, which looked level or down; what the
    points tell of a direction counts too, for what lies on a table may be nothing that the network knows.

    `yaw_search` where the network sees it stand upright; else also about those `up_directions` that it likes best. What
    has an axis of revolution that is not upright lies: its axis is up, one way or the other.
    """
    lines = estimate_normals(cloud.points) if cloud.normals is None else cloud.normals
    axis = revolution_direction(cloud.points, lines)
    if axis is not None and abs(axis[2]) < np.cos(np.deg2rad(5)):
        directions = [axis, -axis]
        belief = stands(prior, cloud, directions)
    else:
        z = np.array([0.0, 0.0, 1.0])
        given = stands(prior, cloud, [z])
        if given[0] > SURELY_UP and not camera:
            return yaw_search(prior, cloud)
        directions = [z, *up_directions(cloud.points)]
        if camera:
            layers = standing_signs(cloud.points, directions)[:, 0]
            belief = IN_CAMERA * stands(prior, cloud, directions, sides=4) + LAYERS * layers
        else:
            belief = np.concatenate([given + UP_BONUS, stands(prior, cloud, directions[1:])])
    if camera:
        assert cloud.viewpoint is not None
        towards = cloud.viewpoint.astype(np.float64) - np.median(cloud.points, axis=0)
        towards /= np.linalg.norm(towards)
        seen = [k for k, up in enumerate(directions) if up[2] > -0.17 and up @ towards > -0.05]
        directions, belief = [directions[k] for k in seen], belief[seen]
    share = belief - belief.max() - np.log(np.exp(belief - belief.max()).sum())
    found = []
    for k in np.argsort(-belief)[:ups]:
        for pose in _yaw_candidates(prior, cloud, to_up(directions[k]), 3, 0.05):
            how = "yaw search" if directions[k][2] == 1 else "rotation search"
            likely = pose.log_share + float(share[k])
            found.append(replace(pose, found_by=how, log_share=likely, up_share=float(np.exp(share[k]))))
    return sorted(found, key=lambda pose: -pose.log_share)


def _chosen(cloud: PointCloud, poses: Sequence[PoseEstimate]) -> tuple[PoseEstimate, float]:
    """Of several rotations, the likeliest first, the one that the network believes in and whose mirror plane the points
    bear out, placed and turned by that plane; and its score, in logits."""
    # What lies farther behind no symmetry brings to the front.
    poses = [pose for pose in poses if pose.log_share > poses[0].log_share - SYMMETRY_BONUS]
    scores = [
        pose.log_share + SYMMETRY_BONUS * centred_by_symmetry(cloud, pose.to_scene).agreement for pose in poses
    ]
    k = int(np.argmax(scores))
    centred = centred_by_symmetry(cloud, poses[k].to_scene, turn=True)
    return replace(poses[k], to_scene=centred.to_scene, symmetry=centred.by), scores[k]


def _classes_in_question(poses: Sequence[PoseEstimate]) -> dict[str, float]:
    """Over all poses as far as they are believed: what is one thing this way round and another that way is neither."""
    belief = np.exp([pose.log_share for pose in poses])
    belief /= belief.sum()
    return {name: float(sum(b * pose.classes[name] for b, pose in zip(belief, poses, strict=True)))
            for name in poses[0].classes}  # fmt: skip


def _turned_by(pose: PoseEstimate) -> float:
    """Degrees about z, -180..180."""
    rotation = pose.to_scene.rotation
    return float(np.degrees(np.arctan2(rotation[1, 0], rotation[0, 0])))


def _evident_front(prior: Prior, cloud: PointCloud, agreement: float) -> PoseEstimate | None:
    """The pose of a cloud with z up that clearly does not face -y; None where it may. agreement: of the mirror plane
    that it has if it does."""
    poses = yaw_search(prior, cloud)
    best, score = _chosen(cloud, poses)
    if abs(_turned_by(best)) < NEARLY_STRAIGHT:
        return None
    straight = [pose for pose in poses if abs(_turned_by(pose)) < NEARLY_STRAIGHT]
    given = (straight[0].log_share if straight else np.log(LEAST_SHARE)) + SYMMETRY_BONUS * agreement
    return best if score > given + CLEARLY else None


def find_pose(
    prior: Prior, cloud: PointCloud, mode: Literal["scale", "yaw", "similarity", "camera"], doubt_front: bool = False
) -> PoseEstimate:
    """Where the whole of a cloud with z up (as a rule) lies: its scale and place, in 'yaw' also its turn about z, in
    'similarity' its whole rotation; in 'camera' likewise, but z is only what is up in the viewpoint's image.

    doubt_front: in 'scale', turn it about z where the evidence clearly says that it does not face -y.
    """
    if prior.pose is None:
        # A prior without a pose network: the part's own box is all there is to go by, and the report says so.
        return PoseEstimate(observed_frame(cloud.points).inverse(), {}, "bounding box")
    if mode == "yaw":
        return _chosen(cloud, yaw_search(prior, cloud))[0]
    if mode == "similarity":
        return _chosen(cloud, rotation_search(prior, cloud))[0]
    if mode == "camera":
        poses = rotation_search(prior, cloud, camera=True)
        return replace(_chosen(cloud, poses)[0], classes=_classes_in_question(poses))
    pose = network_pose(prior, cloud)
    centred = centred_by_symmetry(cloud, pose.to_scene, turn=doubt_front)
    if doubt_front and centred.by != "axis":  # what has an axis has no front
        turned = _evident_front(prior, cloud, centred.agreement)
        if turned is not None:
            return turned
    return replace(pose, to_scene=centred.to_scene, symmetry=centred.by)
