"""Training the pose network: partial views in their own box -> where the whole lies, and its class."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from scipy.spatial.transform import Rotation
from torch import Tensor

from ..completion.alignment import observed_frame, yaw_frame
from ..errors import Cancelled
from ..fields.pose import PoseNet, pose_grid, pose_loss
from ..geometry.transforms import yaw_rotation
from .batches import make_example


def _tipped(rng: np.random.Generator) -> NDArray[np.float64]:
    """(3, 3): half of the time the shape lies on a side or on its head, half of the time it is turned anyhow."""
    if rng.random() < 0.5:
        turns = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [2, 0, 0]]) * np.pi / 2
        return np.asarray(Rotation.from_rotvec(turns[rng.integers(5)] + rng.normal(0.0, 0.03, 3)).as_matrix())
    return np.asarray(Rotation.random(random_state=int(rng.integers(2**31))).as_matrix())


def pose_example(
    record: NDArray[np.void], rng: np.random.Generator, view: int | None = None, turned: bool | None = None
) -> tuple[Any, ...]:
    """(points, weights, origins, rays, turned, upright, centre, log_scale, yaw), the arrays in the observed frame.

    turned: whether the shape faces anywhere (None: somewhat more than half of the time). It is then brought to its
    `yaw_frame` and turned by some quarters, as at inference; a part of these are tipped over and not upright.
    """
    points, weights, origins, rays, *_ = make_example(
        record, rng, 1, view=int(rng.integers(16)) if view is None else view, augment=view is None, pose_noise=False
    )
    any_yaw = bool(rng.random() < 0.6) if turned is None else turned
    upright, yaw, rotation = True, 0.0, np.eye(3)
    if any_yaw:
        first = rng.uniform(-np.pi, np.pi)
        if view is None and rng.random() < 0.3:
            rotation, upright = _tipped(rng), False
        elif view is None:
            rotation = np.asarray(Rotation.from_rotvec([*rng.normal(0.0, 0.02, 2), 0.0]).as_matrix())
        rotation = yaw_rotation(first) @ rotation
        origin = yaw_frame(points[weights > 0] @ rotation.T) + np.pi / 2 * rng.integers(4)
        rotation = yaw_rotation(-origin) @ rotation
        yaw = float((first - origin + np.pi) % (2 * np.pi) - np.pi)
    elif view is None:
        yaw = float(rng.normal(0.0, 0.15 if rng.random() < 0.2 else 0.04))
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
        moved, weights, seen_from, rays, np.float32(any_yaw), np.float32(upright), frame.translation.astype(np.float32),
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


def _load_state(file: Path, network: PoseNet, optimiser: torch.optim.Optimizer, steps: int) -> int:
    """Weights and moments of a run of `steps` that was stopped; the step it had reached, 0 where there is none."""
    if not file.is_file():
        return 0
    with safe_open(file, "pt") as stored:
        state = json.loads(stored.metadata()["shapewright"])
        if state["arguments"] != network.arguments or state["steps"] != steps:
            return 0
        tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 (not a dictionary)
    network.load_state_dict({k[8:]: v for k, v in tensors.items() if k.startswith("network.")})
    moments = optimiser.state_dict()
    for k in range(len(list(network.parameters()))):
        if f"first.{k}" in tensors:
            moments["state"][k] = {
                "step": torch.tensor(float(state["step"])), "exp_avg": tensors[f"first.{k}"],
                "exp_avg_sq": tensors[f"second.{k}"],
            }
    optimiser.load_state_dict(moments)
    return int(state["step"])


def _save_state(file: Path, network: PoseNet, optimiser: torch.optim.Optimizer, step: int, steps: int) -> None:
    tensors = {f"network.{k}": v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    for k, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"first.{k}": moments["exp_avg"].cpu(), f"second.{k}": moments["exp_avg_sq"].cpu()}
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name}.{os.getpid()}.part")
    state = {"arguments": network.arguments, "step": step, "steps": steps}
    save_file(tensors, temporary, {"shapewright": json.dumps(state)})
    os.replace(temporary, file)


def train_pose(
    records: NDArray[np.void],
    indices: NDArray[Any],
    weights: NDArray[Any],
    labels: NDArray[Any],
    classes: int,
    *,
    steps: int,
    batch: int = 32,
    learning_rate: float = 2e-3,
    seed: int = 0,
    device: torch.device,
    checkpoint: Path | None = None,
    on_progress: Callable[[int, int, float, float], None] = lambda step, steps, loss, left: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> PoseNet:
    """labels: (records,) class of every record.  checkpoint: where the state is kept every 200 steps and when stopped;
    a run of the same size goes on from there, one that was finished is not repeated.  on_progress(step, steps, loss,
    seconds left).  Raises Cancelled."""
    torch.manual_seed(seed)
    network = PoseNet(classes).to(device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-2)
    first = 0 if checkpoint is None else _load_state(checkpoint, network, optimiser, steps)
    began = time.monotonic()
    recent = []

    def prepare(step: int) -> tuple[Tensor, ...]:
        return pose_batch(records, indices, weights, labels, batch, [seed, step, 1])

    def save(step: int) -> None:
        if checkpoint is not None:
            _save_state(checkpoint, network, optimiser, step, steps)

    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(prepare, first)
        for step in range(first, steps):
            points, w, origins, rays, turned, *truth = (x.to(device) for x in upcoming.result())
            upcoming = pool.submit(prepare, step + 1)
            for group in optimiser.param_groups:
                warm = min(1.0, (step + 1) / 100)
                group["lr"] = learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / steps)) + 1e-6
            grid = pose_grid(points, w, origins, rays, network.resolution)
            with torch.autocast(device.type, torch.bfloat16):
                guess = network(grid, turned)
            loss = pose_loss(guess, turned, *truth)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            recent.append(float(loss.detach()))
            if (step + 1) % 50 == 0 or step + 1 == steps:
                left = (time.monotonic() - began) / (step + 1 - first) * (steps - step - 1)
                on_progress(step + 1, steps, float(np.mean(recent)), left)
                recent.clear()
            stop = should_stop()
            if (step + 1) % 200 == 0 or step + 1 == steps or stop:
                save(step + 1)
            if stop:
                raise Cancelled
    return network.eval()
