"""What lies in the folder of jobs: a start takes what is the engine's and leaves everything else as it is."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from engine.server import storage
from tests.engine.server.conftest import server, strange_command

ID = "20200102T030405-0123456789ab"
OLD = time.time() - 30 * 86_400
links = pytest.mark.skipif(sys.platform == "win32", reason="making links needs a right that users lack")


def tree(folder: Path) -> dict[str, bytes | str | None]:
    """Every entry below `folder`, links not followed -> content, or the link's target."""
    found: dict[str, bytes | str | None] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path)] = os.readlink(path)
        else:
            found[str(path)] = path.read_bytes() if path.is_file() else None
    return found


def age(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        if not path.is_symlink():
            os.utime(path, (OLD, OLD))


def write(path: Path, text: str = "mine") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def test_a_start_leaves_what_is_not_the_engines(tmp_path: Path) -> None:
    jobs = tmp_path / "data dür" / "jobs"
    write(jobs / "holiday pictures" / "beach.jpg")
    write(jobs / "thesis" / "chapters" / "1.tex")
    write(jobs / "thesis" / "state.json", '{"id": "thesis"}')
    write(jobs / f"{ID}-copy" / "request.json")
    write(jobs / ID.upper() / "mesh_1.npz")
    write(jobs / "notes.txt")
    write(jobs / ID.replace("2020", "2021"))  # a file with a job's name
    (jobs / "empty").mkdir()
    mixed = jobs / ID.replace("2020", "2022")  # a job's folder without a state, in which somebody keeps something
    for name in ("arrays.npz", "request.json", "mesh_3.npz", "state.json.abcd1234.tmp"):
        write(mixed / name)
    for name in ("mesh_final.npz", "report.pdf", "meshes/mesh_1.npz", "xarrays.npz"):
        write(mixed / name)
    age(jobs)
    before = tree(jobs)
    with server(tmp_path, strange_command(tmp_path)) as client:
        assert client.http.get("/v1/jobs").json()["jobs"] == []
    removed = {path.removeprefix(f"{mixed}{os.sep}") for path in before.keys() - tree(jobs).keys()}
    assert removed == {"arrays.npz", "request.json", "mesh_3.npz", "state.json.abcd1234.tmp"}
    assert tree(jobs).items() <= before.items()
    log = (tmp_path / "log.txt").read_text("utf-8")
    assert log.count("are not the engine's and stay") == 1 and "holiday pictures" in log and "report.pdf" in log


def test_an_upload_that_never_finished_goes_after_a_day(tmp_path: Path) -> None:
    old, new = tmp_path / ID, tmp_path / ID.replace("2020", "2021")
    for folder in (old, new):
        write(folder / "arrays.npz")
    age(old)
    assert storage.read_adoptable(tmp_path) == ([], [])
    assert not old.exists() and (new / "arrays.npz").exists()


@links
def test_no_link_is_followed_or_removed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    for name in ("arrays.npz", "mesh_1.npz", "request.json", "precious.txt"):
        write(elsewhere / name)
    write(elsewhere / "real state.json", f'{{"id": "{ID}"}}')
    jobs = tmp_path / "data dür" / "jobs"
    jobs.mkdir(parents=True)
    (jobs / ID).symlink_to(elsewhere, target_is_directory=True)
    inside = jobs / ID.replace("2020", "2021")
    inside.mkdir()
    (inside / "arrays.npz").symlink_to(elsewhere / "arrays.npz")
    (inside / "mesh_1.npz").symlink_to(elsewhere, target_is_directory=True)
    stated = jobs / ID.replace("2020", "2022")
    write(stated / "arrays.npz")
    (stated / "state.json").symlink_to(elsewhere / "real state.json")
    (jobs / ID.replace("2020", "2023")).symlink_to(tmp_path / "nothing")
    age(elsewhere), age(inside), age(stated)
    before = tree(tmp_path / "data dür"), tree(elsewhere)
    with server(tmp_path, strange_command(tmp_path)) as client:
        assert client.http.get("/v1/jobs").json()["jobs"] == []
    assert (tree(tmp_path / "data dür"), tree(elsewhere)) == before
    for folder in jobs.iterdir():
        storage.remove_folder(folder)
    assert tree(elsewhere) == before[1] and inside.is_dir() and not (stated / "arrays.npz").exists()


def test_a_job_is_deleted_whole_but_what_was_put_beside_it_stays(tmp_path: Path) -> None:
    folder = storage.new_folder(tmp_path)
    for name in ("request.json", "mesh_1.npz", "mesh_12.npz"):
        write(folder / name)
    storage.write_state(folder, {"id": folder.name})
    assert storage.is_job_folder(folder) and storage.folder_size(folder) > 12
    mine = write(folder / "mesh_1.blend")
    storage.remove_folder(folder)
    assert list(folder.iterdir()) == [mine]
    mine.unlink()
    storage.remove_folder(folder)
    assert not folder.exists()
    storage.remove_folder(folder)  # again is no fault
