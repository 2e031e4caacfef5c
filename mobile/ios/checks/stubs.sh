#!/usr/bin/env bash
# Checks the types of what is only for Apple's systems, on Linux: the app's screens, and the package between
# `#if canImport(Darwin)` and `#else`. Apple's modules are stand-ins, the rest is what `swift build` has built. `check.sh`
# calls it, with the Swift compiler at hand.
set -euo pipefail
cd "$(dirname "$0")/.."
modules=$(swift build --show-bin-path)/Modules
out=.build/stubs
rm -rf "$out"
mkdir -p "$out"
# The command fails and its errors name the fault.
finds() {
    local fault=$1 errors
    shift
    if errors=$("$@" 2>&1) || [[ $errors != *"member '$fault'"* ]]; then
        echo "stubs.sh: a fault that was put in was not found: $fault: $errors" >&2
        exit 1
    fi
}

for name in UniformTypeIdentifiers SwiftUI; do
    swiftc -emit-module -parse-as-library -module-name "$name" -I "$out" checks/stubs/"$name"*.swift \
        -o "$out/$name.swiftmodule"
done

# Where a module Darwin can be imported, the package is that for Apple's systems.
for name in Darwin CryptoKit; do
    swiftc -emit-module -parse-as-library -module-name "$name" "checks/stubs/$name.swift" -o "$out/$name.swiftmodule"
done
apple="$out/apple"
mkdir "$apple"
for name in Thimble ThimbleDownloads ThimbleChat; do
    swiftc -emit-module -parse-as-library -enable-testing -module-name "$name" -strict-concurrency=complete \
        -warnings-as-errors -I "$out" -I "$apple" -I "$modules" -I build/ffi Sources/$name/*.swift \
        -o "$apple/$name.swiftmodule"
done
# That part was compiled: a fault in it is found.
monitor=$(<Sources/Thimble/DeviceMonitor.swift)
printf '%s' "${monitor/process.thermalState/process.thermalSate}" >"$out/DeviceMonitor.swift"
finds thermalSate swiftc -typecheck -parse-as-library -I "$out" -I "$modules" -I build/ffi "$out/DeviceMonitor.swift" \
    Sources/Thimble/{Answer,Blocking,Chat,Exports,Model,ThimbleError}.swift
# So it is for downloads in the background.
background=$(<Sources/ThimbleDownloads/BackgroundTransfer.swift)
printf '%s' "${background/sessionSendsLaunchEvents/sessionSendsLaunchEvent}" >"$out/BackgroundTransfer.swift"
others=()
for file in Sources/ThimbleDownloads/*.swift; do
    [[ $file == */BackgroundTransfer.swift ]] || others+=("$file")
done
finds sessionSendsLaunchEvent swiftc -typecheck -parse-as-library -I "$out" "$out/BackgroundTransfer.swift" \
    "${others[@]}"
echo "Apple's part of the package: its types fit; an injected fault is found"

screens=(swiftc -typecheck -parse-as-library -module-name ThimbleApp -strict-concurrency=complete -warnings-as-errors
    -I "$out" -I "$apple" -I "$modules" -I build/ffi)
"${screens[@]}" App/Sources/*.swift
# The check finds what does not fit the view model.
screen=$(<App/Sources/ChatScreen.swift)
printf '%s' "${screen/viewModel.send/viewModel.sned}" >"$out/ChatScreen.swift"
finds sned "${screens[@]}" "$out/ChatScreen.swift" \
    App/Sources/{DownloadsSheet,FormsSheet,Import,MessageList,Sheets,ThimbleApp}.swift
echo "screens: the types of $(cat App/Sources/*.swift | wc -l) lines fit; an injected fault is found"
