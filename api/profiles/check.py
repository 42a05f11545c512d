"""The free check of a profile: one request that buys nothing, and a diagnosis of its answer or failure."""

from __future__ import annotations

import email.utils
import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlsplit

import requests

from ..core import (
    SANDBOX_PROFILE,
    ConfigurationError,
    Deadlines,
    Provider,
    Text,
    code_of,
    excerpt,
    json_object,
    shortened,
)
from ..services import SUCCESS, ask_for_result
from ..transport import (
    Answer,
    Cause,
    Diagnosis,
    ExchangedTokenAuth,
    HiDreamAccount,
    SignatureAuth,
    VolcengineAccount,
    ask,
    diagnosis_of,
)
from .resolve import Profiles

TEMPLATES_PATH = "/api-pub/ec/v3/template/variation"
# Seconds. The whole request may take connect + 2 × answer (`transport/free.py`): 15 s.
_CONNECT_S, _ANSWER_S = 5.0, 5.0
# A service is said to take a signature for some minutes; with a larger difference the clock is the likely cause.
_CLOCK_MAY_DIFFER_S = 300.0
# Words in the codes and messages of errors. Only SignatureDoesNotMatch has been seen
# (docs.byteplus.com/byteplus-vision), the others are guesses of what the services may write.
_CLOCK_WORDS = re.compile(r"timestamp|x-?date|clock|skew|requestexpired|signatureexpired", re.IGNORECASE)
_KEY_WORDS = re.compile(
    r"signature|access ?key|api.?key|credential|authori[sz]|authenticat|access ?denied|token|forbidden"
    r"|鉴权|认证|密钥|令牌|登录|无权限",
    re.IGNORECASE,
)
_KEY_ADVICE = Text(
    "Check that the whole key was entered, that it belongs to this host, and that it has not run out or been revoked.",
    "请检查密钥是否完整、是否属于该主机，以及是否已过期或被吊销。",
)
_TOKEN_ADVICE = Text(
    "A token may live for one day only: enter the API key instead, it is exchanged and renewed by itself.",
    "令牌（token）可能只有一天有效期：可改为填写 API key，会自动兑换并续期。",
)
_CLOCK_ADVICE = Text(
    "Set the clock of the server: signatures are made with its time.", "请校准服务器时间：签名使用服务器的时间。"
)
_HOST_ADVICE = Text(
    "Check the service's address in the profile, without a path of your own; a company's proxy or a login page of the "
    "network may also be answering in its place.",
    "请检查配置中的服务地址（不要自行添加路径）；也可能是公司代理或网络登录页在代为应答。",
)
_SERVICE_ADVICE = Text(
    "Try again later; if it stays, ask the service with these words.",
    "请稍后再试；若持续出现，请凭以上内容联系服务方。",
)


def check_profile(
    profiles: Profiles, profile: str, provider: Provider, now: Callable[[], float] = time.time
) -> Diagnosis:
    """Send one free request with the key of a profile and return what it says about key, host, clock and network.

    HiDream: an API key is exchanged for a token. A token is sent to the ``ec`` host with a request for the list of
    templates. That is the one documented request that needs a token, costs nothing, and answers that it accepted. The
    answer for a task that does not exist is not documented, so a refused key would look like an unknown task.
    Volcengine is asked for the result of a task that does not exist.

    Args:
        now: this server's time in seconds since 1970, to compare with the Date of the answer.

    Returns:
        A diagnosis with the cause ``ok``, or with the cause that a user can do something about.

    Raises:
        ConfigurationError: there is no such profile, or the file of profiles cannot be used.
    """
    if profile == SANDBOX_PROFILE:
        return Diagnosis("ok", Text("The sandbox needs no key and no network.", "沙盒无需密钥与网络。"))
    try:
        account = profiles.hidream(profile) if provider == "HiDream" else profiles.volcengine(profile)
    except ConfigurationError as problem:
        cause: Cause = "setting" if profiles.has_key(profile, provider) else "no_key"
        return Diagnosis(cause, problem.what, problem.advice)
    deadlines = replace(account.deadlines, connect=_CONNECT_S, poll=_ANSWER_S)
    try:
        host, answer = (
            _ask_hidream(account, deadlines)
            if isinstance(account, HiDreamAccount)
            else _ask_volcengine(account, deadlines)
        )
    except requests.RequestException as problem:
        return _diagnosis_of_failure(problem)
    return _diagnosis_of_answer(account, host, answer, now())


