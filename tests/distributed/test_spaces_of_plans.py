"""Search spaces as a plan makes them: widened, of another optimizer, for a run of some epochs."""

import pytest

from distributed.plan.model import Stages, make_space
from distributed.plan.requirements import require_starts
from mixunlearn.errors import InputError
from search_spaces import Float, Space

STAGES = Stages(("pool1", "pool2"), "pool2")


def space(method: str, epochs: int = 6, **wishes: object) -> Space:
    return make_space(method, STAGES, wishes, epochs)


def test_search_space_may_widen_a_range() -> None:
    lr = space("finetune", lr=[1e-5, 0.05])["lr"]
    assert isinstance(lr, Float)
    assert (lr.low, lr.high, lr.default) == (1e-5, 0.05, 1e-4)


@pytest.mark.parametrize("wish", ["sgd", ["adam", "sgd"], ["sgd"]])
def test_another_optimizer_needs_rates_of_its_own(wish: object) -> None:
    with pytest.raises(
        InputError, match=r"search\.space\.optimizer = .*give search\.space\.lr, too"
    ):
        space("finetune", optimizer=wish)
    chosen = space("finetune", optimizer=wish, lr=[1e-3, 0.1])["optimizer"]
    assert not chosen.fixed
    assert space("finetune", optimizer="adam")["optimizer"].default == "adam"


@pytest.mark.parametrize(
    ("method", "name"), [("l1_sparse", "decay_epochs"), ("msg", "schedule_epochs")]
)
def test_the_course_of_a_method_is_that_of_the_run(method: str, name: str) -> None:
    for epochs in (6, 90):
        assert space(method, epochs).defaults({})[name] == epochs
    assert space(method, 6, **{name: 3}).defaults({})[name] == 3
    assert not space("finetune").keys() & {"decay_epochs", "schedule_epochs"}


def test_a_search_may_start_with_the_authors_own_configuration() -> None:
    """As a night does that begins a new study with the best trials so far."""
    (own,) = space("finetune").published({})
    require_starts([own], space("finetune"), {})
    with pytest.raises(InputError, match=r"search\.start\.0 = .*must lie within"):
        require_starts([{**own, "batch": 32}], space("finetune"), {})
    with pytest.raises(
        InputError, match=r"search\.start\.0"
    ):  # the user asks for another optimizer
        require_starts([own], space("finetune", optimizer="adam"), {})
