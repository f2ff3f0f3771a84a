"""What a redundant call refuses: at once where that can be known, and by the parameter's name.

Values that no parameter of any policy takes are in `tests/package/test_arguments.py`.
"""

import asyncio
import threading

import pytest

from mainstay import UnsupportedLoopError, hedge, redundant, vote

pytestmark = pytest.mark.usefixtures("metrics")


def plain(*_args):
    return 1


async def awaited(*_args):
    return 1


def items():
    yield 1


async def async_items():
    yield 1


@pytest.mark.parametrize(
    ("parameters", "error", "text"),
    [
        ({"copies": 1}, ValueError, "`copies` must be at least 2"),
        ({"copies": 2.0}, TypeError, "`copies` must be a whole number"),
        ({"copies": 3, "alternatives": [plain]}, ValueError, "`copies` must be at most 2"),
        ({"alternatives": plain}, TypeError, "`alternatives` must be a list of functions"),
        ({"alternatives": [1]}, TypeError, "`alternatives` must be functions, and 1 cannot"),
        (
            {"copies": 2, "decide": vote.quorum(3)},
            ValueError,
            "`decide` does not fit `copies`: vote.quorum",
        ),
        ({"decide": "majority"}, TypeError, "`decide` must be a rule such as"),
        ({"decide": vote.majority}, TypeError, "`decide` must be a rule such as"),
        ({"start": 0.1}, TypeError, "`start` must be made by `mainstay.hedge`"),
        ({"start": hedge.together}, TypeError, "`start` must be made by `mainstay.hedge`"),
        ({"on": KeyboardInterrupt}, TypeError, "`on` takes classes below Exception"),
        ({"on": awaited}, TypeError, "`on` must be a plain function"),
        ({"on_result": True}, TypeError, "`on_result` must take a result"),
        ({"on_result": awaited}, TypeError, "`on_result` must be a plain function"),
        ({"on_result": items}, TypeError, "`on_result` must return its answer"),
        ({"timeout": 0}, ValueError, "`timeout`"),
        ({"budget": 1.5}, ValueError, "`budget` must be from 0 to 1"),
        ({"budget": "5 %"}, TypeError, "`budget` must be a RetryBudget, a share"),
        ({"dispose": items}, TypeError, "`dispose` must do its work when called"),
        ({"primary": "thread"}, ValueError, "`primary` must be 'inline' or 'task'"),
        ({"raises": "first"}, ValueError, "`raises` must be 'last' or 'group'"),
        ({"threads": 0}, ValueError, "`threads` must be at least 1"),
        ({"name": ""}, ValueError, "`name` must not be empty"),
    ],
)
def test_a_policy_refuses_wrong_parameters_when_it_is_made(parameters, error, text):
    with pytest.raises(error, match=text):
        redundant(**parameters)


@pytest.mark.parametrize(
    ("parameters", "fn", "text"),
    [
        ({}, items, "redundant needs functions with a result"),
        ({}, async_items, "redundant needs functions with a result"),
        (
            {"alternatives": [awaited]},
            plain,
            r"\.plain is a plain function, so its `alternatives` .*\.awaited is `async def`",
        ),
        (
            {"alternatives": [plain]},
            awaited,
            r"\.awaited is `async def`, so its `alternatives` .*\.plain is a plain function",
        ),
        ({"dispose": awaited}, plain, "`dispose` is async and .* is not"),
        ({"primary": "task"}, plain, "`primary` is for async functions"),
    ],
)
def test_a_policy_refuses_a_function_that_it_does_not_fit(parameters, fn, text):
    with pytest.raises(TypeError, match=text):
        redundant(**parameters)(fn)


def test_a_rule_that_does_not_fit_two_copies_is_refused_at_decoration_and_fits_a_race():
    policy = redundant(decide=vote.quorum(3))
    with pytest.raises(ValueError, match=r"`decide` does not fit `copies`: vote\.quorum\(3\)"):
        policy(plain)
    with policy.race() as race:
        for _ in range(3):
            race.start(plain)
        assert race.result() == 1


