# Runs commands side by side, and tells at the end how long each took. `run` reads this file.
#
# The first command that fails stops the others and ends the run with its exit code; no process outlives the run. It is
# written for bash 5.1 on Linux.
set -m # every command is a process group, which can be stopped as a whole

AT_ONCE=2
outputs=$(mktemp -d)
declare -A running=() began=() optional=() missing=() # running: name by process. The others are by name.
seconds=()                                            # seconds and name of each command that has ended
failure=""

# Run a command in the background, as soon as fewer than AT_ONCE run. What it prints is shown when it has ended. It
# computes in one thread: there is one such command for each processor.
job() { # NAME COMMAND...
  while ((${#running[@]} >= AT_ONCE)); do wait_for_one; done
  begin "$1"
  OMP_NUM_THREADS=1 "${@:2}" >"$outputs/$1" 2>&1 </dev/null &
  running[$!]=$1
}

# The same for a command that may fail: a line then says what is left out, and `has NAME` is false.
attempt() { # NAME LINE COMMAND...
  optional[$1]=$2
  job "$1" "${@:3}"
}

# Run a command alone, and show what it prints at once.
stage() { # NAME COMMAND...
  all_jobs
  begin "$1"
  "${@:2}" </dev/null &
  running[$!]=$1
  wait_for_one
}

# Wait until these jobs have ended.
after() { # NAME...
  local name
  for name; do
    while [[ " ${running[*]} " == *" $name "* ]]; do wait_for_one; done
  done
}

all_jobs() {
  while ((${#running[@]})); do wait_for_one; done
}

has() { # NAME
  [[ ! -v "missing[$1]" ]]
}

begin() { # NAME
  began[$1]=$SECONDS
}

wait_for_one() {
  local process="" name code=0
  wait -n -p process "${!running[@]}" || code=$?
  name=${running[$process]}
  unset "running[$process]"
  seconds+=("$((SECONDS - began[$name]))" "$name")
  if [[ -e $outputs/$name ]]; then
    echo "== $name"
    cat "$outputs/$name"
  fi
  if ((code)); then
    if [[ -v "optional[$name]" ]]; then
      missing[$name]=1
      echo "${optional[$name]}" >&2
    else
      failure="$name failed with exit code $code"
      exit "$code"
    fi
  fi
}

# Whatever ends the run: stop what is left, within ten seconds, and print the table of times.
at_end() {
  local process name polls=500
  trap '' INT TERM HUP
  disown -a # bash would tell of each that it was stopped
  for process in "${!running[@]}"; do kill -TERM -- "-$process" 2>/dev/null || true; done
  for process in "${!running[@]}"; do
    while kill -0 "$process" 2>/dev/null && ((polls-- > 0)); do sleep 0.02; done
    kill -KILL -- "-$process" 2>/dev/null || true
  done
  rm -rf "$outputs"
  echo "seconds  what"
  ((${#seconds[@]} == 0)) || printf '%7d  %s\n' "${seconds[@]}"
  printf '%7d  %s\n' "$SECONDS" "in all"
  for name in "${!missing[@]}"; do echo "${optional[$name]}"; done
  [[ -z $failure ]] || echo "$failure" >&2
}
trap at_end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
