#!/bin/sh
# Measures directories: a folder that is stored, stored again and fetched over loopback, and 10,000 files of 10 KiB beside one tar of them.
# The work is done by bench_tree.py, next to this file; `--help` lists its options.
exec python3 "$(dirname "$0")/bench_tree.py" "$@"
