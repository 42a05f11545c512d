"""Verifies Volcengine's V4 signature (HMAC-SHA256)."""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from urllib.parse import quote

from ..message import Call

REGION, SERVICE = "cn-north-1", "cv"
CLOCK_TOLERANCE = timedelta(minutes=15)
_AUTHORIZATION = re.compile(
    r"HMAC-SHA256 Credential=([^/\s,]+)/(\d{8})/([^/\s,]+)/([^/\s,]+)/request,"
    r" *SignedHeaders=([a-z0-9;-]+), *Signature=([0-9a-f]{64})"
)


class SignatureError(Exception):
    """The request is not signed as it must be; `code` and `status` (HTTP) belong into the answer."""

    def __init__(self, code: str, message: str, status: int = 401) -> None:
        super().__init__(message)
        self.code, self.status = code, status


def verify(call: Call, access_key_id: str, secret_access_key: str, now: datetime | None = None) -> None:
    """Check the signature of a request; `now` (UTC) is for tests of the clock's tolerance.

    Raises:
        SignatureError: it is missing, or wrong in any part.
    """
    match = _AUTHORIZATION.fullmatch(call.headers.get("authorization", ""))
    if not match:
        raise SignatureError("InvalidAuthorization", "Authorization is missing or is not HMAC-SHA256 with"
                             " Credential, SignedHeaders and Signature.")
    key_id, date, region, service, signed_headers, signature = match.groups()
    if not hmac.compare_digest(key_id.encode(), access_key_id.encode()):
        raise SignatureError("InvalidAccessKey", "The access key does not exist.")
    if (region, service) != (REGION, SERVICE):
        raise SignatureError("InvalidCredential", f"The scope must be {REGION}/{SERVICE}/request.", 403)
    x_date = call.headers.get("x-date", "")
    _check_date(x_date, date, now or datetime.now(timezone.utc))

    names = signed_headers.split(";")
    missing = [name for name in {"host", "x-date", "x-content-sha256", *names}
               if name not in names or name not in call.headers]
    if missing:
        raise SignatureError("InvalidAuthorization", f"These headers must be sent and signed: {sorted(missing)}.")
    body_hash = hashlib.sha256(call.body).hexdigest()
    if call.headers["x-content-sha256"] != body_hash:
        raise SignatureError("SignatureDoesNotMatch", "X-Content-Sha256 is not the hash of the body.")
    expected = sign(secret_access_key, x_date,
                    canonical_request(call.method, call.path, call.query, call.headers, names, body_hash))
    if not hmac.compare_digest(expected, signature):
        raise SignatureError("SignatureDoesNotMatch", "The request signature does not match.")


def _check_date(x_date: str, scope_date: str, now: datetime) -> None:
    try:
        sent = datetime.strptime(x_date, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
    except ValueError:
        raise SignatureError("InvalidTimestamp", "X-Date must be YYYYMMDDTHHMMSSZ.", 403) from None
    if scope_date != x_date[:8]:
        raise SignatureError("InvalidCredential", "The date of the scope is not that of X-Date.", 403)
    if abs(now - sent) > CLOCK_TOLERANCE:
        raise SignatureError("InvalidTimestamp", "X-Date is more than 15 minutes off.", 403)


def canonical_request(method: str, path: str, query: Iterable[tuple[str, str]], headers: Mapping[str, str],
                      signed: Iterable[str], body_hash: str) -> str:
    """Return the canonical request of the V4 signature; `signed` names the signed headers in lower case."""
    quoted = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in query)
    names = sorted(signed)
    return "\n".join([
        method,
        quote(path, safe="/-_.~"),
        "&".join(f"{name}={value}" for name, value in quoted),
        *(f"{name}:{headers[name].strip()}" for name in names),
        "",
        ";".join(names),
        body_hash,
    ])


def sign(secret_access_key: str, x_date: str, canonical: str) -> str:
    """Return the signature of a canonical request, in hex; `x_date` is the header X-Date, YYYYMMDDTHHMMSSZ."""
    key = secret_access_key.encode()
    for part in (x_date[:8], REGION, SERVICE, "request"):
        key = _hmac(key, part)
    scope = f"{x_date[:8]}/{REGION}/{SERVICE}/request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return _hmac(key, f"HMAC-SHA256\n{x_date}\n{scope}\n{digest}").hex()


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
