"""Whether this process is one of several, read from what its launcher left in the environment.

JAX knows most launchers itself (`jax/_src/clusters`), but takes one that it does not know for a
single machine. Here a launcher that started several is always found, and then joined or refused:
never N separate trainings in one workdir. No file but `distributed` needs to know which it was.
"""

import dataclasses
import importlib.util
import re
from collections.abc import Callable, Mapping
from typing import Any

from jaxfdsl.config import ConfigError

Environment = Mapping[str, str]
Ask = Callable[[str], str | None]  # of the TPU machine's metadata server

FLAGS = "--coordinator=HOST:PORT --num_processes=N --process_id=I"


@dataclasses.dataclass(frozen=True)
class Given:
    """What the three flags say; None where one was not typed."""

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None


@dataclasses.dataclass(frozen=True)
class Launch:
    """How this process was started: alone, or with others that it has to join."""

    name: str
    count: int | None = 1  # of processes; None: several, JAX finds out how many
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # of initialize
    all_gpus: bool = False  # JAX would keep one GPU of those that this process sees
    remark: str = ""  # what the user should know


def find(
    environment: Environment,
    given: Given | None = None,
    *,
    on_tpu: bool = False,
    ask: Ask = lambda key: None,
    installed: Callable[[str], bool] = lambda name: importlib.util.find_spec(name) is not None,
) -> Launch:
    """The launch that the flags, JAX's variables or a launcher's variables describe.

    `ask` is called on a TPU whose machine does not name its hosts in the environment. Raises
    ConfigError for flags that do not fit together and for launchers that cannot be joined.
    """
    typed = _given(environment, given or Given())
    if typed:
        return typed
    if on_tpu:
        return _tpu(environment, ask)
    for launcher in (_open_mpi, _slurm, _other_mpi, _torchrun, _kubernetes):
        launch = launcher(environment, installed)
        if launch:
            return launch
    if environment.get("JAX_COORDINATOR_ADDRESS"):
        raise ConfigError(
            f"JAX_COORDINATOR_ADDRESS={environment['JAX_COORDINATOR_ADDRESS']} is set, and no "
            f"launcher says which process this is: type {FLAGS}."
        )
    return Launch("one process")


def _given(environment: Environment, given: Given) -> Launch | None:
    """The flags, and JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID for those that
    were not typed.
    """
    coordinator = given.coordinator or environment.get("JAX_COORDINATOR_ADDRESS")
    count = _number(environment, "JAX_NUM_PROCESSES", given.num_processes)
    index = _number(environment, "JAX_PROCESS_ID", given.process_id)
    if count is None and index is None and given.coordinator is None:
        return None
    if count == 1 and index in (None, 0):
        return Launch("--num_processes=1")
    if coordinator is None or count is None or index is None:
        raise ConfigError(
            f"coordinator={coordinator}, num_processes={count} and process_id={index} say where "
            f"the processes of a run meet, together alone: type {FLAGS}, or none of the three."
        )
    if count < 1 or not 0 <= index < count:
        raise ConfigError(
            f"process_id={index} of num_processes={count}: the processes are numbered from 0 to "
            f"{max(count, 1) - 1}; type another --process_id or --num_processes."
        )
    if not re.fullmatch(r".+:\d+", coordinator):
        raise ConfigError(
            f"coordinator={coordinator}: type the address of process 0's machine and a free port "
            "there, such as --coordinator=10.0.0.1:1234."
        )
    named = {"coordinator_address": coordinator, "num_processes": count, "process_id": index}
    return Launch("flags", count, {**named, "cluster_detection_method": "deactivate"})


def _number(environment: Environment, name: str, typed: int | None) -> int | None:
    text = environment.get(name, "")
    if typed is not None or not text:
        return typed
    if not text.isdigit():
        raise ConfigError(f"{name}={text}: type a number, or leave the variable out.")
    return int(text)


def _tpu(environment: Environment, ask: Ask) -> Launch:
    """A slice's hosts are in the environment on GKE, with the metadata server on a TPU VM."""
    names = ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES")
    hosts = next((environment[name] for name in names if environment.get(name)), None)
    slices = environment.get("MEGASCALE_NUM_SLICES")
    method = "gketpu"
    if environment.get("TPU_PROCESS_ADDRESSES_PATH"):
        return Launch("GKE's TPU slice", None, {"cluster_detection_method": method})
    # JAX sets TPU_SKIP_MDS_QUERY where there is no chip, and notebook services where they run.
    if hosts is None and "TPU_SKIP_MDS_QUERY" not in environment:
        method, hosts = "gcetpu", ask("worker-network-endpoints")
        more = ask("tpu-env") if hosts else ""
        found = re.search(r"MEGASCALE_NUM_SLICES: *'?(\d+)", more or "")
        slices = slices or (found[1] if found else None)
    count = len((hosts or "").split(",")) * int(slices or 1)
    if count == 1:
        return Launch("one TPU machine")
    return Launch(f"TPU slice of {count} hosts", count, {"cluster_detection_method": method})


