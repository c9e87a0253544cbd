"""A file gets its name once, also on a file system without hard links."""

import os
import threading
from pathlib import Path

import pytest

from mixunlearn.atomic import claim


@pytest.mark.parametrize("links", [True, False])
def test_of_several_processes_one_gives_the_file_its_name(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:
        # What vfat, exFAT and many network and FUSE file systems answer.
        monkeypatch.setattr(os, "link", refuse)
    won: list[int] = []
    start = threading.Barrier(8)

    def race(number: int) -> None:
        temporary = tmp_path / f".{number}"
        temporary.write_text(str(number))
        start.wait()
        if claim(temporary, tmp_path / "name"):
            won.append(number)
            assert not temporary.exists()

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "name").read_text() == str(*won)


def refuse(*_: object) -> None:
    raise PermissionError(1, "Operation not permitted")
