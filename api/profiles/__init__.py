"""From the name of a profile in a graph to an account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .file import ProfileFile, first_profile, profile_names

if TYPE_CHECKING:
    from .editor import ProfileEditor, RefusedEditError, ShownProfile, ShownProfiles
    from .resolve import Profiles

__all__ = [
    "ProfileEditor",
    "ProfileFile",
    "Profiles",
    "RefusedEditError",
    "ShownProfile",
    "ShownProfiles",
    "first_profile",
    "profile_names",
]


def __getattr__(name: str) -> Any:
    # ComfyUI's start reads the names of the profiles; what makes accounts of them loads the network.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import editor, resolve

    return getattr(editor, name) if hasattr(editor, name) else getattr(resolve, name)
