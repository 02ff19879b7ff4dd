#!/bin/sh
# Takes the probe's place: its answer is in the environment of the process that it is told to try.
#   PROBE=refuse   refuses
#   PROBE=die      is killed
#   otherwise      passes
# Each probe needs its component, and leaves a line in the file `probes` of the data folder whose `images` has it.
set -eu
read -r request || true
cat "$2" > /dev/null
case $2 in */images/*) echo "$2" >> "${2%/images/*}/probes" ;; esac
case $request in
*'"PROBE":"refuse"'*) echo '{"type":"refused","reason":"request 2 through one lane fails"}' ;;
*'"PROBE":"die"'*) kill -9 $$ ;;
*) echo '{"type":"passed"}' ;;
esac