def _ask_hidream(account: HiDreamAccount, deadlines: Deadlines) -> tuple[str, Answer]:
    """The base URL that was asked, and its answer."""
    if isinstance(account.auth, ExchangedTokenAuth):
        return account.base_url, account.auth.ask_for_token(deadlines)
    params = {"gender": "woman", "page_size": "1", "page_index": "1"}
    url = account.ec_base_url + TEMPLATES_PATH
    answer = ask(replace(account, deadlines=deadlines).request(url, params), afresh=True)
    return account.ec_base_url, answer


def _ask_volcengine(account: VolcengineAccount, deadlines: Deadlines) -> tuple[str, Answer]:
    return account.base_url, ask_for_result(account, "0", deadlines, afresh=True)


def _diagnosis_of_failure(problem: requests.RequestException) -> Diagnosis:
    """The diagnosis of a request that got no answer."""
    message = shortened(_innermost_message(problem), 300)
    diagnosis = diagnosis_of(problem) or Diagnosis("connection", Text("The connection failed.", "连接失败。"), None)
    if diagnosis.cause == "proxy" and "407" in message:
        asks = Text("The proxy asks for a login, or for another one.", "代理要求登录，或登录信息不正确。")
        diagnosis = replace(diagnosis, text=asks)
    return replace(diagnosis, text=Text(f"{diagnosis.text.en} [{message}]", f"{diagnosis.text.zh}[{message}]"))


def _innermost_message(problem: requests.RequestException) -> str:
    """The message of the error that urllib3's MaxRetryError wraps, whose own message adds only host and retries."""
    reason = getattr(problem.args[0], "reason", None) if problem.args else None
    return str(reason).partition(": ")[2] or str(reason or problem)


# ---- answers


def _diagnosis_of_answer(
    account: HiDreamAccount | VolcengineAccount, base_url: str, answer: Answer, now: float
) -> Diagnosis:
    """The diagnosis of an answer. The order of the tests matters: words about the key or the clock win over the status.

    A 403 without a JSON object is no refusal of the key: a proxy or a firewall may have sent it.
    """
    body = json_object(answer.body)
    said = _quotation_of(answer)
    host = urlsplit(base_url).netloc
    signed = isinstance(account.auth, SignatureAuth)
    words = _error_words(body)
    refused = answer.status == 401 or (answer.status == 403 and body is not None)
    if refused or (answer.status < 500 and _KEY_WORDS.search(words)):
        if signed and (_CLOCK_WORDS.search(words) or abs(_seconds_ahead(answer, now)) > _CLOCK_MAY_DIFFER_S):
            return _clock(host, said, _seconds_ahead(answer, now))
        advice = _KEY_ADVICE
        if isinstance(account, HiDreamAccount) and not isinstance(account.auth, ExchangedTokenAuth):
            advice = Text(f"{_KEY_ADVICE.en} {_TOKEN_ADVICE.en}", f"{_KEY_ADVICE.zh}{_TOKEN_ADVICE.zh}")
        return _quoting("key", Text(f"{host} did not accept the key", f"{host} 未接受该密钥"), said, advice)
    if signed and answer.status < 500 and _CLOCK_WORDS.search(words):
        return _clock(host, said, _seconds_ahead(answer, now))
    if answer.status >= 500 or answer.status in (408, 429):
        return _quoting(
            "service", Text(f"{host} is in trouble at the moment", f"{host} 暂时不可用"), said, _SERVICE_ADVICE
        )
    if body is None or 300 <= answer.status < 400 or answer.status in (404, 405):
        return _quoting(
            "host", Text(f"What answers at {host} is not this service", f"{host} 的应答不是该服务"), said, _HOST_ADVICE
        )
    if isinstance(account, VolcengineAccount):
        return _volcengine(host, answer.status, code_of(body.get("code")), said)
    return _hidream(account, host, body, said)


