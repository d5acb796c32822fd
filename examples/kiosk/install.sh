#!/bin/sh
# As root: install.sh INDEX [ROOT]. ROOT is where the card of another machine is mounted [/].
set -eu
if [ $# -lt 1 ]; then
    echo "usage: install.sh INDEX [ROOT]" >&2
    exit 2
fi
here=$(dirname "$0")
root=${2:-}
units=$root/etc/systemd/system
program=${EDGE_EMBED:-/opt/edge-embed/bin/edge-embed}

share=$root/usr/local/share/edge-embed
mkdir -p "$share"
rm -f "$share/new.db"
"$program" backup "$1" "$share/new.db" # a whole copy, also while another program writes to INDEX
chmod 0644 "$share/new.db"
mv "$share/new.db" "$share/index.db" # a running service opens it with its next request

install -D -m 0644 "$here/../../deploy/edge-embed.service" "$units/edge-embed.service"
install -D -m 0644 "$here/../../deploy/edge-embed.socket" "$units/edge-embed.socket"
install -D -m 0644 "$here/kiosk.conf" "$units/edge-embed.service.d/kiosk.conf"
install -D -m 0644 "$here/kiosk-screen.service" "$units/kiosk-screen.service"
systemctl --root="${root:-/}" enable edge-embed.socket edge-embed.service kiosk-screen.service
echo "done; restart, or: systemctl daemon-reload && systemctl restart edge-embed.socket edge-embed.service"
