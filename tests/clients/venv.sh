# python_clients: makes the environment of the pinned Python clients, once; sets PYTHON. Sourced after section.sh.
python_clients() {
  local clients venv
  clients=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
  venv=$clients/.venv
  PYTHON=$venv/bin/python
  if ! cmp -s "$clients/requirements.txt" "$venv/installed.txt"; then
    need_package python3 python3-venv
    rm -rf "$venv"
    python3 -m venv "$venv" || cannot_set_up "no virtual environment can be made"
    "$PYTHON" -m pip install -q --disable-pip-version-check -r "$clients/requirements.txt" ||
      cannot_set_up "pip could not install the Python clients"
    # Last, so that an environment that was cut short is made again.
    cp "$clients/requirements.txt" "$venv/installed.txt"
  fi
}
