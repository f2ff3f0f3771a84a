"""The state that iterations inside items save, and what items change themselves."""

import pytest

from support.checkpoints import OopsError


def undisturbed_and_interrupted(runner, store, body):
    """Give what a job comes to without and with an error at first, saved after every item."""
    job = runner.job(body, store=store, every=1, on_complete="rerun")
    undisturbed = job(False)
    with pytest.raises(OopsError):
        job(True)
    return undisturbed, job(True)


def test_it_is_known_three_deep_what_the_state_was_before_an_item(runner, store):
    async def body(cp, fail):
        state = cp.state({"on": False})
        async for outer in cp.iterate([1, 2]):
            if outer == 1:
                state["on"] = True
                continue
            async for _ in cp.iterate([1], name="middle"):
                state["on"] = not state["on"]
                async for inner in cp.iterate([1, 2, 3], name="inner"):
                    if inner == 3 and fail and not cp.resumed:
                        raise OopsError
        return state["on"]

    assert undisturbed_and_interrupted(runner, store, body) == (False, False)


def test_it_is_known_after_a_break_what_the_state_was_before_the_item(runner, store):
    async def body(cp, fail):
        state = cp.state({"batch": [], "sent": []})
        async for row in cp.iterate([1, 2]):
            if row == 1:
                state["batch"].append(row)
                continue
            async for _ in cp.iterate([5, 6], name="look"):
                break
            todo = [*state["batch"], row]
            state["batch"].clear()
            async for each in cp.iterate(todo, name="send"):
                if each == 2 and fail and not cp.resumed:
                    raise OopsError
                state["sent"].append(each)
        return state["sent"]

    assert undisturbed_and_interrupted(runner, store, body) == ([1, 2], [1, 2])


def test_what_takes_back_what_an_iteration_did_before_a_break_is_a_change(runner, store):
    async def body(cp, fail):
        state = cp.state({"free": 3})
        async for _ in cp.iterate(["order"]):
            async for _ in cp.iterate(["shelf", "other shelf"], name="shelves"):
                state["free"] -= 1
                break
            state["free"] += 1
            async for line in cp.iterate([1, 2, 3], name="lines"):
                if line == 3 and fail and not cp.resumed:
                    raise OopsError
        return state["free"]

    assert undisturbed_and_interrupted(runner, store, body) == (3, 3)
