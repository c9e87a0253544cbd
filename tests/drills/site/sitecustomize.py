"""Python runs this in every process of a drill, also in Ray's workers, to switch on the faults."""

import os

if os.environ.get("DRILL_FAULTS"):
    from tests.drills.faults import install

    install()

if os.environ.get("DRILL_LIBRARY"):
    from tests.drills.faults import worsen

    worsen()

if os.environ.get("DRILL_KILL"):
    from tests.drills.faults import die

    die()
