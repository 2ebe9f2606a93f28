#!/usr/bin/env bash
# Installs into a temporary folder and builds against that alone: pkg-config, headers, library and tools as a user has them.
#   install_test.sh BUILD PREFIX
set -euo pipefail
build=$1
prefix=$2
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

meson install -C "$build" --no-rebuild --quiet --destdir "$root"

pc=$(find "$root" -name mxfp4.pc)
mxfp4_config() { PKG_CONFIG_PATH=${pc%/*} pkg-config --define-variable=prefix="$root$prefix" "$@" mxfp4; }
library=$(mxfp4_config --variable=libdir)
version=$(mxfp4_config --modversion)

cat >"$root/user.cpp" <<'CPP'
#include <mxfp4/mxfp4.h>

#include <cstdio>

int main() {
    try {
        mxfp4::PackedFile::open("/nowhere/at.all");
    } catch (const mxfp4::Error& error) {
        std::printf("%s %d\n", mxfp4::version(), error.code() == mxfp4::ErrorCode::io);
    }
}
CPP
cd "$root"
g++ -std=c++20 -Wall -Wextra -Werror user.cpp -o user $(mxfp4_config --cflags --libs)
said=$(LD_LIBRARY_PATH=$library ./user)
[ "$said" = "$version 1" ] || { echo "a program built against the installed library said '$said'"; exit 1; }

# Every installed header compiles alone.
find "$root" -path '*/include/mxfp4/*.h' | while read -r header; do
    g++ -std=c++20 -Wall -Wextra -Werror -fsyntax-only -x c++ $(mxfp4_config --cflags) -include "$header" /dev/null
done

# Every installed tool starts and finds its library without help.
for tool in bench cache pack run tune; do
    said=$(env -u LD_LIBRARY_PATH "$root$prefix/bin/mxfp4-$tool" --version)
    [ "$said" = "mxfp4-$tool $version" ] || { echo "mxfp4-$tool --version said '$said'"; exit 1; }
done
echo "installed and used from a folder of its own"
