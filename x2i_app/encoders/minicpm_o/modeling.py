"""MiniCPM-o 2.6 (openbmb/MiniCPM-o-2_6) without speech output and without remote code.

Module names match the keys of the original checkpoint, so that it loads unchanged.
"""

import re
from pathlib import Path

import torch
from accelerate import init_empty_weights
from torch import nn
from transformers import Cache, PreTrainedModel, Qwen2Model
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.modeling_utils import init

from x2i_app.encoders.minicpm_o.audio import AudioProjector, AudioTower, count_tokens
from x2i_app.encoders.minicpm_o.configuration import MiniCPMOConfig
from x2i_app.encoders.minicpm_o.vision import CrossAttention, Resampler, VisionTower
from x2i_app.encoders.weights import read_head
from x2i_app.load_lock import one_at_a_time

SPEECH_PREFIX = "tts."  # speech output, which is in the checkpoint but not used here
HEAD_KEY = "llm.lm_head.weight"


class LanguageModel(nn.Module):
    """Qwen2.5, and its head after `MiniCPMOModel.add_head`."""

    def __init__(self, config: MiniCPMOConfig):
        super().__init__()
        self.model = Qwen2Model(config)
        self.lm_head: nn.Linear | None = None


class MiniCPMOModel(PreTrainedModel):
    """Text, images and audio to the language model's hidden states and, after `add_head`, next-token logits."""

    config_class = MiniCPMOConfig
    config: MiniCPMOConfig
    input_modalities = ("text", "image", "audio")
    _supports_sdpa = True
    _no_split_modules = ("Qwen2DecoderLayer", "SiglipEncoderLayer", "WhisperEncoderLayer", "CrossAttention")
    _keys_to_ignore_on_load_unexpected = (f"^{re.escape(SPEECH_PREFIX)}", f"^{re.escape(HEAD_KEY)}$")

    def __init__(self, config: MiniCPMOConfig):
        super().__init__(config)
        vision, audio = config.vision_config, config.audio_config
        # transformers sets this for complete models only, and the vision tower is built from parts of one.
        vision._attn_implementation = config._attn_implementation
        self.llm = LanguageModel(config)
        self.vpm = VisionTower(vision, config.num_vision_layers)
        self.resampler = Resampler(config.query_num, config.hidden_size, vision.hidden_size)
        self.apm = AudioTower(audio, config.audio_chunk_length)
        self.audio_avg_pooler = nn.AvgPool1d(config.audio_pool_step)
        self.audio_projection_layer = AudioProjector(audio.d_model, config.hidden_size)
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.llm.model.embed_tokens

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.llm.model.embed_tokens = value

    def forward(
        self,
        input_ids: torch.Tensor,
        image_mask: torch.Tensor | None = None,
        audio_mask: torch.Tensor | None = None,
        pixel_values: list[torch.Tensor] | None = None,
        audio_features: torch.Tensor | None = None,
        audio_lengths: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool = False,
        output_hidden_states: bool = True,
        output_logits: bool = False,
    ) -> CausalLMOutputWithPast:
        """Hidden states (1, S, hidden_size) of all layers: embeddings first, the last layer after the final norm.

        input_ids: (1, S). image_mask, audio_mask: (1, S) bool, True at image and audio tokens.
        pixel_values: (3, H, W) each, normalized, sides multiples of the patch size. audio_features: (N, mels, T)
        log-mel spectrograms of up to 30 s, zero after audio_lengths (N,) frames.
        position_ids (1, S), past_key_values, use_cache, output_hidden_states: as in transformers.
        output_logits: also return logits (1, 1, vocabulary) of the next token; requires `add_head`.
        """
        embeds = self.get_input_embeddings()(input_ids)
        if pixel_values:
            images = self.embed_images([image.to(embeds) for image in pixel_values])
            embeds = embeds.masked_scatter(image_mask[..., None], images)
        if audio_features is not None:
            audios = self.embed_audios(audio_features.to(embeds), audio_lengths)
            embeds = embeds.masked_scatter(audio_mask[..., None], audios)
        output = self.llm.model(
            inputs_embeds=embeds,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            output_hidden_states=output_hidden_states,
        )
        return CausalLMOutputWithPast(
            logits=self.llm.lm_head(output.last_hidden_state[:, -1:]) if output_logits else None,
            past_key_values=output.past_key_values,
            hidden_states=output.hidden_states,
        )

    def embed_images(self, pixel_values: list[torch.Tensor]) -> torch.Tensor:
        """Embed images (3, H, W) to (images * query_num, hidden_size), in order."""
        patch = self.config.vision_config.patch_size
        embedded = []
        for batch in _batches_of_one_size(pixel_values, self.config.vision_batch_size):
            images = torch.stack(batch)
            rows, columns = (side // patch for side in images.shape[-2:])
            embedded.append(self.resampler(self.vpm(images), rows, columns).flatten(0, 1))
        return torch.cat(embedded)

    def embed_audios(self, audio_features: torch.Tensor, audio_lengths: torch.Tensor) -> torch.Tensor:
        """Embed audio to (tokens, hidden_size), all clips concatenated; arguments as in `forward`."""
        frames = self.audio_projection_layer(self.apm(audio_features, audio_lengths))
        tokens = self.audio_avg_pooler(frames.transpose(1, 2)).transpose(1, 2)
        counts = [count_tokens(length, self.config.audio_pool_step) for length in audio_lengths.tolist()]
        return torch.cat([audio[:count] for audio, count in zip(tokens, counts, strict=True)])

    @one_at_a_time
    def add_head(self) -> None:
        """Read the language-model head from the model's own checkpoint, if it is not loaded yet.

        Raises CheckpointError if the checkpoint has no head of the right shape.
        """
        if self.llm.lm_head is not None:
            return
        embedding = self.get_input_embeddings().weight
        weight = read_head(Path(self.config.name_or_path), (HEAD_KEY,), embedding)
        with init_empty_weights():
            head = nn.Linear(self.config.hidden_size, self.config.vocab_size, bias=False)
        head.weight = weight
        self.llm.lm_head = head

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Resampler):
            init.normal_(module.query, std=self.config.initializer_range)
            init.normal_(module.proj, std=self.config.hidden_size**-0.5)
        elif isinstance(module, CrossAttention):
            init.normal_(module.in_proj_weight, std=self.config.initializer_range)
            init.zeros_(module.in_proj_bias)


def _batches_of_one_size(images: list[torch.Tensor], max_size: int) -> list[list[torch.Tensor]]:
    """Group neighboring images of equal shape into batches of up to `max_size`, which need no padding and no mask."""
    batches: list[list[torch.Tensor]] = []
    for image in images:
        if batches and len(batches[-1]) < max_size and batches[-1][0].shape == image.shape:
            batches[-1].append(image)
        else:
            batches.append([image])
    return batches
