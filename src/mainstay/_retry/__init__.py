"""Retry: `decision` decides, `loops` and `blocks` act, `run` keeps one call, `policy` is the face.

`strategies` makes tenacity's objects usable, `events` says what is told to logs and listeners.
"""
