"""The state of a training run: family, moving average, optimiser, checkpoint, on one process of possibly several."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import InputError, JobFailed
from ..fields.base import Clouds, Examples, Family, Objective, create
from ..fields.registry import family
from .batches import Batch
from .settings import TrainingSettings, learning_rate

log = logging.getLogger(__name__)


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
        self.field: Family = create(family(settings.architecture), settings.arguments).to(device).laid_out()
        self.module: Objective = self.field.objective(settings, seats).to(device)
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

    def begin_with(self, start: Family) -> None:
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
        tensors |= self._beside()
        names = self._parameter_names()
        for k, state in self.optimiser.state_dict()["state"].items():
            for part in ("exp_avg", "exp_avg_sq", "step"):
                tensors[f"optimiser.{part}.{names[k]}"] = torch.as_tensor(state[part])
        _save(self.checkpoint, tensors, {
            "step": str(self.step), "seconds": str(self.seconds), "settings": json.dumps(asdict(self.settings)),
        })

    def _beside(self) -> dict[str, Tensor]:
        """What is learnt beside the family's weights."""
        return {k: v for k, v in self.module.state_dict().items() if not k.startswith("field.")}

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
        for name, value in self._beside().items():
            if tensors[name].shape != value.shape:
                raise InputError(
                    "run_differs",
                    f"The run in {self.folder.name} cannot be resumed with these shapes.",
                    f"It has {name} for {len(tensors[name])} shapes, not for {len(value)}.",
                    "Resume with the library it was started with, or start a run under another name.",
                )
            value.copy_(tensors[name])
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

    def averaged_field(self) -> Family:
        """A copy of the field with the moving average of the weights, for validation and for the prior file."""
        field = create(type(self.field), self.field.arguments).to(self.device)
        field.load_state_dict(self.average)
        self.module.settle(field)
        return field.eval().laid_out()

    def one_step(self, batch: Batch) -> NDArray[np.float64]:
        """One optimiser step; returns the loss and the objective's parts."""
        s, device = self.settings, self.device
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(s, self.step)

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        clouds = Clouds(
            move(batch.points), move(batch.weights), move(batch.origins), move(batch.ray_weights), move(batch.whole)
        )
        observation = self.field.observe(clouds)
        generator = torch.Generator().manual_seed((s.seed * 1_000_003 + self.step) * 64 + self.rank)
        noise = move(torch.randn((len(batch.points), *self.field.code_shape), generator=generator))
        keep = (torch.rand(len(batch.points), generator=generator) >= s.skip_drop) & ~batch.whole
        examples = Examples(
            clouds, move(batch.queries), move(batch.distances), move(batch.gradients), move(batch.signed.float()),
            move(batch.seats), noise, move(keep.float()),
        )  # fmt: skip

        def differentiate() -> tuple[Tensor, Tensor]:
            self.optimiser.zero_grad(set_to_none=True)
            with torch.autocast(device.type, torch.bfloat16, enabled=s.precision == "bfloat16"):
                loss, parts = self.objective(observation, examples)
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
                if v.is_floating_point():
                    self.average[k].lerp_(v, 1 - decay)
                else:  # counters
                    self.average[k].copy_(v)
        return np.array([float(loss.detach()), *parts.tolist()])
