"""Several trainings, one after another, in each of the processes that `accelerate launch` starts.

launched.py FOLDER PORT ...: every .yaml file of the folder is a job's configuration, called as the job is; the order is
the alphabet's. For each of them the processes find each other anew, at a port of its own, as those of an earlier job
are still written down at the launcher's. No process but the first can write to the disk.
"""

import os
import resource
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from accelerate.state import AcceleratorState

from x2i_app.cli import main
from x2i_app.training import JOBS  # whose libraries look for a folder that they can write to

if __name__ == "__main__":
    if os.environ["RANK"] != "0":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    files = sorted(Path(sys.argv[1]).glob("*.yaml"))
    for file, port in zip(files, sys.argv[2:], strict=True):
        assert file.stem in JOBS
        os.environ |= {"MASTER_PORT": port, "TORCHELASTIC_USE_AGENT_STORE": "False"}
        if status := main(["train", file.stem, "--config", str(file)]):
            sys.exit(status)
        AcceleratorState._reset_state(reset_partial_state=True)
