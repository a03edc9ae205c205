"""What completions are compared with: answers to the same scans that need no prior."""

from __future__ import annotations

import importlib.util
import logging
import multiprocessing
from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from ..errors import InputError
from ..folders import user_cache_folder
from ..geometry.clouds import FloatArray, PointCloud
from ..geometry.meshes import Mesh
from ..geometry.sampling import estimate_normals, sample_surface
from ..training.categories import OTHER
from ..training.library import Library
from ..training.shapes import canonicalise
from .protocol import digest

log = logging.getLogger(__name__)

BASELINES = ("input", "input + mirror", "retrieval", "poisson")


FOOTNOTES = {
    "input": "the observed points themselves taken as the answer",
    "input + mirror": "the observed points and their mirror image in x = 0; knows the shape's own frame",
    "retrieval": "the training shape nearest to the observed points (one-sided distance); knows the shape's own frame",
    "deepsdf": "the reference procedure: 8 x 512 auto-decoder, code found by Adam, dense marching cubes (Park 2019)",
    "poisson": "screened Poisson reconstruction of the observed points (Kazhdan and Hoppe 2013), no prior",
}


class Retrieval:
    """The training shapes as points. Built once for a library and remembered in the user's cache folder."""

    COARSE, FINE = 512, 4096

    def __init__(self, library: Library) -> None:
        self.library = library
        self.members = [i for i in library.indices(split="train") if library.shapes[i].category != OTHER]
        if not self.members:
            raise InputError(
                "no_training_shapes",
                "The nearest training shape cannot be found.",
                "The library holds no training shapes.",
                "Leave out the baseline 'retrieval', or give the library the prior was trained on.",
            )
        keys = [library.shapes[i].key for i in self.members]
        file = user_cache_folder() / f"retrieval-{digest(1, str(library.folder.resolve()), keys)}.npy"
        try:
            self.points = np.load(file, mmap_mode="r", allow_pickle=False)
            if self.points.shape != (len(keys), self.FINE, 3):
                raise ValueError
        except (OSError, ValueError):
            log.info("sampling %d training shapes for the retrieval baseline", len(keys))
            points = np.zeros((len(keys), self.FINE, 3), np.float16)
            for row, i in enumerate(self.members):
                mesh, _ = canonicalise(library.mesh(i))
                points[row] = sample_surface(mesh, self.FINE, np.random.default_rng(i))[0]
            self.points = points
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                partial = file.with_suffix(f".{multiprocessing.current_process().pid}.part")
                with partial.open("wb") as stream:
                    np.save(stream, points)
                partial.replace(file)
            except OSError as error:
                log.warning("the sampled training shapes could not be remembered: %s", error)
        self._trees = [cKDTree(np.asarray(cloud[: self.COARSE], np.float32)) for cloud in self.points]

    def nearest(self, observed: FloatArray) -> Mesh:
        """The training shape with the least mean distance from the observed points to its surface: coarse over all of
        them, fine over the best forty."""
        rng = np.random.default_rng(0)
        few = observed[rng.choice(len(observed), min(200, len(observed)), replace=False)]
        coarse = np.array([tree.query(few)[0].mean() for tree in self._trees])
        best = np.argsort(coarse)[:40]
        many = observed[rng.choice(len(observed), min(1500, len(observed)), replace=False)]
        fine = [cKDTree(np.asarray(self.points[k], np.float32)).query(many)[0].mean() for k in best]
        return canonicalise(self.library.mesh(self.members[int(best[int(np.argmin(fine))])]))[0]


def poisson(observed: PointCloud, depth: int = 8) -> Mesh | None:
    """Screened Poisson surface of the points (normals estimated, turned to the viewpoint), without a prior, or None
    where it finds none. Needs pymeshlab."""
    import pymeshlab  # type: ignore[import-untyped, unused-ignore]

    normals = estimate_normals(observed.points, 16, observed.viewpoint)
    work = pymeshlab.MeshSet()
    work.add_mesh(pymeshlab.Mesh(observed.points.astype(np.float64), v_normals_matrix=normals.astype(np.float64)))
    work.generate_surface_reconstruction_screened_poisson(depth=depth, preclean=True, threads=1)
    result = work.current_mesh()
    if result.face_number() == 0:
        return None
    return Mesh(result.vertex_matrix().astype(np.float32), result.face_matrix().astype(np.int32))


def available(baselines: Sequence[str]) -> list[str]:
    wanted = []
    for method in baselines:
        if method not in BASELINES:
            raise ValueError(f"no baseline is called {method!r}; there are {BASELINES}")
        if method == "poisson" and importlib.util.find_spec("pymeshlab") is None:
            log.warning("the baseline 'poisson' is left out: pymeshlab is not installed (pip install pymeshlab)")
            continue
        wanted.append(method)
    return wanted
