"""Ray: connecting to a cluster, submitting jobs, and the version of the code that runs there."""
