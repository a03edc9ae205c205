"""Training: it learns, survives being killed at any moment, refuses what is not its run, and runs on two processes."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.cli import entry as cli
from engine.errors import Cancelled, InputError, JobFailed
from engine.fields.base import Clouds, Examples
from engine.fields.families.grid import GridField
from engine.fields.objectives import gradient_loss
from engine.geometry.clouds import PointCloud
from engine.geometry.connected import is_watertight
from engine.geometry.files import read_shape, write_cloud
from engine.geometry.meshes import Mesh
from engine.priors.file import load_prior
from engine.training.batches import make_batch
from engine.training.library import load_library
from engine.training.prior_training import Selection, learn_latent, parse_overrides
from engine.training.run import Run
from engine.training.settings import PRESETS, TrainingSettings, learning_rate
from engine.training.train import TrainingProgress, train

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")

TINY = TrainingSettings(
    arguments={"code_channels": 4, "width": 4, "hidden": 16, "resolution": 8},
    steps=14,
    batch=2,
    queries=256,
    learning_rate=0.02,
    precision="float32",
)


def run_training(records: np.ndarray, folder: Path, settings: TrainingSettings = TINY, **options: Any) -> Run:
    indices = np.arange(len(records))
    return train(records, indices, np.ones(len(records)), folder, settings, device=CPU, **options)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "curves.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def uninterrupted(records: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Run:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    run = run_training(records, tmp_path_factory.mktemp("runs") / "whole", report_every=2)
    torch.set_num_threads(before)
    return run


def test_training_lowers_the_loss(records: np.ndarray, tmp_path: Path) -> None:
    told: list[TrainingProgress] = []
    measured: list[int] = []

    def validate(field: GridField, step: int) -> dict[str, float]:
        assert not field.training
        measured.append(step)
        return {"f_score": 0.5}

    settings = replace(TINY, steps=60, learning_rate=0.03)
    run = run_training(
        records, tmp_path / "run", settings, validate=validate, validate_every=30, report_every=10,
        on_progress=told.append,
    )
    losses = [state.loss for state in told]
    assert np.mean(losses[-2:]) < 0.7 * losses[0] and all(math.isfinite(loss) for loss in losses)
    assert [state.step for state in told] == [10, 20, 30, 40, 50, 60] and measured == [30, 60]
    assert told[-1].seconds_left == 0 and told[0].seconds_left is not None and told[0].seconds_left > 0
    table = rows(tmp_path / "run")
    assert [int(row["step"]) for row in table] == [10, 20, 30, 40, 50, 60]
    assert json.loads(table[2]["validation"]) == {"f_score": 0.5} and table[1]["validation"] == ""
    assert not same(dict(run.average), dict(run.field.state_dict()))  # the average lags behind


def test_same_seed_same_weights_and_another_seed_others(
    records: np.ndarray, uninterrupted: Run, tmp_path: Path, one_thread: None
) -> None:
    again = run_training(records, tmp_path / "again")
    assert same(again.field.state_dict(), uninterrupted.field.state_dict())
    other = run_training(records, tmp_path / "other", replace(TINY, seed=1, steps=2))
    assert not same(other.field.state_dict(), uninterrupted.field.state_dict())


CHILD = """
import sys, time
from dataclasses import replace
from pathlib import Path
import numpy as np, torch
from engine.training.settings import TrainingSettings
from engine.training.train import train

torch.set_num_threads(1)
records, folder = np.load(sys.argv[1]), Path(sys.argv[2])
settings = TrainingSettings(**eval(sys.argv[3]))
steps = 0

def wait():  # never reaches the end
    global steps
    steps += 1
    while steps >= 11:
        time.sleep(1)
    return False

train(records, np.arange(len(records)), np.ones(len(records)), folder, settings, device=torch.device("cpu"),
      on_progress=lambda state: print(state.step, flush=True), report_every=1, should_stop=wait)
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": "1"}


