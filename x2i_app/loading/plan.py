"""How much memory a pipeline needs with each memory profile, computed on the meta device before anything is loaded."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import nn
from transformers import PreTrainedModel

from x2i_app.errors import InvalidRequestError
from x2i_app.loading.quantization import scratch_bytes, stored_bytes
from x2i_app.loading.sizes import Parts, peak_bytes
from x2i_app.presets import MEMORY_PROFILES
from x2i_app.specs import MemoryProfile, Offload, Precision

GIB = 2**30
TEXT_TOKENS = 512  # the most that FLUX.1 reads
# Memory that CUDA takes beside tensors: its context, kernels, workspaces, and fragments of its allocator.
OVERHEAD = round(0.8 * GIB)
CONTEXT = round(0.3 * GIB)  # of that, the least that a context takes; a guess until it is measured on a card
# The profiles that "auto" tries without a card, the best first.
COMPUTER_PROFILES = ("cpu", "8gb")
# A card has a little less than its name says, and the desktop uses it too.
_USABLE = 0.95


@dataclass(frozen=True)
class PlannedPart:
    """A component of a pipeline. parameters: their number. precision: of its linear layers. bytes: of all weights."""

    name: str
    parameters: int
    precision: Precision
    bytes: int


@dataclass(frozen=True)
class MemoryPlan:
    """The memory that a pipeline needs to generate one image of `width` x `height` pixels.

    profile: a name of MEMORY_PROFILES. offload: where parts wait. parts: the components. peaks: the most bytes of
    weights and tensors in each phase: encode, denoise, decode, and, without a card, load. overhead: bytes that are
    added to each peak. waiting: bytes of weights that wait in the computer's memory. available: free bytes, None if
    unknown. advice: what to do if it does not fit. where: whose memory is planned. mapped: bytes of weights that stay
    in their files, mapped, and need no free memory; they are not in the peaks.
    """

    profile: str
    offload: Offload
    width: int
    height: int
    parts: tuple[PlannedPart, ...]
    peaks: dict[str, int]
    waiting: int
    available: int | None = None
    overhead: int = OVERHEAD
    advice: str = ""
    where: Literal["card", "computer"] = "card"
    mapped: int = 0

    @property
    def needed(self) -> int:
        """Bytes that must be free."""
        return max(self.peaks.values()) + self.overhead

    @property
    def fits(self) -> bool:
        """Whether they are; True if the free memory is unknown."""
        return self.available is None or self.needed <= self.available

    def as_dict(self) -> dict[str, Any]:
        """All fields and properties, for JSON."""
        return asdict(self) | {"needed": self.needed, "fits": self.fits}


def card_bytes(profile: MemoryProfile) -> int | None:
    """Free bytes of the kind of card that a profile is made for; None if it is for no particular card."""
    return None if profile.card is None else round(_USABLE * profile.card * GIB)


class Planner:
    """Makes plans for one set of parts on the meta device; results are kept for the next profile.

    references: images of the same size that FLUX reads beside the one that it draws.
    """

    def __init__(self, parts: Parts, width: int = 1024, height: int = 1024, references: int = 0):
        self.parts, self.references = parts, references
        self.width, self.height = width, height
        self._found: dict[Any, int] = {}

    def choose(self, name: str, available: int | None) -> MemoryPlan:
        """The first plan of a profile that fits, else the one that needs least.

        name: of MEMORY_PROFILES; "auto" tries the profiles in their order, each with its first offload.
        available: free bytes on the card; None takes the first plan.
        """
        if name == "auto":
            cards = [profile for profile in MEMORY_PROFILES.values() if profile.name != "cpu"]
            tries = [(profile, profile.offload[0]) for profile in cards]
            tries += [(cards[-1], offload) for offload in cards[-1].offload[1:]]
        else:
            profile = MEMORY_PROFILES[name]
            tries = [(profile, offload) for offload in profile.offload]
        for profile, offload in tries:
            plan = self.plan(profile, offload, available)
            if plan.fits:
                break
        return plan

    def advise(self, plan: MemoryPlan) -> str:
        """What to do about a plan that does not fit, best first, as the second half of a sentence."""
        if plan.mapped:  # every other profile has the weights in memory
            return "choose a smaller image, or close other programs"
        if plan.where == "computer":
            return self.advise_computer(plan.profile, plan.available)
        best = self.choose("auto", plan.available)
        if best.fits:
            return f"take the profile {best.profile}, which needs {best.needed / GIB:.1f} GiB"
        return (
            f"no profile needs less than {best.profile} with {best.needed / GIB:.1f} GiB; choose a smaller image, "
            "close other programs, or take the profile cpu"
        )

    def loading(self, profile: MemoryProfile) -> int:
        """The most bytes of weights in the computer's memory while a pipeline is loaded without a card.

        That is the MLLM before it is quantized, FLUX beside the quantized MLLM, or all parts once loaded.
        """
        whole = {name: self._stored(name, "full") for name in self.parts.present}
        mllm, flux = self._stored("mllm", profile.mllm), self._stored("transformer", profile.transformer)
        small = sum((whole | {"mllm": mllm, "transformer": flux}).values())
        return max(whole["mllm"], mllm + whole["transformer"], small)

    def loadable(self, name: str, free: int) -> MemoryProfile | None:
        """The profile that a computer without a card can load; None if `free` bytes are too few.

        name: of MEMORY_PROFILES; "auto" tries 32 bit, then 4 bit.
        """
        names = COMPUTER_PROFILES if name == "auto" else (name,)
        profiles = (MEMORY_PROFILES[each] for each in names)
        return next((profile for profile in profiles if self.loading(profile) <= free), None)

    def choose_for_computer(self, name: str, free: int) -> MemoryPlan:
        """The plan of the profile that a computer without a card can load, else of the smallest that was tried."""
        profile = self.loadable(name, free) or MEMORY_PROFILES[COMPUTER_PROFILES[-1] if name == "auto" else name]
        plan = self.plan(profile, "none", free)
        return replace(plan, where="computer", peaks={"load": self.loading(profile)} | plan.peaks)

    def choose_mapped(self, free: int | None) -> MemoryPlan:
        """The plan of a computer without a card that maps the weights of the MLLM and FLUX from their files."""
        plan = self.plan(MEMORY_PROFILES["cpu"], "none", free)
        mapped = sum(part.bytes for part in plan.parts if part.name in ("mllm", "transformer"))
        small = sum(part.bytes for part in plan.parts) - mapped
        peaks = {"load": small} | {phase: peak - mapped for phase, peak in plan.peaks.items()}
        return replace(plan, where="computer", peaks=peaks, mapped=mapped)

    def advise_computer(self, name: str, free: int | None) -> str:
        """What to do if the computer's memory is too small for a profile, as the second half of a sentence."""
        least = self.loading(MEMORY_PROFILES[COMPUTER_PROFILES[-1]])
        is_smaller = name not in ("auto", COMPUTER_PROFILES[-1]) and (free is None or least <= free)
        other = f"take the profile {COMPUTER_PROFILES[-1]}, which needs {least / GIB:.1f}, " if is_smaller else ""
        return f"{other}close other programs, or take a preset with a smaller MLLM"

    def plan(self, profile: MemoryProfile, offload: Offload, available: int | None = None) -> MemoryPlan:
        """The memory that a profile needs with this offload."""
        precisions = {"mllm": profile.mllm, "transformer": profile.transformer, "controlnet": profile.transformer}
        parts = {
            name: PlannedPart(
                name,
                sum(parameter.numel() for parameter in module.parameters()),
                precisions.get(name, "full"),
                self._stored(name, precisions.get(name, "full")),
            )
            for name, module in self.parts.present.items()
        }
        sizes = {name: part.bytes for name, part in parts.items()}
        peaks = self._peaks(sizes, profile, offload)
        waiting = 0 if offload == "none" else sum(sizes.values()) - self._always(sizes, offload)
        where = "computer" if profile.name == "cpu" else "card"
        return MemoryPlan(
            profile=profile.name,
            offload=offload,
            width=self.width,
            height=self.height,
            parts=tuple(parts.values()),
            peaks=peaks,
            waiting=waiting,
            available=available,
            where=where,
        )

    def _peaks(self, sizes: dict[str, int], profile: MemoryProfile, offload: Offload) -> dict[str, int]:
        work = {
            "mllm": self._encoding() + scratch_bytes(self.parts.mllm, profile.mllm),
            "align_net": self._aligning(),
            "transformer": self._denoising() + self._scratch(profile.transformer),
            "vae": self._decoding(profile.tile),
        }
        held = dict.fromkeys(work, self._always(sizes, offload))
        if offload == "model":
            # FLUX stays for the next image while the VAE decodes this one.
            running = {"vae": sizes["transformer"]}
            held = {name: count + running.get(name, sizes[name]) for name, count in held.items()}
        elif offload == "group":
            held["mllm"] += sizes["mllm"]
            held["transformer"] += self._two_blocks(profile.transformer)
        peak = {name: held[name] + work[name] for name in work}
        return {
            "encode": max(peak["mllm"], peak["align_net"]),
            "denoise": peak["transformer"],
            "decode": peak["vae"],
        }

    def _scratch(self, precision: Precision) -> int:
        """Bytes of the largest layer that is expanded in a step of denoising."""
        steered = (self.parts.transformer, self.parts.controlnet)
        return max(scratch_bytes(part, precision) for part in steered if part is not None)

    @staticmethod
    def _always(sizes: dict[str, int], offload: Offload) -> int:
        """Bytes of the parts that always stay on the card."""
        small = ("vae", "light_control", "controlnet")
        always = {"none": sizes, "model": small, "group": ("align_net", *small)}
        return sum(sizes.get(name, 0) for name in always[offload])

    def _stored(self, name: str, precision: Precision) -> int:
        return self._find((name, precision), lambda: stored_bytes(getattr(self.parts, name), precision))

    def _two_blocks(self, precision: Precision) -> int:
        """Bytes of FLUX's layers outside of its blocks, of the block that runs, and of the next one, being copied."""
        transformer = self.parts.transformer
        blocks = [
            stored_bytes(block, precision)
            for block in (*transformer.transformer_blocks, *transformer.single_transformer_blocks)
        ]
        return self._stored("transformer", precision) - sum(blocks) + 2 * max(blocks)

    def _find(self, key: Any, count: Callable[[], int]) -> int:
        if key not in self._found:
            self._found[key] = count()
        return self._found[key]

    def _run(self, key: Any, compute: Callable[[], Any], *modules: nn.Module | None) -> int:
        def run():
            with torch.no_grad():
                compute()

        return self._find(key, lambda: peak_bytes(run, filter(None, modules)))

    def _encoding(self) -> int:
        model = self.parts.mllm

        def prefill():
            decoder = _decoder(model)
            embeds = torch.empty(1, TEXT_TOKENS, decoder.config.hidden_size, dtype=model.dtype, device="meta")
            masks = dict.fromkeys(("full_attention", "sliding_attention"))  # given, so that none is built
            output = decoder(inputs_embeds=embeds, attention_mask=masks, output_hidden_states=True, use_cache=False)
            return torch.stack(output.hidden_states, dim=1)

        return self._run("encode", prefill, model)

    def _aligning(self) -> int:
        align_net = self.parts.align_net
        shape = (1, align_net.config.num_states, TEXT_TOKENS, align_net.config.hidden_size)
        return self._run("align", lambda: align_net(self._empty(align_net, *shape)), align_net)

    def _denoising(self) -> int:
        flux, steering = self.parts.transformer, self.parts.controlnet

        def step():
            stems, residuals = self._controlling()
            return flux(**self._inputs(flux, self.references), controlnet_block_samples=residuals), stems

        def steered_step():
            """The ControlNet runs first, and FLUX with what it returns. There is no reference then."""
            image, mode = self._controlnet_image(steering), None
            if steering.union:
                mode = torch.zeros(1, 1, dtype=torch.long, device="meta")
            double, single = steering(
                **self._inputs(steering), controlnet_cond=image, controlnet_mode=mode, return_dict=False
            )
            given = {"controlnet_block_samples": double, "controlnet_single_block_samples": single}
            return flux(**self._inputs(flux), **given), image

        needed = self._run("denoise", step, flux, self.parts.light_control)
        return needed if steering is None else max(needed, self._run("steered", steered_step, flux, steering))

    def _inputs(self, model: nn.Module, references: int = 0) -> dict[str, torch.Tensor | None]:
        """What FLUX or a ControlNet reads in a step."""
        config, tokens = model.config, (1 + references) * self._tokens
        return {
            "hidden_states": self._empty(model, 1, tokens, config.in_channels),
            "timestep": self._empty(model, 1),
            "guidance": self._empty(model, 1) if config.guidance_embeds else None,
            "pooled_projections": self._empty(model, 1, config.pooled_projection_dim),
            "encoder_hidden_states": self._empty(model, 1, TEXT_TOKENS, config.joint_attention_dim),
            "txt_ids": self._empty(model, TEXT_TOKENS, 3),
            "img_ids": self._empty(model, tokens, 3),
        }

    def _controlnet_image(self, controlnet: nn.Module) -> torch.Tensor:
        """As latents, or as pixels for a ControlNet that shrinks them itself."""
        if controlnet.input_hint_block is not None:
            return self._empty(controlnet, 1, 3, self.height, self.width)
        return self._empty(controlnet, 1, self._tokens, controlnet.config.in_channels)

    def _controlling(self) -> tuple[list[torch.Tensor], list[torch.Tensor] | None]:
        """LightControl's stems, computed once an image, and its residuals of one step; see models.LightControlHook."""
        control, count = self.parts.light_control, len(self.parts.transformer.transformer_blocks)
        if control is None:
            return [], None
        stems = control.stems(self._empty(control, 1, 3, self.height, self.width))
        residuals = control.residuals(stems, self._empty(control, 1))
        return stems, residuals + [torch.zeros_like(residuals[0])] * (count - len(residuals))

    def _decoding(self, tile: int) -> int:
        vae = self.parts.vae
        if max(self.width, self.height) <= tile:
            width, height = self.width, self.height
        else:
            width = height = tile
        shape = (1, vae.config.latent_channels, height // self._shrink, width // self._shrink)
        one = self._run(("decode", width, height), lambda: vae.decoder(self._empty(vae, *shape)), vae)
        if (width, height) == (self.width, self.height):
            return one
        return one + self._tiles(tile)

    def _tiles(self, tile: int) -> int:
        """Bytes of all decoded tiles, which overlap by a quarter, and of the image that they make."""
        vae, step = self.parts.vae, tile - tile // 4
        across, down = -(-self.width // step), -(-self.height // step)
        sides = [
            [sum(min(tile, length - i * step) for i in range(count)), length]
            for length, count in ((self.width, across), (self.height, down))
        ]
        areas = [width * height for width, height in zip(*sides, strict=True)]
        return sum(areas) * vae.config.out_channels * vae.dtype.itemsize

    @property
    def _tokens(self) -> int:
        side = 2 * self._shrink
        return (self.height // side) * (self.width // side)

    @property
    def _shrink(self) -> int:
        """Pixels of an image for one latent, along a side."""
        return 2 ** (len(self.parts.vae.config.block_out_channels) - 1)

    @staticmethod
    def _empty(module: nn.Module, *shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=module.dtype, device="meta")


def _decoder(model: nn.Module) -> PreTrainedModel:
    """The language model inside an MLLM, with or without a head: the deepest model that embeds tokens."""
    found = [
        module
        for module in model.modules()
        if isinstance(module, PreTrainedModel) and getattr(module, "embed_tokens", None) is not None
    ]
    if not found:
        raise InvalidRequestError(f"{type(model).__name__} contains no language model; its memory cannot be planned.")
    return found[-1]
