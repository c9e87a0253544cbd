"""Search spaces: what they guarantee, and that they match the methods."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields

import pytest

from mixunlearn.errors import InputError
from mixunlearn.methods import METHODS, Method
from search_spaces import SPACES, Choice, Float, Int, Space
from search_spaces.space import AnyParameter, Conflict, Published, Value, values

STAGES = ("pool1", "pool2")
FACTS: Mapping[str, tuple[Value, ...]] = {"labels": ("aware", "agnostic")}
REAL = {name: space(STAGES, "pool2") for name, space in SPACES.items()}
PARAMETERS = [
    pytest.param(method, name, id=f"{method}.{name}") for method in REAL for name in REAL[method]
]


def number(default: float = 1, fixed: bool = False) -> Float:
    return Float(low=0.1, high=10, default=default, source="test", fixed=fixed)


def whole(default: int = 4) -> Int:
    return Int(low=1, high=8, default=default, source="test")


def choice(*options: Value, when: Mapping[str, tuple[Value, ...]] | None = None) -> Choice:
    return Choice(options=options, default=options[0], source="test", when=when or {})


SMALL = Space(
    mode=choice("on", "off"),
    rate=number(),
    size=whole(),
    depth=choice(1, 2, 3, when={"mode": ("on",)}),
    flag=choice(True, False, when={"depth": (3,), "labels": ("agnostic",)}),
)


# The spaces of the methods


@pytest.mark.parametrize("method", SPACES)
def test_a_space_has_exactly_the_parameters_of_its_method(method: str) -> None:
    assert set(REAL[method]) == {field.name for field in fields(METHODS[method])}


@pytest.mark.parametrize(("method", "name"), PARAMETERS)
def test_a_default_is_the_one_of_the_method(method: str, name: str) -> None:
    field = next(field for field in fields(METHODS[method]) if field.name == name)
    default = REAL[method][name].default
    assert field.default is not MISSING
    assert default == field.default
    assert isinstance(default, bool) == isinstance(field.default, bool)


@pytest.mark.parametrize(("method", "name"), PARAMETERS)
def test_a_default_lies_in_its_range(method: str, name: str) -> None:
    parameter = REAL[method][name]
    if isinstance(parameter, Choice):
        assert parameter.default in parameter.options
        assert len(set(parameter.options)) == len(parameter.options) > 1
    else:
        assert parameter.low < parameter.high
        assert parameter.low <= parameter.default <= parameter.high
        assert parameter.low > 0 or not parameter.log


@pytest.mark.parametrize(("method", "name"), PARAMETERS)
def test_a_range_says_where_it_comes_from(method: str, name: str) -> None:
    assert REAL[method][name].source.strip()


@pytest.mark.parametrize(("method", "name"), PARAMETERS)
def test_a_condition_names_what_comes_before(method: str, name: str) -> None:
    space = REAL[method]
    before = list(space)[: list(space).index(name)]
    for key, allowed in space[name].when.items():
        assert key in {*before, *FACTS}
        known = FACTS.get(key) or values_of(space[key])
        assert set(allowed) < set(known), "a condition that always or never holds"


def values_of(parameter: AnyParameter) -> tuple[Value, ...]:
    assert isinstance(parameter, Choice)
    return parameter.options


@pytest.mark.parametrize("labels", FACTS["labels"])
@pytest.mark.parametrize("method", SPACES)
def test_the_default_configuration_makes_a_method(method: str, labels: str) -> None:
    default = REAL[method].defaults({"labels": labels})
    assert "labels" not in default
    make: Callable[..., Method] = METHODS[method]
    assert make(**default) == make()
    assert ("sharpen_T" in default) == (labels == "agnostic" and "sharpen_T" in REAL[method])


def test_the_stages_are_the_models_own() -> None:
    stage = SPACES["mixunlearn"](("a", "b", "c"), "b")["stage"]
    assert isinstance(stage, Choice)
    assert stage.options == ("a", "b", "c")
    assert stage.default == "b"


@pytest.mark.parametrize(
    ("wishes", "reads"),
    [
        ({}, True),
        ({"mixing": "mixblock"}, True),
        ({"mixing": ["none", "mixblock"]}, True),
        ({"mixing": "mixup"}, False),
        ({"mixing": ["none", "mixup"]}, False),
    ],
)
def test_features_are_read_only_by_the_generator(wishes: dict[str, object], reads: bool) -> None:
    space = REAL["mixunlearn"].narrowed(wishes)
    assert all(space.reachable(name) == reads for name in ("stage", "lr_gen", "gen_interval"))


@pytest.mark.parametrize(
    ("wishes", "there", "gone"),
    [
        ({"mixing": "mixup"}, {"tau_mix", "alpha", "omega"}, {"lr_gen", "tau_gen", "adversary"}),
        ({"mixing": "none"}, {"omega", "tau_real"}, {"tau_mix", "alpha", "stage"}),
        ({"real": False}, {"tau_mix", "stage"}, {"omega", "tau_real"}),
    ],
)
def test_an_ablation_has_only_the_parameters_that_play_a_part(
    wishes: dict[str, object], there: set[str], gone: set[str]
) -> None:
    default = REAL["mixunlearn"].narrowed(wishes).defaults({"labels": "aware"})
    assert there <= default.keys()
    assert not gone & default.keys()


@pytest.mark.parametrize(
    "wishes",
    [
        {"mixing": "none", "real": False},
        {"real": [True, False], "mixing": ["mixup", "none"]},
    ],
)
def test_something_is_left_to_learn_from(wishes: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"search\.space\.real = False: with mixing = 'none' no"):
        REAL["mixunlearn"].narrowed(wishes)
    REAL["mixunlearn"].narrowed({name: wishes[name] for name in list(wishes)[:1]})


# Space


def test_a_space_is_a_mapping_in_order() -> None:
    assert list(SMALL) == ["mode", "rate", "size", "depth", "flag"]
    assert len(SMALL) == 5
    assert SMALL["size"] == whole()
    assert SMALL.get("speed") is None


@pytest.mark.parametrize(
    ("name", "given", "active"),
    [
        ("rate", {}, True),
        ("depth", {"mode": "on"}, True),
        ("depth", {"mode": "off"}, False),
        ("depth", {}, False),
        ("flag", {"depth": 3, "labels": "agnostic"}, True),
        ("flag", {"depth": 3, "labels": "aware"}, False),
        ("flag", {"depth": 2, "labels": "agnostic"}, False),
    ],
)
def test_a_parameter_is_active_where_all_conditions_hold(
    name: str, given: Mapping[str, Value], active: bool
) -> None:
    assert SMALL.active(name, given) == active


def test_defaults_hold_only_what_is_active() -> None:
    assert SMALL.defaults({}) == {"mode": "on", "rate": 1, "size": 4, "depth": 1}
    assert SMALL.narrowed({"mode": "off"}).defaults({}) == {"mode": "off", "rate": 1, "size": 4}
    deep = SMALL.narrowed({"depth": 3})
    assert "flag" in deep.defaults({"labels": "agnostic"})
    assert "flag" not in deep.defaults({"labels": "aware"})


def test_a_parameter_is_reachable_if_some_configuration_has_it() -> None:
    assert all(SMALL.reachable(name) for name in SMALL)
    assert not SMALL.narrowed({"mode": "off"}).reachable("depth")
    assert not SMALL.narrowed({"depth": [1, 2]}).reachable("flag")


def test_the_configurations_of_a_space_are_counted() -> None:
    assert SMALL.size({"labels": "agnostic"}) == float("inf")
    few = SMALL.narrowed({"rate": 1, "size": [2, 4]})
    # On: three sizes, at the depths 1, 2 and twice 3; off: three sizes.
    assert few.size({"labels": "agnostic"}) == 3 * 4 + 3
    assert few.size({"labels": "aware"}) == 3 * 3 + 3
    assert few.narrowed({"size": 2, "mode": "off"}).size({}) == 1
    assert REAL["original"].size({}) == 1
    assert REAL["mixunlearn"].size({"labels": "aware"}) == float("inf")


def test_what_is_held_counts_with_its_default_alone() -> None:
    fixed = Choice(options=("a", "b"), default="a", source="test", fixed=True)
    space = Space(first=fixed, second=choice(1, 2, when={"first": ("b",)}))
    assert values(fixed) == ("a",)
    assert not space.reachable("second")
    assert space.narrowed({"first": ["a", "b"]}).reachable("second")


@pytest.mark.parametrize(
    ("wish", "low", "high", "default"),
    [
        (2, 2, 2, 2),
        (0.5, 0.5, 0.5, 0.5),
        ([0.5, 2], 0.5, 2, 1),
        ([2, 5], 2, 5, 2),
        ([0.1, 0.5], 0.1, 0.5, 0.5),
        ([0.1, 10], 0.1, 10, 1),
    ],
)
def test_a_number_is_fixed_or_narrowed(
    wish: object, low: float, high: float, default: float
) -> None:
    parameter = SMALL.narrowed({"rate": wish})["rate"]
    assert isinstance(parameter, Float)
    found = (parameter.low, parameter.high, parameter.default)
    assert found == (low, high, default)
    assert {type(value) for value in found} == {float}, "1 and 1.0 would be two configurations"


def test_a_whole_number_stays_one() -> None:
    parameter = SMALL.narrowed({"size": [2, 3]})["size"]
    assert isinstance(parameter, Int)
    assert (parameter.low, parameter.high, parameter.default) == (2, 3, 3)
    assert type(parameter.default) is int


@pytest.mark.parametrize(
    ("wish", "options", "default"),
    [
        (2, (2,), 2),
        ([3, 1], (3, 1), 1),
        ([3, 2], (3, 2), 3),
    ],
)
def test_options_are_fixed_or_narrowed(
    wish: object, options: tuple[Value, ...], default: Value
) -> None:
    parameter = SMALL.narrowed({"depth": wish})["depth"]
    assert isinstance(parameter, Choice)
    assert (parameter.options, parameter.default) == (options, default)


def test_a_wish_frees_what_was_held() -> None:
    space = Space(rate=number(fixed=True), mode=choice("on", "off"))
    assert space.narrowed({"mode": "on"})["rate"].fixed
    assert not space.narrowed({"rate": [0.5, 2]})["rate"].fixed


def test_narrowing_leaves_the_space_as_it_was() -> None:
    before = dict(SMALL)
    SMALL.narrowed({"rate": 2, "depth": 3})
    assert dict(SMALL) == before
    assert dict(SMALL.narrowed({})) == before
    assert SMALL.narrowed({"depth": 3})["depth"].when == SMALL["depth"].when


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"rat": 1}, "search.space.rat = 1: no such parameter; did you mean 'rate'?"),
        ({"rate": 11}, "search.space.rate = 11: must lie within 0.1 … 10"),
        ({"rate": [0, 1]}, "search.space.rate = [0, 1]: must lie within 0.1 … 10"),
        ({"rate": [2, 1]}, "search.space.rate = [2, 1]: give a number or a list of two"),
        ({"rate": [1, 2, 3]}, "give a number or a list of two, low to high"),
        ({"rate": []}, "give a number or a list of two, low to high"),
        ({"rate": None}, "give a number or a list of two, low to high"),
        ({"rate": True}, "give a number or a list of two, low to high"),
        ({"rate": [True, 2]}, "give a number or a list of two, low to high"),
        ({"rate": "1"}, "give a number or a list of two, low to high"),
        ({"rate": {"low": 1}}, "give a number or a list of two, low to high"),
        ({"rate": float("nan")}, "search.space.rate = nan: must lie within 0.1 … 10"),
        ({"rate": [1, float("inf")]}, "must lie within 0.1 … 10"),
        ({"size": 2.5}, "give a whole number or a list of two, low to high"),
        ({"size": 9}, "search.space.size = 9: must lie within 1 … 8"),
        ({"depth": 4}, "search.space.depth = 4: not an option; there are 1, 2, 3"),
        ({"depth": []}, "search.space.depth = []: needs at least one option"),
        ({"depth": [1, 1]}, "search.space.depth = [1, 1]: lists an option twice"),
        ({"depth": True}, "search.space.depth = True: not an option"),
        ({"flag": 1}, "search.space.flag = 1: not an option; there are True, False"),
        ({"mode": [["on"]]}, "search.space.mode = ['on']: not an option"),
    ],
)
def test_a_wish_that_cannot_be_met(wishes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        SMALL.narrowed(wishes)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("wishes", "low", "high", "default"),
    [
        ({"rate": [0.01, 20]}, 0.01, 20, 1),
        ({"rate": 30}, 30, 30, 30),
        ({"size": [1, 12]}, 1, 12, 4),
    ],
)
def test_a_range_is_widened_where_a_user_may(
    wishes: dict[str, object], low: float, high: float, default: float
) -> None:
    (name,) = wishes
    parameter = SMALL.narrowed(wishes, widen=True)[name]
    assert not isinstance(parameter, Choice)
    assert (parameter.low, parameter.high, parameter.default) == (low, high, default)


@pytest.mark.parametrize(
    ("method", "wishes", "message"),
    [
        ("salun", {"fraction": 1.5}, "search.space.fraction = 1.5: must lie within 0 … 1"),
        ("salun", {"lr": 0}, "search.space.lr = 0: must be finite and above 0"),
        ("salun", {"lr": -1}, "search.space.lr = -1: must be finite and above 0"),
        ("salun", {"lr": [1e-3, float("inf")]}, "must be finite and above 0"),
        ("salun", {"lr": float("nan")}, "must be finite and above 0"),
        ("salun", {"weight_decay": -1}, "must be finite and at least 0"),
        ("cf_k", {"k": 0}, "search.space.k = 0: must be finite and at least 1"),
        ("sisa", {"shards": 1}, "search.space.shards = 1: must lie within 2 … 1000"),
        ("msg", {"share": 1.0}, "search.space.share = 1.0: must lie within 0 … 0.99"),
        ("unsir", {"share": 1.1}, "search.space.share = 1.1: must lie within 0 … 1"),
    ],
)
def test_no_range_is_widened_beyond_what_makes_sense(
    method: str, wishes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        REAL[method].narrowed(wishes, widen=True)
    assert message in str(caught.value)


@pytest.mark.parametrize("method", SPACES)
def test_what_authors_published_makes_a_method(method: str) -> None:
    make: Callable[..., Method] = METHODS[method]
    for labels in FACTS["labels"]:
        for published in REAL[method].published({"labels": labels}):
            assert make(**published) != make()
            for name, value in published.items():
                parameter = REAL[method][name]
                if isinstance(parameter, Choice):
                    assert value in parameter.options
                else:
                    assert isinstance(value, float | int)
                    assert parameter.limits[0] <= value <= parameter.limits[1]


def test_published_values_are_a_whole_configuration_of_their_own() -> None:
    published = Published(values={"mode": "off", "rate": 50}, source="test")
    space = Space(published, **SMALL)
    assert space.published({}) == [{"mode": "off", "rate": 50, "size": 4}]
    assert not space.holds({"mode": "off", "rate": 50})
    assert space.holds({"mode": "off", "rate": 10, "size": 8})
    assert not space.narrowed({"mode": "off"}).narrowed({"rate": [1, 5]}).published({})
    small = space.narrowed({"mode": "off", "size": 2})
    assert small.published({}) == [{"mode": "off", "rate": 50, "size": 2}]
    same = Published(values={"rate": 1}, source="test")
    assert not Space(same, **SMALL).published({})


def test_conflicts_are_kept_through_narrowing() -> None:
    conflict = Conflict(values={"mode": "off", "depth": 2}, reason="it stands still")
    fixed = Choice(options=(1, 2), default=1, source="test", fixed=True)
    space = Space(conflict, mode=choice("on", "off"), depth=fixed)
    with pytest.raises(InputError) as caught:
        space.narrowed({"mode": ["on", "off"]}).narrowed({"depth": 2})
    assert str(caught.value) == (
        "search.space.depth = 2: with mode = 'off' it stands still; leave one of them out"
    )
    space.narrowed({"mode": "on"}).narrowed({"depth": [1, 2]})
