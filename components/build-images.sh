#!/usr/bin/env bash
# Build the images of this checkout: fairlead-light, fairlead-torch (components) and fairlead-serving.
#   IMAGE_PREFIX    registry and path before the names (registry.example/ml/), default none
#   PYTHON_IMAGE, PIP_INDEX_URL, PIP_EXTRA_INDEX_URL    base image and package indexes
#   EXTRAS          further extras of the torch image ("tensorboard mlflow")
#   BUILD_OPTIONS   more options of the builder, such as --isolation=chroot for buildah in a container
#   ARCHIVES        a folder: also write each image there as an archive that `ctr images import` takes
set -euo pipefail
cd "$(dirname "$0")/.."

builder=$(command -v docker || command -v buildah || true)
# A docker without its daemon cannot build.
[ "$(basename "${builder:-none}")" != docker ] || docker info >/dev/null 2>&1 || builder=$(command -v buildah || true)
[ -n "$builder" ] || { echo "error: images: neither a running docker nor buildah is here; install one" >&2; exit 2; }

version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' src/fairlead/__init__.py)
revision=$(git rev-parse HEAD)
# An image of changed files must not claim a commit.
[ -z "$(git status --porcelain)" ] || revision="$revision-dirty"

arguments=(--build-arg "REVISION=$revision" --build-arg "VERSION=$version")
for name in PYTHON_IMAGE PIP_INDEX_URL PIP_EXTRA_INDEX_URL EXTRAS; do
  # By name alone: the value is read from the environment and stays off the command line.
  [ -z "${!name:-}" ] || arguments+=(--build-arg "$name")
done
# Options are words.
# shellcheck disable=SC2206
arguments+=(${BUILD_OPTIONS:-})

build() { # file, target, name
  local image="${IMAGE_PREFIX:-}$3:$version"
  echo "building $image"
  "$builder" build "${arguments[@]}" --file "$1" ${2:+--target "$2"} --tag "$image" .
  [ -z "${ARCHIVES:-}" ] || archive "$image" "$ARCHIVES/$3-$version.tar"
}

archive() { # image, file
  mkdir -p "$(dirname "$2")"
  rm -f "$2"
  case "$builder" in
    */docker) docker save --output "$2" "$1" ;;
    *) buildah push --quiet "$1" "docker-archive:$2:$1" ;;
  esac
  echo "wrote $2"
}

build components/Dockerfile light fairlead-light
build components/Dockerfile torch fairlead-torch
build serving/Dockerfile "" fairlead-serving
