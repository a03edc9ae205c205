"""The command line: exit status, the one JSON object, the three sentences of every error, and what is written."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import __version__
from engine.cli import entry as cli
from engine.cli import registry, terminal
from engine.errors import Cancelled
from engine.geometry.clouds import PointCloud
from engine.geometry.files import read_shape, write_cloud
from engine.geometry.meshes import Mesh
from engine.jobs import kinds
from engine.jobs.base import JobArrays, JobCallbacks, JobResult, Progress
from engine.jobs.complete.request import CompleteRequest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    points = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    path = tmp_path / "my scän.ply"
    write_cloud(path, PointCloud(points, viewpoint=np.float32([1, 2, 3])))
    return path


class Recorder:
    """Stands in for the completion: keeps what it was asked and answers with one tetrahedron a hypothesis."""

    def __init__(self) -> None:
        self.requests: list[CompleteRequest] = []
        self.arrays: list[JobArrays] = []
        self.error: BaseException | None = None
        self.told: dict[str, Any] = {}

    def __call__(self, request: CompleteRequest, arrays: JobArrays, callbacks: JobCallbacks) -> JobResult:
        self.requests.append(request)
        self.arrays.append(arrays)
        if self.error is not None:
            raise self.error
        callbacks.on_progress(Progress("Fitting the shape", 0.5, 3.0))
        corners = np.float32([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
        faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.int32)
        meshes = [Mesh(corners + np.float32(n), faces) for n in range(request.hypotheses)]
        report = {
            "prior": {"name": request.prior, "version": "1"},
            "residual": {"median": np.float32(0.5), "p95": float("nan")},
        }
        return JobResult(meshes, report | self.told)


def run_instead(monkeypatch: pytest.MonkeyPatch, kind: str, runner: str) -> None:
    """Jobs of the kind are done by 'module:function'."""
    monkeypatch.setitem(kinds._registered, kind, dataclasses.replace(kinds.find(kind), run=runner))


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(sys.modules[__name__], "_recorder", recorder, raising=False)
    run_instead(monkeypatch, "complete", f"{__name__}:_recorder")
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    return recorder


def run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    status = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def refused(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    """Runs with --json what has to end with status 2; returns the error's code."""
    status, out, err = run(capsys, *arguments, "--json")
    assert status == 2, err
    error = json.loads(out)["error"]
    assert err.splitlines() == [error["what"], error["why"], error["remedy"]] and all(error.values())
    return error["code"]


# ------------------------------------------------------------------------------------------------------------ complete


def test_complete_writes_every_hypothesis_and_reports(
    capsys: pytest.CaptureFixture[str], recorder: Recorder, scan: Path, tmp_path: Path
) -> None:
    out_file = tmp_path / "out pût.ply"
    status, out, err = run(capsys, "complete", scan, "-o", out_file, "--hypotheses", 3, "--seed", 5, "--json")
    assert status == 0
    report = json.loads(out, parse_constant=pytest.fail)
    assert out.count("\n") == 1
    expected = [out_file, tmp_path / "out pût_2.ply", tmp_path / "out pût_3.ply"]
    assert report["outputs"] == [str(path) for path in expected] and report["input"] == str(scan)
    for number, path in enumerate(expected):
        mesh = read_shape(path)
        assert isinstance(mesh, Mesh) and mesh.vertices.min() == number
    assert report["residual"] == {"median": 0.5, "p95": None}
    assert report["request"]["seed"] == 5
    assert {"read_input", "write_output", "total"} <= set(report["timings"])
    assert report["versions"]["shapewright"] == __version__
    assert "Fitting the shape" in err


