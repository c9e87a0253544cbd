"""Names of metrics, parameters and tags that MLflow accepts, and of what is registered."""

import posixpath
import re
from functools import lru_cache

NAME_LENGTH = 250  # MLflow refuses longer ones
CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
GAP = "gap/avg"  # also of a version; with _sd and _n: mean over fresh seeds, on `test`

# MLflow's pages list metrics in the order in which a run got them, and compare runs by the first.
FIRST = (GAP, "gap/", "bias/", "best/gap/")


def importance(name: str) -> int:
    """Return the place of a metric among those that a run gets at the same time, from 0."""
    return next((n for n, start in enumerate(FIRST) if name.startswith(start)), len(FIRST))


@lru_cache(maxsize=1024)  # the same few names come with every epoch
def allowed(name: str) -> str:
    """Return a name of a metric, parameter or tag that MLflow accepts.

    A character that it refuses becomes its number between underscores: `what?` is `what_3f_`.
    """
    text = re.sub(r"[^/\w.\- :]", lambda found: f"_{ord(found.group()):x}_", name) or "_"
    # MLflow treats it as a path, which must lead nowhere else: no `..`, no slash at an end.
    if posixpath.normpath(text) != text or text.startswith(("/", "..")) or text == ".":
        text = "/".join(part.replace(".", "_2e_") or "_" for part in text.split("/"))
    return text[:NAME_LENGTH]
