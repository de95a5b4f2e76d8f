#!/usr/bin/env bash
# Build the images of this checkout: fairlead-light, fairlead-torch (components) and fairlead-serving.
#   IMAGE_PREFIX    registry and path before the names (registry.example/ml/), default none
#   EXTRAS          further extras in the torch image: "tensorboard mlflow" for training.sinks; default none
#   PYTHON_IMAGE, PIP_INDEX_URL, PIP_EXTRA_INDEX_URL    base image and package indexes
set -euo pipefail
cd "$(dirname "$0")/.."

builder=$(command -v docker || command -v buildah || true)
[ -n "$builder" ] || { echo "error: images: neither docker nor buildah is here; install one" >&2; exit 2; }

version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' src/fairlead/__init__.py)
revision=$(git rev-parse HEAD)
# An image of changed files must not claim a commit.
[ -z "$(git status --porcelain)" ] || revision="$revision-dirty"

arguments=(--build-arg "REVISION=$revision" --build-arg "VERSION=$version")
for name in EXTRAS PYTHON_IMAGE PIP_INDEX_URL PIP_EXTRA_INDEX_URL; do
  # By name alone: the value is read from the environment and stays off the command line.
  [ -z "${!name:-}" ] || arguments+=(--build-arg "$name")
done

build() { # file, target, name
  echo "building ${IMAGE_PREFIX:-}$3:$version"
  "$builder" build "${arguments[@]}" --file "$1" ${2:+--target "$2"} --tag "${IMAGE_PREFIX:-}$3:$version" .
}

build components/Dockerfile light fairlead-light
build components/Dockerfile torch fairlead-torch
build serving/Dockerfile "" fairlead-serving
