"""What the functions behind `fused` do. Only `machine_code` imports this module, to compile them: it imports numba."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, cfunc, njit, types  # type: ignore[attr-defined]
from numba.extending import intrinsic

from ..frames import BOUND

LANES = 64
"""Points that go through the layers together: activations of 20 x 64 and twice 32 x 64 numbers stay in 32 kB."""

_OPTIONS: dict[str, Any] = {
    # Sums may be reordered and fused; NaN and infinity keep their meaning, so that a broken field is noticed.
    "fastmath": {"contract", "reassoc", "nsz", "arcp"},
    "error_model": "numpy",
    # Of what calls it: left a function, it would be another piece of machine code that has to be kept and found, and
    # what could fail within it would be told to Python, which the machine code is not to know.
    "forceinline": True,
}

_part: Any = njit(**_OPTIONS)

f32, i32 = np.float32, np.int32
_numbers: Any = types.CPointer(types.float32)  # type: ignore[no-untyped-call]
_int, _float = types.int64, types.float32


def _bits_as_float(typing_context: Any, bits: Any) -> Any:
    """int32 -> the float32 with the same bits."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return types.float32(types.int32), code


_as_float: Any = intrinsic(_bits_as_float)


@_part
def _silu(values: Any) -> None:
    """x / (1 + exp(-x)) in place. exp is 2^k times a Taylor series on [-ln 2 / 2, ln 2 / 2], to rounding; numba's own
    would be one call a number."""
    for n in range(len(values)):
        x = values[n]
        y = -x
        y = y if y > f32(-86.0) else f32(-86.0)
        y = y if y < f32(87.0) else f32(87.0)
        k = i32(y * f32(1.4426950408889634) + f32(127.5))
        r = y - (f32(k) - f32(127.0)) * f32(0.6931471805599453)
        p = r * f32(1 / 5040) + f32(1 / 720)
        p = p * r + f32(1 / 120)
        p = p * r + f32(1 / 24)
        p = p * r + f32(1 / 6)
        p = p * r + f32(1 / 2)
        p = p * r + f32(1)
        p = p * r + f32(1)
        values[n] = x / (f32(1) + p * _as_float(i32(k << i32(23))))


@_part
def _dense(weights: Any, bias: Any, given: Any, out: Any) -> None:
    """out (J, LANES) = weights (J, I) given (I, LANES) + bias (J,). J even, I a multiple of four."""
    rows, inputs = weights.shape
    for j in range(0, rows, 2):
        p, q = out[j], out[j + 1]
        for n in range(LANES):
            p[n] = bias[j]
            q[n] = bias[j + 1]
        for i in range(0, inputs, 4):
            a0, a1, a2, a3 = weights[j, i], weights[j, i + 1], weights[j, i + 2], weights[j, i + 3]
            b0, b1, b2, b3 = weights[j + 1, i], weights[j + 1, i + 1], weights[j + 1, i + 2], weights[j + 1, i + 3]
            x0, x1, x2, x3 = given[i], given[i + 1], given[i + 2], given[i + 3]
            for n in range(LANES):
                p[n] += a0 * x0[n] + a1 * x1[n] + a2 * x2[n] + a3 * x3[n]
                q[n] += b0 * x0[n] + b1 * x1[n] + b2 * x2[n] + b3 * x3[n]


@_part
def _place(x: Any, side: Any) -> Any:
    """A coordinate -> the cell-centred cell below it and how far it lies towards the next. NaN -> the first cell."""
    at = (x + f32(BOUND)) * f32(side / (2 * BOUND)) - f32(0.5)
    at = at if at > f32(0) else f32(0)
    at = at if at < f32(side - 1) else f32(side - 1)
    cell = min(int(at), side - 2)
    return cell, at - f32(cell)


@_part
def _interpolate(flat: Any, side: Any, width: Any, x: Any, y: Any, z: Any, out: Any) -> None:
    """out (W,): trilinear interpolation of flat (R^3 * W) at one point."""
    i, u = _place(x, side)
    j, v = _place(y, side)
    k, w = _place(z, side)
    one = f32(1)
    a, b, c, d = (one - u) * (one - v), (one - u) * v, u * (one - v), u * v
    a0, a1, b0, b1 = a * (one - w), a * w, b * (one - w), b * w
    c0, c1, d0, d1 = c * (one - w), c * w, d * (one - w), d * w
    at = ((i * side + j) * side + k) * width
    # Slices, not sums of indices: what the compiler needs to see that the loop is one of vectors.
    p0, p1 = flat[at : at + width], flat[at + width : at + 2 * width]
    at += side * width
    q0, q1 = flat[at : at + width], flat[at + width : at + 2 * width]
    at += (side - 1) * side * width
    r0, r1 = flat[at : at + width], flat[at + width : at + 2 * width]
    at += side * width
    s0, s1 = flat[at : at + width], flat[at + width : at + 2 * width]
    for n in range(width):
        out[n] = (
            a0 * p0[n] + a1 * p1[n] + b0 * q0[n] + b1 * q1[n] + c0 * r0[n] + c1 * r1[n] + d0 * s0[n] + d1 * s1[n]
        )


