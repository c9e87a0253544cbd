"""What Ray Tune runs: adapters without mathematics."""
