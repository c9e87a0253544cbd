"""A study as pictures: the search, the metrics next to the references, the generator.

Figures are built as objects, without pyplot's global state, so that threads can draw.
"""

import logging

# Where HOME cannot be written, Matplotlib would say in two lines that it is slower without a cache.
logging.getLogger("matplotlib").setLevel(logging.ERROR)
