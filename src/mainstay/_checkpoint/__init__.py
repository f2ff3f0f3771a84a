"""Checkpointed functions and blocks.

What users import: `policy` is the decorator, `block` the block, `cp` the object inside a run;
`recovery` runs interrupted runs again, and `commands` is the command line.
What users set: `settings` are the parameters, `keys` finds the key of a call.
What decides: `decision` what to do about a run, `schedule` when to save, `retention` which old runs
to remove.
What acts: `call` makes an attempt at a run, with a `watcher` and `signals` beside it; `loops` goes
through items and steps.
The parts of an attempt: a `run`, which is between the loops and the store; `progress`,
`iteration`, `archive`, `steps` and `state` know how far the run is.
What is saved: a `document`, written by `codec`, with `scalars` for single values and `instances`
for instances of classes; `types` knows which types may be built from saved data. `value_digest` and
`key_digest` identify items and sources, `code` detects a changed function.
"""
