"""scripts/build_dataset in miniature: the package format, the conversion, the herding of generator processes."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import io
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from engine.errors import EngineError, InputError
from engine.geometry.meshes import Mesh
from engine.geometry.signed_distance import SignedDistance
from engine.training.library import load_library
from engine.training.shapes import Shape

pytest.importorskip("warp")
pytest.importorskip("fast_simplification")
trimesh = pytest.importorskip("trimesh")

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "build_dataset"


@pytest.fixture(scope="module")
def build() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("build_dataset", str(SCRIPT))
    spec = importlib.util.spec_from_loader("build_dataset", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["build_dataset"] = module  # dataclasses look their module up
    loader.exec_module(module)
    return module


def as_mesh(shape: trimesh.Trimesh) -> Mesh:
    return Mesh(np.asarray(shape.vertices, np.float32), np.asarray(shape.faces, np.int32))


def ar(path: Path, members: dict[str, bytes]) -> None:
    with path.open("wb") as file:
        file.write(b"!<arch>\n")
        for name, content in members.items():
            file.write(f"{name + '/':<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode())
            file.write(content + b"\n" * (len(content) % 2))


# y up: a seat, its back at -z
CHAIR_OBJ = "v -1 0 -1\nv 1 0 -1\nv 1 0 1\nv -1 0 1\nv -1 3 -1\nv 1 3 -1\nf 1 2 3 4\nf 1 2 6 5\n"


def make_deb(path: Path, chairs: int) -> Path:
    properties = ["name=Tiny", "license=Public domain"]
    sh3f = io.BytesIO()
    with zipfile.ZipFile(sh3f, "w") as archive:
        for number in range(1, chairs + 1):
            model = f"/tiny/odd-chair{number}/odd-chair{number}.obj"
            properties += [f"name#{number}=Oak chair", f"category#{number}=Living room", f"model#{number}={model}"]
            properties += [f"creator#{number}=M\u00fcller", f"tags#{number}="]
            archive.writestr(model[1:], CHAIR_OBJ.replace("3 -1", f"{3 + 0.2 * number} -1"))
        last = chairs + 1
        properties += [f"name#{last}=Workbench", f"category#{last}=Office", f"model#{last}=/tiny/b/b.obj"]
        archive.writestr("PluginFurnitureCatalog.properties", "\n".join(properties).encode("latin-1"))
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as tar:
        member = tarfile.TarInfo("./usr/share/sweethome3d/furniture/BlendSwap-CC-0.sh3f")
        member.size = len(sh3f.getvalue())
        tar.addfile(member, io.BytesIO(sh3f.getvalue()))
    ar(path, {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": data.getvalue()})
    return path


def test_a_package_becomes_a_library(build: ModuleType, tmp_path: Path) -> None:
    deb = make_deb(tmp_path / "a package.deb", chairs=5)
    folder = tmp_path / "лібрарі" / "sweethome3d"
    build.build_sweethome3d(folder, deb, small=True)
    library = load_library(folder, splits_by_design=False)
    assert [shape.name for shape in library.shapes] == [f"BlendSwap-CC-0__odd_chair{n}" for n in range(1, 6)]
    assert [shape.split for shape in library.shapes] == ["train", "train", "validation", "train", "train"]
    first = library.shapes[0]
    assert (first.class_name, first.licence, first.creator) == ("chair", "CC0-1.0", "Müller")
    assert "| BlendSwap-CC-0__odd_chair1 | Müller | CC0-1.0 |" in (folder / "CREDITS.md").read_text(encoding="utf-8")
    vertices = library.mesh(0).vertices  # z up, the back at +y, so that the front is -y
    np.testing.assert_allclose(vertices.min(0), [-1, -1, 0], atol=1e-3)
    np.testing.assert_allclose(vertices.max(0), [1, 1, 3.2], atol=1e-3)
    assert (vertices[vertices[:, 2] > 3][:, 1] > 0.99).all()
    before = (folder / "index.tsv").stat().st_mtime_ns
    build.build_sweethome3d(folder, deb, small=True)
    assert (folder / "index.tsv").stat().st_mtime_ns == before


def test_damaged_packages_are_refused(build: ModuleType, tmp_path: Path) -> None:
    whole = make_deb(tmp_path / "whole.deb", chairs=1).read_bytes()
    for name, content in (("cut", whole[:-300]), ("text", b"hello"), ("foreign", b"!<arch>\n")):
        (tmp_path / f"{name}.deb").write_bytes(content)
        with pytest.raises(InputError) as caught:
            build.furniture_files(tmp_path / f"{name}.deb", tmp_path / "scratch")
        assert caught.value.code == ("deb_foreign" if name == "foreign" else "deb_damaged")


@pytest.mark.parametrize(
    ("name", "category", "tags", "expected"),
    [
        ("Armchair", "Living room", "Seat", "chair"),
        ("Piano bench", "Living room", "", "stool"),
        ("Round table", "Living room", "", "table"),
        ("Pool table", "Miscellaneous", "", ""),
        ("Wine bottle", "Kitchen", "Drink", "bottle"),
        ("Glass door", "Doors and windows", "", ""),
        ("Ford Focus", "Vehicles", "Blend Swap, Car", "car"),
        ("Truck", "Vehicles", "Car", ""),
        ("Glass door cabinet", "Kitchen", "", "cabinet_shelf"),
        ("Toaster", "Kitchen", "", ""),
    ],
)
def test_classes_from_the_catalogue(build: ModuleType, name: str, category: str, tags: str, expected: str) -> None:
    assert build.class_of({"name": name, "category": category, "tags": tags}) == expected


def test_a_fifth_of_each_class_is_held_out(build: ModuleType) -> None:
    shapes = [Shape("s", c, f"{n:02}") for n in range(20) for c in ("a", "b")]
    split = build.with_validation(shapes)
    for c in ("a", "b"):
        assert sum(s.split == "validation" for s in split if s.class_name == c) == 4


def test_parts_are_turned_outward(build: ModuleType) -> None:
    good, bad = trimesh.creation.box((1, 1, 1)), trimesh.creation.icosphere(2, 0.4)
    bad.invert()
    bad.apply_translation([3, 0, 0])
    seams = trimesh.util.concatenate([good, bad])
    seams.unmerge_vertices()
    turned = build.turn_parts_outward(as_mesh(seams))
    again = trimesh.Trimesh(turned.vertices, turned.faces)
    parts = again.split(only_watertight=True)
    assert len(parts) == 2 and all(part.volume > 0 for part in parts)


def test_faces_are_reduced_only_where_the_surface_stays(build: ModuleType) -> None:
    ball = as_mesh(trimesh.creation.icosphere(6, 0.5))
    smaller = build.reduce_faces(ball)
    assert len(smaller.faces) <= 5000 < len(ball.faces)
    assert build.same_surface(ball, SignedDistance(ball), smaller)
    assert not build.same_surface(ball, SignedDistance(ball), build.Mesh(smaller.vertices * 1.02, smaller.faces))
    rough = Mesh(
        ball.vertices * np.random.default_rng(0).uniform(0.8, 1.2, (len(ball.vertices), 1)).astype(np.float32),
        ball.faces,
    )
    assert len(build.reduce_faces(rough).faces) == len(rough.faces)


WORKER = """
import json, os, sys, time
import numpy as np
open(sys.argv[1], "w").close()
for line in sys.stdin:
    job = json.loads(line)
    if job["seed"] == 1:
        time.sleep(600)
    if job["seed"] == 2:
        sys.exit(3)
    if job["seed"] == 3:
        open(job["output"] + ".failed", "w").write("no luck")
        continue
    with open(job["output"] + ".part", "wb") as file:
        np.savez(file, vertices=np.eye(3, dtype=np.float32) * (1 + job["seed"]), faces=np.array([[0, 1, 2]], np.int32))
    os.replace(job["output"] + ".part", job["output"])
