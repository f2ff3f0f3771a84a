"""Lines of the log: one line each, whatever the names in them would tell a terminal."""

import logging

import pytest

from mainstay import CircuitBreaker, retry
from mainstay._core.events import logger_of
from mainstay._core.failures import printable


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
