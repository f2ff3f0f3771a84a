"""Checkpoint: `decision` decides, `loops` acts, `run` keeps one run, `policy` and `cp` are faces.

`codec` and `envelope` turn values into bytes that can be checked, `types` says which types may be
built from them, `digest` notices that a function was changed, `watcher` and `signals` watch over a
run from outside, `recovery` runs again what was interrupted.
"""
