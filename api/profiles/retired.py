"""Entries that an earlier version stored in a profile and this one does not use: what they were, and what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ..core import SETTINGS_DIALOG, Text, shortened
from .fields import RETIRED_SECRETS
from .file import StoredProfile


@dataclass(frozen=True)
class Retired:
    """An entry that an earlier version stored in a profile and this one does not use.

    Args:
        part: where it is in the profile.
        name: of the setting or key.
        what: a sentence about it for the user.
        advice: what to do instead.
    """

    part: Literal["settings", "keys"]
    name: str
    what: Text
    advice: Text


_SOCKS = re.compile(r"socks[^:]*://", re.IGNORECASE)
_PROXY_ADVICE = Text(
    "Set HTTPS_PROXY in the environment of the ComfyUI server (it can be a SOCKS proxy and have a login), restart the "
    "server and leave the proxy of the profile empty; or enter a proxy without a login, such as one on this machine. "
    f"Then remove the old entry in {SETTINGS_DIALOG.en}.",
    "请在 ComfyUI 服务器的环境变量中设置 HTTPS_PROXY（可为 SOCKS 代理，也可含登录信息），重启服务器，"
    "并将该配置的代理留空；或填写无需登录的代理（例如本机代理）。"
    f"然后在「{SETTINGS_DIALOG.zh}」中删除旧条目。",
)
_CA_ADVICE = Text(
    "Set REQUESTS_CA_BUNDLE in the environment of the ComfyUI server to a bundle that holds these certificates and "
    "those of the public CAs (or to this file, if no other host is used), and restart the server. Then remove the old "
    f"entry in {SETTINGS_DIALOG.en}.",
    "请在 ComfyUI 服务器的环境变量中将 REQUESTS_CA_BUNDLE 设为同时包含这些证书与公共 CA 证书的文件"
    f"（若不使用其他主机，也可直接设为该文件），并重启服务器。然后在「{SETTINGS_DIALOG.zh}」中删除旧条目。",
)


def retired_in(profile: StoredProfile) -> list[Retired]:
    """The retired entries of a profile. They are reported and not ignored, because they decided how calls went out."""
    name, found = profile.name, []
    proxy_address = str(profile.settings.get("proxy") or "").strip()
    ca_file = profile.settings.get("ca_file")
    if _SOCKS.match(proxy_address):
        what = Text(f"The proxy of the profile {name!r} is a SOCKS proxy", f"配置 {name!r} 的代理是 SOCKS 代理")
        found.append(_retired("settings", "proxy", what, _PROXY_ADVICE))
    elif "@" in proxy_address:
        what = Text(
            f"The proxy of the profile {name!r} has a login in its address", f"配置 {name!r} 的代理地址含有登录信息"
        )
        found.append(_retired("settings", "proxy", what, _PROXY_ADVICE))
    if not RETIRED_SECRETS.isdisjoint(profile.other_keys):
        what = Text(
            f"The profile {name!r} has a login for its proxy (proxy_login)",
            f"配置 {name!r} 含有代理的登录信息（proxy_login）",
        )
        found.append(_retired("keys", "proxy_login", what, _PROXY_ADVICE))
    if ca_file:
        file = shortened(str(ca_file), 200)
        what = Text(
            f"The profile {name!r} has a CA file (ca_file: {file})",
            f"配置 {name!r} 有自己的 CA 文件（ca_file：{file}）",
        )
        found.append(_retired("settings", "ca_file", what, _CA_ADVICE))
    return found


def _retired(part: Literal["settings", "keys"], name: str, what: Text, advice: Text) -> Retired:
    sentence = Text(f"{what.en}, which is no longer supported in a profile.", f"{what.zh}，配置中不再支持。")
    return Retired(part, name, sentence, advice)
