"""Lines of the log: one line each, whatever the names in them would tell a terminal."""

import logging

import pytest

from mainstay import (
    CircuitBreaker,
    FailoverPool,
    Member,
    fallback,
    hedge,
    pipeline,
    redundant,
    retry,
    timeout,
)
from mainstay._core.events import logger_of
from mainstay._core.words import printable
from mainstay.testing import FakeClock


@pytest.mark.parametrize(
    ("raw", "escaped"),
    [
        ("a\nb", "a\\nb"), ("\x1b[31m", "\\x1b[31m"), ("\x9b", "\\x9b"), ("\x7f", "\\x7f"),
        ("\u202e", "\\u202e"), ("\u2028", "\\u2028"), ("\ud800", "\\ud800"), ("ü 💥", "ü 💥"),
        ("a\\b", "a\\b"),
    ],
)  # fmt: skip
def test_what_a_terminal_would_obey_is_escaped(raw, escaped):
    assert printable(raw) == escaped


@pytest.mark.parametrize("raw", ["a\x9bb", "\x7f", "\u202e", "\U000e0041", "\ud800"])
def test_in_json_it_is_escaped_as_json_does(raw):
    import json  # noqa: PLC0415 - for this test alone

    text = json.dumps([raw], ensure_ascii=False, indent=2)
    assert json.loads(printable(text, in_json=True)) == [raw]
    assert printable(text, in_json=True).count("\n") == 2


def test_a_name_cannot_make_a_line_of_its_own(caplog):
    name = "orders\nERROR mainstay.retry: forged\x1b[2J\u202e"
    with caplog.at_level(logging.INFO, "mainstay"):
        with pytest.raises(OSError, match="down"):
            retry(on=OSError, attempts=2, wait=0, name=name).call(fail)
        CircuitBreaker(name, on=OSError).open()
    assert len(caplog.records) >= 3
    for record in caplog.records:
        assert record.getMessage().isprintable()
        assert "orders\\nERROR" in record.getMessage()


def test_numbers_and_what_has_no_name_stay_what_they_are(caplog):
    logger_of("retry").warning("%s: %d of %.1f %s", "a\n", 3, 0.5, OSError("b\nc"))
    [record] = caplog.records
    assert record.getMessage() == "a\\n: 3 of 0.5 b\\nc"
    logger_of("retry").warning("nothing to put in")
    assert caplog.records[1].getMessage() == "nothing to put in"


def fail():
    raise OSError("down")


class Broken(logging.Handler):
    """A handler that lets its own exceptions out, as one that does not ask `handleError` does."""

    def emit(self, record):
        raise LookupError(record.getMessage())


@pytest.fixture
def broken_handler():
    logger, handler = logging.getLogger("mainstay"), Broken()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


def raises_for(error):
    raise AttributeError("no response")


POLICIES = {
    "retry": lambda on, name: retry(on=on, name=name),
    "breaker": lambda on, name: CircuitBreaker(name, on=on),
    "pool": lambda on, name: FailoverPool(name, [Member("a", 1)], on=on),
    "redundant": lambda on, name: redundant(on=on, name=name, start=hedge.together()),
    "fallback": lambda on, name: fallback(on=on, default=None, name=name),
    "pipeline": lambda on, name: pipeline(name, retry(on=on), CircuitBreaker(name + "-b", on=on)),
}


@pytest.mark.parametrize("on", [KeyError, raises_for], ids=["unmatched", "broken"])
@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_a_log_handler_that_raises_does_not_hide_the_users_exception(
    policy, on, function_caller, broken_handler, capsys
):
    with pytest.raises(OSError, match="down"):
        function_caller(policy(on, "noisy"), lambda *_resource: fail())
    assert "LookupError" in capsys.readouterr().err


def test_a_strategy_that_raises_is_told_to_a_handler_that_raises(caller, broken_handler):
    with pytest.raises(OSError, match="down"):
        caller(retry(on=OSError, wait=raises_for), fail)


def test_a_late_answer_is_not_lost_to_a_handler_that_raises(broken_handler):
    with FakeClock() as clock:
        assert timeout(1.0).call(lambda: clock.advance(2.0) or "late") == "late"


def test_a_handler_that_raises_is_printed_where_logging_prints_its_own(
    broken_handler, capsys, monkeypatch
):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logger_of("retry").warning("unheard")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(logging, "raiseExceptions", True)
    monkeypatch.setattr("sys.stderr", None)
    logger_of("retry").warning("unheard")


def test_a_line_tells_where_in_the_code_it_was_written(caplog):
    logger_of("retry").warning("here")
    [record] = caplog.records
    assert record.filename == "test_log_lines.py"