def _open_mpi(environment: Environment, installed: Callable[[str], bool]) -> Launch | None:
    count = _several(environment, "OMPI_COMM_WORLD_SIZE")
    if not count:
        return None
    every = _all_gpus(environment, environment.get("OMPI_COMM_WORLD_LOCAL_SIZE"))
    # Open MPI 5 has no such address any more.
    if "OMPI_MCA_orte_hnp_uri" in environment:
        return Launch("Open MPI", count, {"cluster_detection_method": "ompi"}, every)
    return _by_mpi4py("Open MPI", count, installed, every)


def _slurm(environment: Environment, installed: Callable[[str], bool]) -> Launch | None:
    """Tasks of this job step: a job's own count is set in its batch script and shell as well."""
    if "SLURM_STEP_NUM_TASKS" not in environment:
        tasks = _several(environment, "SLURM_NTASKS")
        remark = f"SLURM_NTASKS={tasks}, and srun did not start this process: it trains alone."
        return Launch("SLURM without srun", remark=remark) if tasks else None
    count = _several(environment, "SLURM_STEP_NUM_TASKS")
    if not count:
        return Launch("SLURM")
    every = _all_gpus(environment, environment.get("SLURM_STEP_TASKS_PER_NODE", "").split("(")[0])
    arguments = {"num_processes": count, "cluster_detection_method": "slurm"}
    return Launch("SLURM", count, arguments, every)


def _other_mpi(environment: Environment, installed: Callable[[str], bool]) -> Launch | None:
    count = _several(environment, "PMI_SIZE")  # MPICH's and Intel's launcher
    if not count:
        return None
    every = _all_gpus(environment, environment.get("MPI_LOCALNRANKS"))
    return _by_mpi4py("MPI", count, installed, every)


def _by_mpi4py(name: str, count: int, installed: Callable[[str], bool], every: bool) -> Launch:
    if not installed("mpi4py"):
        raise ConfigError(
            f"{name} started {count} processes, which find each other through mpi4py alone: "
            f"pip install mpi4py, or type {FLAGS}."
        )
    return Launch(name, count, {"cluster_detection_method": "mpi4py"}, every)


def _torchrun(environment: Environment, installed: Callable[[str], bool]) -> Launch | None:
    count = _several(environment, "WORLD_SIZE")
    if count and "RANK" in environment:
        raise ConfigError(
            f"WORLD_SIZE={count} and RANK={environment['RANK']} are torchrun's, which JAX does not "
            f"know: type {FLAGS}, or --num_processes=1 to train with this process alone."
        )
    return None


def _kubernetes(environment: Environment, installed: Callable[[str], bool]) -> Launch | None:
    """An indexed Job's pods; how many they are is known to the Kubernetes API alone."""
    indexed = {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= set(environment)
    if not indexed:
        return None
    if not installed("kubernetes"):
        raise ConfigError(
            f"JOB_COMPLETION_INDEX={environment['JOB_COMPLETION_INDEX']}: this pod may be one of "
            f'several; type {FLAGS} (--num_processes=1 for one pod), or pip install "jax[k8s]".'
        )
    return Launch("Kubernetes", None)


def _several(environment: Environment, name: str) -> int:
    """The number in a variable if it is above 1, else 0."""
    text = environment.get(name, "")
    return int(text) if text.isdigit() and int(text) > 1 else 0


def _all_gpus(environment: Environment, processes_here: str | None) -> bool:
    """JAX gives the n-th process of a machine its n-th GPU: wrong for one process a machine, and
    where the launcher shows each process its own GPU alone (jax issues 16788 and 23452).
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES", "")
    return processes_here == "1" or (visible != "" and "," not in visible)


def processes_here(environment: Environment) -> int:
    """Processes that the launcher started on this machine; 1 where it does not say."""
    per_node = environment.get("SLURM_STEP_TASKS_PER_NODE", "")  # such as 8(x2),4
    local = [int(n) for n in re.findall(r"(\d+)(?:\(x\d+\))?", per_node)]
    names = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")
    local += [int(environment[n]) for n in names if environment.get(n, "").isdigit()]
    return max([1, *local])
