"""Names for Blender's data-blocks: undo and file loading make what points at one dangle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bpy

PREVIEW_PROPERTY = "shapewright_preview"
"""Custom property of a preview object: the id of its job. Where no such job runs, the object is a leftover."""


@dataclass
class Reference:
    """A data-block by its session uid, which survives renaming and undo, and by its name, which finds it fast."""

    name: str
    session_uid: int

    @classmethod
    def of(cls, block: bpy.types.ID) -> Reference:
        return cls(block.name, block.session_uid)

    def find(self, blocks: Any) -> Any | None:
        """The data-block in bpy.data.objects, .collections, ...; None where it is gone."""
        found = blocks.get(self.name)
        if found is not None and found.session_uid == self.session_uid:
            return found
        for block in blocks:
            if block.session_uid == self.session_uid:
                self.name = block.name
                return block
        return None
