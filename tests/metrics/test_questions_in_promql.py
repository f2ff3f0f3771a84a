"""Questions in PromQL about one member: how its name goes in, and what an answer says."""

import ast
import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay._metrics.promql import AnswerError, query_about, sample_in

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
NASTY = "a\"b'c`d\\e\nf{member}"


@pytest.mark.parametrize(
    ("query", "member", "expected"),
    [
        ("up", "a", "up"),
        ("up{instance={member}}", "a", 'up{instance="a"}'),
        ('up{instance="{member}"}', "a", 'up{instance="a"}'),
        ("up{instance='{member}'}", "it's", r"up{instance='it\'s'}"),
        ("up{instance='{member}'}", 'so "so"', "up{instance='so \"so\"'}"),
        ('up{instance="{member}:80"}', 'so "so"', r'up{instance="so \"so\":80"}'),
        ("up{instance=`{member}`}", "a`b", 'up{instance="a`b"}'),
        (r"up{instance=`\d{member}`}", "a", r'up{instance="\\da"}'),
        ('up{instance=~"{member}:.*"}', "db.1", r'up{instance=~"db\\.1:.*"}'),
        ("up{instance!~ '{member}:.*'}", "db.1", r"up{instance!~ 'db\\.1:.*'}"),
        ("up{instance=~{member}}", "db.1", r'up{instance=~"db\\.1"}'),
        ('up # {member} and "\nor {member}', "a", 'up # {member} and "\nor "a"'),
        ('"\\"{member}" + {member}', "a", '"\\"a" + "a"'),
        ("{member}", "\a\n\r\t", r'"\x07\n\r\t"'),
        ("up{a={member}, b={member}}", "{member}", 'up{a="{member}", b="{member}"}'),
    ],
)
def test_a_name_goes_in_as_text(query, member, expected):
    assert query_about(query, member) == expected


@pytest.mark.parametrize("query", ["{member}", '"{member}"', "'{member}'", "`{member}`"])
@given(name=names)
def test_every_name_comes_out_as_it_went_in(query, name):
    """Python reads these escapes as PromQL does."""
    assert ast.literal_eval(query_about(query, name)) == name


@given(name=names, other=names)
def test_in_a_pattern_a_name_matches_itself_alone(name, other):
    pattern = ast.literal_eval(query_about("x=~'{member}'", name).removeprefix("x=~"))
    assert re.fullmatch(pattern, name)
    assert bool(re.fullmatch(pattern, other)) == (name == other)


def answer(kind, result, **others):
    return json.dumps(
        {"status": "success", "data": {"resultType": kind, "result": result}, **others}
    ).encode()


def series(*values):
    return [{"metric": {}, "value": [1.5, value]} for value in values]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (answer("vector", series("1")), 1.0),
        (answer("vector", series("0")), 0.0),
        (answer("vector", series("-0")), 0.0),
        (answer("vector", series("+Inf")), math.inf),
        (answer("vector", series("NaN")), None),
        (answer("vector", []), None),
        (answer("vector", series("2"), warnings=["partial"]), 2.0),
        (answer("scalar", [1.5, "0.5"]), 0.5),
        (answer("scalar", [1.5, "NaN"]), None),
    ],
)
def test_one_number_is_an_answer(body, expected):
    assert sample_in(200, body) == expected


ERROR = json.dumps({"status": "error", "errorType": "bad_data", "error": "parse error"}).encode()
BUSY = json.dumps({"status": "error", "errorType": "timeout", "error": "expired"}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind", "text"),
    [
        (400, ERROR, "query", "bad_data: parse error"),
        (422, ERROR.replace(b"bad_data", b"execution"), "query", "execution: parse error"),
        (503, BUSY, "server", "timeout: expired"),
        (200, answer("vector", series("0", "0")), "series", "gives 2 series"),
        (200, answer("vector", [{"metric": {}, "histogram": []}]), "series", "histogram"),
        (200, answer("string", [1.5, "0"]), "series", "text"),
        (200, answer("matrix", []), "series", "range"),
        (200, answer("vector", [{"metric": {}, "value": [0]}]), "answer", "no result"),
        (200, answer("vector", None), "answer", "no result"),
        (200, answer("vector", series(None)), "answer", "no result"),
        (200, answer("else", []), "answer", "no result"),
        (200, answer([], []), "answer", "no result"),
        (200, b"<html>", "answer", "no result"),
        (200, b"", "answer", "no result"),
        (200, b"[]", "answer", "^its answer is no result of a query$"),
        (200, b"[" * 100_000, "answer", "no result"),
        (200, b"1" * 10_000, "answer", "no result"),
        (200, b'{"status": "error"}', "answer", "no result"),
        (200, b"\xff\xfe", "answer", "no result"),
        (503, b"Service Unavailable", "answer", "it answers 503"),
    ],
)
def test_everything_else_says_nothing(status, body, kind, text):
    with pytest.raises(AnswerError, match=text) as caught:
        sample_in(status, body)
    assert caught.value.kind == kind


@given(status=st.sampled_from([200, 400, 503]), body=st.binary() | st.text().map(str.encode))
def test_no_answer_is_read_as_a_failure_that_is_none(status, body):
    with pytest.raises(AnswerError):
        sample_in(status, body)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=9) | st.just("vector"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["status", "data", "resultType", "result", "value", "metric"]), inner
        )
    ),
)


@given(value=json_values)
def test_no_json_breaks_the_reader(value):
    try:
        sample = sample_in(200, json.dumps(value).encode())
    except AnswerError:
        return
    assert sample is None or isinstance(sample, float)
