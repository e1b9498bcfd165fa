#!/bin/sh
# Installs this project with some of its extras into a virtual environment, in exactly the versions of constraints.txt.
#   install.sh ENVIRONMENT EXTRAS        such as: install.sh .venv local,service,test
# Without a GPU, the extra `train` becomes `train-cpu`: TensorFlow's build without GPU code has half the size.
# It uses the uv on the PATH, or installs uv into the environment. Without uv, pip installs the same in minutes.
set -eu
environment=$1 extras=$2
python="$environment/bin/python"
"$python" -m pip --version >/dev/null 2>&1 || "$python" -m ensurepip --default-pip >/dev/null 2>&1 || true

has_package() { [ -n "$(find "$environment/lib" -maxdepth 4 -type d -name "$1-[0-9]*.dist-info" 2>/dev/null)" ]; }
has_gpu() { [ -e /dev/nvidiactl ] || [ -e /dev/dxg ]; }
# The two builds of TensorFlow overwrite each other's files, so an environment keeps the build that it has.
if has_package tensorflow_cpu || { ! has_package tensorflow && ! has_gpu && [ "$(uname -sm)" = "Linux x86_64" ]; }; then
  extras=$(echo ",$extras," | sed 's/,train,/,train-cpu,/; s/^,//; s/,$//')
fi

uv=$(command -v uv || true)
if [ -z "$uv" ]; then
  [ -x "$environment/bin/uv" ] || "$python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv || true
  [ ! -x "$environment/bin/uv" ] || uv="$environment/bin/uv"
fi
if [ -n "$uv" ]; then
  # uv does not read pip's configuration. Settings of pip apply where uv has none.
  setting() { "$python" -m pip config get "install.$1" 2>/dev/null || "$python" -m pip config get "global.$1" 2>/dev/null || true; }
  index=${UV_DEFAULT_INDEX:-${UV_INDEX_URL:-${PIP_INDEX_URL:-$(setting index-url)}}}
  further=${UV_INDEX:-${UV_EXTRA_INDEX_URL:-${PIP_EXTRA_INDEX_URL:-$(setting extra-index-url)}}}
  links=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-$(setting find-links)}}
  certificates=${SSL_CERT_FILE:-${PIP_CERT:-$(setting cert)}}
  [ -z "$index" ] || export UV_DEFAULT_INDEX="$index"
  [ -z "$further" ] || export UV_INDEX="$(echo $further)"
  [ -z "$links" ] || export UV_FIND_LINKS="$(echo $links | tr ' ' ',')"
  [ -z "$certificates" ] || export SSL_CERT_FILE="$certificates"
  if "$uv" pip install --quiet --python "$python" --constraint constraints.txt --editable ".[$extras]"; then exit 0; fi
  echo "uv could not install" >&2
fi
echo "Installing by pip, which takes minutes" >&2
exec "$python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[$extras]"
