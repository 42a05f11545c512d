"""How a profile reaches the services: its proxy, and the certificates it trusts beside the usual ones."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from .errors import ConfigurationError
from .text import Text

# A profile's proxy where it goes directly, whatever the environment says.
NO_PROXY = "none"

_LARGEST_CA_FILE = 4 * 2**20
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")


@dataclass(frozen=True)
class Network:
    """What a profile says of the way to its services; the default is the environment's way.

    ``proxy`` replaces the environment's proxies, by none with ``NO_PROXY``; ``certificates`` (PEM) are trusted in
    addition to the usual ones.
    """

    proxy: str = ""
    certificates: str = field(default="", repr=False)

    @classmethod
    def of(cls, proxy: str = "", ca_file: str = "") -> Network:
        """
        Raises:
            ConfigurationError: the CA file is missing, or holds no certificate.
        """
        return cls(proxy, certificates_of(ca_file) if ca_file else "")


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
