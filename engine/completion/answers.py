"""Several whole shapes for one scan, each with its mesh: what is alike counts once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from scipy.spatial import cKDTree

from ..errors import JobFailed
from ..fields.shapes import Parts, Patches
from ..geometry.clouds import PointCloud
from ..geometry.meshes import Mesh
from ..geometry.transforms import moved_cloud
from ..priors.file import Prior
from ..surfaces.cleanup import clean_mesh
from ..surfaces.of import Surface, of
from .closing import closing
from .complete import Completion, complete_several
from .hypotheses import variation
from .settings import CompletionSettings

FIRST_LOOK = 32
"""Cells along the box of the first preview; later ones are finer."""
SAME_SHAPE = 0.006
"""Answers nearer than this to one another (mean distance, canonical) count as one."""
TOGETHER = 4
"""Hypotheses after the first are optimised so many at once: memory stays bounded."""


@dataclass
class Answer:
    """mesh: canonical, of the completion's frame."""

    completion: Completion
    mesh: Mesh


@dataclass
class Question:
    """What is asked of a prior about a scan.

    cloud: canonical.  count: answers wanted.  class_name: chosen, or '' = each answer draws one by `shares` (of the
    pose network).  seed: the k-th answer to a seed depends on nothing else.  close_gaps: see engine.completion.closing.
    """

    cloud: PointCloud
    settings: CompletionSettings
    count: int = 1
    resolution: int = 128
    class_name: str = ""
    shares: dict[str, float] = field(default_factory=dict)
    seed: int = 0
    close_gaps: bool = True


@dataclass
class Listener:
    """Who wants to know of the way. on_stage: (first and last + 1 of the hypotheses in work, stage, 0..1 of them).
    on_look: a canonical mesh of the first answer, its resolution, and the completion.  lap: a stage is over."""

    on_stage: Callable[[tuple[int, int], str, float], None] = lambda work, stage, within: None
    on_look: Callable[[Mesh, int, Completion], None] = lambda mesh, resolution, completion: None
    lap: Callable[[str], None] = lambda stage: None
    should_stop: Callable[[], bool] = lambda: False


class Answering:
    """answers: so far, in the order in which they came.  evaluations: field queries spent.  device_peak: bytes."""

    def __init__(self, prior: Prior, question: Question, listener: Listener) -> None:
        self.prior, self.question, self.listener = prior, question, listener
        self.answers: list[Answer] = []
        self.evaluations = 0
        self.device_peak: int | None = None

    def run(self) -> list[Answer]:
        """At most question.count answers that differ. Raises JobFailed "empty_surface", Cancelled.

        The first is found alone, so that it is seen as early as if it were the only one; the others in batches.
        """
        count = self.question.count
        for work in pairwise([0, *range(1, count, TOGETHER), count]):
            group = self._complete(work)
            self.listener.lap("optimise")
            for number, completion in enumerate(group):
                mesh = self._extract(completion, work, number)
                if not any(_same(mesh, other.mesh) for other in self.answers):
                    self.answers.append(Answer(completion, mesh))
            self.listener.lap("extract")
        return self.answers

    def _complete(self, work: tuple[int, int]) -> list[Completion]:
        ask, (start, end) = self.question, work
        return complete_several(
            self.prior,
            ask.cloud,
            replace(ask.settings, seed=ask.seed + 1000 * start, temperature=1.0 if start else 0.0),
            [variation(self.prior, k, ask.seed, ask.class_name, ask.shares) for k in range(start, end)],
            on_stage=lambda stage, within: self.listener.on_stage(work, stage, 0.05 + 0.6 * within),
            on_first=self._first_look,
            should_stop=self.listener.should_stop,
        )

    def _first_look(self, completion: Completion) -> None:
        if self.answers:
            return
        try:
            surface = of(completion.whole, FIRST_LOOK, device=self.prior.device)
        except JobFailed:
            return  # nothing to show yet; the optimisation may still find a surface
        self.evaluations += surface.evaluations
        self.listener.on_look(surface.mesh, FIRST_LOOK, completion)

    def _extract(self, completion: Completion, work: tuple[int, int], number: int) -> Mesh:
        """The mesh of a completion, the `number`-th of those in work."""
        finest, count = self.question.resolution, work[1] - work[0]

        def on_level(mesh: Mesh, resolution: int) -> None:
            # No finer than the first look, it may be farther from the result: thin parts fall through the lattice.
            if FIRST_LOOK < resolution < finest and not self.answers:
                self.listener.on_look(mesh, resolution, completion)
            done = (number + resolution / finest) / count
            self.listener.on_stage(work, "Extracting the surface", 0.65 + 0.35 * done)

        surface = of(
            completion.whole, finest, device=self.prior.device, on_level=on_level,
            should_stop=self.listener.should_stop, with_normals=True,
        )  # fmt: skip
        self.evaluations += completion.evaluations + surface.evaluations
        if surface.peak_bytes is not None:
            self.device_peak = max(self.device_peak or 0, surface.peak_bytes)
        if isinstance(completion.shape, Patches | Parts):
            return surface.mesh  # of pieces by nature
        observed = completion.pose.apply(self.question.cloud.points)
        if self.question.close_gaps and completion.residual is not None:
            surface = self._closed(completion, surface)
        return clean_mesh(surface.mesh, observed=observed)


    def _closed(self, completion: Completion, surface: Surface) -> Surface:
        """The surface without tears: its narrow tunnels and gaps closed in the completion's correction."""
        seen = moved_cloud(self.question.cloud, completion.pose)
        completion.closed = closing(surface.mesh, completion.signed_distance, seen, self.prior.device)
        if completion.closed.lattice is None:
            return surface
        again = of(
            completion.whole, self.question.resolution, device=self.prior.device,
            should_stop=self.listener.should_stop, with_normals=True,
        )  # fmt: skip
        self.evaluations += again.evaluations
        return again


def _same(mesh: Mesh, other: Mesh) -> bool:
    """Whether two canonical meshes are one answer: both mean vertex distances below SAME_SHAPE."""
    a, b = mesh.vertices[::7], other.vertices[::7]
    return (
        float(np.mean(cKDTree(b).query(a)[0])) < SAME_SHAPE and float(np.mean(cKDTree(a).query(b)[0])) < SAME_SHAPE
    )
