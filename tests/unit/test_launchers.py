"""What the environment of a launcher says: alone, with others, or a sentence."""

import os

import pytest

from jaxfdsl.config import ConfigError
from jaxfdsl.data import prefetch
from jaxfdsl.distributed import launchers
from jaxfdsl.distributed.launchers import Given

SLURM = {  # of the task of one job step, as srun leaves it
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[1-4]",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_TASKS_PER_NODE": "1(x4)",
}
OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}
POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}


def find(environment, given=None, *, metadata=(), packages=(), on_tpu=False):
    return launchers.find(
        environment,
        given,
        on_tpu=on_tpu,
        ask=dict(metadata).get,
        installed=lambda name: name in packages,
    )


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1"},  # srun --pty bash
        {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2"},  # ssh into a node of a job
        {"OMPI_COMM_WORLD_SIZE": "1"},
        {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},  # a notebook in a cluster
        {"WORLD_SIZE": "2"},
        {"JAX_NUM_PROCESSES": "1"},
        {**SLURM, "JAX_NUM_PROCESSES": "1"},
    ],
)
def test_a_single_process_looks_for_no_others(environment):
    launch = find(environment)
    assert (launch.count, launch.remark) == (1, "")


def test_a_process_that_srun_did_not_start_trains_alone_and_says_so():
    launch = find(
        {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "16", "SLURM_PROCID": "0"}
    )  # sbatch, salloc
    assert launch.count == 1
    assert launch.remark == "SLURM_NTASKS=16, and srun did not start this process: it trains alone."


def test_a_job_step_of_slurm_is_joined_with_its_own_number_of_tasks():
    launch = find({**SLURM, "SLURM_NTASKS": "64"})
    assert launch.count == launch.arguments["num_processes"] == 4
    assert launch.arguments["cluster_detection_method"] == "slurm"


@pytest.mark.parametrize(
    ("changed", "every"),
    [
        ({}, True),  # one task a node
        ({"SLURM_STEP_TASKS_PER_NODE": "8(x4)"}, False),
        ({"SLURM_STEP_TASKS_PER_NODE": "8(x4)", "CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"}, False),
        ({"SLURM_STEP_TASKS_PER_NODE": "8(x4)", "CUDA_VISIBLE_DEVICES": "3"}, True),  # bound
    ],
)
def test_jax_picks_a_gpu_only_among_those_that_a_machines_tasks_share(changed, every):
    assert find({**SLURM, **changed}).all_gpus is every


def test_every_mpi_is_joined_or_refused():
    legacy = {**OPEN_MPI, "OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:3"}
    assert find(legacy).arguments == {"cluster_detection_method": "ompi"}
    for environment in (OPEN_MPI, {"PMI_SIZE": "2", "PMI_RANK": "0"}):
        launch = find(environment, packages=("mpi4py",))
        assert (launch.count, launch.arguments) == (2, {"cluster_detection_method": "mpi4py"})
        with pytest.raises(ConfigError, match="2 processes, which find each other through mpi4py"):
            find(environment)


def test_pods_of_an_indexed_job_are_joined_or_refused():
    launch = find(POD, packages=("kubernetes",))
    assert (launch.count, launch.arguments) == (None, {})
    with pytest.raises(ConfigError, match=r"one of several; type --coordinator=HOST:PORT .*k8s"):
        find(POD)
    assert find(POD, Given(num_processes=1)).count == 1


def test_torchrun_is_refused():
    with pytest.raises(ConfigError, match="are torchrun's, which JAX does not know: type --coord"):
        find({"WORLD_SIZE": "8", "RANK": "3"})


@pytest.mark.parametrize(
    ("environment", "metadata", "count", "method"),
    [
        ({"TPU_WORKER_HOSTNAMES": "a,b,c,d"}, {}, 4, "gketpu"),
        ({"TPU_WORKER_HOSTNAMES": "a,b", "MEGASCALE_NUM_SLICES": "2"}, {}, 4, "gketpu"),
        ({}, {"worker-network-endpoints": "0:1:10.0.0.1,0:2:10.0.0.2"}, 2, "gcetpu"),
        (
            {},
            {"worker-network-endpoints": "a", "tpu-env": "ZONE: 'x'\nMEGASCALE_NUM_SLICES: '3'"},
            3,
            "gcetpu",
        ),
    ],
)
def test_hosts_of_a_tpu_slice_are_joined(environment, metadata, count, method):
    launch = find(environment, metadata=metadata, on_tpu=True)
    assert (launch.count, launch.arguments) == (count, {"cluster_detection_method": method})
    assert find(environment, metadata=metadata).count == 1  # with JAX_PLATFORMS=cpu on that host


@pytest.mark.parametrize(
    ("environment", "metadata"),
    [
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, {}),
        ({"TPU_PROCESS_ADDRESSES": "local"}, {}),
        ({}, {}),  # a notebook service: no metadata server
        ({}, {"worker-network-endpoints": "0:1:10.0.0.1"}),
        ({"TPU_SKIP_MDS_QUERY": "1"}, {"worker-network-endpoints": "a,b"}),
    ],
)
def test_a_tpu_machine_of_its_own_looks_for_no_others(environment, metadata):
    assert find(environment, metadata=metadata, on_tpu=True).count == 1


def test_three_flags_or_three_variables_say_it_all():
    named = {"coordinator_address": "h:1", "num_processes": 2, "process_id": 1}
    expected = {**named, "cluster_detection_method": "deactivate"}
    assert find(SLURM, Given("h:1", 2, 1)).arguments == expected
    half = {"JAX_COORDINATOR_ADDRESS": "h:1", "JAX_NUM_PROCESSES": "2"}
    assert find({**half, "JAX_PROCESS_ID": "1"}).arguments == expected
    assert find(half, Given(process_id=1)).arguments == expected


@pytest.mark.parametrize(
    ("environment", "given", "words"),
    [
        ({}, Given("h:1", 2), "process_id=None say where the processes of a run meet, together"),
        ({}, Given(process_id=0), "type --coordinator=HOST:PORT --num_processes=N --process_id=I"),
        ({}, Given("h:1", 2, 2), "process_id=2 of num_processes=2: .* from 0 to 1"),
        ({}, Given("h:1", 2, -1), "process_id=-1 of num_processes=2"),
        ({}, Given("h:1", 0, 0), "process_id=0 of num_processes=0"),
        ({}, Given("h", 2, 0), r"coordinator=h: .* such as --coordinator=10\.0\.0\.1:1234"),
        ({"JAX_NUM_PROCESSES": "two"}, Given(), "JAX_NUM_PROCESSES=two: type a number"),
        ({"JAX_COORDINATOR_ADDRESS": "h:1"}, Given(), "no launcher says which process this is"),
    ],
)
def test_what_does_not_fit_together_is_refused(environment, given, words):
    with pytest.raises(ConfigError, match=words):
        find(environment, given)


@pytest.mark.parametrize(
    ("environment", "own", "workers"),
    [
        ({}, 96, 32),
        (SLURM, 96, 32),
        ({"SLURM_STEP_TASKS_PER_NODE": "8(x2),4"}, 96, 10),
        ({"SLURM_STEP_TASKS_PER_NODE": "8(x3)"}, 12, 10),  # bound to cores of its own
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "4"}, 96, 22),
        ({"MPI_LOCALNRANKS": "16"}, 96, 0),  # threads alone
    ],
)
def test_processes_of_one_machine_share_its_cores(monkeypatch, environment, own, workers):
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(os, "cpu_count", lambda: 96)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(own), raising=False)
    assert prefetch.resolve(-1) == workers
    assert prefetch.resolve(3) == 3
