"""Checkpoint: `decision` decides, `sessions` and `loops` act, `run` keeps one run.

`policy`, `block` and `cp` are the faces. `codec`, `scalars` and `envelope` turn values into bytes
that can be checked, `types` says which types may be built from them, `order` tells sources apart,
`leaving` tells `break` from an exception, `digest` notices that a function was changed, `watcher`
and `signals` watch over a run from outside, `recovery` runs again what was interrupted.
"""
