"""The kernels of `_numba_kernels` as machine code that is kept: compiled once on a machine, then only loaded.

numba can keep what it compiles too, but to load that it has to be imported and made ready itself, about 0.7 s of every
start. Here its object code lies in a file, and llvmlite alone links it into the process in a tenth of that. The process
that compiles runs what it has kept, so the first run's numbers are those of all later ones.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import logging
import os
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..folders import default_data_dir

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]

_SOURCE = Path(__file__).with_name("_numba_kernels.py")
_GRID = "pii pi ppppp iiff p ppppp"
_LATTICE = "pi pi p"
"""Arguments of the two functions: p a pointer to float32, i an int64, f a float32."""


@dataclass
class _Object:
    """One function's object code and the name it has there."""

    name: str
    code: bytes


@dataclass
class _Kept:
    """lanes: points that go through the layers together."""

    grid: _Object
    lattice: _Object
    lanes: int


class Kernels:
    """The functions, on contiguous float32 arrays. They let go of Python's lock while they run."""

    def __init__(self, kept: _Kept) -> None:
        import llvmlite.binding as llvm

        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        # Code that frees an array of its own stands in the objects, though all arrays are the caller's.
        self._never = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda pointer: None)
        llvm.add_symbol("NRT_MemInfo_call_dtor", ctypes.cast(self._never, ctypes.c_void_p).value)
        machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
            cpu=_cpu()[0], features=_cpu()[1], opt=3, codemodel="jitdefault", jit=True
        )
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        for one in (kept.grid, kept.lattice):
            self._engine.add_object_file(llvm.ObjectFileRef.from_data(one.code))
        self._engine.finalize_object()
        self._grid = self._function(kept.grid.name, _GRID)
        self._lattice = self._function(kept.lattice.name, _LATTICE)
        self._lanes = kept.lanes

    def _function(self, name: str, arguments: str) -> Callable[..., None]:
        kinds = {"p": ctypes.c_void_p, "i": ctypes.c_int64, "f": ctypes.c_float}
        address = self._engine.get_function_address(name)
        if not address:
            raise ValueError(f"the object code has no function {name}")
        return ctypes.CFUNCTYPE(None, *[kinds[one] for one in arguments.replace(" ", "")])(address)

    def grid(
        self, flat: Floats, side: int, points: Floats, w1: Floats, b1: Floats, w2: Floats, b2: Floats, w3: Floats,
        b3: float, scale: float, out: Floats,
    ) -> None:  # fmt: skip
        """out (P,): scale * MLP(features interpolated from flat (R^3 * W), points (P, 3)) with two SiLU layers.

        w1: (J, I) over W features and three coordinates; w2: (J, J); w3: (J,); I and J padded with 0 to multiples of 4.
        """
        width, (hidden, inputs) = len(flat) // side**3, w1.shape
        sizes = [self._lanes * rows for rows in (width, inputs, hidden, hidden, 1)]
        space = [np.zeros(size, np.float32) for size in sizes]
        layers = [_at(one) for one in (w1, b1, w2, b2, w3)]
        self._grid(
            _at(flat), side, width, _at(points), len(points), *layers, inputs, hidden, b3, scale, _at(out),
            *[_at(one) for one in space],
        )  # fmt: skip

    def lattice(self, flat: Floats, side: int, points: Floats, out: Floats) -> None:
        """out (P,) += trilinear interpolation at points (P, 3) of one number a cell, flat (R^3,)."""
        self._lattice(_at(flat), side, _at(points), len(points), _at(out))


def _at(array: Floats) -> int:
    assert array.dtype == np.float32 and array.flags.c_contiguous
    return array.ctypes.data


def load() -> Kernels:
    """The kernels, compiled where no code for this machine is kept. Raises ImportError where numba is needed and
    missing, and what llvmlite raises."""
    file = f"kernels-{_key()}.npz"
    folders = _folders()
    for folder in folders:
        found = _read(folder / file)
        if found is not None:
            return Kernels(found)
    compiled = _compile()
    for folder in folders:
        if _write(folder / file, compiled):
            break
    else:
        log.warning("Compiled kernels cannot be kept (in %s): every start compiles them again.", folders[-1])
    return Kernels(compiled)


def _folders() -> list[Path]:
    """Where code is kept: beside the source as Python keeps its own, else in the user's cache folder."""
    return [_SOURCE.parent / "__pycache__", default_data_dir() / "kernels"]


def _cpu() -> tuple[str, str]:
    import llvmlite.binding as llvm

    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


def _key() -> str:
    """Of everything that the code depends on."""
    import llvmlite
    import llvmlite.binding as llvm

    try:
        numba = importlib.metadata.version("numba")
    except importlib.metadata.PackageNotFoundError:
        numba = ""
    parts = [_SOURCE.read_bytes(), numba, llvmlite.__version__, llvm.get_process_triple(), *_cpu()]
    return hashlib.sha256(b"\0".join(p if isinstance(p, bytes) else p.encode() for p in parts)).hexdigest()[:24]


def _compile() -> _Kept:
    from . import _numba_kernels as source

    log.info("Compiling the kernels, once on this machine")
    return _Kept(_object(source.grid), _object(source.lattice), source.LANES)


def _object(compiled: Any) -> _Object:
    """Of what numba's `cfunc` made."""
    library = compiled._library
    module = library._final_module
    outside = set(re.findall(r"^declare .*?@\"?([\w.]+)", str(module), re.MULTILINE))
    foreign = {name for name in outside if not name.startswith("llvm.")} - {"NRT_MemInfo_call_dtor"}
    if foreign:
        raise ValueError(f"the kernels would need {', '.join(sorted(foreign))} of numba's")
    return _Object(compiled.native_name, library._codegen._tm.emit_object(module))


def _read(path: Path) -> _Kept | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            grid, lattice = (
                _Object(str(file[f"{name}_name"]), file[f"{name}_code"].tobytes()) for name in ("grid", "lattice")
            )
            return _Kept(grid, lattice, int(file["lanes"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:  # cut short, say: made anew
        log.warning("The kept kernels %s cannot be read (%s)", path, error)
        return None


def _write(path: Path, compiled: _Kept) -> bool:
    """Whether it could be written; as a whole or not at all."""
    grid, lattice = compiled.grid, compiled.lattice
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            np.savez(
                file, grid_name=np.array(grid.name), grid_code=np.frombuffer(grid.code, np.uint8),
                lattice_name=np.array(lattice.name), lattice_code=np.frombuffer(lattice.code, np.uint8),
                lanes=np.array(compiled.lanes),
            )  # fmt: skip
        os.replace(temporary, path)
    except OSError as error:
        log.info("Compiled kernels cannot be kept in %s: %s", path.parent, error)
        return False
    return True
