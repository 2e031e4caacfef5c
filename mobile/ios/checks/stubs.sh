#!/usr/bin/env bash
# Checks the types of the app's screens where there is no SwiftUI: against stand-ins for Apple's modules, and the real
# package that `swift build` has built. `check.sh` calls it, with the Swift compiler at hand.
set -euo pipefail
cd "$(dirname "$0")/.."
modules=$(swift build --show-bin-path)/Modules
out=.build/stubs
rm -rf "$out"
mkdir -p "$out"
for name in UniformTypeIdentifiers SwiftUI; do
    swiftc -emit-module -parse-as-library -module-name "$name" -I "$out" "checks/stubs/$name.swift" -o "$out/$name.swiftmodule"
done
screens=(swiftc -typecheck -parse-as-library -module-name ThimbleApp -strict-concurrency=complete -warnings-as-errors
    -I "$out" -I "$modules" -I build/ffi)
"${screens[@]}" App/Sources/*.swift
# The check finds what does not fit the view model.
mkdir "$out/faulty"
cp App/Sources/*.swift "$out/faulty"
sed -i 's/viewModel\.send\b/viewModel.sned/' "$out/faulty/ChatScreen.swift"
if "${screens[@]}" "$out"/faulty/*.swift >"$out/faults" 2>&1 || ! grep -q "no member 'sned'" "$out/faults"; then
    echo "stubs.sh: a fault that was put into the screens was not found" >&2
    exit 1
fi
echo "screens: the types of $(cat App/Sources/*.swift | wc -l) lines fit; an injected fault is found"
