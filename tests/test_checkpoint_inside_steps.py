"""Steps and iterations inside a step, which is not begun again on a resume."""

import pytest
from checkpoint_colours import OopsError

from mainstay import checkpoint_run


@pytest.mark.xfail(reason="what is inside a step is numbered as if it were beside it")
def test_a_step_finds_no_result_of_a_step_inside_another_one(store):
    """On a resume the outer step is replayed, and the next use of the inner name is the first."""

    def body(cp):
        def both():
            return [cp.step("fetch", int, "1"), cp.step("fetch", int, "2")]

        return cp.step("both", both), cp.step("fetch", int, "3")

    for fail in (True, False):
        try:
            with checkpoint_run("key", store=store) as cp:
                got = body(cp)
                if fail:
                    raise OopsError
        except OopsError:
            pass
        assert got == ([1, 2], 3)


@pytest.mark.xfail(reason="what is inside a step is numbered as if it were beside it")
def test_an_iteration_finds_no_cursor_of_one_inside_a_step(in_colour, store):
    """On a resume the step is replayed, and the iteration after it has the name of the inner."""

    async def body(cp, seen):
        async def prepare():
            return [row async for row in cp.iterate([1, 2, 3])]

        if hasattr(cp, "_cp"):  # in the sync colour a step takes a plain function
            rows = await cp.step("prepare", lambda: [*cp._cp.iterate([1, 2, 3])])
        else:
            rows = await cp.step("prepare", prepare)
        async for row in cp.iterate([1, 2, 3]):
            if row == 2 and not cp.resumed:
                raise OopsError
            seen.append(row)
        return rows

    seen = []
    job = in_colour.job(body, store=store)
    with pytest.raises(OopsError):
        job(seen)
    assert job(seen) == [1, 2, 3]
    assert seen == [1, 2, 3]
