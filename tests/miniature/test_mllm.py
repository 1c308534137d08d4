"""What the miniature's MLLM is trained on is, to the number, what its encoder will read."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast, Qwen2_5OmniThinkerForConditionalGeneration

from x2i_app.encoders import load_encoder
from x2i_app.miniature import conversations, mllm
from x2i_app.miniature.audio_pool import RATE, SECONDS, audio_pool, hear
from x2i_app.miniature.batches import ConversationBatches, EverydayBatches, collate, shoot
from x2i_app.miniature.conversations import SHOWN, TOLD, Exchange, Shown, Source, typed
from x2i_app.miniature.mllm import Learner, train_mllm
from x2i_app.miniature.models import build_mllm
from x2i_app.miniature.reading import reading
from x2i_app.miniature.world import audio, draw_scene, screenshot, sounding, video
from x2i_app.presets import PRESETS
from x2i_app.request import Turn
from x2i_app.settings import ASSETS
from x2i_app.training.loop import LoopOptions

SPEC = PRESETS["x2i-tiny"].encoding
TOKENIZER = PreTrainedTokenizerFast.from_pretrained(ASSETS / "x2i-tiny" / "processor")
SIDE = int(SPEC.max_video_pixels**0.5)


@pytest.fixture(scope="module")
def encoder():
    return load_encoder("qwen2.5-omni", ASSETS / "x2i-tiny" / "mllm", spec=SPEC)


@pytest.fixture(scope="module")
def audio_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sounds")


@pytest.fixture(scope="module")
def audios(encoder, audio_folder):
    return audio_pool(audio_folder, 100, encoder.processor.feature_extractor, processes=1)


def batches(encoder, audios, text_size, media_size, reading_steps=0, basic_steps=9, seed=0):
    sizes = (text_size, media_size, reading_steps, basic_steps)
    return ConversationBatches(encoder.processor, SPEC, audios, *sizes, seed=seed)


def media(shown):
    """A medium as a user would hand it over: in the size in which it is trained, so that nothing is resampled."""
    if shown.kind == "screenshot":
        return screenshot(shown.text, 128, shown.seed)
    if shown.kind == "image":
        return draw_scene(shown.scene, 128, shown.time, shown.seed)
    if shown.kind == "video":
        return video(shown.scene, 4, 1, SIDE, shown.seed)
    return audio(shown.scene, SECONDS, RATE, shown.seed), RATE


def turns(dialogue):
    kinds = {"image": "images", "screenshot": "images", "video": "videos", "audio": "audios"}
    made = []
    for exchange in dialogue:
        fields = {"images": [], "videos": [], "audios": []}
        for shown in exchange.shown:
            fields[kinds[shown.kind]].append(media(shown))
        made.append(Turn(exchange.text, **fields, answer=exchange.answer))
    return made


@pytest.mark.parametrize("kind", [*TOLD, *SHOWN, typed], ids=lambda kind: kind.__name__)
def test_training_reads_what_the_encoder_reads(encoder, kind):
    dialogue = kind(Source("train"), random.Random(5))
    said = turns(dialogue)
    shown = [shown for exchange in dialogue for shown in exchange.shown]
    images = [media(s) for s in shown if s.kind in ("image", "screenshot")]
    videos = [media(s)[0] for s in shown if s.kind == "video"]
    features = [hear(encoder.processor.feature_extractor, media(s)[0]) for s in shown if s.kind == "audio"]
    trained = collate(encoder.processor, SPEC, [dialogue], images, videos, features)
    asked = [*said[:-1], Turn(said[-1].prompt, said[-1].images, said[-1].videos, said[-1].audios)]
    read = encoder._tokenize(encoder._build_conversation(asked))
    length = read["input_ids"].shape[1]
    assert torch.equal(trained["input_ids"][:, :length], read["input_ids"])
    for name in ("pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw", "video_second_per_grid"):
        assert (name in trained) == (name in read)
        if name in read:
            torch.testing.assert_close(torch.as_tensor(trained[name]), torch.as_tensor(read[name]))
    if "input_features" in read:
        heard = read["input_features"][..., : trained["input_features"].shape[-1]]
        torch.testing.assert_close(trained["input_features"], heard, atol=2e-3, rtol=0)  # kept in half precision
        assert trained["feature_attention_mask"].sum() == read["feature_attention_mask"].sum()
    # What follows the question is the answer, and only answers are learnt, each with the token that ends it.
    rest = encoder.processor.tokenizer.decode(trained["input_ids"][0, length:])
    assert rest == dialogue[-1].answer + "<|im_end|>\n"
    learnt = encoder.processor.tokenizer.decode(trained["input_ids"][0][trained["answer_mask"][0]])
    assert learnt == "".join(exchange.answer + "<|im_end|>" for exchange in dialogue)


def test_batches_are_a_function_of_the_step_and_padded_on_the_right(encoder, audios):
    data = batches(encoder, audios, 6, 2, seed=3)
    first, again = data[7], data[7]
    assert len(first) == 3
    for a, b in zip(first, again, strict=True):
        plain, plain_again = a.pop("plain"), b.pop("plain")
        for one, other in ((a, b), (plain, plain_again)):
            assert one.keys() == other.keys()
            assert all(torch.equal(torch.as_tensor(one[name]), torch.as_tensor(other[name])) for name in one)
        assert not (a["answer_mask"] & (a["attention_mask"] == 0)).any()
        assert (a["attention_mask"].diff() <= 0).all()
        assert a["answer_mask"].any(dim=1).all()
    assert not torch.equal(data[7][0]["input_ids"][:, :8], data[8][0]["input_ids"][:, :8])


def test_a_batch_is_of_one_kind_and_has_few_screenshots(encoder, audios):
    data = batches(encoder, audios, 6, 8)
    turns = []
    for step in range(8):
        told, typed, other = data[step]
        assert [len(batch["input_ids"]) for batch in (told, typed, other)] == [6, 2, 8]
        for batch in (told, other):
            begun = batch["answer_mask"].int().diff(dim=1).eq(1).sum(1)  # an answer begins, in each conversation
            assert begun.unique().numel() == 1
            turns.append(begun[0].item())
    assert set(turns) == {1, 3}


def test_everyday_batches(encoder, audios):
    """Text in every step, screenshots and media in some; no batch of text is padded much."""
    data = EverydayBatches(encoder.processor, SPEC, audios, 6, 4, 0, 3, seed=1)
    assert [len(data[step]) for step in range(6)] == [3, 1, 1, 3, 1, 1]
    assert ["plain" in data[step][0] for step in range(6)] == [True, False, False, True, False, False]
    assert [len(batch["input_ids"]) for batch in data[3]] == [6, 1, 4]
    assert torch.equal(data[4][0]["input_ids"], data[4][0]["input_ids"])
    texts = [data[step][0] for step in range(12)]
    assert len({tuple(row.tolist()) for batch in texts for row in batch["input_ids"]}) > 60
    assert sum(batch["attention_mask"].sum() for batch in texts) > 0.8 * sum(b["input_ids"].numel() for b in texts)


def test_media_of_devices(encoder, audios):
    """A share of the media is as devices deliver them; what is asked and answered stays."""
    data = [EverydayBatches(encoder.processor, SPEC, audios, 2, 6, 0, 1, devices=share) for share in (0.0, 1.0)]
    changed = set()
    for kind in (conversations.image, conversations.video, conversations.audio):
        rng = random.Random(3)
        dialogues = [kind(data[0]._source, rng) for _ in range(4)]
        for seed in range(6):
            made, delivered = (each._batch(dialogues, random.Random(seed)) for each in data)
            changed |= {name for name in made if name != "plain" and not _equal(made, delivered, name)}
            answers = [batch["input_ids"][batch["answer_mask"]] for batch in (made, delivered)]
            assert torch.equal(*answers)
    assert changed >= {"pixel_values", "pixel_values_videos", "video_second_per_grid", "input_features"}


def _equal(one, other, name):
    return one[name].shape == other[name].shape and torch.equal(one[name], other[name])


def test_long_and_short_videos_are_sampled_as_the_encoder_does(encoder):
    """20 seconds at 2 frames/s: 8 frames, 2.5 s apart, of which two make a step in time."""
    frames = np.zeros((40, 96, 96, 3), np.uint8)
    read = encoder._tokenize(encoder._build_conversation([Turn("", videos=[(frames, 2)])]))
    shown = Shown("video", Source().scene(random.Random(1)), 3, 0.0)
    dialogue = (Exchange("", (shown,), "on grass by day", None),)
    shot = shoot(shown, 8, SPEC, random.Random(2), 0.0, 0.4)
    trained = collate(encoder.processor, SPEC, [dialogue], [], [shot], [], 0.4)
    assert torch.equal(trained["video_grid_thw"], torch.as_tensor(read["video_grid_thw"]))
    torch.testing.assert_close(trained["video_second_per_grid"], torch.as_tensor(read["video_second_per_grid"]))


def test_media_go_from_the_basic_conversations_to_all(encoder, audios):
    """Which have words beside the media, several media, or several turns."""
    data = batches(encoder, audios, 1, 1, reading_steps=2, basic_steps=1000)
    assert len(data[1]) == 1, "reading comes first"
    mixed = [sum(_is_mixed(encoder, data[first + step][2]) for step in range(30)) for first in (2, 1002)]
    assert mixed[0] <= 2
    assert mixed[1] >= 15


def _is_mixed(encoder, batch):
    asked = encoder.processor.tokenizer.decode(batch["input_ids"][0]).split("<|im_start|>user\n")[1:]
    text = asked[0].split("<|im_end|>")[0].split("eos|>")[-1]
    return len(asked) > 1 or bool(text) or len(batch.get("image_grid_thw", ())) > 1


def test_a_pool_of_audios_is_what_would_be_heard_of_each(encoder, audios, audio_folder):
    extractor = encoder.processor.feature_extractor
    made = [path.stat().st_mtime_ns for path in sorted(audio_folder.iterdir())]
    assert np.array_equal(audios.features, audio_pool(audio_folder, 100, extractor).features)
    assert [path.stat().st_mtime_ns for path in sorted(audio_folder.iterdir())] == made, "nothing was made twice"
    recipe = audios.recipes[17]
    assert np.array_equal(audios.features[17], hear(extractor, audio(recipe.scene, SECONDS, RATE, recipe.seed)))
    voiced, unvoiced = audios.by_voice
    assert len(voiced) + len(unvoiced) == 100
    assert all(sounding(recipe.scene).kinds for recipe in voiced)
    assert not any(sounding(recipe.scene).kinds for recipe in unvoiced)


def test_every_conversation_has_its_last_answer_asked_for_plainly(encoder, audios):
    decode = encoder.processor.tokenizer.decode
    for batch in batches(encoder, audios, 8, 2, reading_steps=2)[5]:
        plain = batch["plain"]
        for asked, mask, ids, answers in zip(
            plain["input_ids"], plain["answer_mask"], batch["input_ids"], batch["answer_mask"], strict=True
        ):
            answer = decode(asked[mask])
            assert decode(ids[answers]).endswith(answer)
            assert decode(asked).startswith(f"<|im_start|>user\n {answer}\n<|im_start|>assistant\n{answer}")


def test_the_eyes_learn_to_read_before_the_rest_learns_anything(encoder, audios, tmp_path):
    mllm = build_mllm(TOKENIZER)
    before = {name: weight.clone() for name, weight in mllm.state_dict().items()}

    def changed():
        weights = mllm.state_dict()
        return {name.split(".")[1] for name in before if not weights[name].equal(before[name])}

    data = batches(encoder, audios, 2, 2, reading_steps=2)
    assert [len(data[step]) for step in range(3)] == [1, 1, 3]
    options = LoopOptions(steps=3, warmup_steps=1, workers=0, ema_decay=None, mixed_precision="no")
    train_mllm(mllm, data, tmp_path, replace(options, steps=2))
    assert changed() == {"visual"}
    train_mllm(mllm, data, tmp_path, options)
    assert changed() > {"visual", "language_model"}


def test_answers_are_not_taught_against_pairs_that_never_come(encoder, audios, monkeypatch):
    data = batches(encoder, audios, 6, 2)
    model = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(
        ASSETS / "x2i-tiny" / "mllm", dtype=torch.float32
    )
    learner, told = Learner(model, TOKENIZER), []
    losses = learner.unseen.losses

    def listen(logits, tokens, beside):
        told.append((logits.detach(), tokens, beside))
        return losses(logits, tokens, beside)

    monkeypatch.setattr(learner.unseen, "losses", listen)
    with torch.no_grad():
        terms = mllm._loss(learner, data[0])
    assert terms["unseen"] >= 0
    assert len(told) == 3
    for logits, tokens, beside in told:
        # An answer's words stand in a row, so that their neighbours there are those in the conversation.
        assert torch.equal(beside, learner.unseen.beside(tokens[None])[0])
        assert (beside >= 0).any()
        assert (logits.argmax(-1) == tokens).float().mean() > 0.9, "each logit is of the word beside it"


def test_a_screenshots_letters_are_where_their_ink_is():
    shown = Shown("screenshot", None, 3, text="große Bäume")
    found = reading(shown, TOKENIZER)["letters"].view(8, 16, 27)  # lines, columns, letters
    letters = sorted("abcdefghijklmnopqrstuvwxyzß"[index] for index in found.nonzero()[:, 2].tolist())
    assert letters == sorted("großebaume"), "without accents, each once"
    image = np.asarray(screenshot(shown.text, 128, shown.seed).convert("L")).astype(int)
    cells = image.reshape(8, 16, 16, 8).transpose(0, 2, 1, 3)
    inked = np.ptp(cells, axis=(2, 3)) > 60
    assert inked.tolist() == (found.sum(-1) > 0).tolist()


@pytest.mark.parametrize(
    "text", ["A red house", "Ein großes rotes Haus im Schnee, daneben eine Katze", "l'hiver\nune île"]
)
def test_a_screenshots_tokens_are_those_of_its_text_in_reading_order(text):
    found = reading(Shown("screenshot", None, 3, text=text), TOKENIZER)["tokens"]
    where = {token: found[:, token].nonzero().flatten().tolist() for token in found.sum(0).nonzero().flatten().tolist()}
    tokens = TOKENIZER(" ".join(text.split()))["input_ids"]
    visible = [token for token in tokens if TOKENIZER.decode(token).strip()]
    assert set(where) == set(visible)
    once = [token for token in visible if tokens.count(token) == 1]
    squares = [where[token][0] for token in once]
    assert squares == sorted(squares)
