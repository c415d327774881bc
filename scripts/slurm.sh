#!/bin/bash
# One run on several nodes of a SLURM cluster, continued after every preemption and time limit:
#   sbatch scripts/slurm.sh --config=configs/vitb_exfractal.py --workdir=/shared/runs/vitb
# Type the same command to go on after a failure. Options of sbatch come before the script:
#   sbatch --nodes=2 --partition=a100 scripts/slurm.sh ...
#SBATCH --job-name=jaxfdsl
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1        # one process a node, which takes all of its GPUs
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64         # processes that decode take all but two of them
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@180          # to the processes, 180 seconds before the limit: they save
#SBATCH --requeue                  # after a preemption or a node's failure
#SBATCH --open-mode=append
#SBATCH --output=jaxfdsl-%j.log
set -u

# JAX picks a port from the job's number; a proxy for the web would stand in the way.
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY

export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}" # srun does not take it from sbatch

# --label: which process said it. --kill-on-bad-exit: where one fails, all end at once.
said="$(mktemp)"
srun --label --kill-on-bad-exit=1 python -u -m jaxfdsl.main "$@" 2>&1 | tee "$said"
status="${PIPESTATUS[0]}"

# "Stopped at step ..., saved" is what a run says that was asked to stop and has steps left.
if [ "$status" = 0 ] && grep -q "Stopped at step .*, saved; the same command continues" "$said"; then
  scontrol requeue "$SLURM_JOB_ID"
fi
rm -f "$said"
exit "$status"
