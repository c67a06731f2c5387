#!/bin/sh
# check_layers.sh - which folder may include which (docs/architecture.md,
# "Folders"). Prints every #include that breaks the table; exit status 1 then.
set -u
cd "$(dirname "$0")/.." || exit 2

# folder: what it may include besides itself; "pare" is include/pare
table='
include:
base:
ir: base
proto: base
frontend: ir proto base passes
passes: ir base kernels
kernels: base ir
runtime: ir kernels base
backend: ir proto base
api: base ir proto frontend passes kernels runtime backend pare
cli: pare
'

offenders=$(printf '%s\n' "$table" | while IFS=: read -r folder allowed; do
  [ -n "$folder" ] && [ -d "$folder" ] || continue
  find "$folder" -type f \( -name '*.[ch]' -o -name '*.def' -o -name '*.cu' -o -name '*.cuh' \) | sort |
    xargs -r grep -HnE '^[[:space:]]*#[[:space:]]*include[[:space:]]*["<]([a-z_]+/|onnx\.pb-c)' |
    while IFS= read -r hit; do
      target=$(printf '%s\n' "$hit" | sed -E 's/.*include[[:space:]]*["<]([a-z_]+)[./].*/\1/')
      case $target in
      onnx) target=proto ;; # the generated header
      base | ir | proto | frontend | passes | kernels | runtime | backend | api | cli | pare | tests) ;;
      *) continue ;; # a header of the system or of a library
      esac
      [ "$folder" = include ] && [ "$target" = pare ] && continue
      case " $folder $allowed " in
      *" $target "*) ;;
      *) printf '%s   (%s/ may include:%s)\n' "$hit" "$folder" "${allowed:- nothing}" ;;
      esac
    done
done)

[ -z "$offenders" ] && exit 0
printf '%s\n' "$offenders" >&2
exit 1
