"""The parts that all policies use: calls, time, deadlines, budgets, events. Knows no policy."""
