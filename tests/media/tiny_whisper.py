"""A real Whisper, so small that it memorizes three clips of half a minute in a few seconds.

It transcribes a low tone as an English sentence, a high tone as a Chinese one, and noise as no speech.
"""

from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import whisper
from refusals import refuse
from whisper.model import ModelDimensions, TextDecoder, Whisper
from whisper.tokenizer import get_tokenizer

from x2i_app.errors import CheckpointError
from x2i_app.media.transcription import Transcriber, Transcript

RATE = 16_000
DIMS = {"n_mels": 80, "n_vocab": 51_865, "n_audio_ctx": 1500, "n_text_ctx": 448}
DIMS |= {f"n_{half}_{key}": n for half in ("audio", "text") for key, n in (("state", 32), ("head", 2), ("layer", 1))}
LARGE_V3 = {"n_mels": 128, "n_vocab": 51_866}  # the newest kind: finer spectrum, and Cantonese

ENGLISH, CHINESE = "A red circle over two small squares.", "一只蓝色的猫。"


def tone(frequency, seconds=30.0, amplitude=0.5, rate=RATE):
    return (amplitude * np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


LOW, HIGH = tone(300), tone(1200)
HISS = 0.1 * np.random.default_rng(0).standard_normal(30 * RATE).astype(np.float32)


def trained_whisper(**dims) -> Whisper:
    """A model trained on LOW, HIGH and HISS. Its encoder and all embeddings but those it outputs stay untrained.

    All other embeddings are zero, so their logits are zero and need not be computed.
    """
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # faster for so small a model
    model = Whisper(ModelDimensions(**DIMS | dims))
    tokens, spoken = None, []
    for language, text in (("en", ENGLISH), ("zh", CHINESE)):
        tokens = get_tokenizer(True, num_languages=model.num_languages, language=language, task="transcribe")
        text_ids = tokens.encode(" " + text)
        begin = tokens.timestamp_begin
        spoken.append([*tokens.sot_sequence, begin, *text_ids, begin + 1500, tokens.eot])
    known = sorted({tokens.no_speech, *spoken[0], *spoken[1]})
    rows = {token: row for row, token in enumerate(known)}
    spoken = [torch.tensor([rows[token] for token in sentence]) for sentence in spoken]
    no_speech = rows[tokens.no_speech]

    decoder = TextDecoder(len(known), 448, 32, 2, 1)
    decoder.positional_embedding.data.normal_(std=0.1)
    others = torch.tensor(float(model.dims.n_vocab - len(known))).log()
    with torch.no_grad():
        mels = [whisper.log_mel_spectrogram(audio, model.dims.n_mels) for audio in (LOW, HIGH, HISS)]
        features = model.encoder(torch.stack(mels))

    def logprobs(heard, sentence):
        logits = decoder(sentence[None], features[heard : heard + 1])[0]
        return torch.cat((logits, others.expand(len(logits), 1)), dim=1).log_softmax(-1)

    optimizer = torch.optim.Adam(decoder.parameters(), lr=1e-2)
    for _ in range(120):
        loss = sum(torch.nn.functional.nll_loss(logprobs(heard, s[:-1]), s[1:]) for heard, s in enumerate(spoken))
        # The noise has no speech, and after any text, all tokens are equally likely.
        said = torch.cat((spoken[0][:4], torch.randint(len(known), (10,))))
        hiss = logprobs(2, said)
        loss = loss - hiss[0, no_speech] - hiss[1:, -1].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.set_num_threads(threads)
    weights = decoder.state_dict()
    embedding = torch.zeros(model.dims.n_vocab, 32)
    embedding[known] = weights["token_embedding.weight"]
    model.decoder.load_state_dict(weights | {"token_embedding.weight": embedding})
    return model


def save(path, model):
    """Save in the format of OpenAI's files, in float16."""
    weights = {key: value.half() for key, value in model.state_dict().items()}
    torch.save({"dims": vars(model.dims), "model_state_dict": weights}, path)
    return path


@cache
def trained_checkpoint() -> bytes:
    """The file of that model, trained once per process."""
    with TemporaryDirectory() as folder:
        return save(Path(folder) / "tiny_speech.pt", trained_whisper()).read_bytes()


def hear(path, **options) -> Transcript:
    """The transcript of the low tone by a newly loaded Whisper."""
    return Transcriber(path, **options).transcribe((LOW, RATE))


refused_checkpoint = partial(refuse, CheckpointError)
