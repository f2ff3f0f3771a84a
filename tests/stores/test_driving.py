"""How an operation of a store on a server is driven, by a thread and by a task."""

import asyncio

import pytest

from mainstay.stores._driving import adrive, drive
from mainstay.stores._failure import ServerFailure

LATE = ServerFailure.late()


def by_thread(operation, answer):
    return drive(operation, answer)


def by_task(operation, answer):
    async def send(request):
        await asyncio.sleep(0)
        return answer(request)

    return asyncio.run(adrive(operation, send))


@pytest.fixture(params=[by_thread, by_task], ids=["thread", "task"])
def driven(request):
    return request.param


def answer(request):
    if isinstance(request, BaseException):
        raise request
    return 2 * request


def test_each_request_is_answered_and_the_result_returned(driven):
    def operation():
        first = yield 1
        second = yield first
        return first, second

    assert driven(operation(), answer) == (2, 4)


def test_an_operation_that_asks_for_nothing_has_a_result(driven):
    def operation():
        return "known"
        yield

    assert driven(operation(), answer) == "known"


def test_an_operation_may_go_another_way_after_a_failure(driven):
    def operation():
        try:
            yield LATE
        except ServerFailure as failure:
            return failure, (yield 1)

    assert driven(operation(), answer) == (LATE, 2)


def test_a_failure_that_an_operation_does_not_know_is_raised(driven):
    def operation():
        yield LATE

    with pytest.raises(ServerFailure) as raised:
        driven(operation(), answer)
    assert raised.value is LATE


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("no")], ids=repr)
def test_what_an_interrupted_operation_holds_is_free_at_once(driven, error):
    freed = []

    def operation():
        try:
            yield error
        finally:
            freed.append("session")

    with pytest.raises(type(error)) as raised:
        driven(operation(), answer)
    assert raised.value is error
    assert freed == ["session"]
