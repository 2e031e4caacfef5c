#!/usr/bin/env bash
# A Swift compiler where there is none: on a Debian machine, the `swiftlang` package of Debian 13 (Swift 6.0.3 with the
# package manager, Foundation and XCTest) in a folder of its own, whatever release the machine itself runs.
#
#   debian-swift.sh install ROOT          550 MB to fetch, 1.5 GB on disk; nothing outside ROOT changes
#   debian-swift.sh run ROOT COMMAND...   runs a command with that compiler in the current folder; needs root
set -euo pipefail

usage() { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ $# -ge 2 ] || usage
verb=$1
root=$(realpath -m "$2")
shift 2

install() {
    if [ -x "$root/usr/libexec/swift/bin/swiftc" ]; then
        echo "$root has a Swift compiler already"
        return
    fi
    local apt mirror
    apt=$(mktemp -d)
    # shellcheck disable=SC2064 # the folder as it is now
    trap "rm -rf '$apt'" EXIT
    # The mirror that this machine uses anyway.
    # shellcheck disable=SC2016 # apt's variable
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)
    [ -n "$mirror" ] || { echo "apt knows no Debian mirror: run apt-get update, or install Swift another way" >&2; exit 1; }
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    : >"$apt/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$apt/sources.list"
    cat >"$apt/apt.conf" <<END
Dir::State "$apt";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "-";
APT::Architecture "amd64";
APT::Architectures "amd64";
APT::Sandbox::User "root";
END
    export APT_CONFIG="$apt/apt.conf"
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends --download-only \
        swiftlang base-files bash coreutils libc6-dev >/dev/null
    local fresh="$root.partial"
    rm -rf "$fresh"
    mkdir -p "$fresh"
    # First what makes /bin and /lib links, then the rest; without debuggers, editors' servers and static libraries, a third.
    local package
    for package in "$apt"/cache/archives/base-files_*.deb "$apt"/cache/archives/*.deb; do
        [ -e "$package" ] || continue
        dpkg-deb --fsys-tarfile "$package" | tar -x -C "$fresh" --keep-directory-symlink --wildcards \
            --exclude='*lldb*' --exclude='*sourcekit*' --exclude='*/clangd' --exclude='*/swift_static/*' \
            --exclude='*lto-dump*' --exclude='*/lto1' --exclude='*/cc1' --exclude='./usr/share/doc/*' --exclude='./usr/share/locale/*'
        rm "$package"
    done
    mv "$fresh" "$root"
    echo "installed a Swift compiler in $root"
}

run() {
    [ $# -gt 0 ] || usage
    [ -x "$root/usr/libexec/swift/bin/swiftc" ] || { echo "no Swift compiler in $root: $0 install $root" >&2; exit 1; }
    local place shares=("$PWD") share
    place=$PWD
    # Folders and files that the command needs besides the current folder, divided by colons.
    IFS=: read -r -a others <<<"${THIMBLE_SWIFT_SHARES:-}"
    for share in "${others[@]}"; do
        [ -z "$share" ] || shares+=("$(realpath "$share")")
    done
    # A mount namespace of its own: what is mounted here ends with the command.
    # shellcheck disable=SC2016 # the inner shell's variables
    exec unshare --mount --propagation private bash -c '
        set -euo pipefail
        root=$1 place=$2 count=$3
        shift 3
        mkdir -p "$root/proc" "$root/dev" "$root/tmp"
        mount --rbind /proc "$root/proc"
        mount --rbind /dev "$root/dev"
        for ((share = 0; share < count; share++)); do
            if [ -d "$1" ]; then mkdir -p "$root$1"; else mkdir -p "$(dirname "$root$1")"; touch "$root$1"; fi
            mount --bind "$1" "$root$1"
            shift
        done
        exec chroot "$root" /usr/bin/bash -c '\''
            export PATH=/usr/libexec/swift/bin:/usr/bin:/bin HOME=/tmp
            cd "$1"; shift; exec "$@"'\'' -- "$place" "$@"
    ' -- "$root" "$place" "${#shares[@]}" "${shares[@]}" "$@"
}

case "$verb" in
install) install ;;
run) run "$@" ;;
*) usage ;;
esac
