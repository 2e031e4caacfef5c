#!/usr/bin/env bash
# The official clients against a server of this checkout: check.sh THIMBLE MODEL [all]
# THIMBLE is the command with the feature `serve`, MODEL any model that chats. Without `all` only the Python clients run; with
# it also the one for Node, the page in Chromium (CHROMIUM names its program) and the hostile clients. Packages go into
# CLIENTS_VENV (default: a folder in target) and into node_modules.
set -euo pipefail
usage="usage: check.sh THIMBLE MODEL [all]"
thimble=$(realpath "${1:?$usage}") model=$(realpath "${2:?$usage}") all=${3:-}
[ -z "$all" ] || [ "$all" = all ] || { echo "$usage" >&2; exit 2; }
cd "$(dirname "$0")"

venv=${CLIENTS_VENV:-${CARGO_TARGET_DIR:-$PWD/../../target}/clients}
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check -r requirements.txt

folder=$(mktemp -d)
server=
finish() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    rm -rf "$folder"
}
trap finish EXIT

# A key, so that wrong ones can be refused; a short queue, so that it can be full.
THIMBLE_KEY=$(python3 -c "import secrets; print(secrets.token_hex(16))")
port=$(python3 -c "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])")
export THIMBLE_KEY THIMBLE_URL=http://127.0.0.1:$port
echo "$THIMBLE_KEY" >"$folder/key"
"$thimble" serve "$model" --port "$port" --api-key-file "$folder/key" --parallel 4 --queue 8 --quiet &
server=$!
for _ in $(seq 600); do
    kill -0 "$server" 2>/dev/null || { echo "the server ended before it answered" >&2; exit 1; }
    ! python3 -c "import urllib.request as r; r.urlopen('$THIMBLE_URL/health')" 2>/dev/null || break
    sleep 0.1
done

export PYTHONDONTWRITEBYTECODE=1
for client in python_openai python_langchain; do
    echo "--- $client"
    "$venv/bin/python" "$client.py"
done
if [ -n "$all" ]; then
    npm install --no-package-lock --no-audit --no-fund --silent
    node --test --test-reporter=spec node_openai.test.mjs
    (
        cd ../page
        npm install --no-package-lock --no-audit --no-fund --silent
        npm test
    )
fi

# It ends by itself, and says that all is well.
kill "$server"
code=0
wait "$server" || code=$?
server=
[ "$code" -eq 0 ] || { echo "expected the server's exit code 0 after SIGTERM, found $code" >&2; exit 1; }
[ -z "$all" ] || "$venv/bin/python" hostile.py --thimble "$thimble" --model "$model" --requests 0
