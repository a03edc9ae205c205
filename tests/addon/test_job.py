"""A job's transitions alone: every order in which news can come."""

from __future__ import annotations

import importlib
import itertools
import math
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mathutils import Matrix, Vector

NEWS = ("queued", "progress", "mesh", "done", "failed", "cancelled")


@pytest.fixture
def job_module(addon: SimpleNamespace) -> Any:
    return importlib.import_module(f"{addon.package}.session.job")


def update(addon: Any, news: str) -> Any:
    mesh = addon.mesh_arrays.MeshArrays.of(np.eye(3), np.array([[0, 1, 2]]))
    return {
        "queued": lambda: addon.job_thread.Update(state="queued", stage="Waiting"),
        "progress": lambda: addon.job_thread.Update(state="running", stage="Working", fraction=7.0, eta_s=3.0),
        "mesh": lambda: addon.job_thread.Update(state="running", meshes=[(0, mesh)]),
        "done": lambda: addon.job_thread.Update(state="done", meshes=[(1, mesh)], count=2, report={"a": 1}),
        "failed": lambda: addon.job_thread.Update(state="failed", problem=addon.problem.bad_answer("Why.")),
        "cancelled": lambda: addon.job_thread.Update(state="cancelled"),
    }[news]()


@pytest.mark.parametrize("cancel_at", [None, 0, 1, 2])
def test_whatever_comes_a_job_ends_once_and_in_a_state_that_the_news_explain(addon, job_module, cancel_at):
    for order in itertools.product(NEWS, repeat=3):
        job = job_module.Job("A job", {"kind": "complete"})
        job.send()
        ended = ""
        for step, news in enumerate(order):
            if step == cancel_at:
                job.begin_cancel(now=100.0)
                assert job.state == job_module.CANCELLING and not job.waiting_meshes
            before = (job.stage, job.fraction, list(job.waiting_meshes))
            ended = job.take(update(addon, news))
            if job.state == job_module.CANCELLING:
                assert (job.stage, job.fraction, job.waiting_meshes) == before, "it hears nothing but its end"
                assert ended == (job_module.CANCELLED if news in ("done", "failed", "cancelled") else "")
            else:
                assert ended == (news if news in ("failed", "cancelled") else "")
                assert 0.0 <= job.fraction <= 1.0
                assert job.received == ("done" in order[: step + 1])
            if ended:
                break
        if ended:
            job.end(ended, now=job.started + 2.0)
            assert job.finished and job.seconds == pytest.approx(2.0) and job.eta_s is None
            assert not job.waiting_meshes and job.waiting_preview is None


def test_what_has_arrived_is_kept_until_the_job_is_done(addon, job_module):
    job = job_module.Job("A job", {})
    job.send()
    for news in ("mesh", "done"):
        assert job.take(update(addon, news)) == ""
    assert [number for number, _ in job.waiting_meshes] == [0, 1] and job.result_count == 2 and job.report == {"a": 1}
    assert not job.finished, "its meshes are not in the scene yet"


def test_a_cancel_that_nobody_answers_has_been_in_vain_after_a_while(job_module):
    job = job_module.Job("A job", {})
    job.begin_cancel(now=10.0)
    assert not job.cancelled_in_vain(10.0 + job_module.CANCEL_GRACE_S)
    assert job.cancelled_in_vain(10.1 + job_module.CANCEL_GRACE_S)


@pytest.mark.parametrize("report", [{}, {"warnings": 3}, {"warnings": [3, {}, {"what": ""}]}])
def test_a_report_without_whole_warnings_has_none(job_module, report):
    assert job_module.warnings_in(report) == []


@pytest.mark.parametrize("up", ["+y", "-y", "+x", "-x", "-z"])
def test_a_scan_that_lies_is_told_of_with_the_turn_that_stands_it_up(job_module, up):
    row = {"code": "lies", "what": "It lies.", "why": "So.", "remedy": "Turn it.", "up": up}
    (warning,) = job_module.warnings_in({"warnings": [row]})
    assert warning.remedy.startswith("Turn it. Here:") and up.upper() in warning.remedy
    about, degrees = re.search(r"\(R (.) (-?\d+)\)", warning.remedy).groups()
    turn = Matrix.Rotation(math.radians(float(degrees)), 3, about)
    axis = Vector([(1 if up[0] == "+" else -1) * (up[1] == name) for name in "xyz"])
    assert (turn @ axis - Vector((0, 0, 1))).length < 1e-5
    (stood,) = job_module.warnings_in({"warnings": [row | {"code": "stood_up"}]})
    assert "about Z" in stood.remedy
    for nonsense in (None, "up", 3, []):
        assert job_module.warnings_in({"warnings": [row | {"up": nonsense}]})[0].remedy == "Turn it."


def test_notes_are_the_add_ons_own_and_once_it_is_done_the_engines_of_all_inputs(job_module):
    scan = SimpleNamespace(notes=["Its normals were left out."])
    job = job_module.Job("A job", {"kind": "blend"}, scan=scan, shapes=[SimpleNamespace(note="It was moved.")])
    own = ["Its normals were left out.", "It was moved."]
    job.report = {"notes": ["2 points are left out.", 7], "inputs": [{"notes": ["A floor."]}, 3, {"notes": "x"}]}
    assert job.notes == own
    job.end(job_module.DONE, now=1.0)
    assert job.notes == [*own, "2 points are left out.", "A floor."]
    for report in ({}, {"notes": None}, {"notes": "text", "inputs": None}, {"inputs": [[]]}):
        assert job_module.notes_in(report) == []
