#!/usr/bin/env bash
# Put Roomtone on this machine, for all of it: Raspberry Pi OS or Debian 12 and 13, 64 bits. Asks nothing.
#
#   install.sh [install]          install, or bring an installation to this version
#   install.sh upgrade FILE       the same from a signed archive; goes back by itself where the new version does not work
#   install.sh rollback           go back to the version before
#   install.sh uninstall          remove the program; with --purge also its state, configuration and user
#   install.sh status             which versions are here
#
#   --with PART,...   hub (run the house's hub here), whisper, piper, llama, web, cloud, mcp, embed, echo, silero, wyoming,
#                     metrics, gpio; kept over upgrades
#   --wheels DIR      take everything from this folder, nothing from the network
#   --config FILE     make this the configuration
#
# A version lives in /opt/roomtone/versions/ID and is whole once it holds the file "complete"; /opt/roomtone/current is
# the one link that is switched. Killed between any two steps, what ran before still runs, and the next run mends it.
set -euo pipefail
umask 022
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
opt=/opt/roomtone etc=/etc/roomtone state=/var/lib/roomtone units=/etc/systemd/system command=/usr/local/bin/roomtone
parts="" wheels="" config="" purge="" # what the options say
unit="" # set where systemd's own unit calls
new="" fetched="" # the folder of the version that is made, and that of an archive
lock=/run/roomtone-install/lock # not in /run/lock, where anybody may make it first
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
step=0 steps=7 now="starting" said="" asked=$*

say() { printf -- '-- %s\n' "$*" >&2; }
begin() { step=$((step + 1)) now=$1; printf '[%d/%d] %s\n' "$step" "$steps" "$now" >&2; }
die() { said=yes; printf 'install.sh: %s\n' "$*" >&2; exit 1; }
# shellcheck disable=SC2317
unexplained() { # what no line of this script has foreseen
    local code=$?
    [ "$code" = 0 ] || clear_away
    [ "$code" = 0 ] || [ -n "$said" ] ||
        printf 'install.sh: stopped at "%s"; what ran before still runs; mend what the line above says and run it again\n' "$now" >&2
}
# shellcheck disable=SC2317
clear_away() { # a disk that is full of half a version costs the room that runs its memory
    [ -z "$fetched" ] || rm -rf "$fetched"
    [ ! -d "$new" ] || [ -e "$new/complete" ] || find "$new" -mindepth 1 -maxdepth 1 ! -name pip.log -exec rm -rf {} +
}
trap unexplained EXIT
trap 'die "interrupted at \"$now\"; what ran before still runs; run it again to go on"' INT TERM HUP

# ------------------------------------------------------------------------------------------ what is here

source_root() { if [ -e "$here/VERSION" ]; then printf '%s' "$here"; else dirname "$here"; fi; }
is_checkout() { [ ! -e "$here/VERSION" ]; }
version_of() { if is_checkout; then sed -n 's/^version = "\(.*\)"/\1/p' "$src/pyproject.toml"; else cat "$here/VERSION"; fi; }
# Its inode tells a chroot, such as an image that is being built, from the machine that runs it. A unit may not look.
systemd_runs() { [ -d /run/systemd/system ] && { [ -n "$unit" ] || [ /proc/1/root -ef / ]; }; }
id_of() { basename "$(readlink "$opt/$1" 2>/dev/null)" 2>/dev/null || true; } # current, previous
python_tag() { python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }
is_pi() { grep -qs 'Raspberry Pi' /proc/device-tree/model; }
has_part() { [[ ",$parts," == *",$1,"* ]]; }

# What tells one build from another: the same files, parts and Python give the same folder.
fingerprint() (
    cd "$src"
    if is_checkout; then
        files=(src personas models systemd scripts/install.sh scripts/install-version.sh scripts/llama-wheel pyproject.toml)
    else
        files=(wheels/roomtone-*.whl systemd install.sh install-version.sh llama-wheel VERSION)
    fi
    {
        find "${files[@]}" requirements-install.lock -type f ! -name '*.pyc' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
        printf '%s %s\n' "$parts" "$(python_tag)"
    } | sha256sum | cut -c1-8
)

# ------------------------------------------------------------------------------------------ may it be done at all

need_root() { [ "$(id -u)" = 0 ] || die "only root may do this; run: sudo $0${asked:+ $asked}"; }
need_installation() { [ -e "$opt/current/complete" ] || die "Roomtone is not installed here; $1"; }

