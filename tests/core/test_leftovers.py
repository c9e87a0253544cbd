"""What killed processes leave behind."""

import os
from pathlib import Path

from mixunlearn.leftovers import DAY_S, remove_leftovers

LEFT = (
    ".trials.parquet.0123456789abcdef0123456789abcdef.tmp",
    ".gap_by_trial.png.part",
    ".validate_storage_marker",
    ".mixunlearn-x8_1abcd",
    ".state.json-0123456789abcdef0123456789abcdef",
)
OTHER = (".gitignore", ".nfs0000000123456789", "trials.parquet", "model.tmp", ".cache-of-mine")


def fill(folder: Path) -> None:
    for name in (*LEFT, *OTHER):
        (folder / name).write_text("x")
    (folder / ".trial-1-01234567").mkdir()
    (folder / ".trial-1-01234567" / "MLmodel").write_text("x")


def test_leftovers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    fill(tmp_path)
    remove_leftovers(tmp_path.rglob(".*"))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(OTHER)


def test_what_another_process_may_still_write_stays(tmp_path: Path) -> None:
    fill(tmp_path)
    old = tmp_path / LEFT[0]
    os.utime(old, (0, 0))
    before = set(tmp_path.iterdir())
    remove_leftovers(tmp_path.glob(".*"), age_s=DAY_S)
    assert set(tmp_path.iterdir()) == before - {old}
