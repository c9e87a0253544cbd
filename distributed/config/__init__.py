"""What a user writes: experiment files, checked and typed before anything runs."""