take_lock() {
    mkdir -p "$(dirname "$lock")"
    # An upgrade that runs the new version's installer hands its own lock down.
    [ "$(readlink "/proc/$$/fd/9" 2>/dev/null)" = "$lock" ] || exec 9<>"$lock"
    flock --nonblock 9 ||
        die "another installation is at work ($(head -n 1 "$lock")); wait for its end, then run this again"
    printf 'process %s, %s, since %s\n' $$ "${*:-install}" "$(date '+%H:%M:%S')" >"$lock"
}

check_machine() {
    local arch python
    command -v dpkg >/dev/null || die "this is not Raspberry Pi OS or Debian; see the README for other systems"
    arch=$(dpkg --print-architecture)
    case $arch in
        arm64 | amd64) ;;
        armhf | armel | i386) die "this system has 32 bits ($arch$([ "$(uname -m)" != aarch64 ] || echo ' under a 64-bit kernel')); flash the 64-bit Raspberry Pi OS" ;;
        *) die "Roomtone runs on arm64 and amd64, not on $arch" ;;
    esac
    command -v python3 >/dev/null || return 0 # apt brings it
    python=$(python_tag)
    case $python in
        3.11 | 3.12 | 3.13) ;;
        2.* | 3.[0-9] | 3.10) die "Python $python is too old; upgrade to Debian or Raspberry Pi OS 12 (bookworm) or later" ;;
        *) die "Python $python is newer than this version of Roomtone knows (3.11 to 3.13); get a newer Roomtone" ;;
    esac
}

# Megabytes that a version may take, with room to spare: about 235 were measured on amd64
megabytes() {
    local sum=330 part
    for part in ${parts//,/ }; do
        case $part in
            whisper) sum=$((sum + 450)) ;;
            piper | silero | embed | echo) sum=$((sum + 150)) ;;
            llama | cloud | mcp | web) sum=$((sum + 80)) ;;
        esac
    done
    echo $sum
}

check_room() {
    local free need
    { mkdir -p "$opt" && touch "$opt/.try" && rm "$opt/.try"; } 2>/dev/null ||
        die "/opt cannot be written: a read-only file system? look at: findmnt -T /opt; mend it with: sudo mount -o remount,rw /"
    need=$(megabytes)
    free=$(df --output=avail -m "$opt" | tail -n 1)
    [ "$free" -ge "$need" ] || die "no space: $need MB are needed in $opt and $((free)) MB are free; look at: df -h, sudo apt clean"
}


# ------------------------------------------------------------------------------------------ what is around a version

prepare_machine() {
    systemd-sysusers "$new/systemd/roomtone.sysusers" || die "the user roomtone cannot be made; the line above says why"
    install -d -o root -g roomtone -m 0750 "$etc"
    install -d -o root -g root -m 0700 "$etc/credentials"
    install -d -o roomtone -g roomtone -m 0700 "$state"
    [ -n "$config" ] || return 0
    "$new/venv/bin/roomtone" config --config "$config" >/dev/null || die "$config cannot be used; the lines above say why"
    cmp -s "$config" "$etc/config.yaml" && return 0
    [ ! -e "$etc/config.yaml" ] || cp -p "$etc/config.yaml" "$etc/config.yaml.before"
    install -o root -g roomtone -m 0640 "$config" "$etc/config.yaml.part"
    mv "$etc/config.yaml.part" "$etc/config.yaml"
}

# A link changes in one moment, whatever is killed when.
point() { # current|previous VERSION
    ln -sfn "versions/$2" "$opt/.$1.new"
    mv -T "$opt/.$1.new" "$opt/$1"
    sync "$opt"
}

belongs_here() { # UNIT; the hub's only where the house's hub is
    case $1 in
        roomtone-hub.* | roomtone-broker.*) has_part hub ;;
        *) true ;;
    esac
}

