#!/bin/sh
# Fill /opt/fairlead, in the first stages of the Dockerfiles. The installer has a place of its own and is in no image.
#   install.sh dependencies FILE   the requirements in a file, as constraints.txt pins them
#   install.sh alone PACKAGE...    without what these require
#   install.sh code                the package in this folder, below /code
set -eu
python=/opt/fairlead/bin/python
# pip's settings, under the installer's names.
export UV_DEFAULT_INDEX="${PIP_INDEX_URL:-https://pypi.org/simple}"
[ -z "${PIP_EXTRA_INDEX_URL:-}" ] || export UV_INDEX="$PIP_EXTRA_INDEX_URL"
install() { /opt/uv/bin/uv pip install --python $python "$@"; }

# Half a gigabyte that nothing in a container reads: headers, libraries to link to, test programs and tests.
slim() {
  cd "$($python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
  rm -rf torch/include torch/share torch/test pyarrow/include openvino/include
  [ ! -d torch/bin ] || find torch/bin -mindepth 1 ! -name torch_shm_manager -delete
  for package in networkx pandas pyarrow scipy sklearn sympy; do
    [ ! -d $package ] || find $package -type d -name tests -prune -exec rm -rf {} +
  done
  # Devices that no manifest gives.
  rm -f openvino/libs/libopenvino_intel_[gn]pu_plugin.so
  find . -name '*.a' -delete
}

# Here, because a container cannot write to its image. Packages ship a few templates, which do not compile; of
# transformers' hundreds of architectures, 53 MB compiled, a process reads one or two.
compile() { $python -m compileall -qq -x 'transformers/models/' "$1" || true; }

case "$1" in
  dependencies)
    install --constraint constraints.txt --requirement "$2"
    slim
    compile /opt/fairlead/lib
    ;;
  alone)
    shift
    install --no-deps --constraint constraints.txt "$@"
    ;;
  code)
    install --no-deps --prefix /code/opt/fairlead .
    rm -f /code/opt/fairlead/.lock
    compile /code
    ;;
esac