def test_complete_hands_settings_and_arrays_over(
    capsys: pytest.CaptureFixture[str], recorder: Recorder, scan: Path, tmp_path: Path
) -> None:
    run(capsys, "complete", scan, "-o", tmp_path / "a.obj", "--prior", "p", "--align", "similarity", "--up", "-y",
        "--viewpoint", "-1,2.5,1e1", "--resolution", "96", "--device", "cpu")  # fmt: skip
    run(capsys, "complete", scan, "-o", tmp_path / "b.stl", "--up", "y")
    run(capsys, "complete", scan, "-o", tmp_path / "c.ply", "--class", "chair", "--noise", "0.01", "--ground", "keep",
        "--faces", "500")  # fmt: skip
    first, second, third = recorder.requests
    assert (third.class_name, third.noise, third.ground, third.max_faces) == ("chair", 0.01, "keep", 500)
    assert first == CompleteRequest(
        prior="p", align="similarity", up="-y", viewpoint=(-1.0, 2.5, 10.0), resolution=96, device="cpu", name=scan.stem
    )
    assert second.up == "+y" and second.viewpoint == (1.0, 2.0, 3.0)  # the file's own
    points = read_shape(scan)
    assert isinstance(points, PointCloud)
    np.testing.assert_array_equal(recorder.arrays[0].points, points.points)
    assert (tmp_path / "a.obj").exists() and (tmp_path / "b.stl").exists()


def test_complete_tells_people_what_it_did(
    capsys: pytest.CaptureFixture[str], recorder: Recorder, scan: Path, tmp_path: Path
) -> None:
    status, out, _ = run(capsys, "complete", scan, "-o", tmp_path / "a.glb")
    assert status == 0 and str(tmp_path / "a.glb") in out and "{" not in out


def test_warnings_and_confidence_are_told(
    capsys: pytest.CaptureFixture[str], recorder: Recorder, scan: Path, tmp_path: Path
) -> None:
    warning = {"code": "c", "what": "What happened.", "why": "The cause.", "remedy": "Use Fit Shape."}
    recorder.told = {"warnings": [warning], "confidence": {"value": 0.123, "threshold": 0.5}}
    _, said, _ = run(capsys, "complete", scan, "-o", tmp_path / "a.ply")
    assert "Confidence 0.12" in said and "Warning: What happened. The cause. Use Fit Shape." in said


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["-o", "missing folder/x.ply"], "output_folder"),
        (["-o", "x.docx"], "output_format"),
        (["-o", "x"], "output_format"),
        (["-o", "folder.ply"], "output_is_folder"),
        (["-o", "my scän.ply"], "output_is_input"),
        (["-o", "x.ply", "--resolution", "4"], "request_invalid"),
        (["-o", "x.ply", "--hypotheses", "99"], "request_invalid"),
        (["-o", "x.ply", "--up", "sky"], "request_invalid"),
        (["-o", "x.ply", "--viewpoint", "1,2"], "usage"),
        (["-o", "x.ply", "--viewpoint", "1,2,nan"], "request_invalid"),
        (["-o", "x.ply", "--align", "maybe"], "usage"),
        (["-o", "x.ply", "--device", "toaster"], "usage"),
        (["-o", "x.ply", "--seed", "-3"], "request_invalid"),
        (["-o", "x.ply", "--colour", "red"], "usage"),
        ([], "usage"),
    ],
)
def test_complete_refuses_before_it_computes(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    recorder: Recorder,
    scan: Path,
    options: list[str],
    code: str,
) -> None:
    monkeypatch.chdir(scan.parent)
    (scan.parent / "folder.ply").mkdir()
    before = scan.read_bytes()
    assert refused(capsys, "complete", scan, *options) == code
    assert not recorder.requests and scan.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("missing.ply", None, "file_missing"),
        ("empty.ply", b"", "file_empty"),
        ("text.ply", b"dear diary\n", "file_damaged"),
        ("scan.docx", b"x", "format_unknown"),
        ("one.xyz", b"1 2 3\n", "cloud_too_small"),
        ("equal.xyz", b"1 2 3\n" * 50, "cloud_degenerate"),
        ("absurd.xyz", b"".join(b"%de30 0 %d\n" % (i, i % 7) for i in range(1, 50)), "coordinates_absurd"),
        ("nan.xyz", b"nan nan nan\n" * 50, "cloud_not_finite"),
    ],
)
def test_bad_inputs_end_with_status_two(
    capsys: pytest.CaptureFixture[str], recorder: Recorder, tmp_path: Path, name: str, content: bytes | None, code: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert refused(capsys, "complete", tmp_path / name, "-o", tmp_path / "out.ply") == code
    assert not (tmp_path / "out.ply").exists() and not recorder.requests


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Cancelled(), 130, "cancelled"),
        (KeyboardInterrupt(), 130, "cancelled"),
        (MemoryError(), 3, "out_of_memory"),
        (ValueError("what?"), 3, "internal_error"),
    ],
)
def test_a_failed_job_writes_nothing_and_says_why(
    capsys: pytest.CaptureFixture[str],
    recorder: Recorder,
    scan: Path,
    tmp_path: Path,
    error: BaseException,
    status: int,
    code: str,
) -> None:
    recorder.error = error
    got, out, _ = run(capsys, "complete", scan, "-o", tmp_path / "out.ply", "--json")
    assert (got, json.loads(out)["error"]["code"]) == (status, code)
    assert not (tmp_path / "out.ply").exists()