@pytest.mark.parametrize(
    "parameters", [{"copies": 2}, {"alternatives": [plain]}, {"start": hedge.after(1)}]
)
def test_a_race_takes_no_parameters_that_the_block_says_itself(parameters):
    (name,) = parameters
    with pytest.raises(TypeError, match=f"`{name}` does not apply to `race"):
        redundant(**parameters).race()


def test_a_race_needs_a_start_and_gives_its_result_once():
    with redundant().race() as race:
        with pytest.raises(RuntimeError, match="at least one `start`"):
            race.result()
        race.start(plain)
        assert race.result() == 1
        with pytest.raises(RuntimeError, match="called once"):
            race.result()
        with pytest.raises(RuntimeError, match="no copy can join"):
            race.start(plain)


def test_a_race_block_is_entered_once():
    block = redundant().race()
    with block:
        pass
    with pytest.raises(RuntimeError, match="this race is over"), block:
        pass


def test_an_async_race_block_is_entered_once():
    async def main():
        block = redundant().race()
        async with block:
            pass
        with pytest.raises(RuntimeError, match="this race is over"):
            await block.__aenter__()

    asyncio.run(main())


def test_a_race_refuses_async_functions_in_sync_code_and_the_reverse():
    async def main():
        async with redundant().race() as race:
            with pytest.raises(TypeError, match="this race starts functions of `async def`"):
                race.start(plain)

    with (
        redundant().race() as race,
        pytest.raises(TypeError, match="this race starts functions of `def`"),
    ):
        race.start(awaited)
    asyncio.run(main())


def test_a_race_whose_rule_does_not_fit_its_copies_says_so():
    with redundant(decide=vote.quorum(2)).race() as race:
        race.start(plain)
        with pytest.raises(ValueError, match="can never be reached by 1 copies"):
            race.result()


def test_a_race_in_threads_refuses_what_it_could_not_await():
    with (
        pytest.raises(TypeError, match=r"`dispose` is async and `with policy\.race\(\)` is not"),
        redundant(dispose=awaited).race(),
    ):
        pass


def test_a_plain_dispose_that_returns_a_coroutine_is_told_of(caplog):
    policy = redundant(
        alternatives=[lambda: 2],
        decide=vote.unanimous(key=bool),
        dispose=lambda answer: awaited(answer),  # noqa: PLW0108 - the lambda is no async function
    )
    assert policy.call(plain) == 1
    (record,) = caplog.records
    assert "returned a coroutine" in str(record.exc_info[1])


def test_a_race_in_threads_would_block_an_event_loop():
    async def main():
        with redundant().race():
            pass

    with pytest.raises(TypeError, match=r"async with policy\.race"):
        asyncio.run(main())


@pytest.mark.parametrize("primary", ["inline", "task"])
@pytest.mark.parametrize("start", [hedge.after(1), hedge.together()])
def test_an_async_call_outside_asyncio_is_refused(primary, start):
    call = redundant(start=start, primary=primary)(awaited)()
    with pytest.raises(UnsupportedLoopError):
        call.send(None)


def test_an_async_race_outside_asyncio_is_refused():
    async def main():
        async with redundant().race():
            pass

    with pytest.raises(UnsupportedLoopError):
        main().send(None)


def test_a_plain_function_that_returns_a_coroutine_is_refused_and_the_coroutine_closed():
    policy = redundant(start=hedge.after(1))
    with pytest.raises(TypeError, match="returned a coroutine"):
        policy(lambda: awaited())()  # noqa: PLW0108 - the lambda is no async function


def test_plain_functions_that_all_return_coroutines_are_refused_in_a_vote_too():
    together = threading.Barrier(3)

    def misused():
        together.wait(10)
        return awaited()

    for _ in range(20):
        with pytest.raises(TypeError, match="returned a coroutine"):
            redundant(copies=3, decide=vote.majority()).call(misused)


def test_alternatives_with_other_parameters_fail_as_copies():
    def narrow():
        return 2

    policy = redundant(alternatives=[narrow], decide=vote.quorum(1))
    assert policy(plain)("x") == 1
