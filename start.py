"""Install X2I Studio on the first start, run it, and open the page: what the start-* scripts and Pinokio call.

It needs nothing but Python 3.11 to 3.13. Everything is installed into the folder .venv beside this file; delete that
folder to install again. --no-browser opens no page; all other arguments are the app's, such as --preset NAME.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import venv
import webbrowser
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
INSTALLED = ENVIRONMENT / "x2i-requirements.sha256"
_NO_BROWSER = "--no-browser"
OLDEST, NEWEST = (3, 11), (3, 13)
# PyPI's PyTorch for Windows runs on the CPU only.
CUDA_ON_WINDOWS = "https://download.pytorch.org/whl/cu128"


def main(arguments: list[str]) -> int:
    """Install what is missing and run the app until it ends; its exit status."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        found = ".".join(map(str, sys.version_info[:2]))
        return _fail(f"This is Python {found}; X2I needs 3.11, 3.12 or 3.13 from https://www.python.org/downloads/")
    try:
        install()
    except (OSError, subprocess.CalledProcessError) as error:
        hint = "On Debian and Ubuntu, run: sudo apt install python3-venv" if sys.platform == "linux" else ""
        return _fail(f"The installation failed ({error}). Look at the messages above, then start again. {hint}")
    return run(arguments)


def install() -> None:
    """Make the environment and install the requirements, unless exactly these are installed. Raises OSError."""
    requirements = ROOT / "requirements.txt"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if INSTALLED.is_file() and INSTALLED.read_text(encoding="ascii") == digest and _runs("-c", ""):
        return
    print("X2I Studio is being installed: 6.5 GB, some minutes. The next start takes seconds.", flush=True)
    if not _runs("-m", "pip", "--version"):  # a first start was interrupted, or the Python it took has been removed
        venv.create(ENVIRONMENT, with_pip=True, clear=ENVIRONMENT.exists())
    pip = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check"]
    if os.name == "nt" and shutil.which("nvidia-smi"):
        subprocess.run([*pip, "torch>=2.9", "torchvision>=0.24", "--index-url", CUDA_ON_WINDOWS], check=True)
    subprocess.run([*pip, "-r", str(requirements)], check=True)
    INSTALLED.write_text(digest, encoding="ascii")


def run(arguments: list[str]) -> int:
    """Run the app, show what it prints, and open its page; its exit status."""
    opened = _NO_BROWSER in arguments
    command = [str(PYTHON), str(ROOT / "app.py"), *(each for each in arguments if each != _NO_BROWSER)]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8:backslashreplace", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, encoding="utf-8") as app:
        try:
            for row in app.stdout:
                print(row, end="", flush=True)
                address = re.search(r"https?://\S+", row)
                if address and not opened:
                    opened = True
                    webbrowser.open(address[0])
        except KeyboardInterrupt:  # the app has got it too, and ends
            pass
        return app.wait()


def _runs(*arguments: str) -> bool:
    """Whether the environment's Python is there and runs these."""
    try:
        return subprocess.run([str(PYTHON), *arguments], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _fail(message: str) -> int:
    print(f"x2i: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
