"""The colors: red is what callers feel, amber what mainstay covers, and what is well is dim.

They can be told apart by those who do not see red and green; words say the same.
"""

FAILING = "#f0604d"
DEGRADED = "#e6a531"
WELL = "#56b4a0"
STANDBY = "#6fb1e8"
COLD = "#7d8590"
REJECTED = "#c2689a"
TIMED_OUT = "#a8483c"
CANCELLED = "#9aa0a6"


def dim(color: str) -> str:
    """Return the same as a background, for what is to be seen and not to shine."""
    return f"{color}40"


def dark(color: str) -> str:
    """Return the same half as strong, for a background that is to be seen before the dim ones."""
    return f"{color}99"
