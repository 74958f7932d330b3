# Sourced by install.sh: how a version's folder is made, with the packages of Debian and of Python that it needs.
# shellcheck shell=bash disable=SC2154  # opt, new, src, here, wheels, parts are install.sh's

# ------------------------------------------------------------------------------------------ Debian's packages

is_there() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

apt_get() { env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@" </dev/null >"$opt/apt.log" 2>&1; }

# Those that are lacking: from the folder of wheels, else from Debian. Fails where they cannot be had.
packages() {
    local package missing=() files=()
    for package in "$@"; do is_there "$package" || missing+=("$package"); done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ -n "$wheels" ]; then
        mapfile -t files < <(find "$wheels" -maxdepth 1 -name '*.deb')
        [ ${#files[@]} -gt 0 ] || return 1
        DEBIAN_FRONTEND=noninteractive dpkg --install --refuse-downgrade --skip-same-version "${files[@]}" \
            </dev/null >"$opt/apt.log" 2>&1 || return 1
        for package in "${missing[@]}"; do is_there "$package" || return 1; done
        return 0
    fi
    say "from Debian: ${missing[*]}"
    apt_get install -y --no-install-recommends "${missing[@]}" ||
        { apt_get update && apt_get install -y --no-install-recommends "${missing[@]}"; }
}

system_packages() {
    local venv=()
    [ -n "$(wheel_file pip)" ] || venv=(python3-venv)
    packages python3 "${venv[@]}" ||
        die "Python's venv module cannot be installed; with a network: sudo apt update && sudo apt install python3-venv (see $opt/apt.log)"
    check_machine
    packages libportaudio2 ||
        say "PortAudio cannot be installed now, and without it there is no sound; later: sudo apt install libportaudio2"
    ! has_part hub || packages mosquitto ||
        say "the broker cannot be installed now; later: sudo apt install mosquitto"
    ! has_part llama || packages libgomp1 || say "libgomp cannot be installed now; later: sudo apt install libgomp1"
}

# ------------------------------------------------------------------------------------------ Python's packages

wheel_file() { [ -n "$wheels" ] && find "$wheels" -maxdepth 1 -name "${1//-/_}-*.whl" | head -n 1; }

# The lock's lines for these parts, or of one package
locked() {
    local IFS='|'
    grep -E "  #.* ($*)( |\$)" "$src/requirements-install.lock"
}

pip_count() { # pip's own words, as one line that moves on a terminal
    local total=$1 count=0 line
    while read -r line; do
        printf '%s\n' "$line" >>"$new/pip.log"
        case $line in Collecting* | Requirement* | Looking*) count=$((count + 1)) ;; esac
        [ ! -t 2 ] || printf '\r\033[K      %d of %d %s' "$count" "$total" "${line:0:50}" >&2
    done
    [ ! -t 2 ] || printf '\r\033[K' >&2
}

pip() { # TOTAL ARGUMENT...
    local total=$1 from=() path=""
    shift
    [ -z "$wheels" ] || from=(--no-index --find-links "$wheels")
    [ -x "$new/venv/bin/pip" ] || path=$(wheel_file pip)
    # Its temporary files go to the card: /tmp may be memory.
    mkdir -p "$new/tmp"
    PYTHONPATH=$path TMPDIR=$new/tmp PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_INPUT=1 \
        "$new/venv/bin/python" -m pip install --no-cache-dir --no-deps --ignore-installed --retries 2 "${from[@]}" "$@" \
        2>&1 | pip_count "$total"
}

pip_failed() {
    local log lacking
    log=$(cat "$new/pip.log")
    lacking=$(sed -n 's/.*No matching distribution found for \([^ ;]*\).*/\1/p' "$new/pip.log" | head -n 1)
    case $log in
        *"No space left"*) die "no space left while Python's packages were written; look at: df -h, sudo apt clean" ;;
        *"DO NOT MATCH"*) die "a package is not the one the lock names, changed on its way or cut short; run it again (see $new/pip.log)" ;;
        *"name resolution"* | *"NewConnectionError"* | *"Network is unreachable"* | *"imed out"* | *"Max retries"*)
            die "no way to the package index; look at the network (ip route), or take a folder of wheels: --wheels DIR" ;;
        *"No matching distribution"*) die "${wheels:-the package index} has no $lacking for Python $(python_tag) on $(uname -m)" ;;
    esac
    tail -n 5 "$new/pip.log" >&2
    die "Python's packages cannot be installed; the lines above say why (all of them: $new/pip.log)"
}

