"""The built-in emulator behind the profile ``sandbox``; it runs in this process from its first use on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ... import api

if TYPE_CHECKING:
    from ...emulator import Emulator

# Seconds that an emulated task takes.
_LATENCY = 1.5

_lock = threading.Lock()
_emulator: Emulator | None = None


def start_sandbox() -> api.Sandbox:
    """Start the emulator unless it runs; returns its address on loopback and the keys that it accepts."""
    global _emulator
    from ...emulator import Credentials, Emulator

    credentials = Credentials()
    with _lock:
        if _emulator is None:
            _emulator = Emulator(latency=_LATENCY, credentials=credentials).start()
    return api.Sandbox(_emulator.url, credentials.hidream_token, credentials.gateway_api_key)
