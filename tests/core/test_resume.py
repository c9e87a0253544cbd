"""The state machine of a trial that continues after an interruption."""

import pytest

from mixunlearn.resume import (
    FAILURE,
    TRANSITIONS,
    EpochLog,
    Event,
    Report,
    State,
    after,
    continues,
    state_of,
)


def run_through(*events: Event) -> State:
    state = State.PROPOSED
    for event in events:
        state = after(state, event)
    return state


@pytest.mark.parametrize(
    ("events", "end"),
    [
        ((Event.START, Event.EPOCH, Event.COMPLETE), State.COMPLETE),
        ((Event.START, Event.EPOCH, Event.PRUNE), State.PRUNED),
        ((Event.START, Event.FAIL), State.FAILED),
        ((Event.LOSE, Event.START, Event.LOSE), State.PROPOSED),
        ((Event.START, Event.EPOCH, Event.LOSE, Event.START, Event.EPOCH), State.RUNNING),
        ((Event.START, Event.FAIL, Event.RETRY, Event.START, Event.COMPLETE), State.COMPLETE),
    ],
)
def test_the_story_of_a_trial(events: tuple[Event, ...], end: State) -> None:
    assert run_through(*events) is end


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_what_cannot_happen_is_an_error(state: State, event: Event) -> None:
    if (state, event) in TRANSITIONS:
        assert after(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(ValueError, match=f"a trial that is {state.value} cannot {event.value}"):
            after(state, event)


def test_only_a_failed_trial_that_ended_can_be_retried() -> None:
    leaving = {state for state, _ in TRANSITIONS if state.ended}
    assert leaving == {State.FAILED}


@pytest.mark.parametrize("name", ["complete", "pruned", "failed"])
def test_states_of_rows_are_ends(name: str) -> None:
    assert state_of({"state": name}).value == name
    assert state_of({"state": name}).ended
    assert not state_of(None).ended


def test_an_epoch_that_comes_again_is_told_from_a_new_one() -> None:
    log = EpochLog()
    assert (log.latest(3), log.kind(3, 1)) == (0, Report.NEW)
    log.add(3, 1)
    log.add(3, 2)
    kinds = [log.kind(3, epoch) for epoch in (1, 2, 3)]
    assert kinds == [Report.EARLIER_AGAIN, Report.LATEST_AGAIN, Report.NEW]
    assert log.kind(4, 1) is Report.NEW


def test_a_checkpoint_of_a_failure_is_of_no_use() -> None:
    assert not continues(None)
    assert not continues({"result": {FAILURE: "diverged"}})
    assert continues({"result": {"epoch": 2}})
