#!/bin/sh
# image.sh WORK: build examples/docker's image where there is no Docker: by buildah, as root.
#
# No registry is asked for python:3.13-slim. In its place stands Debian's Python 3.13, by mmdebstrap;
# every line of the Dockerfile is carried out as it is. WORK/root becomes what the image holds,
# WORK/image.json what it says of itself.
set -eu
work=$(realpath "$1")
for tool in buildah mmdebstrap; do
    command -v $tool >/dev/null || { echo "apt-get install buildah mmdebstrap bubblewrap" >&2; exit 1; }
done
store() { buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs "$@"; }

if ! test -e "$work/base.tar"; then
    mmdebstrap --quiet --variant=minbase --include=ca-certificates,python3,python3-pip \
        --customize-hook='ln -s python3 "$1/usr/bin/python"' trixie "$work/base.part.tar"
    mv "$work/base.part.tar" "$work/base.tar"
fi
if ! store inspect --type image python:3.13-slim >/dev/null 2>&1; then
    container=$(store from scratch)
    store add -q "$container" "$work/base.tar" /
    # What this machine needs to reach package indexes, as a proxy's certificates.
    store add -q "$container" /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
    if test -e /etc/pip.conf; then store add -q "$container" /etc/pip.conf /etc/; fi
    store commit -q "$container" docker.io/library/python:3.13-slim
    store rm "$container" >/dev/null
fi
store bud --isolation chroot --format docker --pull-never --no-cache \
    --build-arg "MODEL=${work#"$PWD"/}/tales.pocketgpt" -f examples/docker/Dockerfile -t tales .
container=$(store from --pull-never tales)
rm -rf "$work/root"
cp -a "$(store mount "$container")" "$work/root"
store rm "$container" >/dev/null
store inspect --type image tales > "$work/image.part.json"
mv "$work/image.part.json" "$work/image.json"
store rmi tales >/dev/null # it is in WORK/root
