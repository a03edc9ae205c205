"""Modules from outside this package that add to its registries: job kinds, families, file formats, commands.

Such a module calls the `register` of a registry when it is imported. It is named in one of two ways:

* an entry point of an installed package, in the group 'shapewright.WHAT' (WHAT: jobs, families, formats, commands):
  its value is the module;
* SHAPEWRIGHT_PLUGINS, modules with commas between: 'mine.kinds' is imported for every registry, 'jobs:mine.kinds' for
  that of the job kinds alone, which keeps a module that imports torch out of the server.

Each registry calls `load` before it is first asked. The worker process inherits the variable and finds the same.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import os

log = logging.getLogger(__name__)

VARIABLE = "SHAPEWRIGHT_PLUGINS"

_loaded: set[str] = set()
_failures: dict[str, str] = {}


def load(what: str) -> None:
    """Import the modules named for the registry `what`, each once. One that cannot be imported hinders nothing: the log
    and `failures` tell."""
    if what in _loaded:
        return
    _loaded.add(what)
    for module in _named(what):
        try:
            importlib.import_module(module)
        except (Exception, SystemExit) as error:  # whatever a stranger's module raises; it may be a script that ends
            log.error("The plugin %s cannot be loaded", module, exc_info=error)
            _failures[module] = f"{type(error).__name__}: {error}"


def failures() -> dict[str, str]:
    """Module -> why it could not be loaded."""
    return dict(_failures)


def _named(what: str) -> list[str]:
    found = [entry.value for entry in importlib.metadata.entry_points(group=f"shapewright.{what}")]
    for item in os.environ.get(VARIABLE, "").split(","):
        registry, separator, module = item.strip().rpartition(":")
        if module and (not separator or registry == what):
            found.append(module)
    return list(dict.fromkeys(found))
