"""How a trial's number is written in the names of folders and runs."""


def trial_name(number: int) -> str:
    """Return a trial's number with at least four digits, so that names sort by number: "0007".

    From 10,000 on, names are longer and no longer sort by number, but they stay unique.
    """
    return f"{number:04d}"
