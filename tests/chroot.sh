#!/bin/bash
# Runs a command with these sources in another release of this system, and so with a PostgreSQL that this one does not have.
# There are this machine's Rust, the certificates that cargo needs, a C compiler and make; the rest tests/setup.sh installs.
#
#   tests/chroot.sh RELEASE COMMAND ...     RELEASE is trixie, say; made by debootstrap once, in $IDGEN_HOME/RELEASE
#   AS=ordinary tests/chroot.sh ...         the command is not run as root, but by a user without any right
#
# Ends with 77 where that cannot be: not as root, without debootstrap, without this release, or where nothing may be mounted.
set -euo pipefail
umask 022
say() { echo "tests/chroot.sh: $*" >&2; }
skip() { say "$*"; exit 77; }

release=${1:?names a release}
user=${AS:-root}
[ "$(id -u)" = 0 ] || skip "skipped: only root can make a chroot"
home=${IDGEN_HOME:-/var/cache/idgen}
chroot=$home/$release
sources=$(cd "$(dirname "$0")/.." && pwd)

# Every mount is gone with the last process: nothing is left behind that a later rm could follow.
if [ -z "${CHROOT_MOUNTS:-}" ]; then
    unshare --mount --pid --fork true 2>/dev/null || skip "skipped: nothing can be mounted here"
    CHROOT_MOUNTS=own exec unshare --mount --propagation private --pid --fork --kill-child "$0" "$@"
fi
shift
mkdir -p "$home"
exec 9>"$home/$release.lock"
flock 9

# The first Debian or Ubuntu that apt knows: its mirror has the other releases too.
mirror() {
    apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' | sed -n 's/^\(Debian\|Ubuntu\) //p' | head -n 1
}

make_chroot() {
    local from new=$chroot.new
    [ -n "$(mirror)" ] || apt-get update -qq
    from=$(mirror)
    [ -n "$from" ] || skip "skipped: apt knows no mirror of Debian or Ubuntu"
    command -v debootstrap >/dev/null || DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap \
        >"$home/$release.log" 2>&1 || skip "skipped: there is no debootstrap: $(tail -n 1 "$home/$release.log")"
    say "making a $release in $chroot"
    rm -rf "$new"
    debootstrap --variant=minbase --force-check-gpg --include=ca-certificates,gcc,libc6-dev,make "$release" "$new" "$from" >"$home/$release.log" 2>&1 || {
        rm -rf "$new"
        skip "skipped: debootstrap cannot make a $release: $(tail -n 1 "$home/$release.log")"
    }
    # How this machine reaches its mirrors.
    apt-config dump | grep -E '^Acquire::(https?|Check-)' >"$new/etc/apt/apt.conf.d/90host" || true
    chroot "$new" useradd --create-home --shell /bin/bash ordinary
    mv "$new" "$chroot"
}
# What a mirror has changes; so a chroot is made anew after a week.
if [ -n "$(find "$home/$release.log" -mtime +7 2>/dev/null)" ]; then rm -rf --one-file-system "$chroot"; fi
[ -d "$chroot" ] || make_chroot

# Rust as this machine has it, but for its caches.
rust=$(rustc --print sysroot)
[ -x "$rust/bin/cargo" ] || skip "skipped: cargo is not in $rust"
mount --bind "$chroot" "$chroot" # so that its / is a mount, as elsewhere
mkdir -p "$chroot/opt/rust"
mount --bind "$rust" "$chroot/opt/rust"
mount -o remount,bind,ro "$chroot/opt/rust"
mount --rbind /dev "$chroot/dev"
mount -t tmpfs -o mode=1777 tmpfs "$chroot/dev/shm"
mount -t proc proc "$chroot/proc"

# How this machine reaches the network, and whom it trusts there: the release's own list changes with what is installed.
for file in /etc/resolv.conf /etc/hosts; do
    if [ -e "$file" ]; then install -m 644 "$file" "$chroot$file"; fi
done
variables=()
if [ -e /etc/ssl/certs/ca-certificates.crt ]; then
    install -D -m 644 /etc/ssl/certs/ca-certificates.crt "$chroot/etc/ssl/host.crt"
    for variable in SSL_CERT_FILE PIP_CERT CARGO_HTTP_CAINFO NODE_EXTRA_CA_CERTS; do variables+=("$variable=/etc/ssl/host.crt"); done
fi
while IFS= read -r variable; do variables+=("$variable"); done < <(env | grep -iE '^([a-z]+_proxy|STORM_[A-Z]*|RUST_BACKTRACE)=' || true)

# A clean checkout, but for what was built from it: read by everyone, written by who runs the command.
to=$chroot/srv/$user/idgen
mkdir -p "$to"
find "$to" -mindepth 1 -maxdepth 1 ! -name target -exec rm -rf {} +
tar -C "$sources" --exclude=./target --exclude=./.git --exclude='./idgen-*.zip' -cf - . | tar -C "$to" --no-same-owner -xf -
mkdir -p "$to/target"
chroot "$chroot" chown -R "$user:" "/srv/$user"

enter=(chroot "$chroot")
[ "$user" = root ] || enter=(chroot --userspec="$user:$user" "$chroot")
path=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
user_home=$(chroot "$chroot" getent passwd "$user" | cut -d: -f6)
exec "${enter[@]}" env -i PATH="$path" HOME="$user_home" USER="$user" LANG=C.UTF-8 "${variables[@]}" \
    sh -c 'cd "$0" && exec "$@"' "/srv/$user/idgen" "$@"
