"""Ray: connecting to a cluster, sending jobs to it, which code runs there."""
