#!/bin/bash
# A sweep under SLURM: a Ray cluster on the nodes of one job, which lives as long as the job.
# From the root of the checkout, which all nodes share, after `make`:
#
#   (umask 077; .venv/bin/ray get-auth-token --generate)         once: creates ~/.ray/auth_token
#   bash -n deploy/slurm.sh; shellcheck deploy/slurm.sh          checks it after your changes
#   sbatch --test-only deploy/slurm.sh x.yaml                    whether SLURM would take the job
#   sbatch deploy/slurm.sh experiments/mnist_class.yaml          options of a sweep may follow
#   sbatch --nodes=8 --gpus-per-node=4 deploy/slurm.sh …         SLURM's options come first
#
# 90 seconds before the time limit the sweep is stopped in order and the job is queued again; then
# the same command resumes. The same happens on preemption, if SLURM sends the signal
# (PreemptParameters=send_user_signal). Otherwise, and when a node is lost, unfinished work is
# done again. MIXUNLEARN_HOME names the home, on a disk that all nodes share; by default runs/
# in the checkout.
#
#SBATCH --job-name=mixunlearn
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --exclusive
#SBATCH --time=08:00:00
#SBATCH --signal=B:TERM@90
#SBATCH --requeue
#SBATCH --open-mode=append

set -euo pipefail
: "${SLURM_JOB_ID:?run me with sbatch}"
: "${1:?usage: sbatch deploy/slurm.sh EXPERIMENT [OPTION…]}"
cd "${SLURM_SUBMIT_DIR:-.}"
export PATH="$PWD/.venv/bin:$PATH"
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
token=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
[[ -s $token ]] || {
    echo "no token: make one with (umask 077; .venv/bin/ray get-auth-token --generate)" >&2
    exit 2
}
chmod go= "$token" # other users of the nodes must not read it

cpus=${SLURM_CPUS_PER_TASK:-1}
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
# Call it only in a subshell: exec replaces that by srun, which then gets the signals.
# srun does not inherit the number of CPUs from sbatch (since SLURM 22.05): a step would have one.
on() { # NODE COMMAND…
    exec srun --nodes=1 --ntasks=1 --cpus-per-task="$cpus" --nodelist="$1" --export=ALL "${@:2}"
}
# Ray lets every user write in its folder, so that is in one which only this user can enter.
folder=/tmp/mixunlearn-$SLURM_JOB_ID
start() { # NODE OPTION…
    # shellcheck disable=SC2016 # expanded on the node
    on "$1" bash -c 'install -d -m 700 "$0" && exec ray start --block --temp-dir="$0/ray" "$@"' \
        "$folder" --num-cpus="$cpus" "${@:2}"
}
ip=$(on "${nodes[0]}" hostname --ip-address)
ip=${ip%% *}
port=${MIXUNLEARN_RAY_PORT:-6379}
address=$ip:$port

steps=()
sweep=
asked=
# shellcheck disable=SC2317,SC2329 # called by the trap
stop() {
    asked=yes
    [[ -z $sweep ]] || kill -TERM "$sweep" 2>/dev/null || true
}
# shellcheck disable=SC2317,SC2329 # called by the trap
cleanup() {
    for step in "${steps[@]}"; do kill -TERM "$step" 2>/dev/null || true; done
    wait
}
trap stop TERM
trap cleanup EXIT

# No dashboard: this script starts the driver, so no job is sent. The token is required.
start "${nodes[0]}" --head --node-ip-address="$ip" --port="$port" --include-dashboard=false &
steps+=($!)
for ((tries = 0; tries < 60; tries++)); do
    ray health-check --address="$address" 2>/dev/null && break
    [[ -z $asked ]] || exit 1
    sleep 2
done
for node in "${nodes[@]:1}"; do # a node that joins late is used from then on
    start "$node" --address="$address" &
    steps+=($!)
done

mixunlearn sweep "$@" --address "$address" --home "${MIXUNLEARN_HOME:-runs}" &
sweep=$!
[[ -z $asked ]] || kill -TERM "$sweep"
while kill -0 "$sweep" 2>/dev/null; do # a signal interrupts `wait`, but does not end the sweep
    wait "$sweep" || true
done
code=0
wait "$sweep" || code=$?
if [[ -n $asked && $code -ne 0 ]]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
