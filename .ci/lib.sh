# Shared by the scripts of this folder: where things are, what a stage prints, which Node is used.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root
readonly tools="$root/.venv/bin"
# The Node that set-up may have fetched comes before an older one of the system.
if [ -x "$tools/node" ]; then PATH="$tools:$PATH"; fi
export PATH

say() { printf '%s\n' "$*"; }

fail() {
    printf '\n%s\n' "$*" >&2
    exit 1
}

# Node that Vite runs on: 20.19 or newer of 20, 22.12 or newer.
node_is_new_enough() {
    command -v node >/dev/null && node -e '
        const [major, minor] = process.versions.node.split(".").map(Number);
        process.exit((major === 20 && minor >= 19) || (major === 22 && minor >= 12) || major > 22 ? 0 : 1)'
}

has_display() { [ -n "${DISPLAY:-}" ] || [ -n "${WAYLAND_DISPLAY:-}" ] || [ "$(uname)" != Linux ]; }
