# use_carried.sh - sourced: where build/carry has packages (tools/carry_debs.sh), they are unpacked into build/prefix,
# and compilers, CMake, pkg-config and the loader look there too.
if ls build/carry/*.deb >/dev/null 2>&1; then
  prefix=$PWD/build/prefix
  for deb in build/carry/*.deb; do dpkg -x "$deb" "$prefix"; done
  lib=$prefix/usr/lib/x86_64-linux-gnu
  export PATH="$prefix/usr/bin:$PATH"
  export CPATH="$prefix/usr/include:$prefix/usr/include/x86_64-linux-gnu"
  export LIBRARY_PATH="$lib" LD_LIBRARY_PATH="$lib:$prefix/lib/x86_64-linux-gnu:${LD_LIBRARY_PATH:-}"
  export PKG_CONFIG_LIBDIR="$lib/pkgconfig:$prefix/usr/share/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$prefix"
  export CMAKE_PREFIX_PATH="$prefix/usr" CMAKE_LIBRARY_PATH="$lib"
  export PARE_ONNX_TESTS="$prefix/usr/share/libonnx-testdata/data/node"
fi
