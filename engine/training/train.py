"""Learning a prior. A run that is killed at any moment resumes and ends in the same place.

A run is a folder: `settings.json`, `checkpoint.safetensors` (weights, moving average, optimiser, step; replaced
atomically), `curves.csv`, `curves.png`. More processes (torchrun) train data-parallel: every process draws batches of
its own, gradients are averaged, and the first process alone writes.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import os
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import Cancelled, InputError, JobFailed
from ..fields import losses
from ..fields.families.deepsdf import DeepSDF
from ..fields.families.grid import GridField, channels_last
from ..fields.observations import evidence as ev
from ..priors.file import Field
from .batches import Batch, make_batch

log = logging.getLogger(__name__)


@dataclass
class TrainingSettings:
    """steps: optimiser steps in all (the learning rate's schedule spans them).  batch: shapes a step and process.
    queries: points with distances a shape.  kl: weight of the code's divergence from N(0, 1); for `deepsdf` of the
    squared length of the codes.  sign: weight of the inside-outside cross-entropy.  skip_drop: how often the decoder
    must do without the evidence's own features, so that codes alone suffice (with whole shapes it always must).
    eikonal, normal: weights of two terms on the field's gradient, see `gradient_loss`.
    precision: 'float32' or 'bfloat16'.
    """

    architecture: str = "grid"
    arguments: dict[str, Any] | None = None
    steps: int = 9_000
    batch: int = 4
    queries: int = 2048
    learning_rate: float = 1.5e-3
    kl: float = 2e-3
    sign: float = 0.25
    skip_drop: float = 0.1
    eikonal: float = 0.0
    normal: float = 0.0
    precision: str = "bfloat16"
    compile: bool = False
    seed: int = 0
    average: float = 0.999
    checkpoint_seconds: float = 60.0


PRESETS: dict[str, TrainingSettings] = {
    "cpu": TrainingSettings(),
    "gpu": TrainingSettings(
        arguments={"width": 32}, steps=60_000, batch=64, queries=4096, learning_rate=2e-3, compile=True
    ),
}


CLAMP = 0.1
"""Distances are learnt up to here (DeepSDF, section 3)."""

STEP = 0.004
"""Of the differences that stand for the gradient: half a cell of a 128^3 grid."""


def gradient_loss(
    query: Callable[[Tensor], Tensor],
    points: Tensor,
    distances: Tensor,
    gradients: Tensor,
    signed: Tensor,
    settings: TrainingSettings,
) -> Tensor:
    """settings.eikonal x Eikonal loss + settings.normal x normal loss (IGR, Gropp 2020, eq. 2) of a batch's queries.

    query: points (B, P, 3) -> distances (B, P).  gradients: the true ones (B, P, 3).  signed: (B,); where 0, the normal
    loss takes either direction (SALD, Atzmon and Lipman 2021, eq. 3). The gradient is that of central differences: they
    cost six queries, and no second derivative of the networks. On every eighth point, within the clamped distance.
    Without weights nothing is queried.
    """
    if not (settings.eikonal or settings.normal):
        return distances.new_zeros(())
    x, distance, wanted = points[:, ::8], distances[:, ::8], gradients[:, ::8]
    batch, count = distance.shape
    aside = STEP * torch.eye(3, device=x.device, dtype=x.dtype)
    probes = x[:, None] + torch.cat([aside, -aside])[None, :, None]
    values = query(probes.reshape(batch, 6 * count, 3)).reshape(batch, 2, 3, count)
    gradient = (values[:, 0] - values[:, 1]).transpose(1, 2) / (2 * STEP)
    # Beyond the clamp the field is flat by intent: there the right answer is put in the field's place.
    known = (distance.abs() < CLAMP - STEP)[..., None] & (wanted.norm(dim=-1, keepdim=True) > 0.5)
    wanted = torch.nn.functional.normalize(wanted, dim=-1)
    gradient = torch.where(known, gradient, wanted)
    backward = (signed[:, None, None] == 0) & ((gradient.detach() * wanted).sum(-1, keepdim=True) < 0)
    loss = settings.normal * losses.normal(gradient, torch.where(backward, -wanted, wanted))
    return loss + settings.eikonal * losses.eikonal(gradient)


class Objective(nn.Module):
    """The loss of the `grid` architecture on one batch (a module, so that DistributedDataParallel can wrap it)."""

    def __init__(self, field: GridField, settings: TrainingSettings) -> None:
        super().__init__()
        self.field, self.settings = field, settings

    def forward(
        self, grid: Tensor, queries: Tensor, distances: Tensor, gradients: Tensor, noise: Tensor, keep: Tensor,
        signed: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """grid: evidence.  gradients: the true ones at the queries.  noise: like the code, N(0, 1).  keep: (B,) 1 where
        evidence features pass to the decoder.  signed: (B,) 1 where the distances' signs can be trusted; elsewhere only
        their sizes count (SAL).  Returns the loss and its parts (distance in thousandths, sign, kl)."""
        encoded = self.field.encode(grid)
        mean, log_variance = encoded.mean.float(), encoded.log_variance.float()
        code = mean + noise * (0.5 * log_variance).exp()
        assert encoded.skip16 is not None and encoded.skip32 is not None
        mask = keep[:, None, None, None, None].to(encoded.skip16.dtype)
        features = self.field.decode(code.to(encoded.mean.dtype), encoded.skip16 * mask, encoded.skip32 * mask)
        with torch.autocast(grid.device.type, enabled=False):
            features = features.float()
            predicted = self.field.query(features, queries)
            near = 1 + 3 * torch.exp(-distances.abs() / 0.02)
            target = distances.clamp(-CLAMP, CLAMP)
            error = torch.where(
                signed[:, None] > 0, (predicted - target).abs(), losses.sign_agnostic(predicted, target)
            )
            distance = (error * near).mean() / near.mean()
            sign = losses.sign_cross_entropy(predicted, distances, weight=signed[:, None].expand_as(distances))
            kl = losses.gaussian_kl(mean, log_variance)
            loss = 10 * distance + self.settings.sign * sign + self.settings.kl * kl
            loss = loss + gradient_loss(
                lambda x: self.field.query(features, x), queries, distances, gradients, signed, self.settings
            )
        return loss, torch.stack([1000 * distance.detach(), sign.detach(), kl.detach()])


class AutoDecoder(nn.Module):
    """The loss of DeepSDF's auto-decoder (Park 2019, eq. 9): weights and one free code a shape, learnt together.

    seats: how many shapes have a code.
    """

    def __init__(self, field: DeepSDF, settings: TrainingSettings, seats: int) -> None:
        super().__init__()
        self.field, self.settings = field, settings
        self.codes = nn.Parameter(0.01 * torch.randn(seats, *field.code_shape))

    def forward(
        self, seats: Tensor, queries: Tensor, distances: Tensor, gradients: Tensor, noise: Tensor, keep: Tensor,
        signed: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """seats: (B,) which code belongs to each shape. The rest as for `Objective`; noise and keep are not used."""
        codes = self.codes[seats]
        features = self.field.decode(codes)
        predicted = self.field.query(features, queries)
        target = distances.clamp(-CLAMP, CLAMP)
        distance = torch.where(
            signed[:, None] > 0, (predicted - target).abs(), losses.sign_agnostic(predicted, target)
        ).mean()
        length = codes.square().sum(1).mean()
        loss = 10 * distance + self.settings.kl * length
        loss = loss + gradient_loss(
            lambda x: self.field.query(features, x), queries, distances, gradients, signed, self.settings
        )
        sign = losses.sign_cross_entropy(predicted.detach(), distances)
        return loss, torch.stack([1000 * distance.detach(), sign, length.detach()])


def learning_rate(settings: TrainingSettings, step: int) -> float:
    """A short warm-up, then half a cosine to one fiftieth."""
    warm = min(1.0, (step + 1) / 200)
    return settings.learning_rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / settings.steps)))


def _save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    temporary = path.with_name(path.name + f".{os.getpid()}.part")
    save_file({k: v.detach().contiguous().cpu() for k, v in tensors.items()}, temporary, metadata)
    os.replace(temporary, path)


def join_processes(device: torch.device) -> tuple[int, int, torch.device]:
    """(rank, processes, this process's device). Under torchrun (WORLD_SIZE > 1) joins the process group, once."""
    world = int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        return 0, 1, device
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
    if not torch.distributed.is_initialized():
        # The first process may prepare shapes or validate for hours while the others wait; torchrun ends all of them
        # when one dies.
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(days=1))
    return torch.distributed.get_rank(), torch.distributed.get_world_size(), device


def wait_for_all() -> None:
    """Until every process of the run has come here; at once where there is only one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()


def run_exists(name: str) -> InputError:
    return InputError(
        "run_exists",
        f"There is a training run called {name} already.",
        "Its checkpoint would be overwritten.",
        "Resume it with --resume, or choose another name.",
    )


def diverged(why: str) -> JobFailed:
    return JobFailed(
        "training_diverged",
        "The training came to nothing.",
        why,
        "Train under another name with a lower learning_rate, or with precision=float32.",
    )


class Run:
    """The state of one training run, on one process of possibly several. seats: shapes to learn from."""

    def __init__(self, folder: Path, settings: TrainingSettings, device: torch.device, seats: int = 1) -> None:
        self.folder, self.settings = folder, settings
        self.rank, self.world, self.device = join_processes(device)
        device = self.device
        torch.manual_seed(settings.seed)
        arguments = settings.arguments or {}
        self.field: Field
        self.module: Objective | AutoDecoder
        if settings.architecture == "grid":
            self.field = channels_last(GridField(**arguments).to(device))
            self.module = Objective(self.field, settings)
        elif settings.architecture == "deepsdf":
            self.field = DeepSDF(**arguments).to(device)
            self.module = AutoDecoder(self.field, settings, seats).to(device)
        else:
            raise InputError(
                "unknown_architecture",
                f"There is no architecture called {settings.architecture}.",
                "The trainer knows: grid, deepsdf.",
                "Choose one of these.",
            )
        self.average = {k: v.detach().clone() for k, v in self.field.state_dict().items()}
        self.objective: nn.Module = self.module
        self.compiling = settings.compile  # until the first step has shown that it works
        if settings.compile:
            self.objective = torch.compile(self.objective)  # type: ignore[assignment]
        if self.world > 1:
            self.objective = nn.parallel.DistributedDataParallel(self.objective, find_unused_parameters=True)
        self.optimiser = torch.optim.AdamW(self.module.parameters(), lr=settings.learning_rate, weight_decay=1e-4)
        self.step = 0
        self.seconds = 0.0

    def begin_with(self, start: Field) -> None:
        """Take the weights of a trained field. InputError where it is built otherwise."""
        if start.name != self.field.name or start.arguments != self.field.arguments:
            raise InputError(
                "start_differs",
                "The training cannot begin with this prior.",
                f"It is {start.name} with {start.arguments}, the training's network {self.field.name} with "
                f"{self.field.arguments}.",
                "Choose the same architecture and arguments, or begin without a prior.",
            )
        self.field.load_state_dict(start.state_dict())
        self.average = {k: v.detach().clone() for k, v in self.field.state_dict().items()}

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    def save(self) -> None:
        tensors = {f"weights.{k}": v for k, v in self.field.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.items()}
        if isinstance(self.module, AutoDecoder):
            tensors["codes"] = self.module.codes
        names = self._parameter_names()
        for k, state in self.optimiser.state_dict()["state"].items():
            for part in ("exp_avg", "exp_avg_sq", "step"):
                tensors[f"optimiser.{part}.{names[k]}"] = torch.as_tensor(state[part])
        _save(self.checkpoint, tensors, {
            "step": str(self.step), "seconds": str(self.seconds), "settings": json.dumps(asdict(self.settings)),
        })

    def _parameter_names(self) -> list[str]:
        """In the optimiser's order."""
        return [k.removeprefix("field.") for k, _ in self.module.named_parameters()]

    def load(self) -> None:
        with safe_open(self.checkpoint, "pt", device=str(self.device)) as file:
            metadata = file.metadata()
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 (not a dictionary)
        saved = asdict(TrainingSettings()) | json.loads(metadata["settings"])  # settings that came later: the defaults
        ours = asdict(self.settings)
        different = [k for k in ours if k not in ("checkpoint_seconds", "compile", "steps") and saved[k] != ours[k]]
        if different:
            raise InputError(
                "run_differs",
                f"The run in {self.folder.name} cannot be resumed with these settings.",
                f"It was started with other values of: {', '.join(different)}.",
                "Resume with the settings it was started with, or start a run under another name.",
            )
        self.field.load_state_dict({k[8:]: v for k, v in tensors.items() if k.startswith("weights.")})
        self.average = {k[8:]: v for k, v in tensors.items() if k.startswith("average.")}
        if isinstance(self.module, AutoDecoder):
            if tensors["codes"].shape != self.module.codes.shape:
                raise InputError(
                    "run_differs",
                    f"The run in {self.folder.name} cannot be resumed with these shapes.",
                    f"It has codes for {len(tensors['codes'])} shapes, not for {len(self.module.codes)}.",
                    "Resume with the library it was started with, or start a run under another name.",
                )
            self.module.codes.data.copy_(tensors["codes"])
        state = {}
        for k, name in enumerate(self._parameter_names()):
            if f"optimiser.step.{name}" in tensors:
                state[k] = {p: tensors[f"optimiser.{p}.{name}"] for p in ("exp_avg", "exp_avg_sq", "step")}
                state[k]["step"] = state[k]["step"].cpu()
        self.optimiser.load_state_dict({"state": state, "param_groups": self.optimiser.state_dict()["param_groups"]})
        self.step, self.seconds = int(metadata["step"]), float(metadata["seconds"])

    def _without_compiling(self, error: Exception) -> None:
        """What torch.compile made has failed at its first step: not every device, system and compiler bears it."""
        if self.world > 1:
            raise JobFailed(
                "compile_failed",
                "The training could not be compiled.",
                f"torch.compile failed on this {self.device.type} ({type(error).__name__}).",
                "Train with compile=false (--set compile=false); it is slower.",
            ) from error
        log.warning(
            "Training goes on without torch.compile, slower: it failed (%s: %.200s).", type(error).__name__, error
        )
        self.objective, self.settings = self.module, replace(self.settings, compile=False)

    def any_says(self, said: bool) -> bool:
        """Whether any process says so: all must leave at the same step, or the others wait for it for ever."""
        if self.world == 1:
            return said
        flag = torch.tensor([float(said)], device=self.device)
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
        return bool(flag.item())

    def agreed(self, number: int) -> int:
        """The first process's number, for all of them."""
        if self.world == 1:
            return number
        told = torch.tensor([number], device=self.device)
        torch.distributed.broadcast(told, 0)
        return int(told.item())

    def averaged_field(self) -> Field:
        """A copy of the field with the moving average of the weights, for validation and for the prior file."""
        if isinstance(self.field, GridField):
            field = GridField(**self.field.arguments).to(self.device)
            field.load_state_dict(self.average)
            return channels_last(field.eval())
        assert isinstance(self.module, AutoDecoder)
        reference = DeepSDF(**self.field.arguments).to(self.device)
        reference.load_state_dict(self.average)
        codes = self.module.codes.detach()
        reference.code_mean.copy_(codes.mean(0))
        reference.code_log_variance.copy_(codes.var(0).clamp(min=1e-8).log())
        return reference.eval()

    def one_step(self, batch: Batch) -> NDArray[np.float64]:
        """One optimiser step; returns loss, distance (thousandths), sign, kl."""
        s, device = self.settings, self.device
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(s, self.step)

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        if isinstance(self.module, AutoDecoder):
            given = move(batch.seats)
        else:
            given = ev.evidence_grid(
                move(batch.points), move(batch.weights), move(batch.origins), move(batch.ray_weights),
                self.field.resolution, move(batch.whole),
            ).contiguous(memory_format=torch.channels_last_3d)
        generator = torch.Generator().manual_seed((s.seed * 1_000_003 + self.step) * 64 + self.rank)
        noise = move(torch.randn((len(batch.points), *self.field.code_shape), generator=generator))
        keep = (torch.rand(len(batch.points), generator=generator) >= s.skip_drop) & ~batch.whole
        arguments = (
            given, move(batch.queries), move(batch.distances), move(batch.gradients), noise, move(keep.float()),
            move(batch.signed.float()),
        )  # fmt: skip

        def differentiate() -> tuple[Tensor, Tensor]:
            self.optimiser.zero_grad(set_to_none=True)
            with torch.autocast(device.type, torch.bfloat16, enabled=s.precision == "bfloat16"):
                loss, parts = self.objective(*arguments)
            loss.backward()
            return loss, parts

        try:
            loss, parts = differentiate()
        except Exception as error:
            if not self.compiling:
                raise
            self._without_compiling(error)
            loss, parts = differentiate()
        self.compiling = False
        nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        decay = min(s.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for k, v in self.field.state_dict().items():
                self.average[k].lerp_(v, 1 - decay)
        return np.array([float(loss.detach()), *parts.tolist()])


@dataclass
class TrainingProgress:
    """step of steps; loss and validation are the latest; seconds_left None while unknown."""

    step: int
    steps: int
    loss: float
    seconds_left: float | None
    validation: dict[str, float] | None = None


def train(
    records: NDArray[np.void],
    indices: NDArray[Any],
    weights: NDArray[Any],
    folder: Path,
    settings: TrainingSettings,
    *,
    device: torch.device,
    resume: bool = False,
    start: Field | None = None,
    validate: Callable[[Field, int], dict[str, float]] | None = None,
    validate_every: int = 1000,
    on_progress: Callable[[TrainingProgress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
    report_every: int = 50,
) -> Run:
    """Train (or go on training) the run in `folder` on records[indices], drawn with the given weights.

    start: a trained field of the same architecture, whose weights a new run begins with (instead of random ones).
    Raises Cancelled when should_stop() says so, after saving; InputError where the folder holds another run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(folder, settings, device, len(indices))
    if run.checkpoint.exists():
        if not resume:
            raise run_exists(folder.name)
        run.load()
    elif start is not None:
        run.begin_with(start)
    curves = folder / "curves.csv"
    if run.rank == 0:
        for left_over in folder.glob("*.part"):  # of a process that was killed while writing
            if _LEFT_OVER.fullmatch(left_over.name) and left_over.is_file():
                left_over.unlink(missing_ok=True)
        _write(folder / "settings.json", json.dumps(asdict(settings), indent=1))
        _forget_rows_after(curves, run.step)
    lock = threading.Lock()

    def prepare(step: int) -> Batch:
        with lock:  # one batch ahead, not one core more
            return make_batch(
                records, indices, weights, settings.batch, settings.queries, [settings.seed, step, run.rank],
                augment=settings.architecture != "deepsdf",  # a seat's code can stand for one shape only
            )

    began, spent = time.monotonic(), run.seconds
    saved = began
    first_step = run.step
    recent: list[NDArray[np.float64]] = []
    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(prepare, run.step)
        while run.step < settings.steps:
            batch = upcoming.result()
            upcoming = pool.submit(prepare, run.step + 1)
            recent.append(run.one_step(batch))
            now = time.monotonic()
            run.seconds = spent + now - began
            if run.rank == 0 and (run.step % report_every == 0 or run.step == settings.steps):
                mean = np.mean(recent, 0)
                recent.clear()
                if not np.isfinite(mean[0]):
                    raise diverged(f"Before step {run.step} the loss stopped being a number.")
                left = (now - began) / (run.step - first_step) * (settings.steps - run.step)
                measured = None
                if validate is not None and (run.step % validate_every == 0 or run.step == settings.steps):
                    measured = validate(run.averaged_field(), run.step)
                _add_row(curves, run.step, run.seconds, mean, measured)
                on_progress(TrainingProgress(run.step, settings.steps, float(mean[0]), left, measured))
            stop = run.any_says(should_stop())
            if run.rank == 0 and (stop or now - saved > settings.checkpoint_seconds or run.step == settings.steps):
                run.save()
                saved = time.monotonic()
            if stop:
                raise Cancelled
    wait_for_all()  # the last checkpoint is there for every process
    return run


# What `_save` and `_write` name while they write into a run's folder, and the pose network's training beside them.
_LEFT_OVER = re.compile(r"(checkpoint\.safetensors|pose\.safetensors|settings\.json|curves\.csv)\.[0-9]+\.part")

_COLUMNS = ["step", "seconds", "loss", "distance_x1000", "sign", "kl"]


def _add_row(path: Path, step: int, seconds: float, values: NDArray[Any], measured: dict[str, float] | None) -> None:
    fresh = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow([*_COLUMNS, "validation"])
        row = [step, f"{seconds:.1f}", *(f"{v:.5f}" for v in values)]
        writer.writerow([*row, json.dumps(measured) if measured else ""])


def _forget_rows_after(path: Path, step: int) -> None:
    """After a kill the table may be ahead of the checkpoint, and its last row cut short."""
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    if step == 0 or not rows:
        path.unlink()
        return
    kept = [row for k, row in enumerate(rows) if k == 0 or (len(row) == len(_COLUMNS) + 1 and int(row[0]) <= step)]
    table = io.StringIO()
    csv.writer(table).writerows(kept)
    _write(path, table.getvalue())


def _write(path: Path, text: str) -> None:
    """Atomically, with the text's own line ends."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    temporary.write_text(text, encoding="utf-8", newline="")
    os.replace(temporary, path)
