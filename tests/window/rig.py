#!/usr/bin/env python3
"""A real Blender in a real window, on a machine with or without a screen, that a story then drives.

    python3 tests/window/rig.py [STORY] [--output FOLDER]

STORY is a file beside this one without its ending; default: story. FOLDER gets log.json, screenshots and logs; default:
out/window for `story`, a folder named after the story in there for any other.

Which Blender:
  SHAPEWRIGHT_BLENDER       the path of one on this machine. It opens its window under Xvfb where that is installed,
                            else on the screen (leave the mouse alone meanwhile).
  otherwise                 as root on Debian or Ubuntu: Debian trixie's, in a folder of its own that is made when
                            missing (one to three minutes, 1.2 GB), with software OpenGL and Xvfb.
  SHAPEWRIGHT_WINDOW_SUITE  another Debian than trixie, with the Blender that it has: sid for the newest.
  SHAPEWRIGHT_WINDOW_ROOT   where that folder is; default: window-root-SUITE in the user's cache folder.
Further:
  SHAPEWRIGHT_ENGINE_PYTHON   the engine's Python; default: .venv of this checkout.
  SHAPEWRIGHT_PRIORS          passed on to the engine: a folder whose priors come before the shipped ones.
  SHAPEWRIGHT_WINDOW_SCREEN   the window's size; default: 1280x800. The stories' pictures are meant for that one.
  SHAPEWRIGHT_WINDOW_SECONDS  the longest that the story may take; default: 3600.

Nothing of a person's own Blender is read or changed: preferences and extensions go to a throwaway folder. Standard
library only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
SUITE = os.environ.get("SHAPEWRIGHT_WINDOW_SUITE") or "trixie"
SCREEN = tuple(int(side) for side in (os.environ.get("SHAPEWRIGHT_WINDOW_SCREEN") or "1280x800").split("x"))
APT_TOOLS = {"mmdebstrap": "mmdebstrap", "unshare": "util-linux", "chroot": "coreutils"}
PACKAGES = [
    "blender",
    "python3-numpy",
    "python3-requests",
    "python3-zstandard",
    "python3-cattr",
    "python3-certifi",
    "libgl1-mesa-dri",
    "libegl1",
    "libgl1",
    "libegl-mesa0",
    "libglx-mesa0",
    "xvfb",
    "xauth",
    "imagemagick",
    "fonts-dejavu-core",
    "procps",
    "ca-certificates",
]

BATCH = (
    "--mode", "generate", "--class", "chair", "--count", "3", "--seed", "3", "--resolution", "64", "--device", "cpu",
    "--no-previews",
)  # fmt: skip
"""What scripts/batch_complete.py is asked for after a story that has a part without a window, which is a file of the
story's name and `_background.py`."""

ENTER = r"""
set -e
root=$1; shift
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mkdir -p "$root/host"; mount --rbind / "$root/host"
while [ "$1" != -- ]; do mkdir -p "$root$1"; mount --bind "$1" "$root$1"; shift; done; shift
exec chroot "$root" "$@"
"""
"""Runs in a mount namespace of its own: what it mounts is gone with it. Folders shown at the same path come first, then
`--` and the command; the whole machine is at /host."""


class Impossible(Exception):
    """Why there can be no windowed Blender here: what, why and remedy."""


def note(text: str) -> None:
    print(f"window: {text}", flush=True)


# ---------------------------------------------------------------------------------------------------------------------
# Which Blender, and how its programs are called


@dataclass
class Place:
    """Where Blender runs. root: a folder with a Debian in it, or None for this machine itself."""

    blender: str
    root: Path | None = None
    shown: list[Path] = field(default_factory=list)
    """Folders of this machine that are at the same path inside the root."""

    def command(self, *argv: str | Path) -> list[str]:
        """The argv that runs `argv` there. The process started is the one named: signals and its pid are its own."""
        inner = [str(part) for part in argv]
        if self.root is None:
            return inner
        enter = ["unshare", "--mount", "--propagation", "private", "bash", "-c", ENTER, "enter", str(self.root)]
        return [*enter, *map(str, self.shown), "--", *inner]

    def environment(self, **more: str) -> dict[str, str]:
        if self.root is None:
            return {**os.environ, **more}
        base = {
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "LANG": "C.UTF-8",
            "LIBGL_ALWAYS_SOFTWARE": "1",
            "XDG_RUNTIME_DIR": "/tmp",
        }
        return {**base, **more}

    def has(self, program: str) -> bool:
        if self.root is None:
            return shutil.which(program) is not None
        return (self.root / "usr" / "bin" / program).exists()


