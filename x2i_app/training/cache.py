"""What frozen models make of every caption, computed once and kept on the disk.

Shards of some captions each are written under a temporary name and then renamed, so that a process killed at any moment
leaves whole shards, and the next one goes on after them. A shard carries the fingerprint of what it was made from and
is made again when that changes.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm.auto import tqdm

from x2i_app.errors import TrainingError

Compute = Callable[[Sequence[str]], Sequence[dict[str, torch.Tensor]]]

_SAMPLES = 256  # values of a weight that go into a fingerprint


class CaptionCache:
    """Named tensors of every caption: cache[i] is a dictionary, in the captions' order.

    directory: where the shards are. fingerprint: of everything but the captions that the tensors depend on.
    shard_size: captions a shard.
    """

    def __init__(self, directory: Path, captions: Sequence[str], fingerprint: str, shard_size: int):
        self.directory = directory
        self.captions = list(captions)
        self.fingerprint = fingerprint
        self.shard_size = shard_size
        self._open: dict[int, Any] = {}

    def fill(self, compute: Compute, title: str) -> None:
        """Compute the shards that are missing, each process its share. compute: one dictionary of tensors a caption.

        Raises TrainingError if the disk does not take them, and what `compute` raises.
        """
        self._open.clear()
        self.directory.mkdir(parents=True, exist_ok=True)
        process = PartialState()
        missing = [shard for shard in range(self._count()) if not self._is_complete(shard)]
        process.wait_for_everyone()  # before one of them writes, so that all share the same work
        ours = missing[process.process_index :: process.num_processes]
        silent = not ours or not process.is_main_process
        for shard in tqdm(ours, desc=title, unit="shard", disable=silent, dynamic_ncols=True):
            rows = compute(self._captions(shard))
            self._write(shard, {f"{place}.{name}": t for place, row in enumerate(rows) for name, t in row.items()})
        process.wait_for_everyone()

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        shard, place = divmod(index, self.shard_size)
        file, names = self._read(shard)
        return {name: file.get_tensor(f"{place}.{name}") for name in names}

    def sizes(self, name: str, dim: int) -> list[int]:
        """How long one dimension of a tensor is, for every caption; no tensor is read for that."""
        found = []
        for index in range(len(self)):
            shard, place = divmod(index, self.shard_size)
            found.append(self._read(shard)[0].get_slice(f"{place}.{name}").get_shape()[dim])
        return found

    def __getstate__(self):
        return self.__dict__ | {"_open": {}}  # every process opens files of its own

    def _count(self) -> int:
        return -(-len(self.captions) // self.shard_size)

    def _captions(self, shard: int) -> list[str]:
        return self.captions[shard * self.shard_size : (shard + 1) * self.shard_size]

    def _path(self, shard: int) -> Path:
        return self.directory / f"{shard:05d}.safetensors"

    def _mark(self, shard: int) -> str:
        return hashlib.sha256(json.dumps([self.fingerprint, self._captions(shard)]).encode()).hexdigest()

    def _is_complete(self, shard: int) -> bool:
        try:
            with safe_open(self._path(shard), framework="pt") as file:
                return (file.metadata() or {}).get("made_from") == self._mark(shard)
        except (OSError, SafetensorError):
            return False

    def _write(self, shard: int, tensors: dict[str, torch.Tensor]) -> None:
        path = self._path(shard)
        temporary = path.with_suffix(".tmp")
        tensors = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
        try:
            save_file(tensors, temporary, metadata={"made_from": self._mark(shard)})
            temporary.replace(path)
        except (OSError, SafetensorError) as error:
            temporary.unlink(missing_ok=True)
            raise TrainingError(
                f"{path} cannot be written ({str(error).splitlines()[0]}); make room and start again to go on."
            ) from error

    def _read(self, shard: int) -> tuple[Any, list[str]]:
        """An open shard and the names of what it holds of each caption."""
        if shard not in self._open:
            file = safe_open(self._path(shard), framework="pt")
            names = [key.removeprefix("0.") for key in file.keys() if key.startswith("0.")]  # noqa: SIM118 (no dict)
            self._open[shard] = file, names
        return self._open[shard]


def fingerprint(*parts: Any) -> str:
    """A hash of modules, by some values of every weight, and of other things, by their `repr`."""
    digest = hashlib.sha256()
    for part in parts:
        if not isinstance(part, torch.nn.Module):
            digest.update(repr(part).encode())
            continue
        for name, weight in part.state_dict().items():
            digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
            flat = weight.detach().flatten()
            some = flat[:: max(1, len(flat) // _SAMPLES)][:_SAMPLES]
            digest.update(some.float().cpu().numpy().tobytes())
    return digest.hexdigest()
