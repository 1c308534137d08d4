"""Text of the cartoon world, for training a tokenizer."""

import random
from collections.abc import Iterator

from x2i_app.miniature.edits import random_edit
from x2i_app.miniature.everyday import everyday_prompt
from x2i_app.miniature.languages import LANGUAGES
from x2i_app.miniature.scene import random_scene
from x2i_app.miniature.sentences import audio_sentence, describe


def corpus(n: int, seed: int = 0) -> Iterator[str]:
    """`n` texts: sentences and edit instructions in the six languages, and canonical answers.

    The same seed gives the same texts. Pairs of HELD_OUT occur, as a tokenizer must know all words.
    """
    rng = random.Random(seed)
    codes = tuple(LANGUAGES)
    for index in range(n):
        scene = random_scene(rng)
        language = codes[index % len(codes)]
        kind = rng.random()
        if kind < 0.15:
            yield everyday_prompt(rng, language).text
        elif kind < 0.3:
            yield random_edit(scene, rng).instruction(language, rng)
        elif kind < 0.4:
            yield describe(scene)
        elif kind < 0.42:
            yield audio_sentence(scene)
        else:
            yield describe(scene, language, rng)
