#!/bin/sh
# headers.sh INCLUDE WORK: ONNX Runtime's headers for C++, from Debian's package of them.
# Apt gets folders of its own, so that nothing of this machine changes; nothing is installed.
set -eu
include=$1 work=$2
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
command -v apt-get dpkg-deb >/dev/null && test -e $keyring || {
    echo "no headers of ONNX Runtime: they are taken from Debian, or give ONNXRUNTIME=PATH with include/ and lib/" >&2
    exit 1
}
rm -rf "$work"
mkdir -p "$work/lists/partial" "$work/archives/partial"
echo "deb [signed-by=$keyring] http://deb.debian.org/debian trixie main" > "$work/sources.list"
APT_CONFIG=$work/apt.conf
export APT_CONFIG
cat > "$APT_CONFIG" <<END
Dir::Etc::sourcelist "$PWD/$work/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::Lists "$PWD/$work/lists";
Dir::Cache "$PWD/$work";
APT::Sandbox::User "root";
END
apt-get update -qq
(cd "$work" && APT_CONFIG=apt.conf apt-get download -qq libonnxruntime-dev && dpkg-deb -x libonnxruntime-dev_*.deb root)
rm -rf "$include"
mkdir -p "$(dirname "$include")"
mv "$work/root/usr/include/onnxruntime" "$include"
rm -rf "$work"
