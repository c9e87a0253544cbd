"""What Ray must not save."""


class Unsaved:
    """Leaves nothing in the files in which Ray describes a run: it is never restored from them.

    Ray pickles callbacks and searchers; ours hold connections and threads, and the study is on
    the disk already.
    """

    def __getstate__(self) -> dict[str, object]:
        """Return nothing to be pickled."""
        return {}
