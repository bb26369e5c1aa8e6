#!/usr/bin/env bash
# deps.sh -- .ci/deps on machines that lack things: a folder of stand-ins is all of PATH, so nothing is installed.
. tests/e2e/lib.sh
bash=$(command -v bash) calls=$T/calls
machine() {        # USER-ID COMMAND...: a machine with these stand-ins; its compiler knows no header
    rm -rf "$T/bin"; mkdir "$T/bin"; : >"$calls"
    local uid=$1 c; shift
    printf '#!%s\necho %s\n' "$bash" "$uid" >"$T/bin/id"
    printf '#!%s\nwhile [[ $1 == *=* ]]; do export "$1"; shift; done\n"$@"\n' "$bash" >"$T/bin/env"
    for c in "$@"; do
        case $c in
            sudo) printf '#!%s\necho "sudo $*" >>%s\n"$@"\n' "$bash" "$calls" ;;
            apt-get) printf '#!%s\necho "apt-get $*" >>%s\n' "$bash" "$calls" ;;
            apt-get:broken) printf '#!%s\n[ "$1" = update ]\n' "$bash" ;;
            apt-cache:*) printf '#!%s\n[ "$2" = llvm-%s-dev ]\n' "$bash" "${c#*:}" ;;
            cc) printf '#!%s\nwhile read -r l; do case $l in *stdio.h*|*std*|*setjmp*) ;; *) exit 1 ;; esac; done\n' "$bash" ;;
            cc:all) printf '#!%s\nwhile read -r l; do :; done\n' "$bash" ;;
            *) printf '#!%s\n' "$bash" ;;
        esac >"$T/bin/${c%%:*}"
    done
    chmod +x "$T"/bin/*
}
deps() { PATH=$T/bin "$bash" .ci/deps; }
called() { check "$1" grep -qxE -- "$2" "$calls"; }       # NAME PATTERN

machine 0 make cc:all flex bison llvm-config-19 apt-get
silent() { local said; said=$(deps 2>&1) && [ -z "$said" ]; }
check "nothing is missing: nothing is said" silent
check "and nothing is called" test ! -s "$calls"
machine 0 make apt-get apt-cache:22
says "root: installs what is missing" 0 "installing build-essential flex bison" deps
called "by these names" "apt-get install -y -qq --no-install-recommends build-essential flex bison libjpeg-dev .*zlib1g-dev libcmocka-dev llvm-22-dev"
machine 0 make cc flex bison apt-get apt-cache:19
says "an older release: the newest llvm it has" 0 "zlib1g-dev libcmocka-dev llvm-19-dev" deps
machine 1000 make cc:all bison llvm-config-22 apt-get sudo
says "a user with sudo" 0 "installing flex" deps
called "through it" "sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends flex"
machine 1000 make cc:all flex apt-get
says "a user without it: told what to install" 1 "ticc needs these Debian or Ubuntu packages: bison llvm-22-dev (or llvm-21-dev, llvm-20-dev, llvm-19-dev)" deps
check "and nothing is called" test ! -s "$calls"
machine 0 make cc:all flex llvm-config-21
says "another system" 1 "there is no apt-get here" deps
machine 0 make cc:all flex bison apt-get apt-cache:17
says "no llvm that is new enough" 1 "has none of the llvm packages" deps
machine 0 make cc:all bison llvm-config-20 apt-get:broken
says "apt-get fails" 1 "apt-get could not install them" deps
finish
