"""From the name of a profile in a graph to the account that pays, and the changes of the file of profiles."""

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
    # Loaded when first used: ComfyUI's start needs the names of the profiles only, and these modules load `transport`.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import editor, resolve

    return getattr(editor, name) if hasattr(editor, name) else getattr(resolve, name)