def find_place() -> Place:
    """The Blender to use, made when missing. Raises Impossible."""
    given = os.environ.get("SHAPEWRIGHT_BLENDER", "").strip()
    if given:
        found = shutil.which(given)
        if found is None:
            raise Impossible(
                "The Blender to test in was not found.",
                f"SHAPEWRIGHT_BLENDER names {given}, which is no program.",
                "Correct the variable, or clear it.",
            )
        return Place(found)
    why = why_no_root()
    if why:
        raise Impossible(
            "There is no windowed Blender to test in.",
            why,
            "Set SHAPEWRIGHT_BLENDER to the path of a Blender of 4.2 or newer on a machine with a screen (or with "
            "Xvfb), or run this as root on Debian or Ubuntu.",
        )
    return Place("/usr/bin/blender", debian_root())


def why_no_root() -> str:
    if not sys.platform.startswith("linux"):
        return "A Blender of its own can only be set up on Debian or Ubuntu."
    if os.geteuid() != 0:
        return "A Blender of its own can only be set up by root."
    missing = [tool for tool in APT_TOOLS if shutil.which(tool) is None]
    if missing:
        if shutil.which("apt-get") is None:
            return f"These programs are missing, and there is no apt-get to install them: {', '.join(missing)}."
        packages = sorted({APT_TOOLS[tool] for tool in missing})
        note(f"installing {', '.join(packages)}")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for argv in (["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", *packages]):
            done = subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            if done.returncode != 0:
                return f"'{' '.join(argv)}' ended with {done.returncode}: {done.stderr.strip()[-300:]}"
    tried = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "mount", "-t", "tmpfs", "tmpfs", tempfile.gettempdir()],
        capture_output=True,
        text=True,
    )
    return f"This machine does not let root mount folders: {tried.stderr.strip()}" if tried.returncode != 0 else ""


def debian_root() -> Path:
    """A folder with Debian's Blender, software OpenGL and Xvfb. Built beside its place and renamed when whole."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = Path(os.environ.get("SHAPEWRIGHT_WINDOW_ROOT") or cache / "shapewright" / f"window-root-{SUITE}")
    if (root / "usr" / "bin" / "blender").exists():
        return root
    note(f"building {root} with Debian {SUITE}'s Blender (once; one to three minutes)")
    began = time.monotonic()
    root.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{root.name}.", dir=root.parent))
    unfinished.chmod(0o755)
    argv = ["mmdebstrap", "--mode=root", "--variant=apt", "--components=main", f"--include={','.join(PACKAGES)}"]
    for option in ("APT::Install-Recommends false", "Acquire::Check-Valid-Until false", "Acquire::Languages none"):
        key, value = option.split()
        argv.append(f'--aptopt={key} "{value}"')
    for folder in ("doc", "man", "locale"):
        argv.append(f"--dpkgopt=path-exclude=/usr/share/{folder}/*")
    keyring = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
    if keyring.is_file():
        argv.append(f"--keyring={keyring}")
    argv += [SUITE, str(unfinished)]
    mirror = debian_mirror()
    if mirror:
        argv.append(f"deb {mirror} {SUITE} main")
    log = root.parent / f"{root.name}.log"
    with log.open("wb") as file:
        status = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT).returncode
    if status != 0 or not (unfinished / "usr" / "bin" / "blender").exists():
        shutil.rmtree(unfinished, ignore_errors=True)
        words = " / ".join(log.read_text("utf-8", "replace").strip().splitlines()[-3:])
        raise Impossible(
            "The Blender to test in could not be set up.",
            f"mmdebstrap ended with {status}. Its last words: {words}",
            f"Read {log}. Mostly it is the network, the disk (1.2 GB), or on Ubuntu the missing package "
            "debian-archive-keyring.",
        )
    with contextlib.suppress(OSError):  # another run was faster: its root is as good
        unfinished.rename(root)
    shutil.rmtree(unfinished, ignore_errors=True)
    note(f"built in {time.monotonic() - began:.0f} s")
    return root


def debian_mirror() -> str:
    """The Debian mirror that this machine's apt uses; '' where it uses none, and mmdebstrap's own default serves."""
    for path in (Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))):
        if not path.is_file() or path.suffix not in (".list", ".sources"):
            continue
        for line in path.read_text("utf-8", "replace").splitlines():
            found = re.match(r"\s*(?:URIs:\s*|deb\s+(?:\[[^]]*\]\s*)?)(\S+/debian/?)(?:\s|$)", line)
            if found:
                return found[1]
    return ""


# ---------------------------------------------------------------------------------------------------------------------
# The run


@contextlib.contextmanager
def display(place: Place, folder: Path) -> Iterator[tuple[str, bool]]:
    """(the value of DISPLAY, whether it is an Xvfb of our own)."""
    if not place.has("Xvfb"):
        if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise Impossible(
                "Blender has no screen to open its window on.",
                "Neither DISPLAY nor WAYLAND_DISPLAY is set, and Xvfb is not installed.",
                "Install Xvfb (package xvfb), or run this in a desktop session.",
            )
        yield os.environ.get("DISPLAY", ""), False
        return
    size = "{}x{}x24".format(*SCREEN)
    argv = ["Xvfb", "-displayfd", "1", "-screen", "0", size, "+extension", "GLX", "-noreset", "-ac", "-nolisten", "tcp"]
    with (folder / "xvfb.log").open("wb") as log:
        # It picks a free display by itself and writes the number when it is ready.
        server = subprocess.Popen(
            place.command(*argv), env=place.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
        )
    try:
        assert server.stdout is not None
        number = server.stdout.readline().decode().strip()
        if not number:
            words = (folder / "xvfb.log").read_text("utf-8", "replace").strip()[-300:]
            raise Impossible("Xvfb did not start.", words, f"Read {folder / 'xvfb.log'}.")
        yield f":{number}", True
    finally:
        stop(server)


def stop(process: subprocess.Popen[bytes], seconds: float = 10) -> None:
    """Ends a process that we started, and waits for it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def engine_interpreter() -> Path:
    """The Python of this machine that has the engine."""
    default = ROOT / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    return Path(os.environ.get("SHAPEWRIGHT_ENGINE_PYTHON") or default).absolute()


