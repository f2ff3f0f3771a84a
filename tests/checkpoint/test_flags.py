"""Options that are True or False: anything else, such as "no", is refused."""

import pytest

from mainstay import checkpointed


def test_whether_a_function_is_recoverable_is_true_or_false(store):
    with pytest.raises(TypeError, match="`recoverable` must be True or False, not 'no'"):
        checkpointed(store=store, recoverable="no")


def test_whether_progress_is_shown_is_true_or_false(runner, store):
    async def body(cp):
        async for _ in cp.iterate("ab", progress="no"):
            pass

    with pytest.raises(TypeError, match="`progress` must be True or False, not 'no'"):
        runner.job(body, store=store)()
