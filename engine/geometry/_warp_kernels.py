"""The one kernel that needs warp at import time (kept apart so that importing geometry stays light)."""

# No `from __future__ import annotations` here: warp reads the annotations as types.
import warp


@warp.kernel  # type: ignore[untyped-decorator]
def closest_point(mesh: warp.uint64, queries: warp.array(dtype=warp.vec3), out: warp.array(dtype=warp.vec3)):  # type: ignore
    i = warp.tid()
    hit = warp.mesh_query_point_no_sign(mesh, queries[i], 10.0)
    out[i] = warp.mesh_eval_position(mesh, hit.face, hit.u, hit.v)  # type: ignore[attr-defined]
