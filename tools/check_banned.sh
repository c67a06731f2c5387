#!/bin/sh
# check_banned.sh - functions that nobody calls outside base/: memory comes from
# arenas, text is never written without a bound. Exit status 1 with the places.
set -u
cd "$(dirname "$0")/.." || exit 2

banned='strcpy|strcat|sprintf|vsprintf|strtok|atoi|atol|atof|gets|alloca|malloc|calloc|realloc|free'

# file and what it may call: a program's slab is big and must not be cleared;
# JSON text comes from a library that allocates it.
allowed='
api/latency_table.c free
runtime/device.c free
api/peft.c free
api/plan.c free
backend/json.c free
backend/report.c free
cli/inspect.c free
cli/sweep.c free
'

# Comments and strings are blanked, so that prose may name what code may not.
code_of() {
  awk '{
    line = $0; out = ""
    while (line != "") {
      if (inside) {
        at = index(line, "*/")
        if (!at) break
        line = substr(line, at + 2); inside = 0; continue
      }
      if (match(line, /"([^"\\]|\\.)*"|\/\*|\/\//) == 0) { out = out line; break }
      out = out substr(line, 1, RSTART - 1); token = substr(line, RSTART, RLENGTH)
      line = substr(line, RSTART + RLENGTH)
      if (token == "//") break
      if (token == "/*") inside = 1
      else out = out "\"\""
    }
    print FNR ": " out
  }' "$1"
}

offenders=$(for file in $(find ir proto frontend passes kernels runtime backend api cli -name '*.[ch]' | sort); do
  may=$(printf '%s\n' "$allowed" | sed -n "s|^$file ||p")
  code_of "$file" | grep -E "(^|[^A-Za-z0-9_.>])($banned)[[:space:]]*\(" |
    { [ -z "$may" ] && cat || sed -E "/(^|[^A-Za-z0-9_.>])($may)[[:space:]]*\(/d"; } | sed "s|^|$file:|"
done)

[ -z "$offenders" ] && exit 0
printf '%s\n' "$offenders" >&2
exit 1
