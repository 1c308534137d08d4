"""Everyday wording: descriptions and changes as people type them, in six languages, with what they mean.

prompt = everyday_prompt(random.Random(0))          # text and meaning
change = everyday_change(prompt.meaning, random.Random(0))
"""

from x2i_app.miniature.everyday.changes import everyday_change
from x2i_app.miniature.everyday.prompts import CODES, WORDINGS, Prompt, everyday_prompt

__all__ = ["CODES", "WORDINGS", "Prompt", "everyday_change", "everyday_prompt"]
