"""The table of endpoints: the path of each, and the headers that its page lists."""

from dataclasses import dataclass

from . import hidream_bodies as bodies

_LANGUAGE = "x-accept-language"
_USER = "api-user-id"
# Any HTTP client sends these; the pages do not have to list them.
ORDINARY_HEADERS = frozenset(
    {"host", "user-agent", "accept", "accept-encoding", "connection", "content-length", "content-type"}
)


@dataclass(frozen=True)
class HiDreamEndpoint:
    name: str
    path: str
    body: type[bodies.Body]
    headers: frozenset[str]
    """Headers that a submit may have besides Authorization and the ordinary ones. The result pages list Authorization
    alone."""


HIDREAM_ENDPOINTS = (
    HiDreamEndpoint("outpaint", "/api-pub/gw/v3/image/outpainting/async", bodies.Outpaint,
                    frozenset({_LANGUAGE, _USER})),
    HiDreamEndpoint("img2img", "/api-pub/gw/v2/image/img2img/async", bodies.ImageToImage, frozenset({_USER})),
    HiDreamEndpoint("upscale", "/api-pub/gw/v3/image/image_upscaler/async", bodies.Upscale,
                    frozenset({_LANGUAGE, _USER})),
    HiDreamEndpoint("variation", "/api-pub/ec/v3/image/variation/async", bodies.Variation, frozenset()),
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


UNKNOWN = Target("unknown", "unknown")

_TARGETS: dict[tuple[str, str], Target] = {
    **{("POST", entry.path): Target(entry.name, "submit", entry) for entry in HIDREAM_ENDPOINTS},
    **{("GET", entry.path + "/results"): Target(entry.name, "result", entry) for entry in HIDREAM_ENDPOINTS},
    ("GET", TEMPLATES_PATH): Target("templates", "list"),
    ("GET", TOKEN_PATH): Target("token", "token"),
}
# Volcengine's actions share their two paths.
CVPROCESS, ASYNC_SUBMIT, ASYNC_RESULT = "CVProcess", "CVSync2AsyncSubmitTask", "CVSync2AsyncGetResult"
_VOLCENGINE_TARGETS = {
    CVPROCESS: Target("cvprocess", "submit"),
    ASYNC_SUBMIT: Target("cvsync2async", "submit"),
    ASYNC_RESULT: Target("cvsync2async", "result"),
}


def target_of(method: str, path: str, action: str) -> Target:
    """Return what a request is for; `action` is the Action of its query, if any."""
    if method == "POST" and path in (SIGNED_PATH, GATEWAY_PATH):
        # An unknown action goes to CVProcess, which refuses it when it checks its query.
        return _VOLCENGINE_TARGETS.get(action, _VOLCENGINE_TARGETS[CVPROCESS])
    return _TARGETS.get((method, path), UNKNOWN)
