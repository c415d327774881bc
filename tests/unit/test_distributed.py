"""Launches of several processes, and SIGTERM."""

import os
import signal

import pytest

from jaxfdsl import distributed


@pytest.mark.parametrize(
    ("environment", "several"),
    [
        ({}, False),
        ({"SLURM_NTASKS": "1"}, False),
        ({"SLURM_NTASKS": "16"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"JAX_COORDINATOR_ADDRESS": "10.0.0.1:1234"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
        ({"TPU_WORKER_HOSTNAMES": "10.0.0.1,10.0.0.2"}, True),
    ],
)
def test_only_launches_of_several_processes_join(environment, several):
    assert distributed.launched(environment) is several


def test_sigterm_is_answered_between_steps_and_the_handler_is_given_back():
    before = signal.getsignal(signal.SIGTERM)
    with distributed.preemption() as preempted:
        assert not preempted(3)
        os.kill(os.getpid(), signal.SIGTERM)
        assert preempted(4) and preempted(5)
    assert signal.getsignal(signal.SIGTERM) is before
