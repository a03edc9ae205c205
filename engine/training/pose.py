"""Training the pose network: partial views in their own box -> where the whole lies, and its class."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import Cancelled
from ..fields import evidence as ev
from ..fields.pose import PoseNet, pose_loss
from ..fitting.alignment import observed_frame, yaw_rotation
from .batches import POINTS, make_example


def pose_example(
    record: NDArray[np.void], rng: np.random.Generator, view: int | None = None, turned: bool | None = None
) -> tuple[Any, ...]:
    """(points, weights, origins, rays, turned, centre, log_scale, yaw), the arrays in the observed frame.

    turned: whether the shape's front looks anywhere (None: half of the time).
    """
    points, weights, origins, rays, *_ = make_example(
        record, rng, 1, view=int(rng.integers(16)) if view is None else view, augment=view is None, pose_noise=False
    )
    any_yaw = bool(rng.random() < 0.5) if turned is None else turned
    yaw = float(rng.uniform(-np.pi, np.pi)) if any_yaw else float(rng.normal(0.0, 0.03)) * (view is None)
    rotation = yaw_rotation(yaw)
    valid = weights > 0
    points, origins = points @ rotation.T, origins @ rotation.T
    if view is None:
        if rng.random() < 0.4:
            points = points + rng.normal(0.0, rng.uniform(0, 0.01), points.shape)
        if rng.random() < 0.3:
            rays = np.zeros_like(rays)
    frame = observed_frame(points[valid])
    moved, seen_from = frame.apply(points), frame.apply(origins)
    return (
        moved, weights, seen_from, rays, np.float32(any_yaw), frame.translation.astype(np.float32),
        np.float32(math.log(frame.scale)), np.float32(yaw),
    )


def pose_batch(
    records: NDArray[np.void], indices: NDArray[Any], weights: NDArray[Any], labels: NDArray[Any], size: int,
    seed: list[int],
) -> tuple[Tensor, ...]:
    """A batch of `pose_example`s and their class labels (by record index)."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(indices, size, p=weights / weights.sum())
    examples = [pose_example(records[k], rng) for k in chosen]
    stacked = [torch.from_numpy(np.stack(part)).float() for part in zip(*examples, strict=True)]
    return (*stacked, torch.from_numpy(labels[chosen].astype(np.int64)))


def train_pose(
    records: NDArray[np.void],
    indices: NDArray[Any],
    weights: NDArray[Any],
    labels: NDArray[Any],
    classes: int,
    *,
    steps: int,
    batch: int = 32,
    learning_rate: float = 1e-3,
    seed: int = 0,
    device: torch.device,
    on_progress: Callable[[int, int, float, float], None] = lambda step, steps, loss, left: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> PoseNet:
    """labels: (records,) class of every record. on_progress(step, steps, loss, seconds left)."""
    torch.manual_seed(seed)
    network = PoseNet(classes).to(device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-3)
    began = time.monotonic()
    recent = []

    def prepare(step: int) -> tuple[Tensor, ...]:
        return pose_batch(records, indices, weights, labels, batch, [seed, step, 1])

    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(prepare, 0)
        for step in range(steps):
            points, w, origins, rays, turned, centre, log_scale, yaw, label = (x.to(device) for x in upcoming.result())
            upcoming = pool.submit(prepare, step + 1)
            for group in optimiser.param_groups:
                warm = min(1.0, (step + 1) / 100)
                group["lr"] = learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / steps)) + 1e-6
            grid = ev.evidence_grid(points, w * min(1.0, 2048 / POINTS), origins, rays, network.resolution)
            with torch.autocast(device.type, torch.bfloat16):
                guess = network(grid, turned)
            loss = pose_loss(guess, centre, log_scale, yaw, label)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            recent.append(float(loss.detach()))
            if (step + 1) % 50 == 0 or step + 1 == steps:
                left = (time.monotonic() - began) / (step + 1) * (steps - step - 1)
                on_progress(step + 1, steps, float(np.mean(recent)), left)
                recent.clear()
            if should_stop():
                raise Cancelled
    return network.eval()