# Every unit is a link through "current". One that is new here is enabled; what somebody has disabled stays so.
link_units() {
    local file name target parts
    parts=$(cat "$opt/current/parts")
    for file in "$opt"/current/systemd/*.{service,timer,path}; do
        name=$(basename "$file")
        if ! belongs_here "$name"; then
            rm -f "$units/$name" "$units"/*.wants/"$name"
        elif [ -e "$file" ] && [ ! -L "$units/$name" ]; then
            # shellcheck disable=SC2013  # one word or several, on a line or more
            for target in $(sed -n 's/^WantedBy=//p' "$file"); do
                mkdir -p "$units/$target.wants"
                ln -sfn "../$name" "$units/$target.wants/$name"
            done
            ln -sfn "$file" "$units/$name"
        fi
    done
    find "$units" -name 'roomtone*' -type l ! -exec test -e {} \; -delete # of units that this version has not
    ln -sfn "$opt/current/venv/bin/roomtone" "$command"
    systemd_runs || return 0
    systemctl daemon-reload
    for file in "$units"/*.wants/roomtone*.{timer,path}; do # the services are begun one by one
        [ ! -e "$file" ] || systemctl start --no-block "$(basename "$file")" # a timer may wait for the network's time
    done
}

prune() {
    local folder
    for folder in "$opt"/versions/*/; do
        folder=$(basename "$folder")
        [ "$folder" = "$(id_of current)" ] || [ "$folder" = "$(id_of previous)" ] || rm -rf "$opt/versions/${folder:?}"
    done
    rm -rf "$opt/incoming"
    # As who owns that folder: where root deletes by a name, that may lead elsewhere by then.
    [ -n "$unit" ] || [ ! -d "$state/backups" ] || runuser -u roomtone -- bash -c "find '$state/backups' -name 'before-*' -type f \
        -printf '%T@ %p\0' | sort -zrn | tail -zn +3 | cut -zd' ' -f2- | xargs -0r rm -f"
}

# ------------------------------------------------------------------------------------------ does it work

is_wanted() { systemctl is-enabled --quiet roomtone.service 2>/dev/null || systemctl is-active --quiet roomtone.service; }

restart() {
    local service
    for service in roomtone-hub.service roomtone.service; do
        if [ $service = roomtone.service ] && is_wanted || systemctl is-active --quiet $service; then
            systemctl reset-failed $service 2>/dev/null || true
            timeout -k 5 90 systemctl restart $service 2>/dev/null || true # it goes on trying by itself
        fi
    done
}

is_down() { is_wanted && ! systemctl is-active --quiet roomtone.service; }

is_heard() { timeout -k 5 60 "$opt/current/venv/bin/roomtone" doctor --only chirp >/dev/null 2>&1; }

