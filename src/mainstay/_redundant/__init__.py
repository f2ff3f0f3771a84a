"""Redundant call: `decision` decides, the loops act, `run` keeps one call, `policy` is the face.

`ending` says how a call ends, `sketch` knows how long calls take, `state` is what the calls of a
function share, `threads` runs copies in sync code, `race` is the block form, `events` says what is
told to logs and listeners.
"""
