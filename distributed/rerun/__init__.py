"""Running a recorded trial again."""
