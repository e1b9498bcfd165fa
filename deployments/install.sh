#!/bin/sh
# Installs this project with some of its extras into a virtual environment, by exactly the versions of constraints.txt.
#   install.sh ENVIRONMENT EXTRAS        such as: install.sh .venv local,service,test
# The extra `train` becomes `train-cpu` where no GPU is: TensorFlow's build without GPU code has half the size.
# uv installs in seconds: the one on the PATH, or its package from the index. Where neither can be had, pip does the same in minutes.
set -eu
environment=$1 extras=$2
python="$environment/bin/python"

has_package() { [ -n "$(find "$environment/lib" -maxdepth 4 -type d -name "$1-[0-9]*.dist-info" 2>/dev/null)" ]; }
# The two builds of TensorFlow overwrite each other's files, so an environment keeps the one that it has.
if has_package tensorflow_cpu || { ! has_package tensorflow && [ ! -e /dev/nvidiactl ] && [ "$(uname -sm)" = "Linux x86_64" ]; }; then
  extras=$(echo ",$extras," | sed 's/,train,/,train-cpu,/; s/^,//; s/,$//')
fi

uv=$(command -v uv || true)
if [ -z "$uv" ]; then
  [ -x "$environment/bin/uv" ] || "$python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv || true
  [ ! -x "$environment/bin/uv" ] || uv="$environment/bin/uv"
fi
if [ -n "$uv" ]; then
  # uv reads its own configuration only; where that is silent, a person's settings of pip hold.
  setting() { "$python" -m pip config get "$1" 2>/dev/null || true; }
  index=${UV_DEFAULT_INDEX:-${PIP_INDEX_URL:-$(setting global.index-url)}}
  links=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-$(setting global.find-links)}}
  certificates=${SSL_CERT_FILE:-${PIP_CERT:-$(setting global.cert)}}
  [ -z "$index" ] || export UV_DEFAULT_INDEX="$index"
  [ -z "$links" ] || export UV_FIND_LINKS="$(echo $links | tr ' ' ',')"
  [ -z "${PIP_EXTRA_INDEX_URL:-}" ] || export UV_INDEX="${UV_INDEX:-$PIP_EXTRA_INDEX_URL}"
  [ -z "$certificates" ] || export SSL_CERT_FILE="$certificates"
  if "$uv" pip install --quiet --python "$python" --constraint constraints.txt --editable ".[$extras]"; then exit 0; fi
  echo "uv could not install" >&2
fi
echo "Installing by pip, which takes minutes" >&2
exec "$python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[$extras]"