SLEEPER = """
import dataclasses, sys, time
from engine.cli import entry as cli
from engine.errors import Cancelled
from engine.jobs import kinds

def sleep(request, arrays, callbacks):
    print("running", file=sys.stderr, flush=True)
    while not callbacks.should_stop():
        time.sleep(0.02)
    raise Cancelled

sys.modules["sleeper"] = sys.modules["__main__"]
kinds.register(dataclasses.replace(kinds.find("complete"), run="sleeper:sleep"), replace=True)
sys.exit(cli.main())
"""


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_interrupting_ends_with_status_130(scan: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SLEEPER, "complete", str(scan), "-o", str(tmp_path / "o.ply"), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert process.stderr is not None
    assert process.stderr.readline().strip() == b"running"
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert json.loads(out)["error"]["code"] == "cancelled"


# ----------------------------------------------------------------------------------------------- the whole, for real


REPORT_FIELDS = (
    "prior", "seed", "alignment", "residual", "hypotheses", "timings", "evaluations", "device", "versions", "input",
    "outputs", "request",
)  # fmt: skip


def test_the_example_is_completed_the_same_way_twice(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    reports = []
    for name in ("one.ply", "two.ply"):
        status, out, err = run(
            capsys, "complete", ROOT / "examples" / "chair_scan.ply", "-o", tmp_path / name, "--resolution", 32,
            "--device", "cpu", "--json",
        )  # fmt: skip
        assert status == 0, err
        reports.append(json.loads(out))
    assert (tmp_path / "one.ply").read_bytes() == (tmp_path / "two.ply").read_bytes()
    for report in reports:
        assert all(report[field] is not None for field in REPORT_FIELDS)
        assert report["prior"]["name"] == "household" and len(report["prior"]["sha256"]) == 64
        assert np.asarray(report["alignment"]["matrix"]).shape == (4, 4) and report["alignment"]["scale"] > 0
        assert {"median", "p95"} <= set(report["residual"])
    # The scan stands at (1.2, -0.4, 0), 0.85 m tall: its completion has to lie over it.
    scan, whole = read_shape(ROOT / "examples" / "chair_scan.ply"), read_shape(tmp_path / "one.ply")
    assert isinstance(scan, PointCloud) and isinstance(whole, Mesh)
    np.testing.assert_allclose(np.median(whole.vertices, 0), np.median(scan.points, 0), atol=0.4)
    assert 0.5 < np.ptp(whole.vertices, 0).max() < 1.7


# ---------------------------------------------------------------------------------------------------------- the others


def test_usage_errors_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys) == "usage"
    assert refused(capsys, "explode") == "usage"
    for arguments in (["--help"], ["--version"], ["complete", "--help"], ["serve", "--help"]):
        with pytest.raises(SystemExit) as left:
            cli.main(arguments)
        assert left.value.code == 0
        assert capsys.readouterr().out


def test_a_registered_command_is_one_like_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    def add(commands: Any, common: argparse.ArgumentParser) -> None:
        parser = commands.add_parser("greet", parents=[common], help="say hello")
        parser.add_argument("name")
        parser.set_defaults(run=lambda options: terminal.answer(options, {"hello": options.name}, ["hello"]))

    assert refused(capsys, "greet", "you") == "usage"
    registry.register("greet", add)
    try:
        assert run(capsys, "greet", "you", "--json")[:2] == (0, '{"hello": "you"}\n')
        with pytest.raises(SystemExit):
            cli.main(["--help"])
        assert "say hello" in capsys.readouterr().out
        for name in ("greet", "complete"):
            with pytest.raises(ValueError, match=name):
                registry.register(name, add)
    finally:
        registry.unregister("greet")


def test_every_file_of_the_folder_is_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    files = {path.stem for path in (ROOT / "engine" / "cli" / "commands").glob("*.py")} - {"__init__"}
    assert {"complete", "fit", "generate", "train", "doctor"} <= files
    for name in files:
        with pytest.raises(SystemExit) as left:
            cli.main([name, "--help"])
        assert left.value.code == 0 and f"shapewright {name}" in capsys.readouterr().out


def test_commands_lean_on_each_other_in_one_direction() -> None:
    """No file of commands/ is imported by another, nobody but the package itself imports entry, and private names stay
    where they are."""
    room = ROOT / "engine" / "cli"
    for path in room.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert node.module not in ("entry", "cli.entry") or path == room / "__init__.py", path
                assert "commands" not in (node.module or ""), path
                assert not any(alias.name.startswith("_") and alias.name != "__version__" for alias in node.names), path


def test_installed_scripts_find_the_command_after_an_update() -> None:
    """They were written when the package was installed, and call what the entry point was then: engine.cli:main."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]["shapewright"]
    assert declared == "engine.cli:main"
    code = "import sys; from engine.cli import main; import engine.cli.entry; sys.exit(main(['--version']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and __version__ in done.stdout, done.stderr
    code = "import engine.cli.entry, engine.cli; assert callable(engine.cli.main)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


# ------------------------------------------------------------------------------------------------------------ any kind


def test_any_kind_runs_with_the_options_of_its_schema(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, out, _ = run(capsys, "run", "--json")
    assert status == 0 and {"selftest", "slide", "complete"} <= set(json.loads(out)["kinds"])
    with pytest.raises(SystemExit):
        cli.main(["run", "slide", "--help"])
    assert "a list of at most 64 numbers from -10 to 10" in " ".join(capsys.readouterr().out.split())
    status, out, err = run(
        capsys, "run", "selftest", "--resolution", 24, "--device", "cpu", "-o", tmp_path, "--format", "obj", "--json"
    )
    report = json.loads(out)
    assert status == 0 and report["request"]["resolution"] == 24, err
    (written,) = report["outputs"]
    mesh = read_shape(Path(written))
    assert isinstance(mesh, Mesh) and len(mesh.faces) == report["faces"]
    assert refused(capsys, "run", "selftest", "--resolution", 24, "-o", tmp_path, "--format", ".obj") == "output_exists"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["nothing"], "kind_unknown"),
        (["selftest", "--resolution", "some"], "request_invalid"),
        (["selftest", "--colour", "red"], "usage"),
        (["selftest", "SCAN"], "usage"),
        (["complete"], "usage"),
        (["complete", "SCAN", "--viewpoint", "1,2"], "request_invalid"),
        (["complete", "SCAN", "--align", "maybe"], "request_invalid"),
    ],
)
def test_what_a_kind_does_not_take_is_refused(
    capsys: pytest.CaptureFixture[str], recorder: Recorder, scan: Path, arguments: list[str], code: str
) -> None:
    assert refused(capsys, "run", *[scan if one == "SCAN" else one for one in arguments]) == code
    assert not recorder.requests


def test_a_kind_gets_inputs_and_settings(
    capsys: pytest.CaptureFixture[str], recorder: Recorder, scan: Path, tmp_path: Path
) -> None:
    options = ["--hypotheses", "2", "--class-name", "12", "--noise", "0.5", "--viewpoint", "-1,2,3"]
    status, out, _ = run(capsys, "run", "complete", scan, *options, "-o", tmp_path / "new", "--json")
    assert status == 0 and len(json.loads(out)["outputs"]) == 2
    assert recorder.requests[0] == CompleteRequest(hypotheses=2, class_name="12", noise=0.5, viewpoint=(-1.0, 2.0, 3.0))
    assert len(recorder.arrays[0].points) == 200
    run(capsys, "run", "complete", scan)
    assert recorder.requests[1].viewpoint == (1.0, 2.0, 3.0)  # the file's own


# -------------------------------------------------------------------------------------------------------------- priors


def test_priors(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "priors", "list", "--json")
    names = [prior["name"] for prior in json.loads(out)["priors"]]
    assert status == 0 and "household" in names
    for arguments in (["priors"], ["priors", "list"]):
        status, out, _ = run(capsys, *arguments)
        assert status == 0 and "household" in out
    status, out, _ = run(capsys, "priors", "show", "household", "--json")
    card = json.loads(out)
    assert status == 0 and card["name"] == "household" and "chair" in card["classes"]
    status, out, _ = run(capsys, "priors", "verify", "household", "--json")
    assert status == 0 and json.loads(out)["ok"] is True


def test_a_bad_prior_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"\x10" + bytes(100))
    assert refused(capsys, "priors", "show", "unheard-of") == "prior_not_found"
    assert refused(capsys, "priors", "verify", damaged) == "prior_damaged"


def test_doctor_checks_everything_that_a_job_needs(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "doctor", "--json", "--device", "cpu")
    answer = json.loads(out)
    assert status == 0 and answer["ok"] is True, out + err
    assert {"python", "torch", "device", "priors", "data folder", "self-test"} <= {c["name"] for c in answer["checks"]}


def test_doctor_names_what_is_broken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocker = tmp_path / "a file"
    blocker.write_bytes(b"")
    (tmp_path / "priors").mkdir()
    (tmp_path / "priors" / "mine.safetensors").write_bytes(b"\x10" + bytes(100))
    monkeypatch.setenv("SHAPEWRIGHT_DATA_DIR", str(blocker / "data"))
    monkeypatch.setenv("SHAPEWRIGHT_PRIORS", str(tmp_path / "priors"))
    run_instead(monkeypatch, "selftest", f"{__name__}:_broken_selftest")
    status, out, _ = run(capsys, "doctor", "--json", "--device", "cpu")
    answer = json.loads(out)
    assert status == 3 and answer["ok"] is False
    failed = {check["name"]: check for check in answer["checks"] if not check["ok"]}
    assert set(failed) == {"priors", "data folder", "self-test"}
    assert all(check["remedy"] for check in failed.values())
    status, out, _ = run(capsys, "doctor", "--device", "cpu")
    assert status == 3 and "FAIL" in out


def _broken_selftest(request: Any, arrays: Any, callbacks: Any) -> JobResult:
    raise MemoryError


def test_module_and_command_are_the_same(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    answer = subprocess.run(
        [sys.executable, "-m", "engine", "--version"], cwd=tmp_path, env=environment, capture_output=True, check=True
    )
    assert answer.stdout.decode().strip() == f"shapewright {__version__}"


def test_serve_answers_soon_and_leaves_on_interrupt(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "engine", "serve", "--data-dir", str(tmp_path / "d"), "--parent-stdin"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
        # Tests that run in the background inherit an ignored interrupt.
        preexec_fn=(lambda: signal.signal(signal.SIGINT, signal.default_int_handler)) if os.name == "posix" else None,
    )
    assert process.stdout is not None and process.stdin is not None
    assert json.loads(process.stdout.readline())["port"] > 0
    if os.name == "posix":
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130
    process.stdin.close()
    process.wait(120)
    process.stdout.close()


WITHOUT_EXTRAS = """
import sys
import tomllib
for name in ("igl", "warp", "embreex", "fast_simplification", "xatlas", "matplotlib", "PIL", "pymeshlab", "trimesh",
             "skimage", "numba", "bpy", "pytest", "hypothesis", "httpx"):
    sys.modules[name] = None
import engine.cli, engine.jobs.complete.run, engine.server.serve, engine.server.app, engine.server.worker
from engine.jobs.run import run_job
from engine.jobs.base import JobCallbacks
from engine.jobs.selftest.request import SelftestRequest
assert len(run_job(SelftestRequest(device="cpu"), None, JobCallbacks()).meshes[0].faces) > 1000
"""


def test_jobs_need_no_more_than_the_declared_dependencies() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", WITHOUT_EXTRAS], env=environment, check=True)
