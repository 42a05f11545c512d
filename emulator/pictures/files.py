"""Result files, each served at /files/RANDOM.png, or as Volcengine's storage names them."""

import secrets
import threading
from dataclasses import dataclass

PREFIX = "/files/"
# The sandbox runs as long as its ComfyUI: beyond this size the oldest results are deleted, as the real services do
# after some time.
KEPT_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True)
class ResultFile:
    data: bytes
    endpoint: str
    task_id: str


class ResultFiles:
    """A thread-safe store of result files by path."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: dict[str, ResultFile] = {}

    def add(self, file: ResultFile, template: bool = False) -> str:
        """Store the file and return its path; with `template` one that ends in ".image?" and a signature."""
        path = f"{PREFIX}{secrets.token_urlsafe(18)}"
        path += f"~tplv-sandbox-image.image?x-signature={secrets.token_urlsafe(18)}" if template else ".png"
        with self._lock:
            self._files[path] = file
            total = sum(len(kept.data) for kept in self._files.values())
            while total > KEPT_BYTES and len(self._files) > 1:
                total -= len(self._files.pop(next(iter(self._files))).data)
        return path

    def get(self, path: str) -> ResultFile | None:
        """Return the file at a path. Its signature, if it has one, must be there; any other query is ignored."""
        with self._lock:
            return self._files.get(path) or self._files.get(path.partition("?")[0])

    def clear(self) -> None:
        with self._lock:
            self._files.clear()


def damaged(data: bytes) -> bytes:
    """Return as many bytes, the middle third inverted: the picture can no longer be decoded."""
    third = len(data) // 3
    return data[:third] + bytes(byte ^ 0xFF for byte in data[third : 2 * third]) + data[2 * third :]
