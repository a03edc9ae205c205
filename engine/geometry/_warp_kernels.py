"""The kernels that need warp at import time (kept apart so that importing geometry stays light)."""

# No `from __future__ import annotations` here: warp reads the annotations as types.
import warp


@warp.kernel  # type: ignore[untyped-decorator]
def closest_point(mesh: warp.uint64, queries: warp.array(dtype=warp.vec3), out: warp.array(dtype=warp.vec3)):  # type: ignore
    i = warp.tid()
    hit = warp.mesh_query_point_no_sign(mesh, queries[i], 10.0)
    out[i] = warp.mesh_eval_position(mesh, hit.face, hit.u, hit.v)  # type: ignore[attr-defined]


@warp.kernel  # type: ignore[untyped-decorator]
def first_hit(  # type: ignore
    mesh: warp.uint64,
    origins: warp.array(dtype=warp.vec3),  # type: ignore[valid-type]
    directions: warp.array(dtype=warp.vec3),  # type: ignore[valid-type]
    far: float,
    face: warp.array(dtype=warp.int32),  # type: ignore[valid-type]
    t: warp.array(dtype=warp.float32),  # type: ignore[valid-type]
):
    i = warp.tid()
    hit = warp.mesh_query_ray(mesh, origins[i], directions[i], far)
    if hit.result:  # type: ignore[attr-defined]
        face[i] = hit.face  # type: ignore[attr-defined]
        t[i] = hit.t  # type: ignore[attr-defined]
    else:
        face[i] = -1
        t[i] = 0.0
