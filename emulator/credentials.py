"""The keys that the emulator accepts."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Credentials:
    # repr=False: a test that hands in a canary key must not find it in a log or an assertion message.
    hidream_token: str = field(default="sandbox-hidream-token", repr=False)
    hidream_api_key: str = field(default="sandbox-hidream-api-key", repr=False)
    gateway_api_key: str = field(default="sandbox-gateway-api-key", repr=False)
    access_key_id: str = field(default="AKLTsandbox", repr=False)
    secret_access_key: str = field(default="sandbox-secret-access-key", repr=False)
