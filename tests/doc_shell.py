"""A shell that runs the commands of a page, with stand-ins for what a test must not or cannot run.

Stand-ins check what they are given, as far as they can. All else on the pages is the program that a reader
has. Places of the system (`/etc`, `/var`, ...) are below a folder of the test, and `USER@ADDRESS` is another
folder.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
_SYSTEM = re.compile(r"(?<![\w./-])/(etc|var|usr/share|opt|srv|mnt|data)(?=/)")
_UNIT = """
for unit; do :; done
folder=$SYSTEM/etc/systemd/system
[[ $1 == daemon-reload || -f $folder/${unit%.service}.service || -f $folder/$unit ]]
"""
_PYTHON = """
case "$1 ${2:-}" in
  "-m venv")
    folder=${@: -1}; mkdir -p "$folder/bin"; cp "$STAND_INS"/* "$folder/bin"
    echo "PATH=$(realpath "$folder")/bin:\\$PATH" > "$folder/bin/activate" ;;
  "-m http.server") [[ -f index.html ]] ;;
  "-m pip") shift 2; "$STAND_INS/pip" "$@" ;;
  "-m benchmarks."*) "$REAL_PYTHON" "$@" --help ;;
  loopback.py*) "$REAL_PYTHON" "$@" --help ;;
  examples/make_photos.py*) [[ -f $1 ]] ;;
  *) exec "$REAL_PYTHON" "$@" ;;
esac
"""
_TOOL = """
program=("$REAL_PYTHON" -m qprompt_edge)
case $1 in adapt|bench|serve) if [[ $BACKBONE != small && $* != *--backbone* ]]; then
  set -- "$@" --backbone "$BACKBONE"
fi ;; esac
case "$1 ${2:-}" in
  export*) exec "${program[@]}" "$@" --help ;;
  "watch -") exec "${program[@]}" "$@" ;;
  "watch incoming") exec "${program[@]}" "$@" --once ;;
  watch*) exec "${program[@]}" watch "$CAMERA" "${@:3}" --once ;;
  bench*) exec "${program[@]}" "$@" --repeats 1 ;;
  predict*) exec "${program[@]}" "${@/#cuda/cpu}" ;;
  serve*)
    [[ ! -f served ]] || set -- "$@" --data elsewhere
    rm -f serving.json
    "${program[@]}" "$@" --port 0 > serving.json 2> serving.log &
    until [[ -s serving.json ]]; do kill -0 $! || { cat serving.log >&2; exit 1; }; sleep 0.05; done
    if [[ -f served ]]; then kill $!; wait $!; else
      grep -o 'http[^"]*' serving.json > served; echo $! > "$STAND_INS/ended"
    fi ;;
  reproduce*)
    if [[ $* == *--ray* ]]; then set -- "${@:1:$#-2}"; fi
    if [[ $* != *tools* ]]; then
      if said=$("${program[@]}" "$@" --backbone nowhere 2>&1); then exit 1; fi
      grep "no backbone 'nowhere'" <<< "$said" || { echo "$said" >&2; exit 1; }
    else
      exec "${program[@]}" "$@" --backbone "$BACKBONE" --shots 1 --epochs 1 --seeds 1
    fi ;;
  *) exec "${program[@]}" "$@" ;;
esac
"""
_PIP = """
case $1 in
  wheel) mkdir -p wheels; touch wheels/qprompt_edge-0.1.0-py3-none-any.whl; exit ;;
  download) [[ -f ${@: -1} ]]; exit ;;
esac
shift
for wanted; do
  case $wanted in
    nox|flwr*|-y|--no-deps|--no-index|--find-links|wheels|*.whl) ;;
    .) [[ -f pyproject.toml ]] ;;
    .\\[*\\]|qprompt-edge\\[*\\])
      extra=${wanted#*\\[}
      grep -q "^${extra%\\]} = \\[" "$PROJECT/pyproject.toml" ;;
    *) grep -q "^name = \\"$wanted\\"\\|^  \\"$wanted\\b" "$PROJECT/pyproject.toml" ;;
  esac || { echo "pip: what is $wanted?" >&2; exit 1; }
done
"""
_SCP = """
[[ -f $1 ]]
place=${2#*:}
cd "$DEVICE"
cp "$OLDPWD/$1" "${place:-.}"
"""
_SSH = """
cd "$DEVICE"
policy=$SYSTEM/etc/qprompt-edge/policy.json
[[ ! -f $policy ]] || export QPE_POLICY_FILE=$policy
"${@:2}"
"""
_CURL = """
set -- "${@//http:\\/\\/127.0.0.1:8423\\//$(cat served)}"
set -- "${@//JOB/$(cat job || true)}"
"$CURL" -fsS "$@" | tee answer
sed -n 's/.*"job":"\\([0-9a-f]*\\)".*/\\1/p' answer > found
[[ ! -s found ]] || mv found job
"""
_CC = """
[[ -f $1 ]]
echo 'cat "$@" > /dev/null' > "${@: -1}"
chmod +x "${@: -1}"
"""
_NPM = """
mkdir -p node_modules/onnxruntime-web/dist
touch node_modules/onnxruntime-web/dist/ort{.wasm.bundle.min.mjs,-wasm-simd-threaded.wasm}
"""
_MJPEG = 'cat "$CAMERA"/*.jpg'
_FILM = f"if [[ $* == *rawvideo* ]]; then head -c 1843200 /dev/zero; else {_MJPEG}; fi"
_ARTIFACT = '[[ -f $(sed "s/.*--file \\([^ ]*\\).*/\\1/" <<< "$*") ]]'

STAND_INS = {
    # name: (why it is not run, what stands in)
    "python": ("environments are the test's own; servers and benchmarks do not end", _PYTHON),
    "qprompt-edge": ("`watch` ends after its frames, `serve` with the page; what takes hours is read", _TOOL),
    "pip": ("needs a network; extras and requirements must be in pyproject.toml", _PIP),
    "nox": ("runs these tests", "[[ -f noxfile.py ]]"),
    "sudo": ("a test has no root's rights; the command runs without", 'exec "$@"'),
    "apt": ("needs a network and root", ""),
    "systemctl": ("systemd does not run here; the unit must be where it looks", _UNIT),
    "journalctl": ("as systemctl", f"set -- $2 {_UNIT}"),
    "sudoedit": ("a person edits; the file must be there", "[[ -f $1 ]]"),
    "nano": ("a person writes user and password", 'printf "belt\\nsecret\\n" > "$1"'),
    "scp": ("needs another machine; here a folder", _SCP),
    "ssh": ("needs another machine; here a folder", _SSH),
    "ffmpeg": ("needs a camera or a film", _FILM),
    "rpicam-vid": ("needs a Raspberry Pi's camera", _MJPEG),
    "mosquitto_sub": ("waits for ever", _MJPEG),
    "mosquitto_pub": ("test_fetch_sources.py speaks with a broker", "[[ $* != *--file* || -f ${@: -1} ]]"),
    "node_exporter": ("a server; the file that it reads must be there", 'cat "${1#*=}"/*.prom'),
    "gpioset": ("needs pins", "[[ $* == *=1 ]]"),
    "mender": ("test_mender.py runs the client, where it is", ""),
    "cc": ("test_bake_runtimes.py compiles it, where the headers are", _CC),
    "npm": ("needs a network", _NPM),
    "ray": ("test_ray.py starts a cluster, where it is installed", ""),
    "curl": ("the address and the job are the test's", _CURL),
    "mender-artifact": ("where it is missing", _ARTIFACT),
}
_ALIASES = {"python3": "python", "python3.11": "python"}
_ONLY_IF_MISSING = ("mender-artifact",)


def prepare(folder: Path) -> None:
    """Write the stand-ins beside the folder that the commands run in."""
    stand_ins = folder.parent / "stand-ins"
    stand_ins.mkdir()
    scripts = {name: script for name, (_why, script) in STAND_INS.items()}
    scripts |= {alias: scripts[name] for alias, name in _ALIASES.items()}
    for name, script in scripts.items():
        if name not in _ONLY_IF_MISSING or shutil.which(name) is None:
            (stand_ins / name).write_text(f"#!/bin/bash\nset -eo pipefail\n{script.strip()}\n")
            (stand_ins / name).chmod(0o755)
    for place in ("device", "camera", "system/etc/systemd/system"):
        (folder.parent / place).mkdir(parents=True)
    for place in ("var/lib/qprompt-edge", "var/lib/node_exporter", "srv/www", "usr/share/mender/modules/v3"):
        (folder.parent / "system" / place).mkdir(parents=True)


def command(block: str, places: dict[str, str]) -> str:
    """A block as bash reads it here; a script is one command."""
    for name, place in places.items():
        block = re.sub(rf"\b{re.escape(name)}\b", place, block)
    if block.startswith("#!"):
        return f"QPE_STATE=stone sh -c {shlex.quote(block)}\n"
    return block


def run(
    commands: list[str], folder: Path, places: dict[str, str] | None = None, backbone: str = "small"
) -> subprocess.CompletedProcess[str]:
    """All blocks in one shell, which stops at the first command that fails and shows each before it runs.

    Args:
        commands: Blocks of shell.
        folder: Where they run; `prepare` was called for it.
        places: What stands for the reader's own names.
        backbone: What `adapt` and what takes its time use in the place of `small`.
    """
    beside = folder.parent
    script = "".join(f"cd {folder}\n{command(block, places or {})}" for block in commands)
    script = _SYSTEM.sub(rf"{beside / 'system'}/\1", script)
    settings = {
        "PATH": f"{beside / 'stand-ins'}:{os.environ['PATH']}",
        "STAND_INS": str(beside / "stand-ins"),
        "CAMERA": str(beside / "camera"),
        "DEVICE": str(beside / "device"),
        "SYSTEM": str(beside / "system"),
        "PROJECT": str(ROOT),
        "CURL": shutil.which("curl") or "",
        "BACKBONE": backbone,
        "REAL_PYTHON": sys.executable,
        # as in this process, wherever the shell goes
        "PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in ("runtime", "exporters", "."))
        if "PYTHONPATH" in os.environ
        else "",
    }
    ends = "trap '[[ ! -f $STAND_INS/ended ]] || kill $(cat \"$STAND_INS/ended\")' EXIT\n"
    return subprocess.run(
        ["bash", "-c", f"set -euxo pipefail\n{ends}{script}"],
        cwd=folder,
        env=os.environ | settings,
        capture_output=True,
        text=True,
    )
