"""A dict is looked at while garbage collections take entries out of it."""

import gc
import itertools
import weakref

import pytest

from mainstay._core.threads import values_now


class Source:
    """Something that is watched, and garbage in a cycle as soon as nobody else has it."""

    def __init__(self):
        self.itself = self


@pytest.fixture
def thresholds():
    before = gc.get_threshold()
    yield range(1, 30)
    gc.set_threshold(*before)
    gc.enable()


def watching(*sources):
    watched = {}
    for source in sources:
        key = id(source)
        watched[key] = weakref.ref(source, lambda _, key=key: watched.pop(key, None))
    return watched


def test_a_collection_at_any_moment_does_not_disturb_it(thresholds):
    """Python 3.11 collects where an object is made, Python 3.12 between two instructions."""
    first, last = Source(), Source()
    for threshold, made in itertools.product(thresholds, range(30)):
        gc.collect()
        gc.disable()
        watched = watching(first, Source(), last)
        objects = [[] for _ in range(made)]  # so that the next collection is near
        gc.set_threshold(threshold)
        gc.enable()
        values = values_now(watched)
        living = [source for value in values if (source := value()) is not None]
        gc.set_threshold(700)
        assert [living[0], living[-1]] == [first, last]
        del objects
