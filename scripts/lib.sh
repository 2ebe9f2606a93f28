# Sourced by the other scripts: where things are, and how the project is built. Sets no options of the shell.
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=${MXFP4_BUILD:-$repo/build}

say() { printf '%s\n' "$*" >&2; }
die() {
    say "$@"
    exit 1
}

# A folder with include/cuda.h and libnvrtc: a CUDA Toolkit, or the one that scripts/setup made of PyPI wheels.
# Prints the best there is, or nothing.
cuda_folder() {
    local folder nvcc
    nvcc=$(command -v nvcc || true)
    for folder in "${CUDA_HOME:-}" /usr/local/cuda /usr/local/cuda-* ${nvcc:+"$(dirname "$(dirname "$(readlink -f "$nvcc")")")"} \
        "$repo/.deps/cuda"; do
        [ -n "$folder" ] && [ -e "$folder/include/cuda.h" ] || continue
        compgen -G "$folder/lib64/libnvrtc.so*" >/dev/null || continue
        printf '%s\n' "$folder"
        return
    done
}

# Lets programs find NVRTC where no CUDA Toolkit is installed.
use_cuda() {
    CUDA_HOME=$(cuda_folder)
    export CUDA_HOME
    if [ "$CUDA_HOME" = "$repo/.deps/cuda" ]; then
        export LD_LIBRARY_PATH="$CUDA_HOME/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    fi
}

# Configures once, then builds what changed. Arguments go to ninja: targets, none for all.
build_project() {
    if [ ! -e "$build/build.ninja" ]; then
        meson setup "$build" "$repo" ${CUDA_HOME:+-Dtoolkit_include="$CUDA_HOME/include"} ||
            die "configuring failed; meson's log is $build/meson-logs/meson-log.txt"
    fi
    ninja -C "$build" "$@" || die "building failed; if $build was made by another machine or meson, remove it and run this again"
}
