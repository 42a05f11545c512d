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

from ..catalog import ENDPOINTS, VolcengineEndpoint
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
_STATUSES_OF_ANOTHER_HOST = frozenset({404, 405, *range(300, 400)})
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


# Any: no endpoint has a task "0".
_ENDPOINT = next(endpoint for endpoint in ENDPOINTS if isinstance(endpoint, VolcengineEndpoint))


def _ask_volcengine(account: VolcengineAccount, deadlines: Deadlines) -> tuple[str, Answer]:
    return account.base_url, ask_for_result(account, _ENDPOINT, "0", deadlines, afresh=True)


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


def _quoting(cause: Cause, en: str, zh: str, advice: Text) -> Diagnosis:
    """A diagnosis with the words of the answer: ``{host}`` and ``{said}`` are still to be filled in."""
    return Diagnosis(cause, Text(f"{en}. It said: {{said}}", f"{zh}。应答为：{{said}}"), advice)


_REFUSED_KEY = _quoting("key", "{host} did not accept the key", "{host} 未接受该密钥", _KEY_ADVICE)
_TROUBLE = _quoting("service", "{host} is in trouble at the moment", "{host} 暂时不可用", _SERVICE_ADVICE)
_OTHER_HOST = _quoting("host", "What answers at {host} is not this service", "{host} 的应答不是该服务", _HOST_ADVICE)
_UNKNOWN = _quoting(
    "service", "{host} answered in a way that this pack does not know", "{host} 的应答未知", _SERVICE_ADVICE
)
_ACCEPTED_KEY = Diagnosis("ok", Text("{host} accepted the key.", "{host} 已接受该密钥。"))
_ACCEPTED_TOKEN = Diagnosis("ok", Text("{host} accepted the token.", "{host} 已接受该令牌。"))
_EXCHANGED = Diagnosis("ok", Text("{host} exchanged the API key for a token.", "{host} 已将 API key 兑换为令牌。"))
_NOT_REFUSED = Diagnosis(
    "ok",
    Text(
        "{host} answered and did not refuse the key. It said: {said}", "{host} 已应答，且未拒绝该密钥。应答为：{said}"
    ),
)


def _diagnosis_of_answer(
    account: HiDreamAccount | VolcengineAccount, base_url: str, answer: Answer, now: float
) -> Diagnosis:
    """The diagnosis of an answer: that of the first row that holds.

    A 403 without a JSON object is no refusal of the key: a proxy or a firewall may have sent it.
    """
    status, body = answer.status, json_object(answer.body)
    words, ahead = _error_words(body), _seconds_ahead(answer, now)
    refused = status == 401 or (status == 403 and body is not None) or _KEY_WORDS.search(words)
    clock = _CLOCK_WORDS.search(words) or (refused and abs(ahead) > _CLOCK_MAY_DIFFER_S)
    rows = (
        (status >= 500, _TROUBLE),
        (clock and isinstance(account.auth, SignatureAuth), _wrong_clock(ahead)),
        (refused, _refused_key(account)),
        (status in (408, 429), _TROUBLE),
        (body is None or status in _STATUSES_OF_ANOTHER_HOST, _OTHER_HOST),
        (True, _diagnosis_of_code(account, body or {})),
    )
    diagnosis = next(diagnosis for holds, diagnosis in rows if holds)
    return _filled(diagnosis, urlsplit(base_url).netloc, _quotation_of(answer))


def _refused_key(account: HiDreamAccount | VolcengineAccount) -> Diagnosis:
    if isinstance(account, VolcengineAccount) or isinstance(account.auth, ExchangedTokenAuth):
        return _REFUSED_KEY
    advice = Text(f"{_KEY_ADVICE.en} {_TOKEN_ADVICE.en}", f"{_KEY_ADVICE.zh}{_TOKEN_ADVICE.zh}")
    return replace(_REFUSED_KEY, advice=advice)


def _diagnosis_of_code(account: HiDreamAccount | VolcengineAccount, body: dict[str, object]) -> Diagnosis:
    """The diagnosis of an answer of the service itself, by its code."""
    code, result = code_of(body.get("code")), body.get("result")
    if isinstance(account, VolcengineAccount):
        # An integer code comes from the service itself, which is asked only after the key was accepted.
        return _ACCEPTED_KEY if code == SUCCESS else _NOT_REFUSED if isinstance(code, int) else _UNKNOWN
    if not isinstance(account.auth, ExchangedTokenAuth):
        return _ACCEPTED_TOKEN if code == 0 else _UNKNOWN
    if code == 0:
        # The body is not shown: it may hold the token under another name.
        has_token = isinstance(result, dict) and result.get("token")
        return _EXCHANGED if has_token else _filled(_UNKNOWN, "{host}", "code 0")
    return _REFUSED_KEY if code is not None else _UNKNOWN


def _wrong_clock(ahead: float) -> Diagnosis:
    minutes = round(abs(ahead) / 60)
    en = f"; the clocks differ by {minutes} minutes" if minutes else ""
    zh = f"；双方时间相差 {minutes} 分钟" if minutes else ""
    return _quoting(
        "clock",
        f"{{host}} did not accept the time of the signature{en}",
        f"{{host}} 未接受签名的时间{zh}",
        _CLOCK_ADVICE,
    )


def _filled(diagnosis: Diagnosis, host: str, said: str) -> Diagnosis:
    en, zh = (words.format(host=host, said=said) for words in (diagnosis.text.en, diagnosis.text.zh))
    return replace(diagnosis, text=Text(en, zh))


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
