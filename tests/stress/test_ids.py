"""The short form."""

import os

import mqshm
from tests.stress.ids import Run


def test_ids_of_killed_rivals_are_published_once():
    name = f"test-ids-{os.getpid()}"
    run = Run(name, 4000, 0.05, 60.0, 1)
    try:
        assert run.go() == [] and run.band.kills > 0
    finally:
        mqshm.destroy(name)
