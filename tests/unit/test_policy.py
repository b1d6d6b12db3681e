import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqshm.errors import InvalidConfig
from mqshm.supervisor.policy import NEVER_WORKS, Action, Policy, Restart, after_end, once_more


@pytest.mark.parametrize(
    ("restart", "code", "action"),
    [
        (Restart.ALWAYS, 0, Action.RESTART),
        (Restart.ALWAYS, 1, Action.RESTART),
        (Restart.ON_FAILURE, 0, Action.LEAVE),
        (Restart.ON_FAILURE, 3, Action.RESTART),
        (Restart.ON_FAILURE, -9, Action.RESTART),
        (Restart.NEVER, 0, Action.LEAVE),
        (Restart.NEVER, -9, Action.LEAVE),
        (Restart.ALWAYS, NEVER_WORKS, Action.GIVE_UP),
        (Restart.NEVER, NEVER_WORKS, Action.GIVE_UP),
    ],
)
def test_an_end_is_met_as_the_policy_says(restart, code, action):
    assert after_end(Policy(restart), code, (), 0.0)[0] is action


def test_one_restart_too_many_within_the_period_is_the_end():
    policy, history = Policy(max_restarts=3, period=10.0), ()
    for at in (0.0, 1.0, 2.0):
        action, history = after_end(policy, 1, history, at)
        assert action is Action.RESTART
    assert after_end(policy, 1, history, 9.9)[0] is Action.GIVE_UP
    assert after_end(policy, 1, history, 10.1)[0] is Action.RESTART


def test_without_restarts_the_first_is_too_many():
    assert after_end(Policy(max_restarts=0), 1, (), 5.0)[0] is Action.GIVE_UP


def test_an_end_that_is_no_restart_is_not_counted():
    assert after_end(Policy(Restart.ON_FAILURE), 0, (1.0,), 2.0) == (Action.LEAVE, (1.0,))


@given(st.lists(st.floats(0, 100), max_size=60), st.integers(0, 5), st.floats(0.1, 20))
def test_no_period_ever_has_more_restarts_than_allowed(times, most, period):
    policy, history, granted = Policy(max_restarts=most, period=period), (), []
    for at in sorted(times):
        action, history = once_more(policy, history, at)
        if action is Action.RESTART:
            granted.append(at)
    for first in granted:
        assert sum(first <= at < first + period for at in granted) <= max(most, 0)


@pytest.mark.parametrize("wrong", [{"max_restarts": -1}, {"period": 0.0}, {"period": float("nan")}])
def test_an_intensity_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(InvalidConfig):
        Policy(**wrong)
