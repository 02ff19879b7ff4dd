#!/bin/sh
# Takes the builder's place: the "archive" is one line of text that says what the build does.
#   image NAME…    seals an image with these process types
#   large NAME…    the same with a component of 20 MB
#   ticking NAME   the same, with a cron of it that is due every second
#   refuse         refuses the sources
#   hang           prints its process id and runs until it is stopped
#   silent         ends without a result
#   torn           names an image whose blobs are not there
set -eu
layout=$2
blobs=$layout/blobs/sha256
read -r verb names < "$4" || true
mkdir -p "$blobs"

# Stores a text as a blob, and prints its digest.
store() {
    file=$(mktemp "$layout/blob.XXXXXX")
    printf '%s' "$1" > "$file"
    hex=$(sha256sum "$file" | cut -d' ' -f1)
    mv "$file" "$blobs/$hex"
    echo "sha256:$hex"
}

case " $* " in *" --import "*) how=" (an image)" ;; *" --clean "*) how=" (clean)" ;; *) how= ;; esac
echo "-----> Building: $verb $names$how" >&2
case $verb in
image | large | ticking)
    component=$(store "a component")
    bytes=11
    if [ "$verb" = large ]; then
        bytes=20000000
        file=$(mktemp "$layout/blob.XXXXXX")
        head -c $bytes /dev/zero | tr '\0' x > "$file"
        hex=$(sha256sum "$file" | cut -d' ' -f1)
        mv "$file" "$blobs/$hex"
        component=sha256:$hex
    fi
    processes=
    for name in $names; do
        case $name in web) shape=http-p2 ;; *) shape=command-p2 ;; esac
        process="\"$name\":{\"component\":\"$component\",\"component_bytes\":$bytes,\"shape\":\"$shape\""
        process="$process,\"command\":\"$name.wasm\",\"args\":[\"$name.wasm\"]}"
        processes="$processes${processes:+,}$process"
    done
    crons=
    if [ "$verb" = ticking ]; then
        crons=",\"crons\":{\"tick\":{\"schedule\":\"* * * * * *\",\"run\":[\"$names\"],\"overlap\":\"allow\"}}"
    fi
    image="{\"schema_version\":1,\"processes\":{$processes}$crons}"
    echo "{\"type\":\"sealed\",\"digest\":\"$(store "$image")\",\"image\":$image}"
    ;;
refuse)
    echo '{"type":"refused","error":{"code":"B12","message":"web.wasm is malformed","hint":"build it again"}}'
    exit 1
    ;;
hang)
    echo "pid $$" >&2
    exec sleep 600
    ;;
torn)
    digest=sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
    process="{\"component\":\"$digest\",\"component_bytes\":1,\"shape\":\"http-p2\""
    process="$process,\"command\":\"x\",\"args\":[\"x\"]}"
    image="{\"schema_version\":1,\"processes\":{\"web\":$process}}"
    echo "{\"type\":\"sealed\",\"digest\":\"$digest\",\"image\":$image}"
    ;;
esac
