# What every section of tests/run shares: packages, counting, and the line that ends it.
# Sourced by tests/clients/NAME/run, and by tests/run for the packages of the durability tests.
#
# A section ends with `finish`, which prints `N passed, N failed`. It ends early, with status 77, when it cannot
# be set up; tests/run counts that as failed unless the section was left out with --without NAME.

section_passed=0
section_failed=0

# cannot_set_up REASON: ends the section.
cannot_set_up() {
  printf 'cannot be set up: %s\n' "$1"
  exit 77
}

# need_package NAME...: makes sure that each Debian package is installed; only root can install one.
need_package() {
  local name missing=()
  for name in "$@"; do
    if ! dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q '^install ok installed$'; then
      missing+=("$name")
    fi
  done
  if [ "${#missing[@]}" -eq 0 ]; then
    return
  fi
  if [ "$(id -u)" -ne 0 ]; then
    cannot_set_up "missing packages; install them with: apt-get install ${missing[*]}"
  fi
  apt-get update -qq || true
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" ||
    cannot_set_up "apt-get could not install ${missing[*]}"
}

# check NAME COMMAND...: runs one check and counts it.
check() {
  local name=$1
  shift
  if "$@"; then
    section_passed=$((section_passed + 1))
    printf 'ok      %s\n' "$name"
  else
    section_failed=$((section_failed + 1))
    printf 'FAILED  %s\n' "$name"
  fi
}

# finish: the last command of a section.
finish() {
  printf '%s passed, %s failed\n' "$section_passed" "$section_failed"
  [ "$section_failed" -eq 0 ]
}
