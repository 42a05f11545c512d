"""The keys that the emulator accepts."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Credentials:
    """One key of each kind; the defaults are fit to be published."""

    # repr=False: a key that a test passes in must not show up in a log or an assertion message.
    hidream_token: str = field(default="sandbox-hidream-token", repr=False)
    hidream_api_key: str = field(default="sandbox-hidream-api-key", repr=False)
    gateway_api_key: str = field(default="sandbox-gateway-api-key", repr=False)
    access_key_id: str = field(default="AKLTsandbox", repr=False)
    secret_access_key: str = field(default="sandbox-secret-access-key", repr=False)
