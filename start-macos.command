#!/bin/sh
# Double-click: installs X2I Studio on the first start, runs it, and opens the page. Needs Python 3.11 to 3.13; see start.py.
cd "$(dirname "$0")" || exit 1
for python in python3.13 python3.12 python3.11 python3 python; do
    if "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
        exec "$python" start.py "$@"
    fi
done
echo "x2i: No Python 3.11, 3.12 or 3.13 was found; install one from https://www.python.org/downloads/" >&2
exit 1
