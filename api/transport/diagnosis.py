"""Why a request did not arrive, in words for the user: DNS, proxy, TLS, connection or time, and what to do about it."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from typing import Literal

import requests
import urllib3

from ..core import ConnectionFailedError, Provider, Text, shortened
from .submit import NotSentError, find_cause

Cause = Literal[
    "ok", "no_key", "setting", "dns", "proxy", "tls", "connection", "timeout", "key", "clock", "host", "service"
]  # fmt: skip


@dataclass(frozen=True)
class Diagnosis:
    """Why a request did not arrive or was not accepted; the cause "ok" says that it was."""

    cause: Cause
    text: Text
    advice: Text | None = None


_PROXY_ADVICE = Text(
    "Check the proxy of this profile, or HTTPS_PROXY of the server: its address and its port. A login can be in "
    "HTTPS_PROXY only.",
    "请检查该配置的代理或服务器的 HTTPS_PROXY：地址与端口。登录信息只能写在 HTTPS_PROXY 中。",
)
_DNS_ADVICE = Text(
    "Check the host's spelling and the server's DNS; behind a company network, enter its proxy in the profile.",
    "请检查主机名拼写与服务器的 DNS；如在公司网络内，请在配置中填写代理。",
)
_TLS_ADVICE = Text(
    "If a company proxy or a server of your own signs with a CA of its own, set REQUESTS_CA_BUNDLE in the environment "
    "of the ComfyUI server to a file with that CA's certificate and the public ones, and restart the server. Otherwise "
    "somebody may be listening: do not go on.",
    "如果公司代理或自建服务器使用自己的 CA 签发证书，请在 ComfyUI 服务器的环境变量中将 REQUESTS_CA_BUNDLE "
    "设为包含该 CA 证书与公共 CA 证书的文件并重启服务器；否则可能有人在窃听，请勿继续。",
)
_TLS_CLOCK_ADVICE = Text(
    "Check the date and the time of the server first: certificates are valid for a time only.",
    "请先检查服务器的日期与时间：证书只在有效期内有效。",
)
_CONNECTION_ADVICE = Text(
    "Check the network, the firewall and the host's port; behind a company network, enter its proxy in the profile.",
    "请检查网络、防火墙与主机端口；如在公司网络内，请在配置中填写代理。",
)
_UNTRUSTED = Text("The host's TLS certificate was not accepted.", "主机的 TLS 证书未通过验证。")
_NO_ANSWER_IN_TIME = Text("The host did not answer in time.", "连接主机超时。")

# Looked for in this order among an exception and those that it wraps: the one that says most comes first.
_DIAGNOSES: tuple[tuple[type[BaseException], Diagnosis], ...] = (
    (
        requests.exceptions.InvalidSchema,
        Diagnosis(
            "proxy",
            Text(
                "The proxy that is set is a SOCKS proxy, and the Python package PySocks is missing: "
                "install it in ComfyUI's Python (`pip install PySocks`), or set an http:// proxy.",
                "所设的代理是 SOCKS 代理，但缺少 Python 包 PySocks：请在 ComfyUI 的 Python 环境中安装"
                "（`pip install PySocks`），或改用 http:// 代理。",
            ),
            _PROXY_ADVICE,
        ),
    ),
    (
        urllib3.exceptions.ProxyError,
        Diagnosis(
            "proxy", Text("The proxy could not be reached or refused.", "代理无法连接或拒绝了请求。"), _PROXY_ADVICE
        ),
    ),
    (
        requests.exceptions.ProxyError,
        Diagnosis(
            "proxy", Text("The proxy could not be reached or refused.", "代理无法连接或拒绝了请求。"), _PROXY_ADVICE
        ),
    ),
    (
        socket.gaierror,
        Diagnosis("dns", Text("The host name could not be resolved (DNS).", "无法解析主机名（DNS）。"), _DNS_ADVICE),
    ),
    (ssl.SSLCertVerificationError, Diagnosis("tls", _UNTRUSTED, _TLS_ADVICE)),
    (
        ssl.SSLError,
        Diagnosis(
            "tls", Text("The TLS handshake with the host failed.", "与主机的 TLS 握手失败。"), _CONNECTION_ADVICE
        ),
    ),
    (
        ConnectionResetError,
        Diagnosis(
            "connection",
            Text(
                "The connection was cut before the whole request was sent; if this stays, the images may be too large.",
                "请求尚未发完连接就被切断；若持续出现，可能是图片过大。",
            ),
            _CONNECTION_ADVICE,
        ),
    ),
    (
        ConnectionRefusedError,
        Diagnosis("connection", Text("The host refused the connection.", "主机拒绝连接。"), _CONNECTION_ADVICE),
    ),
    (TimeoutError, Diagnosis("timeout", _NO_ANSWER_IN_TIME, _CONNECTION_ADVICE)),
    (urllib3.exceptions.ConnectTimeoutError, Diagnosis("timeout", _NO_ANSWER_IN_TIME, _CONNECTION_ADVICE)),
    (urllib3.exceptions.ReadTimeoutError, Diagnosis("timeout", _NO_ANSWER_IN_TIME, _CONNECTION_ADVICE)),
    (requests.Timeout, Diagnosis("timeout", _NO_ANSWER_IN_TIME, _CONNECTION_ADVICE)),
)
# OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED.
_OUTSIDE_OF_ITS_TIME = (9, 10)


def diagnosis_of(error: BaseException) -> Diagnosis | None:
    """What kept a request from arriving, from the exception it ended with; ``None`` if that does not say it."""
    for kind, diagnosis in _DIAGNOSES:
        found = find_cause(error, kind)
        if found is not None:
            if isinstance(found, ssl.SSLCertVerificationError) and found.verify_code in _OUTSIDE_OF_ITS_TIME:
                return Diagnosis("tls", _UNTRUSTED, _TLS_CLOCK_ADVICE)
            return diagnosis
    return None


def obstacle_of(error: BaseException) -> Text | None:
    """The words for a problem with DNS, a proxy or TLS, which stays until somebody corrects it; ``None`` for others."""
    found = diagnosis_of(error)
    return found.text if found is not None and found.cause in ("dns", "proxy", "tls") else None


def unreachable(provider: Provider, problem: NotSentError) -> ConnectionFailedError:
    """The error for a request that was not sent, which says why, as far as that is known."""
    what = Text("The service could not be reached; nothing was sent.", "无法连接服务端，未发送任何内容。")
    found = diagnosis_of(problem.cause)
    return ConnectionFailedError(
        found.text if found is not None else what,
        advice=found.advice if found is not None and found.cause == "tls" else None,
        provider=provider,
        vendor_message=shortened(str(problem), 300),
    )