def engine_python(place: Place, scratch: Path) -> Path:
    """What the add-on starts as the engine's Python: the one of this machine, through a small program where Blender
    lives in a root of its own."""
    python = engine_interpreter()
    if not python.is_file():
        raise Impossible(
            "The engine's Python was not found.",
            f"There is no file {python}.",
            "Run scripts/setup, or set SHAPEWRIGHT_ENGINE_PYTHON.",
        )
    if place.root is None:
        return python
    wrapper = scratch / "engine-python"
    inside = f'cd {shlex.quote(str(ROOT))} && exec {shlex.quote(str(python))} "$@"'
    wrapper.write_text(f'#!/bin/sh\nexec chroot /host /bin/sh -c {shlex.quote(inside)} engine "$@"\n', "utf-8")
    wrapper.chmod(0o755)
    return wrapper


def run(story: str = "story", output: Path | None = None) -> dict[str, object]:
    """Tells a story; returns what FOLDER/log.json then holds. Raises Impossible where there can be no window."""
    folder = (output or output_of(story)).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    for old in [path for ending in ("png", "json", "log", "npz") for path in folder.glob(f"*.{ending}")]:
        old.unlink()
    place = find_place()
    limit = float(os.environ.get("SHAPEWRIGHT_WINDOW_SECONDS") or 3600)
    began = time.monotonic()
    # Blanks and letters that no code page has all of, on purpose.
    scratch = Path(tempfile.mkdtemp(prefix="shapewright window ščž 形 "))
    place.shown = [folder, scratch, ROOT]
    try:
        environment = place.environment(
            HOME=str(scratch),
            TMPDIR=str(scratch),
            BLENDER_USER_RESOURCES=str(scratch / "blender"),
            SHAPEWRIGHT_ENGINE_PYTHON=str(engine_python(place, scratch)),
            STORY_OUT=str(folder),
            STORY_ROOT=str(ROOT),
            **{name: os.environ[name] for name in ("SHAPEWRIGHT_PRIORS",) if os.environ.get(name)},
        )
        extension = build_extension(scratch / "dist")
        note(f"installing {extension.name}")
        install(place, extension, environment, folder)
        with display(place, folder) as (screen, own):
            if screen:
                environment["DISPLAY"] = screen
            if own:
                environment.pop("WAYLAND_DISPLAY", None)
            environment["STORY_SCREENSHOTS"] = "import" if own and place.has("import") else "blender"
            note("the story begins (a few minutes; longer on a busy machine)")
            status = tell(place, HERE / f"{story}.py", environment, folder, limit)
        epilogue = HERE / f"{story}_background.py"
        if status == 0 and epilogue.is_file():
            note("the same without a window")
            without_window(place, ["--python", epilogue], environment, folder / "background.log", limit)
            batch = folder / "batch"
            shutil.rmtree(batch, ignore_errors=True)
            argv = ["--python", ROOT / "scripts" / "batch_complete.py", "--", *BATCH, "--output", batch]
            without_window(place, argv, environment, folder / "batch.log", limit)
        log = read_log(folder)
        log["blender_exit"] = status
        log["engine_left"] = engine_left(log.get("engine_pid"))
        log["blender_says"] = complaints(folder / "blender.log")
        log["seconds"] = round(time.monotonic() - began, 1)
        engine_log = next(iter((scratch / "blender").rglob("engine.log")), None)
        if engine_log is not None:
            shutil.copyfile(engine_log, folder / "engine.log")
        (folder / "log.json").write_text(json.dumps(log, indent=1) + "\n", "utf-8")
        note(f"over after {log['seconds']} s; see {folder}")
        return log
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if place.root is not None:
            with contextlib.suppress(OSError):
                (place.root / scratch.relative_to("/")).rmdir()  # what it was shown at; empty by now


