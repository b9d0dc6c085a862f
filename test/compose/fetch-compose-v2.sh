#!/usr/bin/env bash
# Compose v2 as a plugin of docker, from Debian 13, for a Debian that has only Compose 1.
# Usage, as root: fetch-compose-v2.sh DOCKER_CONFIG_DIR; then DOCKER_CONFIG=DOCKER_CONFIG_DIR docker compose …
set -euo pipefail
config=$1
# The mirror that this machine uses already.
mirror=$(apt-get indextargets --format '$(SITE)' 'Codename: bookworm' | head -n 1)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$config/cli-plugins"
printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s trixie main\n' "${mirror%/}" >"$work/trixie.list"
options=(-qq -o "Dir::Etc::SourceList=$work/trixie.list" -o Dir::Etc::SourceParts=- -o "Dir::State::Lists=$work/lists"
  -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
apt-get "${options[@]}" update
(cd "$work" && apt-get "${options[@]}" download docker-compose && dpkg-deb --extract docker-compose_*.deb root)
install -m 755 "$work/root/usr/libexec/docker/cli-plugins/docker-compose" "$config/cli-plugins/docker-compose"
