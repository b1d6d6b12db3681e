"""The short form."""

import os

import mqshm
from tests.stress.transactions import Run


def test_transactions_of_killed_processes_are_done_once_as_a_whole():
    name = f"test-transactions-{os.getpid()}"
    run = Run(name, 3000, 0.05, 1)
    try:
        assert run.go() == [] and run.band.kills > 0
    finally:
        mqshm.destroy(name)
