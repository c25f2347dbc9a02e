#!/bin/bash
# A sweep on a Ray cluster within one Slurm job: sbatch pipelines/cluster/slurm.sh SWEEP.yaml [KEY=VALUE]...
# Submit it in the project's folder, on a file system that all nodes share. Submitted again, it goes on.
#SBATCH --job-name=fedsim
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=1
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
set -euo pipefail
export PATH="$SLURM_SUBMIT_DIR/.venv/bin:$PATH"

# Nodes may be shared with others: nobody joins, or submits, without the token in this user's home.
export RAY_AUTH_MODE=token
(umask 077 && ray get-auth-token --generate >/dev/null)

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)  # the node that this script runs on
port=$((20000 + SLURM_JOB_ID % 20000))
RAY_ADDRESS="$(hostname -I | cut -d' ' -f1):$port"
export RAY_ADDRESS
step=(--cpus-per-task="$SLURM_CPUS_PER_TASK")  # newer versions of srun do not take it from the job
resources=(--num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="${SLURM_GPUS_ON_NODE:-0}")

srun "${step[@]}" --nodes=1 --ntasks=1 --nodelist="$head" ray start --head --port="$port" --node-ip-address="${RAY_ADDRESS%:*}" \
    --temp-dir="/tmp/ray-$SLURM_JOB_ID" --include-dashboard=false --block "${resources[@]}" &
until ray health-check --address "$RAY_ADDRESS" 2>/dev/null; do sleep 1; done
others=$((SLURM_JOB_NUM_NODES - 1))
if ((others > 0)); then
    srun "${step[@]}" --nodes="$others" --ntasks="$others" --exclude="$head" \
        ray start --address="$RAY_ADDRESS" --block "${resources[@]}" &
fi
python - "$SLURM_JOB_NUM_NODES" <<'PYTHON'
import sys, time, ray
ray.init(log_to_driver=False)
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[1]):
    time.sleep(1)
PYTHON

# The shell hands the warning before the time limit on; the sweep then stores what is done and ends.
fedsim sweep "$@" &
sweep=$!
trap 'kill -TERM $sweep' TERM
wait "$sweep" || wait "$sweep"
