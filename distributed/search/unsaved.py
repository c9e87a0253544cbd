"""A base class for objects that Ray must not save."""


class Unsaved:
    """Pickles to nothing: Ray's description of a run is never used to restore it.

    Ray pickles callbacks and searchers. Ours hold connections and threads, which cannot be
    pickled, and the study is already recorded.
    """

    def __getstate__(self) -> dict[str, object]:
        """Return nothing to be pickled."""
        return {}
