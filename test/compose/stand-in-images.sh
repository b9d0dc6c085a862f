#!/usr/bin/env bash
# Stand-ins for the two base images of docker-compose.yml and the Dockerfile, under the same names, for where no image
# registry can be reached: Debian from debootstrap, with Node and npm from the npm registry, or with an Envoy binary.
# Usage, as root: stand-in-images.sh NODE_IMAGE ENVOY_IMAGE ENVOY_BINARY [docker|podman]
set -euo pipefail
node_image=$1 envoy_image=$2 envoy_binary=$3 engine=${4:-docker}
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root

debootstrap --variant=minbase bookworm "$root" >"$work/debootstrap.log" 2>&1 || {
  tail -n 20 "$work/debootstrap.log" >&2
  exit 1
}
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*

# image NAME CHANGE...: what is in $root now, as an image.
image() {
  # Podman gives an image without one no PATH.
  local name=$1 changes=(--change 'LABEL site-persistence.stand-in=true' --change "ENV PATH=$path")
  shift
  for change in "$@"; do changes+=(--change "$change"); done
  tar -C "$root" --one-file-system -c . | "$engine" import "${changes[@]}" - "$name" >/dev/null
}

install -m 755 "$envoy_binary" "$root/usr/local/bin/envoy"
image "$envoy_image" 'CMD ["envoy", "-c", "/etc/envoy/envoy.yaml"]'
rm "$root/usr/local/bin/envoy"

version=${node_image#*:} version=${version%%-*}
npm install --silent --no-audit --no-fund --prefix "$work/node" "node@$version" npm@11
cp -L "$work/node/node_modules/node/bin/node" "$root/usr/local/bin/node"
mkdir -p "$root/usr/local/lib/node_modules"
cp -r "$work/node/node_modules/npm" "$root/usr/local/lib/node_modules/npm"
ln -s ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/local/bin/npm"
chroot "$root" useradd --uid 1000 --create-home node
# The certificates of the host, which may be behind a proxy of its own.
environment=()
if [ -f /etc/ssl/certs/ca-certificates.crt ]; then
  mkdir -p "$root/etc/ssl/certs"
  cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  environment=('ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt')
fi
image "$node_image" "${environment[@]}" 'CMD ["node"]'
