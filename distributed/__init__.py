"""Where and when it runs: experiments, references, study, sweep, tracking, command line."""
