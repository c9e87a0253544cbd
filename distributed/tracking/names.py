"""Names of metrics, parameters and tags that MLflow accepts, and of what is registered."""

import posixpath
import re
from functools import lru_cache

NAME_LENGTH = 250  # MLflow refuses longer ones
CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
GAP = "gap/avg"  # of a version; with _sd and _n: mean over fresh seeds, on `test`


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