make_venv() {
    local options=()
    [ "${gpio:-}" != system ] || options=(--system-site-packages)
    rm -rf "$new"
    mkdir -p "$new"
    [ -z "$(wheel_file pip)" ] || options+=(--without-pip)
    python3 -m venv "${options[@]}" "$new/venv"
}

python_packages() {
    local wanted=(core hub wake) part
    for part in ${parts//,/ }; do [ "$part" = gpio ] || wanted+=("$part"); done
    [ "${gpio:-}" != pip ] || wanted+=(gpio)
    locked "${wanted[@]}" | grep -v '^spidev==' >"$new/wanted"
    pip "$(wc -l <"$new/wanted")" --require-hashes --only-binary :all: -r "$new/wanted" || pip_failed
    ! has_part llama || llama
}

# PyPI has no lgpio for Python 3.13 but an empty placeholder; Raspberry Pi OS has its own.
choose_gpio() {
    gpio=none
    has_part gpio || is_pi || return 0
    gpio=pip
    [ "$(python_tag)" != 3.13 ] || gpio=system
    packages python3-spidev || true
    [ $gpio = pip ] || packages python3-lgpio python3-gpiozero || gpio=none
    [ $gpio != none ] || say "there is no GPIO library for this Python here; going on without buttons and lights"
}

llama() {
    local file
    file=$(wheel_file llama-cpp-python)
    if [ -z "$file" ] && [ -n "$wheels" ]; then
        die "$wheels has no llama_cpp_python wheel; make one with scripts/llama-wheel, or leave --wheels out to compile it here"
    fi
    if [ -n "$file" ]; then
        pip 1 "$file" || pip_failed
    else
        packages build-essential python3-dev || die "llama.cpp has to be compiled and there is no compiler; run: sudo apt install build-essential"
        say "compiling llama.cpp: this takes long, once"
        HOME=${HOME:-/root} bash "$here/llama-wheel" "$new/venv/bin/python" || die "llama.cpp cannot be compiled here; the lines above say why"
    fi
}

roomtone_itself() {
    local file
    if is_checkout; then
        locked build >"$new/build"
        build_wheel
        file=$(find "$new/tmp" -maxdepth 1 -name 'roomtone-*.whl')
    else
        file=$(find "$here/wheels" -maxdepth 1 -name 'roomtone-*.whl')
    fi
    pip 1 "$file" || pip_failed
    install -D -m 0644 -t "$new/wheels" "$file" # so that this version can be installed anew with other parts
    "$new/venv/bin/roomtone" --version >/dev/null || die "the new version does not start here; what ran before still runs"
}

build_wheel() { # hatchling stays out of the version's own packages
    pip 9 --require-hashes --target "$new/hatchling" -r "$new/build" || pip_failed
    PYTHONPATH=$new/hatchling "$new/venv/bin/python" -m pip wheel --quiet --disable-pip-version-check --no-deps \
        --no-build-isolation --wheel-dir "$new/tmp" "$src" >>"$new/pip.log" 2>&1 || pip_failed
}

copy_what_belongs() {
    cp -r "$src/systemd" "$src/requirements-install.lock" "$new/"
    cp "$here/install.sh" "$here/install-version.sh" "$here/llama-wheel" "$new/"
    [ ! -e "$here/release.pub" ] || cp "$here/release.pub" "$new/"
    version_of >"$new/VERSION"
    printf '%s\n' "$parts" >"$new/parts"
    rm -rf "$new/tmp" "$new/hatchling" "$new/build" "$new/wanted"
    chmod -R go+rX,go-w "$new"
    sync -f "$new" # all of it lies on the card before anything says that it does
    date -u +%FT%TZ >"$new/complete.part"
    sync "$new/complete.part"
    mv "$new/complete.part" "$new/complete"
    sync "$new"
}
