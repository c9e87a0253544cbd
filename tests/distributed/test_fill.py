"""Which originals and references a run of Tune trains, and how filling the store tells of it."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from distributed.config.experiment import Resources
from distributed.runtime.progress import Progress
from distributed.search.references import fill, groups
from mixunlearn.errors import InputError
from mixunlearn.files import Files
from mixunlearn.references import Member, ReferenceStore
from mixunlearn.store import Store
from tests.problems import make_reference_store, recipe_of


def members(originals: int, references: int) -> list[Member]:
    return [
        *(Member(role="original", seed=seed) for seed in range(originals)),
        *(Member(role="reference", seed=seed) for seed in range(references)),
    ]


@pytest.mark.parametrize(
    ("originals", "references", "most", "slots", "sizes"),
    [
        (1, 3, 1, 2, [1, 1, 1, 1]),  # on a CPU
        (8, 8, 64, 1, [8, 8]),  # originals are trained on other images
        (1, 3, 64, 1, [1, 3]),
        (8, 8, 64, 4, [4, 4, 4, 4]),
        (0, 9, 64, 4, [3, 3, 3]),
        (0, 130, 64, 1, [64, 64, 2]),
        (1, 20, 64, None, [1, 8, 8, 4]),  # on a cluster
        (2, 2, 1, None, [1, 1, 1, 1]),
    ],
)
def test_members_of_one_role_share_a_run(
    originals: int, references: int, most: int, slots: int | None, sizes: list[int]
) -> None:
    everyone = members(originals, references)
    found = groups(everyone, most, slots)
    assert [len(group) for group in found] == sizes
    assert all(len({member.role for member in group}) == 1 for group in found)
    assert [member for group in found for member in group] == everyone


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> ReferenceStore:
    """One original and three references, trained one by one by the library."""
    return make_reference_store(tmp_path_factory.mktemp("filled"), epochs=2, references=3)


def fill_together(store: ReferenceStore, folder: Path) -> str:
    """Fill a store as on one GPU; return what is shown of it."""
    shown = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        # Of this process: workers still find that they have no GPU.
        patch.setattr(ReferenceStore, "most_together", lambda self, device: 64)
        with Progress(Console(file=shown, width=200)) as progress:
            fill([store], Resources(cpu=1, gpu=0), 1, Files.of(folder), progress)
    return shown.getvalue()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_groups_are_filled_counted_and_end_alone_with_what_diverges(
    filled: ReferenceStore, tmp_path: Path
) -> None:
    empty = replace(filled, store=Store(tmp_path / "store"))
    shown = fill_together(empty, tmp_path / "runs")
    first, last = shown.splitlines()
    assert first.startswith("models: 1 of 4 trained, epoch 2 of 8")
    assert last.startswith("models: 4 of 4 trained, epoch 8 of 8")
    assert not (tmp_path / "runs").exists()
    assert empty.missing() == []
    # Without a GPU, each was trained alone in its group: the numbers are the same.
    for member in filled.members:
        own, found = filled.load(member).state_dict(), empty.load(member).state_dict()
        assert all(torch.equal(own[name], found[name]) for name in own)
    useless = replace(filled, store=Store(tmp_path), recipe=replace(recipe_of(filled), lr=1e25))
    with pytest.raises(InputError, match=r"references\.lr = 1e\+25: original 0 diverged \("):
        fill_together(useless, tmp_path / "runs")
