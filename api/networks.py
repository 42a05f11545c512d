"""How a profile reaches the services: its proxy, and the certificates it trusts beside the usual ones."""

from __future__ import annotations

import base64
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from .errors import ConfigurationError
from .redaction import Secret
from .text import Text

_LARGEST_CA_FILE = 4 * 2**20
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")


@dataclass(frozen=True)
class Network:
    """What a profile says of the way to its services; the default is the environment's way.

    ``proxy`` replaces the environment's proxies and carries no login itself; ``certificates`` (PEM) are trusted in
    addition to the usual ones.
    """

    proxy: str = ""
    proxy_login: Secret | None = None
    certificates: str = field(default="", repr=False)

    @classmethod
    def of(cls, proxy: str = "", proxy_login: str = "", ca_file: str = "") -> Network:
        """
        Raises:
            ConfigurationError: the CA file is missing, or holds no certificate.
        """
        login = _login(proxy_login) if proxy and proxy_login else None
        return cls(proxy, login, certificates_of(ca_file) if ca_file else "")

    @property
    def proxy_authorization(self) -> str:
        """The header that proves to the proxy who asks; empty without a login."""
        if self.proxy_login is None:
            return ""
        return "Basic " + base64.b64encode(self.proxy_login.reveal().encode("utf-8")).decode("ascii")

    @property
    def proxy_with_login(self) -> str:
        """The proxy's address with the login in it: SOCKS knows no headers. Empty without a login."""
        if self.proxy_login is None:
            return ""
        scheme, _, host = self.proxy.partition("://")
        user, _, password = self.proxy_login.reveal().partition(":")
        return f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{host}"


def _login(user_and_password: str) -> Secret:
    # What libraries write into their errors is not both parts together.
    Secret(user_and_password.partition(":")[2])
    return Secret(user_and_password)


def certificates_of(ca_file: str) -> str:
    """The certificates in a PEM file.

    Raises:
        ConfigurationError: there are none, for whatever reason: the reason would tell what files this server has.
    """
    try:
        path = Path(ca_file)
        # What has no size may be a file of the kernel's that is read without end.
        if not path.is_file() or not path.stat().st_size:
            raise OSError("no file")
        with path.open("rb") as file:
            text = file.read(_LARGEST_CA_FILE).decode("ascii", "replace")
        found = "\n".join(_CERTIFICATE.findall(text))
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=found)
    except (OSError, ValueError):
        raise ConfigurationError(
            Text(
                f"The CA file {ca_file} is not a readable PEM file with certificates.",
                f"CA 文件 {ca_file} 无法读取，或不是包含证书的 PEM 文件。",
            )
        ) from None
    return found