def test_killed_in_the_middle_it_resumes_and_ends_the_same(
    records: np.ndarray, uninterrupted: Run, tmp_path: Path, one_thread: None
) -> None:
    folder = tmp_path / "killed ž"
    np.save(tmp_path / "records.npy", records)
    settings = replace(TINY, checkpoint_seconds=0.0)
    arguments = [str(tmp_path / "records.npy"), str(folder), repr(vars(settings))]
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments], stdout=subprocess.PIPE, env=environment(), text=True
    )
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) >= 6:
            break
    child.kill()  # SIGKILL; TerminateProcess on Windows
    child.wait()
    # What a kill may leave behind: half a checkpoint beside the last whole one, half a row at the table's end.
    (folder / "checkpoint.safetensors.1.part").write_bytes(b"half")
    (folder / "download.part").write_bytes(b"a person's")
    with (folder / "curves.csv").open("a", encoding="utf-8") as file:
        file.write("1")

    resumed = Run(folder, settings, CPU)
    resumed.load()
    assert 5 <= resumed.step < TINY.steps
    run = run_training(records, folder, settings, resume=True, report_every=2)
    assert run.step == TINY.steps
    assert same(run.field.state_dict(), uninterrupted.field.state_dict())
    assert same(run.average, uninterrupted.average)
    steps = [int(row["step"]) for row in rows(folder)]
    assert steps == sorted(set(steps)) and steps[-1] == TINY.steps
    assert [path.name for path in folder.glob("*.part")] == ["download.part"]


def test_resuming_a_finished_run_changes_nothing(records: np.ndarray, uninterrupted: Run) -> None:
    content = uninterrupted.checkpoint.read_bytes()
    run = run_training(records, uninterrupted.folder, resume=True)
    assert run.step == TINY.steps and same(run.field.state_dict(), uninterrupted.field.state_dict())
    assert uninterrupted.checkpoint.read_bytes() == content


def test_a_run_that_exists_is_not_overwritten(records: np.ndarray, uninterrupted: Run) -> None:
    content = uninterrupted.checkpoint.read_bytes()
    with pytest.raises(InputError) as caught:
        run_training(records, uninterrupted.folder)
    assert caught.value.code == "run_exists" and "--resume" in caught.value.remedy
    assert uninterrupted.checkpoint.read_bytes() == content


@pytest.mark.parametrize("change", [{"learning_rate": 0.5}, {"batch": 3}, {"seed": 7}, {"queries": 100}])
def test_other_settings_do_not_resume(records: np.ndarray, uninterrupted: Run, change: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        run_training(records, uninterrupted.folder, replace(TINY, **change), resume=True)
    assert caught.value.code == "run_differs" and next(iter(change)) in caught.value.why


def test_cancelling_saves_first(records: np.ndarray, uninterrupted: Run, tmp_path: Path, one_thread: None) -> None:
    folder, asked = tmp_path / "run", []

    def should_stop() -> bool:
        asked.append(True)
        return len(asked) == 5

    with pytest.raises(Cancelled):
        run_training(records, folder, should_stop=should_stop)
    stopped = Run(folder, TINY, CPU)
    stopped.load()
    assert stopped.step == 5
    run = run_training(records, folder, resume=True)
    assert same(run.field.state_dict(), uninterrupted.field.state_dict())


def test_learning_rate_warms_up_and_falls() -> None:
    settings = replace(TINY, steps=1000, learning_rate=1.0)
    rates = [learning_rate(settings, step) for step in range(1000)]
    assert rates[0] == pytest.approx(1 / 200, rel=0.01) and max(rates) <= 1 and 150 < int(np.argmax(rates)) < 250
    assert all(b < a for a, b in pairwise(rates[250:])) and rates[-1] == pytest.approx(0.02, abs=1e-3)


def test_where_compiling_fails_it_goes_on_without_and_says_so(
    records: np.ndarray, uninterrupted: Run, tmp_path: Path, one_thread: None,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def broken(module: torch.nn.Module) -> Callable[..., Any]:
        def forward(*arguments: Any) -> Any:
            loss, _ = module(*arguments)
            (1e6 * loss).backward()  # whatever it leaves behind, it is not learnt from
            raise UnboundLocalError("cannot access local variable 'buf133'")

        return forward

    monkeypatch.setattr(torch, "compile", broken)
    run = run_training(records, tmp_path / "compiled", replace(TINY, compile=True), report_every=2)
    assert "without torch.compile" in caplog.text and "buf133" in caplog.text
    assert same(run.average, uninterrupted.average) and run.settings.compile is False


def test_presets_are_valid() -> None:
    assert set(PRESETS) == {"cpu", "gpu"}
    for settings in PRESETS.values():
        assert settings.steps > 1000 and settings.precision in ("float32", "bfloat16")


# ------------------------------------------------------------------------------------------------------- two processes

TWO = """
import hashlib, json, os, sys
from pathlib import Path
import numpy as np, torch
from engine.errors import Cancelled
from engine.training.settings import TrainingSettings
from engine.training.train import train

torch.set_num_threads(1)
records, out = np.load(sys.argv[1]), Path(sys.argv[2])
settings = TrainingSettings(**eval(sys.argv[3]))
rank = int(os.environ["RANK"])
losses = []

def go(name, **options):
    return train(records, np.arange(len(records)), np.ones(len(records)), out / name, settings,
                 device=torch.device("cpu"), report_every=1, on_progress=lambda s: losses.append(s.loss), **options)

run = go("both")
weights = b"".join(v.detach().contiguous().numpy().tobytes() for v in run.field.state_dict().values())
asked = []

def second_process_stops():
    asked.append(True)
    return rank == 1 and len(asked) == 2

try:
    go("stopped", should_stop=second_process_stops)
    stopped = 0
except Cancelled:
    stopped = len(asked)
answer = {"losses": losses, "weights": hashlib.sha256(weights).hexdigest(), "stopped": stopped, "world": run.world,
          "checkpoint": run.checkpoint.exists()}
(out / f"rank{rank}.json").write_text(json.dumps(answer), encoding="utf-8")
torch.distributed.destroy_process_group()
"""


def test_two_processes_train_together(records: np.ndarray, tmp_path: Path, one_thread: None) -> None:
    np.save(tmp_path / "records.npy", records)
    (tmp_path / "two.py").write_text(TWO, encoding="utf-8")
    settings = replace(TINY, steps=4)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        str(tmp_path / "two.py"), str(tmp_path / "records.npy"), str(tmp_path), repr(vars(settings)),
    ]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1))
    assert first["world"] == second["world"] == 2
    assert first["weights"] == second["weights"]
    assert len(first["losses"]) >= 4 and all(math.isfinite(loss) for loss in first["losses"])
    assert second["losses"] == []  # only the first process reports,
    assert [int(row["step"]) for row in rows(tmp_path / "both")] == [1, 2, 3, 4]  # and writes
    assert first["checkpoint"] and second["checkpoint"]
    assert first["stopped"] == second["stopped"] == 2  # both leave at the step at which one was asked to
    # Had both drawn the same batches, the outcome would be that of one process alone.
    alone = run_training(records, tmp_path / "alone", settings)
    both = Run(tmp_path / "both", settings, CPU)
    both.load()
    assert both.step == 4
    assert not all(
        torch.allclose(a, b, atol=1e-4)
        for a, b in zip(alone.field.state_dict().values(), both.field.state_dict().values(), strict=True)
    )


