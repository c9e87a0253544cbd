"""Python runs this in every process of a drill, Ray's workers included: arms the faults."""

import os

if os.environ.get("DRILL_FAULTS"):
    from tests.drills.faults import install

    install()
