"""Arguments that an attempt has used up: no second one is made with what is left of them.

Field faults, A10: an upload whose first attempt failed sent an empty body, and was a success.
"""

import io

import pytest

from mainstay import ResultRefusedError, retry


class Upload:
    """Reads its body, and fails the first time."""

    def __init__(self, *fails):
        self.fails = list(fails)
        self.seen = []

    def __call__(self, body, then=None):
        self.seen.append(b"".join(body))
        if self.fails:
            raise self.fails.pop(0)
        return self.seen[-1]

    def untouched(self, _body):
        self.seen.append(b"")
        if self.fails:
            raise self.fails.pop(0)
        return "done"


@pytest.fixture
def upload():
    made = Upload(ConnectionError("reset"))

    def upload(body, then=None):
        return made(body)

    upload.seen = made.seen
    upload.untouched = made.untouched
    return upload


def parts():
    yield b"a"
    yield b"b"


ONE_SHOT = {
    "generator": (parts, "a generator"),
    "file": (lambda: io.BytesIO(b"ab"), "a file that does not stand where it stood before"),
}


@pytest.fixture(params=ONE_SHOT)
def one_shot(request):
    return ONE_SHOT[request.param]


def test_no_attempt_is_made_with_what_is_left(function_caller, upload, one_shot, metrics):
    make, what = one_shot
    with pytest.raises(ConnectionError, match="reset") as caught:
        function_caller(retry(on=ConnectionError, wait=0), upload, make())
    (note,) = caught.value.__notes__
    assert f", {what}, is used up" in note
    assert "gave up after 1 attempt" in note
    assert upload.seen == [b"ab"]
    assert metrics.outcomes() == {"error": 1}
    assert metrics.reasons() == {"attempts": 1}


def test_by_keyword_it_is_the_same(function_caller, upload, one_shot):
    policy = retry(on=ConnectionError, wait=0, budget=1.0)
    with pytest.raises(ConnectionError, match="reset"):
        policy.call(upload, body=one_shot[0]())
    assert upload.seen == [b"ab"]


def test_what_the_attempt_has_not_touched_is_passed_again(function_caller, upload, one_shot):
    body = one_shot[0]()
    assert function_caller(retry(on=ConnectionError, wait=0), upload.untouched, body) == "done"


def test_what_makes_it_anew_is_the_way(function_caller, upload):
    policy = retry(on=ConnectionError, wait=0)
    assert function_caller(policy, lambda make: upload(make()), parts) == b"ab"


def test_an_iterator_of_another_class_is_passed_again(function_caller, upload):
    """Nobody can know that it is used up; the docs say so."""
    policy = retry(on=ConnectionError, wait=0)
    assert function_caller(policy, upload, iter([b"a", b"b"])) == b""


def test_a_result_that_is_refused_is_no_reason_to_send_nothing(function_caller, one_shot):
    seen = []

    def upload(body):
        seen.append(b"".join(body))
        return 503

    policy = retry(on=ConnectionError, on_result=lambda status: status == 503, wait=0)
    with pytest.raises(ResultRefusedError) as caught:
        function_caller(policy, upload, one_shot[0]())
    assert seen == [b"ab"]
    assert "is used up" in caught.value.__notes__[0]


def test_generator_functions_too(sync_and_async, one_shot):
    seen = []

    def lines(body):
        seen.append(b"".join(body))
        raise ConnectionError("reset")
        yield

    with pytest.raises(ConnectionError) as caught:
        sync_and_async.items(retry(on=ConnectionError, wait=0), lines, one_shot[0]())
    assert "argument 1" in str(caught.value.__notes__) or "`body`" in str(caught.value.__notes__)
    assert seen == [b"ab"]


class Reader(io.BytesIO):
    """A file with a method of its own that is called again."""

    fails = 1

    @retry(on=ConnectionError, wait=0)
    def first_line(self):
        line = self.readline()
        if self.fails:
            self.fails -= 1
            raise ConnectionError
        return line


def test_the_self_of_a_method_is_no_argument():
    assert Reader(b"a\nb\n").first_line() == b"b\n"
