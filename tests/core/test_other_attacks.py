"""ToW, SalUn's and LAF's attacks, on models and outputs whose result is known."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from mixunlearn.errors import DivergedError
from mixunlearn.evidence.laf_attack import asr_laf, laf_success, plain, random_crops
from mixunlearn.evidence.svc import Answers, modified_entropy, svc_mia
from mixunlearn.evidence.tow import Standing, mean_tow, own_tow, tow
from mixunlearn.metrics.membership import attack_success
from mixunlearn.models import StagedModel
from mixunlearn.problem import Architecture


def standing(forget: float, retain: float, held_out: float) -> Standing:
    return Standing(forget=forget, retain=retain, held_out=held_out)


def test_tow_multiplies_what_is_left_of_each_accuracy() -> None:
    retrained = standing(80, 100, 90)
    assert tow(retrained, retrained) == 1
    # Too much and too little forgetting cost the same.
    assert tow(standing(60, 95, 80), retrained) == pytest.approx(0.8 * 0.95 * 0.9)
    assert tow(standing(100, 95, 80), retrained) == pytest.approx(0.8 * 0.95 * 0.9)
    assert tow(standing(100, 0, 0), standing(0, 100, 100)) == 0


def test_retrained_models_set_the_ceiling_of_tow() -> None:
    retrained = [standing(70, 100, 90), standing(80, 100, 90), standing(90, 100, 90)]
    assert own_tow(retrained) == pytest.approx((0.9 + 0.8 + 0.9 + 0.9 + 0.8 + 0.9) / 6)
    assert mean_tow(standing(80, 100, 90), retrained) == pytest.approx((0.9 + 1 + 0.9) / 3)
    with pytest.raises(ValueError, match="a retrained model"):
        mean_tow(retrained[0], [])
    with pytest.raises(ValueError, match="two retrained models"):
        own_tow(retrained[:1])


def answers(rng: np.random.Generator, count: int, certainty: float, right: float = 1.0) -> Answers:
    """Outputs of about this certainty; a share of `right` is for the true class."""
    labels = rng.integers(10, size=count)
    top = np.clip(rng.normal(certainty, 0.02, size=count), 0.3, 0.999)
    said = np.where(rng.random(count) < right, labels, (labels + 1) % 10)
    probs = np.repeat(((1 - top) / 9)[:, None], 10, axis=1)
    probs[np.arange(count), said] = top
    return Answers(probs_NK=probs.astype(np.float32), labels_N=labels)


def test_salun_s_attack_calls_what_looks_unseen_non_members() -> None:
    rng = np.random.default_rng(0)
    retain, held_out = answers(rng, 300, 0.95), answers(rng, 200, 0.5)
    forgotten = svc_mia(retain, held_out, answers(rng, 100, 0.5))
    assert set(forgotten) == {"correctness", "confidence", "entropy", "m_entropy", "prob"}
    kept = svc_mia(retain, held_out, answers(rng, 100, 0.95))
    for name in ("confidence", "entropy", "m_entropy", "prob"):
        assert (forgotten[name], kept[name]) == pytest.approx((100, 0), abs=2)


def test_salun_s_attack_by_correctness_says_non_member_of_what_is_wrong() -> None:
    rng = np.random.default_rng(1)
    retain, held_out = answers(rng, 200, 0.9), answers(rng, 200, 0.9, right=0.0)
    found = svc_mia(retain, held_out, answers(rng, 400, 0.9, right=0.3))
    assert found["correctness"] == pytest.approx(70, abs=6)


def test_salun_s_attack_needs_images_and_numbers() -> None:
    rng = np.random.default_rng(2)
    sound, none = answers(rng, 20, 0.8), answers(rng, 0, 0.8)
    with pytest.raises(ValueError, match="at least one image of each kind"):
        svc_mia(sound, sound, none)
    bad = answers(rng, 20, 0.8)
    bad.probs_NK[:, :] = np.nan
    assert np.isnan(svc_mia(sound, sound, bad)["confidence"])


def test_modified_entropy_is_that_of_its_authors() -> None:
    probs = np.array([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1], [1, 0, 0], [0, 1, 0]], np.float32)
    found = modified_entropy(Answers(probs_NK=probs, labels_N=np.array([0, 1, 0, 0])))
    right = -0.3 * np.log(0.7) - 0.2 * np.log(0.8) - 0.1 * np.log(0.9)
    wrong = -0.8 * np.log(0.2) - 0.7 * np.log(0.3) - 0.1 * np.log(0.9)
    assert found[:3] == pytest.approx([right, wrong, 0], abs=1e-6)
    assert found[3] > 100  # certain, and wrong


Outputs = npt.NDArray[np.float32]


def outputs(rng: np.random.Generator, count: int, certainty: float) -> Outputs:
    return answers(rng, count, certainty).probs_NK


def test_laf_s_attack_asks_unequal_numbers() -> None:
    """It sees through this model: all of D_f is called a member, all other images are not."""
    rng = np.random.default_rng(3)
    held_out = outputs(rng, 64 + 20, 0.5)  # 64 to learn from: 20 are left
    seen = outputs(rng, 100, 0.95)
    kept = laf_success(seen, outputs(rng, 60, 0.95), held_out, seed=0, learned=50)
    assert kept == pytest.approx(100, abs=4)
    # All of D_f looks unseen: only the 20 of 80 answers on other images are right.
    forgotten = laf_success(seen, outputs(rng, 60, 0.5), held_out, seed=0, learned=50)
    assert forgotten == pytest.approx(100 * 20 / 80, abs=4)
    # The balanced attack says 50 of the same outputs.
    balanced = attack_success(seen, outputs(rng, 60, 0.5), held_out, 0)
    assert balanced == pytest.approx(50, abs=4)


def test_laf_s_attack_has_laf_s_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As its loops over batches of 32 count them, with 10,000 test images."""
    sizes: list[tuple[int, int]] = []

    def count(learning: tuple[Outputs, Outputs], asking: tuple[Outputs, Outputs]) -> float:
        sizes.extend((int(y.sum()), int((1 - y).sum())) for _, y in (learning, asking))
        return 0.5

    monkeypatch.setattr("mixunlearn.evidence.laf_attack.attacker_accuracy", count)
    for forget in (5_000, 10_000, 1_000):
        some = np.full((forget, 2), 0.5, np.float32)
        laf_success(some, some, np.full((10_000, 2), 0.5, np.float32), seed=0)
    learned, asked = sizes[::2], sizes[1::2]
    assert asked == [(5000, 4976), (10_000, 4976), (1000, 1024)]
    assert [sum(both) for both in learned] == [9923, 9947, 5963]  # 99 % of what there is


