"""What every policy stands on: time, names, deadlines, budgets, events. Knows no policy."""
