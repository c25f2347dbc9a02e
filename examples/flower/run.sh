#!/usr/bin/env bash
# DeltaMask in a Flower federation of separate processes on loopback, compared with the same federation in the simulator.
# Usage: examples/flower/run.sh [ROUNDS]. Needs .venv (the simulator) and, the first time, the package index.
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-5}
env=${FLOWER_ENV:-$PWD/.venv-flower}
simulator=${SIMULATOR:-.venv/bin/python}
port=${FLOWER_PORT:-8490}
work=$(mktemp -d)

# Flower wants other versions of typer and protobuf than the simulator's, so it has an environment of its own; torch and
# numpy are the simulator's versions, as equal bits need equal arithmetic.
if [ ! -x "$env/bin/flwr" ]; then
    "${PYTHON:-python3}" -m venv "$env"
    grep -E '^(constriction|numba|numpy|pillow|pyfusefilter|torch)==' constraints.txt > "$env/constraints.txt"
    "$env/bin/python" -m pip install --quiet --constraint "$env/constraints.txt" flwr==1.42.0 --editable .
fi

pids=()
finish() {
    status=$?
    trap - EXIT
    [ "$status" -eq 0 ] || tail -n 40 "$work"/*.log || true
    # Flower's processes start others in sessions of their own; so all are listed before the first of them goes.
    mapfile -t all < <(for pid in "${pids[@]}"; do below "$pid"; done)
    kill -TERM "${all[@]}" 2>/dev/null || true
    sleep 2
    kill -KILL "${all[@]}" 2>/dev/null || true
    rm -rf "$work"
    exit "$status"
}
below() {  # a process and all that it started
    echo "$1"
    for child in $(pgrep -P "$1"); do below "$child"; done
}
trap finish EXIT
trap 'exit 130' INT TERM

export OMP_NUM_THREADS=1 FLWR_HOME="$work/home" FLWR_TELEMETRY_ENABLED=0 PATH="$env/bin:$PATH"
PYTHONPATH=. "$simulator" examples/flower/simulated.py "$work" "$rounds" 2

mkdir "$work/app" "$FLWR_HOME"
cp examples/flower/{pyproject.toml,client_app.py,server_app.py,strategy.py} examples/socket/digits.py "$work/app"
cat > "$FLWR_HOME/config.toml" <<TOML
[superlink]
default = "loopback"

[superlink.loopback]
address = "127.0.0.1:$port"
insecure = true
TOML

start() {  # name, command
    "${@:2}" > "$work/$1.log" 2>&1 &
    pids+=($!)
    disown  # so that the shell does not tell of its end
}
cd "$work"
start superlink flower-superlink --insecure --host 127.0.0.1 --port "$port" --disable-runtime-dependency-installation
for node in 0 1; do
    start "supernode$node" flower-supernode --insecure --superlink "127.0.0.1:$port" --port $((port + 1 + node)) \
        --node-config "partition-id=$node task=\"$work/task.npz\""
done
for attempt in $(seq 30); do
    if flwr run app loopback --run-config "task=\"$work/task.npz\" result=\"$work/flower.json\" rounds=$rounds" \
        > flwr.log 2>&1; then break; fi
    [ "$attempt" -lt 30 ] && sleep 1
done
cat flwr.log
for _ in $(seq "${FLOWER_SECONDS:-300}"); do
    [ -s flower.json ] && break
    sleep 1
done
[ -s flower.json ] || { echo "the federation gave no result in time"; exit 1; }
python "$OLDPWD/examples/flower/compare.py" simulated.json flower.json
