"""How many examples Hypothesis tries where a test says a number: few after each edit."""

from hypothesis import settings

FULL = settings.get_profile("full").max_examples


def examples(number: int) -> int:
    """Return *number* in the profile `full`, and the same share of it as of all in another one."""
    return max(1, number * settings.default.max_examples // FULL)


def strides() -> int:
    """Return 1 in the profile `full`, where all is visited, and more in another one."""
    return FULL // settings.default.max_examples
