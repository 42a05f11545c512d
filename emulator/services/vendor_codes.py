"""Volcengine's error codes, with the HTTP status and the message of each."""

from typing import NamedTuple


class VendorCode(NamedTuple):
    status: int
    message: str
    after_generation: bool = False
    """The picture exists already when this code is answered. Whether it is paid is unknown: the emulator bills it."""


VENDOR_CODES = {
    50411: VendorCode(400, "Pre Img Risk Not Pass"),
    50511: VendorCode(400, "Post Img Risk Not Pass", after_generation=True),
    50412: VendorCode(400, "Text Risk Not Pass"),
    50512: VendorCode(400, "Post Text Risk Not Pass"),
    50413: VendorCode(400, "Post Text Risk Not Pass"),
    50516: VendorCode(400, "Post Video Risk Not Pass", after_generation=True),
    50517: VendorCode(400, "Post Audio Risk Not Pass", after_generation=True),
    50518: VendorCode(400, "Pre Img Risk Not Pass: Copyright"),
    50519: VendorCode(400, "Post Img Risk Not Pass: Copyright", after_generation=True),
    50520: VendorCode(400, "Risk internal error"),
    50521: VendorCode(400, "Antidirt internal error"),
    50522: VendorCode(400, "Image Copyright internal error"),
    # The documented meaning; the words are not known, nor the HTTP status.
    50402: VendorCode(400, "Interface not found"),
    50429: VendorCode(429, "API QPS limit"),
    50430: VendorCode(429, "API concurrent limit"),
    50500: VendorCode(500, "Internal Error"),
    50501: VendorCode(500, "Internal RPC Error"),
}
