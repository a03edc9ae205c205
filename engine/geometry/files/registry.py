"""The formats: each a file in this folder that says `FORMATS = (Format(...), ...)`, found without a list of them.

A format of somebody's own (a test's, a plugin's: engine.plugins) is added by `register`. It is then read and written
by every command, by the batch script and by whoever calls `load` or `write_mesh`. The wire carries arrays and the
extension gives Blender's own objects, so neither ever sees a file's format.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import logging
import os
import pkgutil
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ... import plugins
from ...errors import InputError
from ..clouds import PointCloud
from ..meshes import Mesh
from . import gates
from .axes import TO_SCENE, cloud_in, mesh_in, stood_up, turned
from .gates import Damaged, Float64Array
from .loaded import Loaded, Raw, checked

log = logging.getLogger(__name__)

MeshWriter = Callable[[Mesh, Float64Array], bytes]
CloudWriter = Callable[[PointCloud, Float64Array], bytes]


@dataclass(frozen=True)
class Companion:
    """A second file that a format needs for what it has no room for itself.

    suffix: of its name, else the mesh's own.  head: what files of ours begin with; others are never written over.
    write: mesh -> content, empty where none is needed.  name: (the mesh's content, the file's name) -> the content
    that names it.
    """

    suffix: str
    head: str
    write: Callable[[Mesh], bytes]
    name: Callable[[bytes, str], bytes]

    def path(self, path: Path) -> Path:
        """Where it goes for a mesh at `path`: beside it."""
        beside = path.with_suffix(self.suffix)
        try:
            with beside.open("rb") as stream:
                ours = stream.read(len(self.head.encode())) == self.head.encode()
        except OSError:
            ours = not beside.exists()
        return beside if ours else path.with_name(f"{path.stem}_shapewright{self.suffix}")


@dataclass(frozen=True)
class Format:
    """One file format.

    name: as people call it.  suffixes: with the dot, lower case.  read: path -> Raw; complains by gates.Damaged or an
    InputError; whatever else it raises on a strange file counts as damage.  write_mesh, write_cloud: (shape, offset
    (3,)) -> content, where offset is to be added to every coordinate in double precision as far as the format can.
    packages: importable names -> what pip calls them, of the optional packages that it needs.  isolated: read in a
    process of its own (engine.geometry.files.isolated).  most_bytes: larger files are refused unopened.
    up: the file's up axis, '+z' or '+y', by Blender's importer; readers and writers see the file's own axes.
    companion: written beside a mesh that has what the format has no room for.
    by, carries: a few words each for docs/files.md.  colours: whether a written mesh has colours.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[Path], Raw] | None = None
    write_mesh: MeshWriter | None = None
    write_cloud: CloudWriter | None = None
    packages: tuple[tuple[str, str], ...] = ()
    isolated: bool = False
    most_bytes: int = gates.MAX_BYTES
    up: str = "+z"
    companion: Companion | None = None
    by: str = "own"
    carries: str = "points"
    colours: bool = True


_formats: dict[str, Format] = {}
_found = False


def register(added: Format) -> None:
    """Make a format known to everything that reads or writes files. Raises ValueError where a suffix is taken."""
    _discover()
    _add(added)


def unregister(removed: Format) -> None:
    for suffix in removed.suffixes:
        _formats.pop(suffix, None)


def _add(added: Format) -> None:
    for suffix in added.suffixes:
        if suffix != suffix.lower() or not suffix.startswith("."):
            raise ValueError(f"{suffix!r} is no suffix in lower case")
        if suffix in _formats:
            raise ValueError(f"{suffix} is {_formats[suffix].name} already")
        _formats[suffix] = added


def _discover() -> None:
    """Import every public module of this folder once and take the formats that it declares; then those of plugins."""
    global _found
    if _found:
        return
    package = __name__.rpartition(".")[0]
    names = sorted(module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))
    modules = [importlib.import_module(f"{package}.{name}") for name in names if not name.startswith("_")]
    _found = True
    for module in modules:
        for one in getattr(module, "FORMATS", ()):
            _add(one)
    plugins.load("formats")


def format_of(path: Path) -> Format | None:
    """The format of a path's suffix."""
    _discover()
    return _formats.get(path.suffix.lower())


def formats() -> list[Format]:
    """All of them, each once, by name."""
    _discover()
    return sorted({id(one): one for one in _formats.values()}.values(), key=lambda one: one.name.lower())


def readable() -> list[str]:
    """Suffixes that `load` knows, sorted."""
    _discover()
    return sorted(suffix for suffix, one in _formats.items() if one.read)


def writable(what: str = "mesh") -> list[str]:
    """Suffixes that write_mesh ('mesh') or write_cloud ('cloud') knows, sorted."""
    _discover()
    return sorted(s for s, one in _formats.items() if (one.write_mesh if what == "mesh" else one.write_cloud))


