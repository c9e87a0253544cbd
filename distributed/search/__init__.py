"""The sweep: references, trials, evaluation on `test`, report."""