@_part
def _grid(
    flat: Any, side: Any, width: Any, points: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any, scale: Any,
    out: Any, features: Any, x: Any, h: Any, g: Any, total: Any, h_row: Any, g_row: Any,
) -> None:  # fmt: skip
    for start in range(0, len(points), LANES):
        count = min(LANES, len(points) - start)
        for n in range(count):
            px, py, pz = points[start + n, 0], points[start + n, 1], points[start + n, 2]
            _interpolate(flat, side, width, px, py, pz, features[n])
            x[width, n], x[width + 1, n], x[width + 2, n] = px, py, pz
        for c in range(width):
            row = x[c]
            for n in range(LANES):
                row[n] = features[n, c]
        _dense(w1, b1, x, h)
        _silu(h_row)
        _dense(w2, b2, h, g)
        _silu(g_row)
        for n in range(LANES):
            total[n] = b3
        for j in range(len(w3)):
            row = g[j]
            for n in range(LANES):
                total[n] += w3[j] * row[n]
        for n in range(count):
            out[start + n] = scale * total[n]


@_part
def _lattice(flat: Any, side: Any, points: Any, out: Any) -> None:
    one = f32(1)
    for n in range(len(points)):
        i, u = _place(points[n, 0], side)
        j, v = _place(points[n, 1], side)
        k, w = _place(points[n, 2], side)
        p = (i * side + j) * side + k
        q, r = p + side, p + side * side
        s = r + side
        low = (one - v) * ((one - w) * flat[p] + w * flat[p + 1]) + v * ((one - w) * flat[q] + w * flat[q + 1])
        high = (one - v) * ((one - w) * flat[r] + w * flat[r + 1]) + v * ((one - w) * flat[s] + w * flat[s + 1])
        out[n] += (one - u) * low + u * high


@cfunc(types.void(*[_numbers, _int, _int, _numbers, _int], *[_numbers] * 5, _int, _int, _float, _float,
                  *[_numbers] * 6), **_OPTIONS)  # fmt: skip
def grid(
    flat: Any, side: Any, width: Any, points: Any, count: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any,
    inputs: Any, hidden: Any, b3: Any, scale: Any, out: Any, features: Any, x: Any, h: Any, g: Any, total: Any,
) -> None:  # fmt: skip
    """out (P,): scale * MLP(features interpolated from flat (R^3 * W), point) with two SiLU layers.

    Pointers to contiguous float32.  points: (P, 3).  w1: (J, I) over W features and three coordinates; w2: (J, J);
    w3: (J,); I and J padded to multiples of four with 0.  Space to work in, of no meaning afterwards: features
    (LANES, W), x (I, LANES) with zeros in the padding's rows, h and g (J, LANES), total (LANES,).
    """
    _grid(
        carray(flat, (side * side * side * width,)), side, width, carray(points, (count, 3)),
        carray(w1, (hidden, inputs)), carray(b1, (hidden,)), carray(w2, (hidden, hidden)), carray(b2, (hidden,)),
        carray(w3, (hidden,)), b3, scale, carray(out, (count,)), carray(features, (LANES, width)),
        carray(x, (inputs, LANES)), carray(h, (hidden, LANES)), carray(g, (hidden, LANES)), carray(total, (LANES,)),
        carray(h, (hidden * LANES,)), carray(g, (hidden * LANES,)),
    )  # fmt: skip


@cfunc(types.void(_numbers, _int, _numbers, _int, _numbers), **_OPTIONS)
def lattice(flat: Any, side: Any, points: Any, count: Any, out: Any) -> None:
    """out (P,) += trilinear interpolation at points (P, 3) of one number a cell, flat (R^3,)."""
    _lattice(carray(flat, (side * side * side,)), side, carray(points, (count, 3)), carray(out, (count,)))
