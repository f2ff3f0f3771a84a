"""Retry: `policy` is what users import, `loops` and `blocks` act, `call` is one call.

`decision` decides what follows a failed attempt, `strategies` and `call_state` make tenacity's
objects usable, `nested` finds a retry inside a retry, and `settings` has the checked parameters.
"""
