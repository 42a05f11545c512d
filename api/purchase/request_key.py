"""The key of a request: two requests that would buy the same picture have the same one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

KEY_VERSION = 1


def request_key(
    *, service: str, endpoint: str, account: str, body: Mapping[str, Any], take: int, occurrence: int
) -> str:
    """SHA-256 (hex) over everything that makes one purchase another one than the next.

    Args:
        service: who is asked, ``"sandbox"`` whatever its port.
        body: the wire body without ``request_id``, ``notify_url`` and ``return_url``, every image replaced by its
            fingerprint.
        occurrence: 0 for the first of several equal requests of one call; never the position in a batch.
    """
    parts = {
        "version": KEY_VERSION,
        "service": service,
        "endpoint": endpoint,
        "account": account,
        "body": body,
        "take": take,
        "occurrence": occurrence,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()
