"""The file of a report in ComfyUI's output folder."""

from __future__ import annotations

import uuid
from pathlib import Path

import folder_paths

from .display import PreviewFile


def save_report(content: bytes) -> PreviewFile:
    """Write ``report.csv``, or ``report_2.csv`` and so on: no file is ever replaced, and none is left half written.

    Returns:
        The parameters for /view.

    Raises:
        OSError: it could not be written.
    """
    folder = Path(folder_paths.get_output_directory())
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".report-{uuid.uuid4().hex}.part"
    try:
        part.write_bytes(content)
        file = _new_file(folder)
        try:
            part.replace(file)
        except OSError:
            file.unlink(missing_ok=True)
            raise
    finally:
        part.unlink(missing_ok=True)
    return {"filename": file.name, "subfolder": "", "type": "output"}


def _new_file(folder: Path) -> Path:
    """An empty file of the next free name, so that no other report can get the same one."""
    file, number = folder / "report.csv", 1
    while True:
        try:
            file.touch(exist_ok=False)
        except FileExistsError:
            number += 1
            file = folder / f"report_{number}.csv"
        else:
            return file
