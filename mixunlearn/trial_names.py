"""How the number of a trial is written, in the names of folders and of runs."""


def trial_name(number: int) -> str:
    """Return a trial's number with four digits at least, so that names sort by number: "0007".

    From 10,000 on they are longer and sort among the others; each is still one trial's alone.
    """
    return f"{number:04d}"
