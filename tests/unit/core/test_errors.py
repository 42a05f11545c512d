"""The exception tree and the table of vendor codes."""

from __future__ import annotations

import inspect

import pytest
from hidream_volcengine.api.core import errors
from hidream_volcengine.api.core.errors import RemoteImageError
from hidream_volcengine.api.core.redaction import Secret
from hidream_volcengine.api.core.text import Text
from hidream_volcengine.api.services import outcome
from hidream_volcengine.api.services.outcome import Meaning, Outcome, meaning_of

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, RemoteImageError)]
MEANINGS = [*outcome.VENDOR_CODES.values(), *outcome.TASK_STATUS.values(), *outcome._HTTP_STATUS.values()]


def test_the_tree_of_the_design() -> None:
    assert {kind.__name__ for kind in CLASSES} == {
        "RemoteImageError",
        "ConfigurationError",
        "InvalidInputError",
        "AuthenticationError",
        "QuotaError",
        "RateLimitError",
        "ModerationError",
        "TaskFailedError",
        "AmbiguousSubmitError",
        "TaskTimeoutError",
        "ServiceError",
        "ConnectionFailedError",
    }


@pytest.mark.parametrize("kind", CLASSES)
def test_dialogs_show_no_file_path(kind: type[RemoteImageError]) -> None:
    assert kind.__module__ == "hidream_volcengine"


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_says_what_whether_billed_and_what_next_in_both_languages(kind: type[RemoteImageError]) -> None:
    error = kind(
        Text("Something broke.", "出错了。"),
        provider="HiDream",
        code=1051,
        vendor_message="words of the service",
        request_id="r-1",
        task_id="t-1",
    )
    english, chinese = str(error).splitlines()
    assert english.startswith("Something broke.")
    assert chinese.startswith("出错了。")
    for line in (english, chinese):
        for detail in ("HiDream code 1051", '"words of the service"', "task_id=t-1", "request_id=r-1"):
            assert detail in line
    assert f"Billed: {error.billed}." in english
    assert "是否计费：" in chinese
    assert english.endswith(error.advice.en)
    assert chinese.endswith(error.advice.zh)
    assert error.advice.en and error.advice.zh


def test_a_secret_in_the_services_own_words_is_taken_out() -> None:
    Secret("very-secret-token")
    error = RemoteImageError(Text("a", "b"), vendor_message="bad token very-secret-token")
    assert "very-secret-token" not in str(error)
    assert "***" in str(error)


@pytest.mark.parametrize("meaning", MEANINGS, ids=lambda meaning: meaning.what.en)
def test_every_meaning_is_told_in_both_languages(meaning: Meaning) -> None:
    assert meaning.what.en.endswith(".")
    assert meaning.what.zh.endswith("。")
    assert issubclass(meaning.error, RemoteImageError)


ROWS = [
    (429, None, Outcome.BUSY, "no"),
    (400, 50429, Outcome.BUSY, "no"),
    (429, 50430, Outcome.BUSY, "no"),
    (302, None, Outcome.REFUSED, "no"),
    (400, None, Outcome.REFUSED, "no"),
    (401, None, Outcome.REFUSED, "no"),
    (402, None, Outcome.REFUSED, "no"),
    (404, None, Outcome.REFUSED, "no"),
    (413, None, Outcome.REFUSED, "no"),
    (200, 1051, Outcome.REFUSED, "no"),
    (200, 7, Outcome.REFUSED, "no"),
    *((400, code, Outcome.REFUSED, "no") for code in (50411, 50412, 50413, 50512, 50518)),
    *((500, None, Outcome.AMBIGUOUS, "unknown"), (503, None, Outcome.AMBIGUOUS, "unknown")),
    *((400, code, Outcome.AMBIGUOUS, "unknown") for code in (50500, 50501, 50520, 50521, 50522)),
    *((500, code, Outcome.AMBIGUOUS, "unknown") for code in (50411, 50429, 50430)),
    *((status, None, Outcome.AMBIGUOUS, "unknown") for status in (408, 409, 425, 499)),
    *((400, code, Outcome.REFUSED, "no") for code in (50200, 50215, 50400, 50402, 60102, 60208)),
    (200, None, Outcome.AMBIGUOUS, "unknown"),
    (200, 0, Outcome.AMBIGUOUS, "unknown"),
    (200, 10000, Outcome.AMBIGUOUS, "unknown"),
    *((400, code, Outcome.FAILED, "unknown") for code in (50511, 50516, 50517, 50519)),
]


@pytest.mark.parametrize(("status", "code", "outcome", "billed"), ROWS)
def test_rows_of_the_submit_table(status: int, code: int | None, outcome: Outcome, billed: str) -> None:
    meaning = meaning_of("HiDream" if code == 1051 else "Volcengine", status, code)
    assert meaning.outcome is outcome
    assert meaning.outcome.billed == billed


def test_a_signature_error_is_an_authentication_error() -> None:
    assert meaning_of("Volcengine", 400, "SignatureDoesNotMatch").error is errors.AuthenticationError
