#!/bin/sh
# Fetches the JSON Schema test suite that the npm package @json-schema-org/tests refers to (its later commits have draft
# 2020-12) and checks the grammar against it: tests/golden/schema_suite.sh [FOLDER]
# FOLDER is a checkout of json-schema-org/JSON-Schema-Test-Suite; without it, git fetches one into a temporary folder.
set -eu
cd "$(dirname "$0")/../.."
folder="${1:-}"
if [ -z "$folder" ]; then
    folder="$(mktemp -d)"
    trap 'rm -rf "$folder"' EXIT
    git clone --quiet --depth 1 https://github.com/json-schema-org/JSON-Schema-Test-Suite "$folder"
fi
cargo run --quiet -p thimble-grammar --example schema_suite -- "$folder/tests/draft2020-12"