# One that ends again and again is active for moments, so it has to stay for five seconds.
stays_ready() {
    local second steady=0 state last="" starts
    starts=$(asked NRestarts)
    for second in {1..90}; do
        state=$(asked ActiveState)/$(asked InvocationID)
        if [[ $state == active/* && $state == "$last" ]]; then steady=$((steady + 1)); else steady=0; fi
        [ $steady -lt 5 ] || return 0
        [ $(($(asked NRestarts) - starts)) -lt 3 ] || { say "it ends again and again"; return 1; }
        last=$state
        sleep 1
    done
    say "it is ${state%/*} after $second s"
    return 1
}
asked() { systemctl show -P "$1" roomtone.service; }

# Ready within 90 s, and its chirp heard where the version before was heard too.
works() { # HEARD-BEFORE
    systemd_runs && is_wanted || return 0
    stays_ready || return 1
    [ "$1" != heard ] || is_heard || { say "its own chirp was not heard, and that of the version before was"; return 1; }
}

# ------------------------------------------------------------------------------------------ switching

back_up() {
    [ -e "$state/roomtone.db" ] || return 0
    local file
    # A name of its own each time, and the ending that is known when what was said is to be forgotten
    file=$state/backups/before-$(basename "$new")-$(date -u +%Y%m%d-%H%M%S.%N).tar.gz
    runuser -u roomtone -- mkdir -p "$state/backups"
    runuser -u roomtone -- env HOME="$state" STATE_DIRECTORY="$state" "$opt/current/venv/bin/roomtone" backup "$file" \
        >&2 ||
        die "the state cannot be backed up, so nothing is changed; the line above says why"
}

begin_trial() { # what the service of the same name needs after a power cut
    local heard=unheard before
    ! systemd_runs || ! is_heard || heard=heard
    before=$(id_of previous)
    printf '%s %s %s %s\n' "$(id_of current)" "$(basename "$new")" "${before:--}" $heard >"$opt/trial.part"
    sync "$opt/trial.part"
    mv "$opt/trial.part" "$opt/trial"
    sync "$opt"
}

switch_to() { # VERSION
    [ "$(id_of current)" = "$1" ] && return 0
    [ -z "$(id_of current)" ] || point previous "$(id_of current)"
    point current "$1"
}

# After the switch: keep the new version where it works, else go back.
settle() {
    local from to before heard
    [ -e "$opt/trial" ] || return 0
    read -r from to before heard <"$opt/trial"
    if [ "$(id_of current)" != "$to" ]; then
        say "the change to $to had not been made; $(id_of current) stays"
        before_is "$before"
    elif ! works "$heard"; then
        point current "$from"
        before_is "$before"
        link_units
        restart
        rm -f "$opt/trial"
        die "version $to did not work here and $from is back; why: journalctl -u roomtone"
    fi
    rm -f "$opt/trial"
    sync "$opt"
}

before_is() { if [ "$1" = - ]; then rm -f "$opt/previous"; else point previous "$1"; fi; }

resume() { # what was killed in the middle of an upgrade; the daemon may be that of the version before still
    [ -e "$opt/trial" ] || return 0
    say "an upgrade was interrupted; looking how it went"
    link_units
    ! systemd_runs || restart
    settle
}

# ------------------------------------------------------------------------------------------ the commands

install_it() {
    need_root
    [ -z "$config" ] || [ -r "$config" ] || die "$config cannot be read"
    check_machine
    take_lock install
    [ -n "$parts" ] || parts=$(cat "$opt/current/parts" 2>/dev/null || true)
    [ -n "$wheels" ] || is_checkout || [ "$(find "$here/wheels" -name '*.whl' | wc -l)" = 1 ] || wheels=$here/wheels
    src=$(source_root)
    resume
    begin "looking at this machine"
    check_room
    packages_for_this
    new=$opt/versions/$(version_of)-$(fingerprint)
    if [ -e "$new/complete" ]; then
        [ "$(basename "$new")" != "$(id_of current)" ] || say "Roomtone $(basename "$new") is installed already"
        step=5
    else
        make_version
    fi
    begin "user, configuration, units"
    prepare_machine
    change_over
}

packages_for_this() {
    begin "Debian's packages"
    system_packages
    choose_gpio
}

make_version() {
    begin "making room for the version $(basename "$new")"
    make_venv
    begin "Python's packages"
    python_packages
    begin "Roomtone itself"
    roomtone_itself
    copy_what_belongs
}

change_over() {
    local before
    before=$(id_of current)
    begin "switching to $(basename "$new")"
    rm -f "$opt/going-back"
    if [ -n "$before" ] && [ "$before" != "$(basename "$new")" ]; then
        back_up
        begin_trial
    fi
    switch_to "$(basename "$new")"
    link_units
    if systemd_runs && { [ "$before" != "$(id_of current)" ] || [ -n "$config" ] || is_down; }; then
        say "starting it"
        restart
        [ -e "$opt/trial" ] || works unheard || say "it does not run yet; why: journalctl -u roomtone"
    fi
    settle
    prune
    say "Roomtone $(id_of current) is installed; look with: roomtone doctor"
}

upgrade() { # FILE
    local file=$1 incoming=$opt/incoming key=$opt/current/release.pub options=()
    need_root
    need_installation "unpack the archive and run its install.sh"
    [ -r "$file" ] || die "$file cannot be read"
    [ -r "$file.sig" ] || die "$file.sig, the archive's signature, is not beside it; fetch it too"
    [ -e "$key" ] || die "this installation knows no key that archives are signed with: it came from a checkout; copy release.pub to $key"
    take_lock upgrade
    rm -rf "$incoming"
    fetched=$incoming
    mkdir -m 0700 "$incoming"
    # What is checked is the copy that only root can change
    { cp -- "$file" "$incoming/release.tar" && cp -- "$file.sig" "$incoming/release.tar.sig"; } || die "no space in $opt for $file; look at: df -h"
    openssl pkeyutl -verify -pubin -inkey "$key" -rawin -in "$incoming/release.tar" -sigfile "$incoming/release.tar.sig" \
        >/dev/null 2>&1 || die "$file is not signed for this machine: fetched only half, changed, or another's; nothing was changed; fetch it and its .sig again"
    tar -xf "$incoming/release.tar" -C "$incoming" --no-same-owner || die "$file cannot be unpacked; the line above says why"
    rm "$incoming/release.tar"
    [ -z "$parts" ] || options+=(--with "$parts")
    [ -z "$wheels" ] || options+=(--wheels "$wheels")
    [ -z "$config" ] || options+=(--config "$config")
    said=child
    bash "$incoming"/roomtone-*/install.sh install "${options[@]}"
}

rollback() {
    local from to
    need_root
    need_installation "there is nothing to go back from"
    take_lock rollback
    resume
    from=$(id_of current) to=$(id_of previous)
    [ ! -s "$opt/going-back" ] || read -r from to <"$opt/going-back" # killed in the middle: not forward again
    [ -e "$opt/versions/${to:-none}/complete" ] || die "there is no version before $from here to go back to"
    printf '%s %s\n' "$from" "$to" >"$opt/.going-back"
    sync "$opt/.going-back"
    mv "$opt/.going-back" "$opt/going-back"
    point current "$to"
    point previous "$from"
    link_units
    ! systemd_runs || restart
    rm "$opt/going-back"
    works unheard || die "$to is back and does not become ready; why: journalctl -u roomtone"
    say "Roomtone $to is back; history, timers and memories stay; forward again with: roomtone rollback"
}

uninstall() {
    need_root
    take_lock uninstall
    if systemd_runs; then
        systemctl stop 'roomtone*.service' 'roomtone*.timer' 'roomtone*.path' 2>/dev/null || true
    fi
    find "$units" -name 'roomtone*' -lname "$opt/*" -delete
    find "$units" -path '*.wants/roomtone*' -type l -delete
    ! systemd_runs || systemctl daemon-reload
    rm -f "$command"
    rm -rf "$opt"
    if [ -z "$purge" ]; then
        say "Roomtone is removed; $state and $etc stay (and with --purge they do not)"
        return 0
    fi
    rm -rf "$state" "$etc"
    ! getent passwd roomtone >/dev/null || userdel roomtone
    say "Roomtone, its state, its configuration and its user are removed"
}

status() {
    local name
    need_installation "install it with: sudo $0"
    for name in current previous; do printf '%-9s %s\n' $name "$(id_of $name)"; done
    printf '%-9s %s\n' parts "$(cat "$opt/current/parts")"
    [ ! -e "$opt/trial" ] || printf '%-9s %s\n' trial "an upgrade has not been finished; mend it with: sudo $0 trial"
    ! systemd_runs || printf '%-9s %s\n' service "$(systemctl show -P ActiveState roomtone.service)"
}

usage() { sed -n '2,/^set /{/^set /d; s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }

check_parts() {
    local part
    for part in ${parts//,/ }; do
        case $part in
            hub | whisper | piper | llama | web | cloud | mcp | embed | echo | silero | wyoming | metrics | gpio | wake) ;;
            *) usage_error "--with $part: there is no such part; see: $0 --help" ;;
        esac
    done
    parts=$(tr , '\n' <<<"$parts" | sed '/^$/d' | LC_ALL=C sort -u | paste -sd,)
}
usage_error() { said=yes; printf 'install.sh: %s\n' "$*" >&2; exit 2; }

main() {
    local words=() option
    while [ $# -gt 0 ]; do
        option=$1
        case $option in
            --with | --wheels | --config) [ $# -gt 1 ] || usage_error "$option needs a value; see: $0 --help" ;;&
            --with) parts=$2; shift ;;
            --wheels) [ -d "$2" ] || usage_error "--wheels $2: there is no such folder"; wheels=$(readlink -f "$2"); shift ;;
            --config) config=$(readlink -f "$2"); shift ;;
            --purge) purge=yes ;;
            -h | --help) usage; exit 0 ;;
            -*) usage_error "there is no option $option; see: $0 --help" ;;
            *) words+=("$option") ;;
        esac
        shift
    done
    check_parts
    case ${words[0]:-install}/${#words[@]} in
        install/[01]) install_it ;;
        upgrade/2) upgrade "$(readlink -f "${words[1]}")" ;;
        upgrade/1) usage_error "upgrade needs the archive, roomtone-VERSION.tar; see: $0 --help" ;;
        rollback/1) rollback ;;
        uninstall/1) uninstall ;;
        status/1) status ;;
        trial/1) unit=yes; need_root; take_lock trial; link_units; settle; prune ;;
        *) usage_error "what is meant by ${words[*]}? see: $0 --help" ;;
    esac
}

# shellcheck source=scripts/install-version.sh
. "$here/install-version.sh"
main "$@"
exit
