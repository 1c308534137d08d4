"""Edits of scenes: what an instruction can ask for, and the scene that results."""

import random
from dataclasses import dataclass, replace

from x2i_app.errors import InvalidRequestError
from x2i_app.miniature.languages import Change, Pick, SaidThing
from x2i_app.miniature.languages.base import finish
from x2i_app.miniature.scene import (
    COLOURS,
    GROUNDS,
    HELD_OUT,
    KINDS,
    NATURAL_COLOURS,
    NATURAL_SIZE,
    PLACES,
    SIZES,
    SKIES,
    Scene,
    Split,
    Thing,
    validate_word,
)
from x2i_app.miniature.sentences import UNSAID, language_of

ACTIONS = ("sky", "ground", "colour", "size", "swap", "move", "add", "remove")
_VALUES = {"sky": SKIES, "ground": GROUNDS, "colour": COLOURS, "size": SIZES, "swap": KINDS, "move": PLACES}
_FIELDS = {"colour": "colour", "size": "size", "swap": "kind", "move": "place"}  # of the target


@dataclass(frozen=True)
class Edit:
    """One change. Which fields are set depends on the action:

    sky, ground: value. colour, size, swap (another kind), move (another place): target and value. remove: target.
    add: addition. `told_by`: the attributes ("colour", "place") that an instruction must name to distinguish the target
    from another thing of its kind. Raises InvalidRequestError for anything else.
    """

    action: str
    value: str | None = None
    target: Thing | None = None
    addition: Thing | None = None
    told_by: tuple[str, ...] = ()

    def __post_init__(self):
        validate_word("action", self.action, ACTIONS)
        if self.action in _VALUES:
            validate_word(f"value of '{self.action}'", self.value, _VALUES[self.action])
        elif self.value is not None:
            raise InvalidRequestError(f"value is {self.value!r}; '{self.action}' takes none.")
        for name, expected in (
            ("target", self.action in (*_FIELDS, "remove")),
            ("addition", self.action == "add"),
        ):
            if isinstance(getattr(self, name), Thing) != expected:
                article = "a Thing" if expected else "None"
                raise InvalidRequestError(f"{name} is {getattr(self, name)!r}; '{self.action}' needs {article}.")

    def apply(self, scene: Scene) -> Scene:
        """The edited scene. Raises InvalidRequestError if the edit does not fit, for example without its target."""
        if self.action in ("sky", "ground"):
            return replace(scene, **{self.action: self.value})
        if self.action == "add":
            return replace(scene, things=(*scene.things, self.addition))
        if self.target not in scene.things:
            raise InvalidRequestError(f"target is {self.target!r}; the scene has only {scene.things!r}.")
        others = tuple(thing for thing in scene.things if thing != self.target)
        if self.action == "remove":
            return replace(scene, things=others)
        changed = replace(self.target, **{_FIELDS[self.action]: self.value})
        return replace(scene, things=(*others, changed))

    def instruction(self, language: str = "en", rng: random.Random | None = None) -> str:
        """The edit as an instruction in en, zh, de, fr, ja or vi. rng: picks the wording; None: the canonical one."""
        pick = Pick(rng)
        speaker = language_of(language)
        change = Change(self.action, self._said_target(pick), self.value, self._said_addition(pick))
        return finish(speaker.instruct(change, pick), speaker, pick)

    def _said_target(self, pick):
        if self.target is None:
            return None
        said = {name: getattr(self.target, name) for name in self.told_by}
        # Users sometimes say more than is necessary.
        if "colour" not in said and pick.chance(0.2):
            said["colour"] = self.target.colour
        return SaidThing(self.target.kind, **said)

    def _said_addition(self, pick):
        thing = self.addition
        if thing is None:
            return None
        natural = thing.colour == NATURAL_COLOURS[thing.kind]
        colour = None if natural and pick.chance(UNSAID) else thing.colour
        size = None if thing.size == NATURAL_SIZE and pick.chance(UNSAID) else thing.size
        return SaidThing(thing.kind, colour, thing.place, size)


def possible_actions(scene: Scene) -> tuple[str, ...]:
    """The actions that this scene allows: nothing can be added to a full scene, and its last thing must stay."""
    impossible = set()
    if not scene.free_places:
        impossible |= {"move", "add"}
    if len(scene.things) == 1:
        impossible.add("remove")
    return tuple(action for action in ACTIONS if action not in impossible)


def random_edit(
    scene: Scene, rng: random.Random, *, split: Split | None = None, actions: tuple[str, ...] = ACTIONS
) -> Edit:
    """A random edit: its action is uniform over the possible ones, then its other fields are chosen.

    split: with "train", the edited scene has no new pair of HELD_OUT. actions: choose only from these.
    Raises InvalidRequestError if none of them is possible.
    """
    possible = [action for action in possible_actions(scene) if action in actions]
    if not possible:
        raise InvalidRequestError(f"actions are {actions!r}; this scene allows {', '.join(possible_actions(scene))}.")

    def allowed(kind, colour):
        return split != "train" or (kind, colour) not in HELD_OUT

    action = rng.choice(possible)
    if action in ("sky", "ground"):
        now = getattr(scene, action)
        return Edit(action, rng.choice([value for value in _VALUES[action] if value != now]))
    if action == "add":
        pairs = [(kind, colour) for kind in KINDS for colour in COLOURS if allowed(kind, colour)]
        return Edit(action, addition=Thing(*rng.choice(pairs), rng.choice(scene.free_places), rng.choice(SIZES)))
    target = rng.choice(scene.things)
    told_by = _distinction(target, scene, rng)
    if action == "remove":
        return Edit(action, target=target, told_by=told_by)
    values = {
        "colour": [c for c in COLOURS if c != target.colour and allowed(target.kind, c)],
        "size": [size for size in SIZES if size != target.size],
        "swap": [kind for kind in KINDS if kind != target.kind and allowed(kind, target.colour)],
        "move": list(scene.free_places),
    }[action]
    return Edit(action, rng.choice(values), target, told_by=told_by)


def _distinction(target, scene, rng):
    """Attributes that distinguish a thing from others of its kind: none if there is no other, else colour or place."""
    twins = [thing for thing in scene.things if thing != target and thing.kind == target.kind]
    if not twins:
        return ()
    if any(thing.colour == target.colour for thing in twins):
        return ("place",)
    return rng.choice((("colour",), ("place",)))
