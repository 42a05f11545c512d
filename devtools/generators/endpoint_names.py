"""The endpoints' names for the user, as web/ shows them: web/endpoint_names.mjs."""

from __future__ import annotations

import json
from pathlib import Path

from api.catalog import ENDPOINTS
from devtools.environment import ROOT

_FILE = ROOT / "web" / "endpoint_names.mjs"


def files() -> dict[Path, str]:
    """The text of the file."""
    names = {
        "en": {endpoint.name: endpoint.shown.en for endpoint in ENDPOINTS},
        "zh": {endpoint.name: endpoint.shown.zh for endpoint in ENDPOINTS},
    }
    table = json.dumps(names, ensure_ascii=False, indent=2)
    return {
        _FILE: f"// The endpoints' names: `python dev.py generate` writes this file.\nexport const NAMES = {table};\n"
    }
