"""Joining other processes, their devices, and SIGTERM."""

import os
import signal
import types

import jax
import pytest

from jaxfdsl import distributed
from jaxfdsl.config import ConfigError


def device(process):
    return types.SimpleNamespace(process_index=process)


def test_a_single_machine_joins_nobody(monkeypatch):
    monkeypatch.setattr(jax.distributed, "initialize", None)
    distributed.initialize(environment={"SLURM_NTASKS": "1"})
    assert not jax.distributed.is_initialized()


def test_a_launch_that_jax_cannot_join_is_a_sentence(monkeypatch):
    def fail(**arguments):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    environment = {"SLURM_STEP_NUM_TASKS": "2"}
    with pytest.raises(ConfigError, match=r"\(SLURM\) cannot be joined: coordinator_address"):
        distributed.initialize(environment=environment)


@pytest.mark.parametrize("all_gpus", [True, False])
def test_one_task_a_node_keeps_all_gpus_of_the_node(monkeypatch, all_gpus):
    def initialize(**arguments):  # as JAX does for the first task of a node
        jax.config.update("jax_cuda_visible_devices", "0")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(distributed, "_check_devices", lambda: None)
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: False)
    per_node = "1(x2)" if all_gpus else "8(x2)"
    environment = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": per_node}
    try:
        distributed.initialize(environment=environment)
        expected = "all" if all_gpus else "0"
        assert jax.config.values["jax_cuda_visible_devices"] == expected
    finally:
        jax.config.update("jax_cuda_visible_devices", "all")


@pytest.mark.parametrize(
    ("processes", "joined", "words"),
    [
        ([0, 0, 1], True, r"have \[2, 1\] devices and need equally many each"),
        ([0, 0], True, r"have \[2, 0\] devices"),
        ([0, 1], False, "one of 2, and where they meet is not known: type --coordinator"),
    ],
)
def test_devices_that_do_not_fit_are_refused(monkeypatch, processes, joined, words):
    monkeypatch.setattr(jax, "devices", lambda: [device(p) for p in processes])
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: joined)
    with pytest.raises(ConfigError, match=words):
        distributed.initialize(environment={})


def test_a_process_without_devices_is_a_sentence(monkeypatch):
    def devices():
        raise RuntimeError("No visible GPU devices.")

    monkeypatch.setattr(jax, "devices", devices)
    with pytest.raises(ConfigError, match=r"JAX finds no device: No visible GPU devices\."):
        distributed.initialize(environment={})


def test_a_failing_single_process_says_so_and_ends_with_its_status(capsys):
    with pytest.raises(SystemExit) as left:
        distributed.leave(2, "steps=0: type a number.")
    assert left.value.code == 2
    assert capsys.readouterr().err == "steps=0: type a number.\n"


def test_sigterm_is_answered_between_steps_and_the_handler_is_given_back():
    before = signal.getsignal(signal.SIGTERM)
    with distributed.preemption() as preempted:
        assert not preempted(3)
        os.kill(os.getpid(), signal.SIGTERM)
        assert preempted(4) and preempted(5)
    assert signal.getsignal(signal.SIGTERM) is before
