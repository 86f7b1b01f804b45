"""Whatever a library logs or an error quotes: no token and no key in it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import pytest

from flatguard import redaction
from flatguard.redaction import LOGGERS, redact

TOKEN = "eyJhbGciOi.eyJleHAiOj.s1gn-atu_re"
OPAQUE = "0123456789abcdef"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install for one test alone."""
    factory, levels = logging.getLogRecordFactory(), {name: logging.getLogger(name).level for name in LOGGERS}
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    logging.setLogRecordFactory(logging.LogRecord)
    redaction.install()
    yield
    logging.setLogRecordFactory(factory)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.mark.parametrize("secret", [TOKEN, OPAQUE])
@pytest.mark.parametrize(
    "form",
    [
        "GET wss://rtc.example.com/hubs/user?access_token={} HTTP/1.1",
        "/hubs/user?id=7&access_token={}&more=1",
        "Authorization: Bearer {}",
        "[(b'Authorization', b'Bearer {}'), (b'Host', b'x')]",
        "headers={{'authorization': 'Bearer {}'}}",
        '{{"userName": "trader1", "apiKey": "{}"}}',
        '{{"token":"{}","success":true}}',
        '{{"newToken": "{}"}}',
        'b\'{{\\"apiKey\\": \\"{}\\"}}\'',
    ],
)
def test_the_forms_in_which_secrets_travel_are_covered(form: str, secret: str) -> None:
    cleaned = redact(form.format(secret))
    assert secret not in cleaned
    assert "***" in cleaned


def test_a_bare_token_is_known_by_its_form() -> None:
    assert redact(f"what is {TOKEN}?") == "what is ***?"


@pytest.mark.parametrize(
    "text", ["", "account 25700001 is PROTECTED", "token valid until 2026-03-19T14:30:00Z", "100 %"]
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize("name", ["httpx", "httpcore.http11", "websockets.client", "hypercorn.access", "anything"])
def test_a_record_is_clean_for_every_handler_and_at_every_level(name: str, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger(name)
    with caplog.at_level(logging.DEBUG, logger=name):
        logger.debug("GET %s", f"/hubs/user?access_token={TOKEN}")
        logger.debug("headers %r", {"authorization": f"Bearer {OPAQUE}"})
        try:
            raise ValueError(f"/hubs/user?access_token={TOKEN}")
        except ValueError:
            logger.exception("it broke: %s", TOKEN)
        logger.debug("%d of %s", 5, "nothing secret")
    assert len(caplog.records) == 4
    assert TOKEN not in caplog.text
    assert OPAQUE not in caplog.text
    assert "ValueError" in caplog.text
    assert "5 of nothing secret" in caplog.text
    assert not [r for r in caplog.records if TOKEN in repr(r.__dict__["args"]) + str(r.msg)]


def test_a_message_that_does_not_fit_its_arguments_shows_neither(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("httpx").warning("one %s two %s", *[TOKEN])
    assert "does not fit" in caplog.text
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("name", LOGGERS)
def test_loggers_that_show_requests_stay_above_debug(name: str) -> None:
    assert not logging.getLogger(name).isEnabledFor(logging.DEBUG)


def test_an_uncaught_error_is_printed_clean(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ExceptionGroup("several", [RuntimeError(f"access_token={TOKEN}")])
    except ExceptionGroup as error:
        sys.excepthook(type(error), error, error.__traceback__)
    shown = capsys.readouterr().err
    assert "RuntimeError: access_token=***" in shown
    assert TOKEN not in shown


def test_installing_again_changes_nothing() -> None:
    factory = logging.getLogRecordFactory()
    redaction.install()
    assert logging.getLogRecordFactory() is factory
