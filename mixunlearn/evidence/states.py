"""The five verdicts, from which a program can choose without importing the statistics."""

EQUIVALENT = "equivalent to retraining"
BETTER = "better than doing nothing, not equivalent"
NO_BETTER = "no better than doing nothing"
HARMFUL = "harmful (utility lost)"
UNDECIDED = "undecided"
STATES = (EQUIVALENT, BETTER, NO_BETTER, HARMFUL, UNDECIDED)
