"""What a request is for, by its method, path and action."""

from dataclasses import dataclass

from ..endpoints import HIDREAM
from ..pictures.files import ResultFile
from .endpoint import ASYNC_RESULT, ASYNC_SUBMIT, CVPROCESS, HiDreamEndpoint

# Any HTTP client sends these; the pages do not have to list them.
ORDINARY_HEADERS = frozenset(
    {"host", "user-agent", "accept", "accept-encoding", "connection", "content-length", "content-type"}
)
TEMPLATES_PATH = "/api-pub/ec/v3/template/variation"
TOKEN_PATH = "/prod-api/user/apikey2token"  # noqa: S105
SIGNED_PATH = "/"
GATEWAY_PATH = "/volcv/v1"


@dataclass(frozen=True)
class Target:
    """What a request is for: endpoint and phase are the names of Recorded."""

    endpoint: str
    phase: str
    hidream: HiDreamEndpoint | None = None
    operation: str = ""
    """The action of Volcengine, whose endpoints share two paths."""
    file: ResultFile | None = None


UNKNOWN = Target("unknown", "unknown")

_TARGETS: dict[tuple[str, str], Target] = {
    **{("POST", entry.path): Target(name, "submit", entry) for name, entry in HIDREAM.items()},
    **{("GET", entry.path + "/results"): Target(name, "result", entry) for name, entry in HIDREAM.items()},
    ("GET", TEMPLATES_PATH): Target("templates", "list"),
    ("GET", TOKEN_PATH): Target("token", "token"),
}
_OPERATIONS = {target.operation: target for target in (
    Target("cvprocess", "submit", operation=CVPROCESS),
    Target("cvsync2async", "submit", operation=ASYNC_SUBMIT),
    Target("cvsync2async", "result", operation=ASYNC_RESULT),
)}


def target_of(method: str, path: str, action: str) -> Target:
    """Return what a request is for; `action` is the Action of its query, if any."""
    if method == "POST" and path in (SIGNED_PATH, GATEWAY_PATH):
        # An unknown action goes to CVProcess, which refuses it when it checks its query.
        return _OPERATIONS.get(action, _OPERATIONS[CVPROCESS])
    return _TARGETS.get((method, path), UNKNOWN)
