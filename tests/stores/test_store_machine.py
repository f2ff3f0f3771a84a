"""A share of the proof of stores; `benchmarks/store_machine.py` makes the whole of it."""

from hypothesis import settings

from support.examples import examples
from support.store_machine import StoreMachine

StoreMachine.TestCase.settings = settings(
    max_examples=examples(100), stateful_step_count=30, deadline=None
)
test_two_workers_and_a_server_that_forgets_keep_the_rules_of_stores = StoreMachine.TestCase