def test_laf_s_attack_needs_images_to_ask_about() -> None:
    some = np.full((5024, 2), 0.5, np.float32)
    with pytest.raises(ValueError, match="more than 5024 held-out images; 5024 are held out"):
        laf_success(some, some, some, seed=0)
    bad = np.full((10, 2), np.nan, np.float32)
    assert np.isnan(laf_success(some[:10], bad, some[:80], seed=0, learned=32))


@pytest.fixture(scope="module")
def model() -> StagedModel:
    return Architecture(name="cnn", width=2, image_shape=(1, 8, 8), classes=10).build(0)


def test_only_members_and_the_forget_set_pass_through_the_transform(model: StagedModel) -> None:
    images = torch.randint(0, 255, (140, 1, 8, 8), dtype=torch.uint8)
    passed: list[int] = []

    def dark(images_NCHW: Tensor, rng: np.random.Generator) -> Tensor:
        passed.append(len(images_NCHW))
        return images_NCHW // 255

    sets = images[:90], images[90:140], images
    # Black images are told from others, although the model never saw any of them.
    assert asr_laf(model, *sets, dark, 0, learned=64) > 90
    assert passed == [50, 50]
    assert asr_laf(model, *sets, plain, 0, learned=64) < 80


def test_laf_s_attack_of_no_model_is_an_error(model: StagedModel) -> None:
    broken = Architecture(name="cnn", width=2, image_shape=(1, 8, 8), classes=10).build(0)
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    images = torch.zeros(80, 1, 8, 8, dtype=torch.uint8)
    with pytest.raises(DivergedError):
        asr_laf(broken, images, images, images, plain, 0, learned=32)


def test_crops_are_parts_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    column = torch.arange(0, 160, 10, dtype=torch.uint8)
    images = column.expand(200, 1, 16, 16).clone()  # a slope from left to right
    rng = np.random.default_rng(0)
    found = random_crops(images, rng).to(torch.float32)
    assert found.shape == images.shape
    rises = found[:, 0, 8, -1] - found[:, 0, 8, 0]
    # Half of them are mirrored; a crop of 8 % to all of the area spans a part of the slope.
    assert 0.4 < float((rises > 0).float().mean()) < 0.6
    assert 150 >= float(rises.abs().max()) > 100
    assert 20 < float(rises.abs().min()) < 60
    monkeypatch.setattr("mixunlearn.evidence.laf_attack.AREAS", (1.0, 1.0))
    monkeypatch.setattr("mixunlearn.evidence.laf_attack.RATIOS", (1.0, 1.0))
    whole = random_crops(images, rng)
    same = (whole == images).flatten(1).all(1)
    mirrored = (whole == images.flip(3)).flatten(1).all(1)
    assert bool((same | mirrored).all())