def _hidream(account: HiDreamAccount, host: str, body: dict[str, object], said: str) -> Diagnosis:
    exchanging = isinstance(account.auth, ExchangedTokenAuth)
    result = body.get("result")
    code = code_of(body.get("code"))
    if code == 0:
        if not exchanging:
            return _ok(Text(f"{host} accepted the token.", f"{host} 已接受该令牌。"))
        if isinstance(result, dict) and result.get("token"):
            return _ok(Text(f"{host} exchanged the API key for a token.", f"{host} 已将 API key 兑换为令牌。"))
        # The body is not shown: it may hold the token under another name.
        return _unknown(host, "code 0")
    elif exchanging and code is not None:
        return _quoting("key", Text(f"{host} did not accept the key", f"{host} 未接受该密钥"), said, _KEY_ADVICE)
    return _unknown(host, said)


def _volcengine(host: str, status: int, code: int | str | None, said: str) -> Diagnosis:
    if code == SUCCESS:
        return _ok(Text(f"{host} accepted the key.", f"{host} 已接受该密钥。"))
    if isinstance(code, int) and status < 500:
        # An integer code comes from the service itself, which is asked only after the key was accepted.
        return _ok(
            Text(
                f"{host} answered and did not refuse the key. It said: {said}",
                f"{host} 已应答，且未拒绝该密钥。应答为：{said}",
            )
        )
    return _unknown(host, said)


def _ok(text: Text) -> Diagnosis:
    return Diagnosis("ok", text)


def _unknown(host: str, said: str) -> Diagnosis:
    return _quoting(
        "service",
        Text(f"{host} answered in a way that this pack does not know", f"{host} 的应答未知"),
        said,
        _SERVICE_ADVICE,
    )


def _clock(host: str, said: str, ahead: float) -> Diagnosis:
    minutes = round(abs(ahead) / 60)
    differs = minutes >= 1
    en = f"; the clocks differ by {minutes} minutes" if differs else ""
    zh = f"；双方时间相差 {minutes} 分钟" if differs else ""
    what = Text(f"{host} did not accept the time of the signature{en}", f"{host} 未接受签名的时间{zh}")
    return _quoting("clock", what, said, _CLOCK_ADVICE)


def _quoting(cause: Cause, what: Text, said: str, advice: Text) -> Diagnosis:
    return Diagnosis(cause, Text(f"{what.en}. It said: {said}", f"{what.zh}。应答为：{said}"), advice)


def _quotation_of(answer: Answer) -> str:
    return f"HTTP {answer.status} {excerpt(answer.body, 500)}".strip()


def _error_words(body: dict[str, object] | None) -> str:
    """The fields of an error but ``data`` and ``result``, as JSON of at most 2000 characters.

    "" for an answer of success, and for a body that is no JSON object.
    """
    if body is None or code_of(body.get("code")) in (0, SUCCESS):
        return ""
    fields = {name: value for name, value in body.items() if name not in ("data", "result")}
    return json.dumps(fields, ensure_ascii=False)[:2000]


def _seconds_ahead(answer: Answer, now: float) -> float:
    """Seconds by which this server's clock is ahead of the service's; 0 where the answer has no readable date."""
    try:
        return now - email.utils.parsedate_to_datetime(answer.headers.get("Date", "")).timestamp()
    except (TypeError, ValueError, OverflowError):
        return 0.0