def build_extension(folder: Path) -> Path:
    argv = [sys.executable, str(ROOT / "scripts" / "build_extension"), "--output", str(folder), "--no-validate"]
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode != 0:
        raise Impossible("The extension was not built.", done.stderr.strip(), "Run scripts/build_extension by hand.")
    return Path(done.stdout.strip().splitlines()[-1])


def install(place: Place, extension: Path, environment: dict[str, str], folder: Path) -> None:
    argv = place.command(
        place.blender, "--command", "extension", "install-file", "-r", "user_default", "--enable", extension
    )
    done = subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    (folder / "install.log").write_text(done.stdout + done.stderr, "utf-8")
    if done.returncode != 0:
        raise Impossible(
            "Blender did not install the extension.",
            f"It ended with {done.returncode}: {(done.stdout + done.stderr).strip()[-500:]}",
            f"Read {folder / 'install.log'}.",
        )


def output_of(story: str) -> Path:
    folder = ROOT / "out" / "window"
    return folder if story == "story" else folder / story


def tell(place: Place, story: Path, environment: dict[str, str], folder: Path, limit: float) -> int | None:
    """Runs Blender with the story; its exit status, None where it took longer than allowed and was ended."""
    argv = place.command(
        place.blender,
        "--enable-event-simulate",
        "--window-geometry", "0", "0", *map(str, SCREEN),
        "--python-exit-code", "3",
        "--python", story,
    )  # fmt: skip
    with (folder / "blender.log").open("wb") as log:
        blender = subprocess.Popen(
            argv, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        return blender.wait(limit)
    except subprocess.TimeoutExpired:
        note(f"Blender is ended: the story took longer than {limit:.0f} s")
        return None
    finally:
        stop(blender)


def without_window(place: Place, argv: list[str | Path], environment: dict[str, str], log: Path, limit: float) -> None:
    """Runs `blender -b` with the profile of the story. What it makes, and what it says in `log`, is for the test."""
    command = place.command(place.blender, "-b", "--python-exit-code", "3", *argv)
    with log.open("wb") as file:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, timeout=limit
        )
    note(f"{log.name}: exit status {done.returncode}")


def read_log(folder: Path) -> dict[str, object]:
    try:
        log: dict[str, object] = json.loads((folder / "log.json").read_text("utf-8"))
        return log
    except (OSError, ValueError) as error:
        return {"error": f"The story left no log: {error}"}


def engine_left(pid: object, seconds: float = 15) -> bool | None:
    """Whether the engine is gone soon after its Blender; None where it never ran. One that stays is ended here."""
    if not isinstance(pid, int):
        return None
    deadline = time.monotonic() + seconds
    while alive(pid):
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGTERM)
            return False
        time.sleep(0.1)
    return True


def alive(pid: int) -> bool:
    if os.name == "nt":
        listed = subprocess.run(["tasklist", "/FI", f"PID eq {pid}", "/NH"], capture_output=True, text=True)
        return str(pid) in listed.stdout
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    state = Path(f"/proc/{pid}/stat")
    return not (state.is_file() and state.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def complaints(log: Path) -> list[str]:
    """Lines of Blender's console that speak of a fault in Python or in the add-on."""
    words = ("Traceback", "Error:", "Exception", "shapewright")
    lines = log.read_text("utf-8", "replace").splitlines()
    return [line for line in lines if any(word in line for word in words)]


def main() -> int:
    parser = argparse.ArgumentParser(description="Tells a story in a real windowed Blender.")
    stories = sorted(path.stem for path in HERE.glob("story*.py") if not path.stem.endswith("_background"))
    parser.add_argument("story", nargs="?", default="story", choices=stories)
    parser.add_argument("--output", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    try:
        log = run(options.story, options.output)
    except Impossible as impossible:
        print("\n".join(impossible.args), file=sys.stderr)
        return 2
    if log.get("error"):
        print(log["error"], file=sys.stderr)
    return 0 if log.get("ok") else 1


if __name__ == "__main__":
    sys.exit(main())
