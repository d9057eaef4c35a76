#!/usr/bin/env bash
# Make FOLDER with include/ and lib/, as the archive of ONNX Runtime's releases has them, from packages: the headers of
# Debian 13's libonnxruntime-dev (ONNX Runtime 1.21), and the library of PYTHON's package onnxruntime, whose newer
# versions serve programs with older headers. It is for Debian 12, with Debian's archive within reach; nothing is
# installed.
#
#   bash deploy/cpp/onnxruntime/from_packages.sh FOLDER [PYTHON]
set -euo pipefail
folder=$1 python=${2:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

library=$("$python" -c 'import importlib.metadata as m
[file] = [f for f in m.files("onnxruntime") if f.name.startswith("libonnxruntime.so.")]
print(file.locate())')

# A list of packages of its own, so that the system knows only its own release; the archive is the one the system uses.
archive=$(apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' 'Created-By: Packages' | sort -u | head -n 1)
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $archive trixie main" \
  > "$work/sources.list"
apt=(apt-get -qq -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=- -o APT::Sandbox::User=
  -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache")
"${apt[@]}" update
(cd "$work" && "${apt[@]}" download libonnxruntime-dev)
dpkg-deb -x "$work"/libonnxruntime-dev_*.deb "$work"

rm -rf "$folder"
mkdir -p "$folder/lib"
cp -r "$work/usr/include/onnxruntime" "$folder/include"
cp "$library" "$folder/lib/"
for name in libonnxruntime.so libonnxruntime.so.1; do ln -s "$(basename "$library")" "$folder/lib/$name"; done
