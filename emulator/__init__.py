"""A local stand-in for the HiDream and Volcengine image services. See README.md."""

from .credentials import Credentials
from .recording import Recorded
from .server import Emulator

__all__ = ["Credentials", "Emulator", "Recorded"]
