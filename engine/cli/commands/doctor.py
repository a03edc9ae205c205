"""`doctor`: is this installation able to work? Each check says what it found and, where it fails, what to do."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ... import PROTOCOL_VERSION, __version__
from ...errors import EngineError, JobFailed
from .. import options as shared
from ..terminal import DONE, FAILED, answer

REINSTALL = "Install the engine again (pip install of the project)."


@dataclass
class Check:
    """remedy: empty where the check is ok."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser("doctor", parents=[common], help="check this installation")
    shared.add_device(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    def tell(check: Check) -> None:
        if options.json:
            return
        print(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:<12} {check.detail}", flush=True)
        if check.remedy:
            print(f"                    {check.remedy}", flush=True)

    checks = run_checks(options.device, tell)
    ok = all(check.ok for check in checks)
    told = {"ok": ok, "version": __version__, "protocol": PROTOCOL_VERSION, "checks": [vars(check) for check in checks]}
    answer(options, told, [])
    return DONE if ok else FAILED


def run_checks(device: str = "auto", on_check: Callable[[Check], None] = lambda check: None) -> list[Check]:
    """Every check in turn; a failed one does not hinder the next. on_check hears of each as it is done."""
    checks: list[Check] = []
    for name, check in (
        ("python", _python),
        ("torch", _torch),
        ("device", lambda: _device(device)),
        ("libraries", _libraries),
        ("kernels", _kernels),
        ("priors", _priors),
        ("data folder", _data_folder),
        ("self-test", lambda: _selftest(device)),
    ):
        try:
            found = Check(name, True, check())
        except EngineError as error:
            found = Check(name, False, f"{error.what} {error.why}", error.remedy)
        except Exception as error:
            found = Check(name, False, f"{type(error).__name__}: {error}", REINSTALL)
        checks.append(found)
        on_check(found)
    return checks


def _python() -> str:
    return f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.executable}"


def _torch() -> str:
    import torch

    return f"{torch.__version__}, {torch.get_num_threads()} threads"


def _device(name: str) -> str:
    import torch

    from ...device import describe_device, resolve_device

    device = resolve_device(name)
    total = float(torch.ones(64, 64, device=device).sum())
    if total != 4096:
        raise JobFailed(
            "device_wrong",
            f"The device {device.type!r} computes wrongly.",
            f"A sum of 4096 ones gave {total}.",
            "Update its driver, or choose the device 'cpu'.",
        )
    info = describe_device(device)
    memory = f", {info['memory_gb']} GB" if "memory_gb" in info else ""
    return f"{device.type}: {info['name']}{memory}"


def _libraries() -> str:
    import importlib

    names = ("numpy", "scipy", "safetensors", "fastapi", "uvicorn", "python_multipart", "psutil")
    found = []
    for name in names:
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            raise JobFailed(
                "library_missing",
                f"The library {name} cannot be imported.",
                f"{error}.",
                REINSTALL,
            ) from error
        found.append(f"{name} {getattr(module, '__version__', '')}".rstrip())
    return ", ".join(found)


def _kernels() -> str:
    """Never a failure: without them everything works, slower, and the line says so."""
    from ...fields import fused

    took = fused.warm()
    return f"{fused.describe()}, ready after {took:.1f} s"


def _priors() -> str:
    from ...priors.registry import prior_paths, verify

    files = prior_paths()
    if not files:
        raise JobFailed(
            "no_priors",
            "No prior is installed.",
            "Completion needs one, and the default one is part of the engine.",
            REINSTALL,
        )
    return ", ".join(verify(path).name for path in files)


def _data_folder() -> str:
    from ...server.storage import default_data_dir

    folder = default_data_dir()
    probe = folder / f"doctor-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x" * 4096)
        probe.unlink()
    except OSError as error:
        raise JobFailed(
            "data_dir_unusable",
            f"The folder '{folder}' cannot be written.",
            f"{error}.",
            "Free disk space or mend its permissions, or point SHAPEWRIGHT_DATA_DIR elsewhere.",
        ) from error
    return str(folder)


def _selftest(device: str) -> str:
    from ...jobs.base import JobCallbacks
    from ...jobs.run import explain, run_job
    from ...jobs.selftest.request import SelftestRequest

    try:
        result = run_job(SelftestRequest(device=device), None, JobCallbacks())
    except Exception as error:
        raise explain(error) from error
    took = result.report["timings"]["extracting"]
    return f"torus and sphere of {result.report['faces']:,} triangles in {took:.2f} s"