def load(path: Path | str, *, as_written: bool = False) -> Loaded:
    """A file's shape, checked, standing as Blender's importer shows it; as_written: in the file's own axes.

    Raises InputError: codes of engine.geometry.files.gates and engine.geometry.checks.
    """
    path = Path(path)
    raw = read_raw(path)
    one = format_of(path)
    turn = TO_SCENE["+z" if as_written or one is None else one.up]
    return dataclasses.replace(checked(stood_up(raw, turn), path.name), turn=turn)


def read_shape(path: Path | str) -> Mesh | PointCloud:
    """The shape alone: a Mesh where the file has triangles, else a PointCloud. The log gets the notes."""
    loaded = load(path)
    for note in loaded.notes:
        log.warning("%s: %s", Path(path).name, note)
    return loaded.shape


def read_raw(path: Path) -> Raw:
    """What the file holds, behind the gates but unchecked, in its own axes."""
    suffix = path.suffix.lower()
    size = _size(path)
    one = format_of(path)
    if one is None or one.read is None:
        raise gates.format_unknown(path, readable())
    if size == 0:
        raise InputError(
            "file_empty", f"{path.name} cannot be read.", "The file is empty.", "Export it again and check its size."
        )
    if size > one.most_bytes:
        raise gates.too_large(
            path.name, f"It has {size / 2**20:,.0f} MB; at most {one.most_bytes // 2**20:,} MB are read."
        )
    missing = [pip for module, pip in one.packages if importlib.util.find_spec(module) is None]
    if missing:
        raise gates.package_missing(path, one.name, missing)
    try:
        if one.isolated:
            from .isolated import read_isolated

            return read_isolated(path)
        return one.read(path)
    except InputError:
        raise
    except MemoryError:
        raise gates.too_large(path.name, "It does not fit into the memory.") from None
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        # Hostile bytes make readers raise whatever their languages have (lazrs: a panic, no Exception).
        if isinstance(error, OSError) and error.errno is not None:
            raise gates.unreadable(path, error) from None
        log.debug("%s", path.name, exc_info=True)
        detail = str(error) if isinstance(error, Damaged) else f"Its content makes no sense ({type(error).__name__})."
        raise InputError(
            "file_damaged",
            f"{path.name} cannot be read.",
            detail,
            f"Check that it opens elsewhere and really is {suffix[1:].upper()}, then export or copy it again.",
        ) from error


def _size(path: Path) -> int:
    try:
        if path.is_dir():
            raise InputError(
                "file_is_folder",
                f"{path.name or path} cannot be read.",
                "It is a folder, not a file.",
                "Name a file in it; for a whole folder use the batch script.",
            )
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            "file_missing",
            f"{path.name or path} cannot be read.",
            f"There is no file {path}.",
            "Check the name and the folder.",
        ) from None
    except (OSError, ValueError) as error:
        raise gates.unreadable(path, error) from None


# --- writing ---------------------------------------------------------------------------------------------------------


def write_mesh(path: Path | str, mesh: Mesh, offset: Float64Array | None = None) -> None:
    """Writes a mesh of the scene (z up) in the format of the suffix, moved by offset (3,), and its companion.

    The file appears whole or not at all: what stood there before stays until the new one is complete.
    Raises InputError 'format_unknown', 'output_unwritable'.
    """
    path = Path(path)
    one = format_of(path)
    if one is None or one.write_mesh is None:
        raise gates.format_unknown(path, writable("mesh"))
    turn = TO_SCENE[one.up]
    content = one.write_mesh(mesh_in(mesh, turn), _offset_in(offset, turn))
    beside = b"" if one.companion is None else one.companion.write(mesh)
    if one.companion is not None and beside:
        second = one.companion.path(path)
        content = one.companion.name(content, second.name)
        _write_whole(second, beside)
    _write_whole(path, content)


def write_cloud(path: Path | str, cloud: PointCloud, offset: Float64Array | None = None) -> None:
    """Writes points, normals, colours and viewpoint as far as the suffix's format has room. Otherwise as write_mesh."""
    path = Path(path)
    one = format_of(path)
    if one is None or one.write_cloud is None:
        raise gates.format_unknown(path, writable("cloud"))
    turn = TO_SCENE[one.up]
    _write_whole(path, one.write_cloud(cloud_in(cloud, turn), _offset_in(offset, turn)))


def _offset_in(offset: Float64Array | None, turn: Float64Array) -> Float64Array:
    return np.zeros(3) if offset is None else np.asarray(turned(np.asarray(offset, np.float64), turn.T))


def _write_whole(path: Path, content: bytes) -> None:
    temporary = path.parent / f".{secrets.token_hex(8)}.part"
    try:
        try:
            with temporary.open("xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise InputError(
            "output_unwritable",
            f"{path.name} cannot be written.",
            f"The system says: {reason}.",
            "Check that the folder exists, may be written to, and that the disk is not full.",
        ) from None
