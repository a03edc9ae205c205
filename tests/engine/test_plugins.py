"""Modules from outside that add to the registries."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

FORMAT = """
import numpy as np
from engine.geometry.files import Format, Raw, register

def read(path):
    return Raw(np.array([[float(v) for v in row.split(";")] for row in path.read_text().splitlines()]))

register(Format("semicolons", (".semi",), read))
"""

READ = """
import sys
from pathlib import Path
from engine.geometry.files import load, readable
assert ".semi" in readable()
assert load(Path(sys.argv[1])).points.shape == (20, 3)
"""


FAMILY = """
from typing import ClassVar
from engine.fields.families.deepsdf import DeepSDF
from engine.fields.registry import register

@register
class Mine(DeepSDF):
    name: ClassVar[str] = "mine"
"""


def run(code: str, folder: Path, plugins: str, *arguments: str) -> None:
    """In a process that finds modules in `folder` and is told of these plugins."""
    paths = os.pathsep.join([str(ROOT), str(folder)])
    environment = {**os.environ, "PYTHONPATH": paths, "SHAPEWRIGHT_PLUGINS": plugins}
    subprocess.run([sys.executable, "-c", code, *arguments], env=environment, check=True)


def test_a_family_from_outside_is_found_when_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FAMILY, "utf-8")
    code = (
        "import sys; from engine.jobs import kinds; kinds.names(); assert 'torch' not in sys.modules\n"
        "from engine.fields.registry import family, names; assert family('mine').name == 'mine' and 'mine' in names()"
    )
    run(code, tmp_path, "families:mine")


def test_a_module_that_cannot_be_loaded_hinders_nothing_and_is_named(tmp_path: Path) -> None:
    for name, text in {"absent_import": "import nothing_such", "a_script": "raise SystemExit(3)"}.items():
        (tmp_path / f"{name}.py").write_text(text, "utf-8")
    code = (
        "from engine import plugins; from engine.jobs import kinds; assert 'complete' in kinds.names()\n"
        "assert set(plugins.failures()) == {'absent_import', 'a_script'}"
    )
    run(code, tmp_path, "jobs:absent_import,jobs:a_script")


def test_a_format_from_outside_is_named_by_the_environment(tmp_path: Path) -> None:
    (tmp_path / "semicolons.py").write_text(FORMAT, "utf-8")
    cloud = tmp_path / "cloud.semi"
    cloud.write_text("\n".join(f"{k};{k % 3};{k % 4}" for k in range(20)), "utf-8")
    run(READ, tmp_path, "formats:semicolons", str(cloud))
    run("from engine.geometry.files import readable; assert '.semi' not in readable()", tmp_path, "jobs:semicolons")
