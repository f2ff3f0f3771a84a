"""Who holds a run, and whether that process is provably dead: what a store has to know of it."""

from mainstay._core.owner import Owner, is_dead, shares_clock, this_process

__all__ = ["Owner", "is_dead", "shares_clock", "this_process"]