"""


def test_generators_that_hang_or_die_cost_one_shape_each(build: ModuleType, tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)
    jobs = [
        build.Job("chair", "seating", "ChairFactory", seed, tmp_path / f"chair_{seed:05d}.npz") for seed in range(7)
    ]
    pool = build.Pool(Path(sys.executable), jobs, 2, 6.0, tmp_path / "log", shapes_a_process=3, worker=worker)
    pool.run()
    made = {int(file.stem[-5:]) for file in tmp_path.glob("chair_*.npz")}
    assert made == {0, 4, 5, 6}
    reasons = {file.name[6:11]: file.read_text() for file in tmp_path.glob("*.failed")}
    assert set(reasons) == {"00001", "00002", "00003"}
    assert "within 6 s" in reasons["00001"] and "ended with 3" in reasons["00002"]


def test_a_generator_that_never_starts_is_reported(build: ModuleType, tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text("raise SystemExit(1)")
    jobs = [build.Job("chair", "seating", "ChairFactory", 0, tmp_path / "chair_00000.npz")]
    with pytest.raises(EngineError) as caught:
        build.Pool(Path(sys.executable), jobs, 2, 1.0, tmp_path / "log", worker=worker).run()
    assert caught.value.code == "generator_does_not_start"


def test_generated_shapes_are_added_to_what_is_there(build: ModuleType, tmp_path: Path, monkeypatch) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)
    asked: list[int] = []

    class Recording(build.Pool):
        def __init__(self, python: Path, jobs: list, workers: int, time_limit: float, log_file: Path) -> None:
            asked.extend(job.seed for job in jobs)
            super().__init__(python, jobs, workers, time_limit, log_file, worker=worker)

    monkeypatch.setattr(build, "Pool", Recording)
    monkeypatch.setattr(build, "python_of_environment", lambda: Path(sys.executable))
    folder = tmp_path / "infinigen"
    build.build_infinigen(folder, {"chair": 1}, 1, 5.0)
    build.build_infinigen(folder, {"chair": 1, "cup": 1}, 1, 5.0)
    assert asked == [0, 0]
    library = load_library(folder)
    assert [shape.key for shape in library.shapes] == ["infinigen/chair/chair_00000", "infinigen/cup/cup_00000"]
    assert not list((folder / ".parts").glob("*.npz"))
    corners = library.mesh(0).vertices  # +x of the generator is -y here, +y is +x
    np.testing.assert_allclose(np.sort(corners @ [1, 10, 100]), [-10, 1, 100], atol=0.01)
