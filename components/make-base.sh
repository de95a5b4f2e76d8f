#!/usr/bin/env bash
# Make the base image from Debian's packages, where no container registry is reached:
#   components/make-base.sh && PYTHON_IMAGE=localhost/fairlead-base make images
# Needs debootstrap and buildah, and root, as debootstrap does.
#   DEBIAN_MIRROR   where the packages come from, default what debootstrap says
set -euo pipefail
for program in debootstrap buildah; do
  command -v "$program" >/dev/null || { echo "error: base: $program is not here; install it" >&2; exit 2; }
done
rootfs=$(mktemp --directory)
trap 'rm -rf "$rootfs"' EXIT
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$rootfs" \
  ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} >/dev/null
rm -rf "$rootfs"/var/cache/apt/archives/*.deb "$rootfs"/var/lib/apt/lists/* "$rootfs"/usr/share/{doc,man,locale}/*
# The Dockerfiles say python as the official images do.
ln -s python3 "$rootfs/usr/bin/python"
container=$(buildah from scratch)
buildah add --quiet "$container" "$rootfs" / >/dev/null
buildah commit --quiet --rm "$container" fairlead-base >/dev/null
echo "made localhost/fairlead-base"
