#!/usr/bin/env bash
# The server and two clients in this terminal. Usage: examples/socket/run.sh [PYTHON] [ROUNDS]
set -euo pipefail
folder=$(dirname "$0")
python=${1:-python3}
log=$(mktemp)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -f "$log"' EXIT
"$python" "$folder/server.py" --rounds "${2:-10}" > "$log" &
server=$!
until port=$(sed -n 's/^port //p' "$log") && [ -n "$port" ]; do
    kill -0 "$server"
    sleep 0.2
done
"$python" "$folder/client.py" "$port" 0 > /dev/null &
"$python" "$folder/client.py" "$port" 1 > /dev/null &
for process in $(jobs -p); do wait "$process"; done
cat "$log"