# --------------------------------------------------------------------------------------------------------- the command


SETTINGS = [
    "--set", 'arguments={"code_channels": 4, "width": 4, "hidden": 16, "resolution": 8}', "--set", "steps=60",
    "--set", "batch=2", "--set", "queries=256", "--set", "learning_rate=0.03", "--set", "precision=float32",
]


def test_from_a_folder_of_meshes_to_a_completed_shape(
    library_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    primitives: dict[str, Mesh],
) -> None:
    """The whole way in miniature: meshes -> `shapewright train` -> a prior -> `shapewright complete`."""
    monkeypatch.setenv("SHAPEWRIGHT_PRIORS", str(tmp_path / "my priors"))
    monkeypatch.setenv("SHAPEWRIGHT_CACHE", str(tmp_path / "cache"))
    command = [
        "train", str(library_folder), "--name", "tiny ž", "--device", "cpu", "--workers", "2", "--pose-steps", "1",
        *SETTINGS, "--json",
    ]
    assert cli.main(command) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert report["prior"]["name"] == "tiny ž" and set(report["classes"]) == {"round", "square"}
    assert report["training"]["steps"] == 60 and report["training"]["pose_steps"] == 1
    assert "Preparing shapes" in captured.err and "Training, step" in captured.err and "loss" in captured.err
    assert 0 <= report["validation"]["f_score"] <= 1 and 0 < report["validation"]["input_f_score"] <= 1
    assert (tmp_path / "my priors" / "tiny ž.safetensors").is_file()
    assert (Path(report["run"]) / "curves.png").stat().st_size > 1000

    assert cli.main(["priors", "verify", "tiny ž", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    assert cli.main(["priors", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["priors"][0]["sha256"] == report["prior"]["sha256"]
    assert cli.main(["priors", "show", "tiny ž", "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert sum(card["class_counts"].values()) == card["training"]["shapes"] > 5

    # It can generate: codes drawn from its distribution decode, and it knows what it has learnt from.
    prior = load_prior("tiny ž")
    assert prior.latent is not None and set(prior.latent.classes) == {"round", "square"}
    drawn = prior.latent.expand(prior.latent.sample(2, "round", generator=torch.Generator().manual_seed(0)))
    assert prior.field.decode(drawn).features.isfinite().all()
    assert len(prior.latent.names) == card["training"]["shapes"]
    assert set(card["latent_likelihood"]) >= {"gaussian", "mixture"}

    # Another training begins where this one ended, and says so.
    second = ["train", str(library_folder), "--name", "second", "--device", "cpu", "--workers", "1",
              "--pose-steps", "1", "--from", "tiny ž", "--set", "steps=1", "--set", "batch=2",
              "--set", "precision=float32", "--json"]
    assert cli.main(second) == 0
    capsys.readouterr()
    child = load_prior("second")
    assert child.card["training"]["started_from"]["sha256"] == report["prior"]["sha256"]
    assert child.card["arguments"] == prior.card["arguments"]
    ours, theirs = prior.field.state_dict(), child.field.state_dict()
    assert max(float((ours[k] - theirs[k]).abs().max()) for k in ours) < 0.02

    ball = primitives["ball"].vertices
    write_cloud(tmp_path / "scan.ply", PointCloud(ball[ball[:, 1] < 0.1] + np.float32([0, 0, 3])))
    output = tmp_path / "whole.ply"
    assert cli.main(
        ["complete", str(tmp_path / "scan.ply"), "-o", str(output), "--prior", "tiny ž", "--resolution", "32", "--json"]
    ) == 0
    assert json.loads(capsys.readouterr().out)["prior"]["sha256"] == report["prior"]["sha256"]
    mesh = read_shape(output)
    assert isinstance(mesh, Mesh) and is_watertight(mesh)

    # Again: nothing is overwritten unasked; resuming a finished run ends with the same file.
    assert cli.main(command) == 2
    assert "--resume" in capsys.readouterr().err
    assert cli.main([*command, "--resume"]) == 0
    assert json.loads(capsys.readouterr().out)["prior"]["sha256"] == report["prior"]["sha256"]
    assert cli.main([*command, "--resume", "--set", "batch=3"]) == 2
    assert "batch" in json.loads(capsys.readouterr().out)["error"]["why"]


def test_an_interrupted_command_says_how_to_go_on(
    library_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import engine.training.prior_training as module

    def interrupted(*arguments: Any, **options: Any) -> Path:
        options["on_progress"]("Training", 0.5, 3.0, TrainingProgress(5, 10, 0.25, 3.0))
        raise Cancelled

    monkeypatch.setattr(module, "train_prior", interrupted)
    folder = tmp_path / "runs here"
    command = ["train", str(library_folder), "--name", "x", "--output", str(tmp_path / "x.safetensors")]
    assert cli.main([*command, "--runs", str(folder)]) == 130
    error = capsys.readouterr().err
    assert "--resume" in error and "runs here" in error and "step 5 of 10" in error


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--set", "stepz=3"], "setting_unknown"),
        (["--set", "steps=many"], "setting_wrong"),
        (["--set", "steps=0"], "setting_wrong"),
        (["--set", "steps=2.5"], "setting_wrong"),
        (["--set", "queries=999999"], "setting_wrong"),
        (["--set", "compile=1"], "setting_wrong"),
        (["--set", "learning_rate=NaN"], "setting_wrong"),
        (["--set", "precision=float8"], "setting_wrong"),
        (["--set", "arguments=[1]"], "setting_wrong"),
        (["--set", 'arguments={"depth": 3}'], "network_impossible"),
        (["--set", 'arguments={"width": -3}'], "network_impossible"),
        (["--set", "architecture=transformer"], "network_impossible"),
        (["--name", "../escape"], "prior_name"),
        (["--name", "a/b"], "prior_name"),
        (["--output", "prior.pt"], "output_format"),
        (["--preset", "huge"], "usage"),
        (["--minutes", "0"], "usage"),
        (["--workers", "0"], "usage"),
    ],
)
def test_bad_requests_are_refused_before_any_work(
    options: list[str], code: str, library_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SHAPEWRIGHT_PRIORS", str(tmp_path / "priors"))
    assert cli.main(["train", str(library_folder), "--name", "x", "--json", *options]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == code and error["what"] and error["why"] and error["remedy"]
    assert not (tmp_path / "priors").exists() and not (tmp_path / "escape.safetensors").exists()


def test_a_library_that_is_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHAPEWRIGHT_PRIORS", str(tmp_path / "priors"))
    (tmp_path / "empty").mkdir()
    for folder, code in (("nowhere", "library_not_found"), ("empty", "library_empty")):
        assert cli.main(["train", str(tmp_path / folder), "--name", "x", "--json"]) == 2
        assert json.loads(capsys.readouterr().out)["error"]["code"] == code


def test_overrides_become_settings() -> None:
    given = ["steps=7", "learning_rate=1", "compile=true", "precision=float32", 'arguments={"width": 8}', "seed=3"]
    settings = TrainingSettings(**parse_overrides(given))
    assert settings.steps == 7 and settings.compile is True and settings.arguments == {"width": 8}
    assert settings.learning_rate == 1.0 and isinstance(settings.learning_rate, float)
    assert parse_overrides([]) == {}


def test_of_ambiguous_shapes_only_the_size_of_distances_counts(records: np.ndarray) -> None:
    """Turned inside out, an ambiguous shape costs the same; one with a sure inside does not."""
    field = GridField(code_channels=4, width=4, hidden=16, resolution=8)
    objective = field.objective(TINY, len(records))
    batch = make_batch(records, np.arange(len(records)), np.ones(len(records)), 2, 256, [0, 0, 0])
    clouds = Clouds(batch.points, batch.weights, batch.origins, batch.ray_weights)
    noise, keep = torch.zeros(2, *field.code_shape), torch.ones(2)

    def cost(distances: Tensor, signed: float) -> float:
        examples = Examples(
            clouds, batch.queries, distances, batch.gradients, torch.full((2,), signed), batch.seats, noise, keep
        )
        return float(objective(field.observe(clouds), examples)[0].detach())

    assert cost(batch.distances, 0.0) == pytest.approx(cost(-batch.distances, 0.0), rel=1e-5)
    assert cost(batch.distances, 1.0) != pytest.approx(cost(-batch.distances, 1.0), rel=1e-4)


def ball(points: Tensor) -> Tensor:
    """The signed distance of a ball of radius 0.3."""
    return points.norm(dim=-1) - 0.3


def test_gradient_terms_of_a_known_field() -> None:
    points = torch.rand(2, 4000, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    distances, gradients = ball(points), torch.nn.functional.normalize(points, dim=-1)
    near = float((distances[:, ::8].abs() < 0.096).float().mean())

    def loss(query: Callable[[Tensor], Tensor], signed: float = 1.0, **weights: float) -> float:
        settings = replace(TINY, **weights)  # type: ignore[arg-type]
        return float(gradient_loss(query, points, distances, gradients, torch.full((2,), signed), settings))

    assert loss(ball, eikonal=1.0, normal=1.0) < 0.01
    assert loss(lambda x: 2 * ball(x), eikonal=1.0) == pytest.approx(near, rel=0.01)
    assert loss(lambda x: -ball(x), eikonal=1.0) < 0.01
    assert loss(lambda x: -ball(x), normal=1.0) == pytest.approx(2 * near, rel=0.01)
    assert loss(lambda x: -ball(x), normal=1.0, signed=0.0) < 0.01  # whose inside is unknown


@pytest.mark.parametrize("architecture", ["grid", "deepsdf"])
def test_gradient_terms_are_learnt_where_asked(records: np.ndarray, architecture: str) -> None:
    """They are part of the objective, and going down its gradient turns the field's normals right."""
    arguments = TINY.arguments if architecture == "grid" else {"code": 4, "hidden": 32, "layers": 4, "dropout": 0.0}
    plain = replace(TINY, architecture=architecture, arguments=arguments, learning_rate=0.01)
    asked = replace(plain, normal=20.0, eikonal=2.0)
    batch = make_batch(records, np.arange(len(records)), np.ones(len(records)), 2, 256, [9, 0, 0])
    costs = {}
    for settings in (plain, asked):
        run = Run(Path("unused"), settings, CPU, len(records))
        costs[settings.normal] = [run.one_step(batch)[0] for _ in range(100)]
    terms = costs[20.0][0] - costs[0.0][0]
    assert 10 < terms < 60  # a random field's normals are off by about 1.4, and it is far too flat
    assert np.mean(costs[20.0][-10:]) < 0.85 * costs[20.0][0]


def test_shapes_whose_two_opinions_differ_are_marked(records: np.ndarray) -> None:
    doubtful = records.copy()
    doubtful["agreement"] = 0.3
    for given, sure in ((records, True), (doubtful, False)):
        batch = make_batch(given, np.arange(2), np.ones(2), 4, 64, [0, 0, 0])
        assert bool((batch.signed == sure).all())


def test_a_network_that_went_astray_is_not_made_a_prior(library_folder: Path, records: np.ndarray) -> None:
    library = load_library(library_folder)
    field = GridField(**(TINY.arguments or {}))
    with torch.no_grad():
        next(field.parameters()).fill_(math.nan)
    labels = np.zeros(len(records), np.int64)
    chosen = Selection(np.arange(2), np.full(2, 0.5), labels, ["round"], np.array([], np.int64))
    with pytest.raises(JobFailed) as refused:
        learn_latent(library, records, chosen, field)
    assert refused.value.code == "training_diverged" and "float32" in refused.value.remedy
