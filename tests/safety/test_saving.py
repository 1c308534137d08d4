"""R9 and R10 of SECURITY.md: a checkpoint is whole or not there, whenever the process is killed or the disk is full."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT

# In a process of its own, which forks while torch has no threads yet. A limit on the size of files stands for the full
# disk: `write` fails alike, and nobody needs the right to mount one.
SCRIPT = """
import json, os, random, resource, signal, sys, time
from pathlib import Path
import torch
from x2i_app.errors import TrainingError
from x2i_app.training.checkpoints import newest_checkpoint, prune_checkpoints, save_checkpoint

class Part:
    def __init__(self, value, size=400_000):
        self.value, self.size = float(value), size
    def state_dict(self):
        return {"numbers": torch.full((self.size,), self.value)}

directory, chance, whole, half = Path(sys.argv[1]), random.Random(0), 0, 0
save_checkpoint(directory, 1, {"part": Part(1)})
for _ in range(50):
    step = newest_checkpoint(directory)[0]
    child = os.fork()
    if child == 0:
        while True:
            step += 1
            save_checkpoint(directory, step, {"part": Part(step)})
    time.sleep(chance.uniform(0.001, 0.04))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    half += any(directory.glob("tmp-*"))
    found, state = newest_checkpoint(directory)
    newest = max(int(folder.name.split("-")[1]) for folder in directory.glob("step-*"))
    whole += found == newest and found >= step and bool((state["part"]["numbers"] == found).all())
    prune_checkpoints(directory, 2)

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
before, said = sorted(directory.iterdir()), []
for attempt in range(10):
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000 + 77_777 * attempt, resource.RLIM_INFINITY))
    try:
        save_checkpoint(directory, found + 1, {"part": Part(2, 1_000_000)})
    except TrainingError as error:
        said.append(str(error))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
kept = sorted(directory.iterdir()) == before and newest_checkpoint(directory)[0] == found
print(json.dumps({"whole": whole, "half": half, "said": said, "kept": kept}))
"""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """What the script counted."""
    command = [sys.executable, "-c", SCRIPT, str(tmp_path_factory.mktemp("checkpoints"))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_r9_fifty_kills_while_saving_leave_fifty_whole_checkpoints(outcome):
    assert outcome["whole"] == 50
    assert outcome["half"] > 0  # some were in the middle of it


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on file sizes")
def test_r10_a_disk_that_takes_no_more_keeps_the_old_checkpoint_and_says_so(outcome):
    assert outcome["kept"]
    assert len(outcome["said"]) == 10
    assert all("cannot be written" in said and "earlier ones are kept" in said for said in outcome["said"])
