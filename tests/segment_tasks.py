"""Small tasks for the tests of trajectories and segments."""

from prefsim.worlds import TabularMDP

CORRIDOR = TabularMDP.grid_world([[-1.0, -2.0, 5.0]], terminal=[[False, False, True]], discount=0.9)
