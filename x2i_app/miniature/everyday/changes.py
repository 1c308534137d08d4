"""Changes in everyday wording: to an image that is shown, or to what came out of the turn before."""

import random
from dataclasses import replace

from x2i_app.miniature.everyday.base import NounPhrase
from x2i_app.miniature.everyday.noise import noisy
from x2i_app.miniature.everyday.own_wordings import is_own_wording
from x2i_app.miniature.everyday.prompts import (
    CODES,
    WORDINGS,
    Group,
    Prompt,
    name,
    random_group,
    setting,
    view,
)
from x2i_app.miniature.everyday.unknown import foreign_text
from x2i_app.miniature.meaning import Meaning
from x2i_app.miniature.scene import COLOURS, GROUNDS, HELD_OUT, KINDS, PLACES, SIZES, SKIES, Thing


def everyday_change(meaning: Meaning, rng: random.Random, code: str | None = None, unknown: float = 0.15) -> Prompt:
    """A change of `meaning`, and what then is meant. code, unknown: as in `everyday_prompt`.

    What cannot be done, as something is removed that is not there or there is no room, changes nothing, and the answer
    says so; what was not known before is not said again.
    """
    meaning = meaning.known
    while True:
        code_ = code or rng.choices(CODES, (2.2, 1.1, 1.2, 1.1, 1.1, 1.1))[0]
        wording = WORDINGS[code_]
        if rng.random() < unknown:
            found = _unknown(meaning, wording, rng)
        else:
            found = rng.choices(_ACTIONS, _WEIGHTS)[0](meaning, wording, rng)
            if found and rng.random() < 0.08:
                second = rng.choices(_ACTIONS, _WEIGHTS)[0](found[1], wording, rng)
                if second and not found[1].is_partial:
                    found = rng.choice(wording.and_then).format(a=found[0].rstrip("?!."), b=second[0]), second[1]
        if found and not found[1].held_out:
            text = noisy(_polite(found[0], wording, rng), code_, rng)
            if text and not is_own_wording(text):
                return Prompt(text, found[1], code_)


def _polite(text, wording, rng):
    """With words around it that do not matter."""
    if rng.random() < 0.06:
        text = f"{rng.choice(wording.before)}{' ' if wording.is_spaced else ''}{text}"
    if rng.random() < 0.08:
        behind = rng.choice(wording.behind)
        text = f"{text}{' ' if wording.is_spaced and behind[0].isalpha() else ''}{behind}"
    return text


def _sky(meaning, wording, rng):
    sky = rng.choice([sky for sky in SKIES if sky != meaning.sky])
    kind = rng.random()
    if kind < 0.6:
        text = rng.choice(wording.sky_edits[sky])
    elif kind < 0.8:
        text = rng.choice(wording.both_edits).format(s=setting(sky, None, wording, rng))
    else:
        text = rng.choice((wording.clauses if kind < 0.9 else wording.sky_nouns)[sky])
    return text, replace(meaning, sky=sky)


def _ground(meaning, wording, rng):
    ground = rng.choice([ground for ground in GROUNDS if ground != meaning.ground])
    if ground in wording.season_edits and rng.random() < 0.4:
        return rng.choice(wording.season_edits[ground]), replace(meaning, ground=ground)
    text = rng.choice(wording.ground_edits).format(
        v=rng.choice(wording.grounds[ground]), g=rng.choice(wording.ground_nouns[ground])
    )
    return text, replace(meaning, ground=ground)


def _both(meaning, wording, rng):
    sky, ground = rng.choice(SKIES), rng.choice(GROUNDS)
    said = view(sky, ground, wording, rng) if rng.random() < 0.3 else setting(sky, ground, wording, rng)
    return rng.choice(wording.both_edits).format(s=said), replace(meaning, sky=sky, ground=ground)


def _target(meaning, wording, rng):
    """One of the things, a noun phrase for it, and its bare noun; None where nothing stands."""
    if not meaning.things:
        return None
    target = rng.choice(meaning.things)
    twins = [thing for thing in meaning.things if thing != target and thing.kind == target.kind]
    colour = target.colour if (twins and all(t.colour != target.colour for t in twins)) or rng.random() < 0.2 else None
    noun = rng.choice(wording.kinds[target.kind])
    article = rng.choice(("the", "the", "the", "the", ""))
    text = wording.noun_phrase(NounPhrase(noun, 1, colour, None, None, article), rng)
    if twins and colour is None:
        place = rng.choice(wording.places[target.place])
        if wording.code in ("zh", "ja"):
            text = f"{place}{'的' if wording.code == 'zh' else 'の'}{text}"
        else:
            text = f"{text} {place}"
    bare = wording.noun_phrase(NounPhrase(noun, 1, colour, None, None, ""), rng)
    if twins and colour is None:
        bare = text
    return target, text, bare


def _with(meaning, old, new):
    return replace(meaning, things=(*(thing for thing in meaning.things if thing is not old), new))


def _adjective(value, wording, rng):
    return rng.choice(wording.colours[value]).split("/")[-1 if wording.code == "ja" else rng.randrange(2) - 1]


def _colour(meaning, wording, rng):
    found = _target(meaning, wording, rng)
    if not found:
        return None
    target, text, bare = found
    colours = [colour for colour in COLOURS if colour != target.colour and (target.kind, colour) not in HELD_OUT]
    colour = rng.choice(colours)
    value = _adjective(colour, wording, rng)
    if len(meaning.things) == 1 and rng.random() < 0.35:
        return rng.choice(wording.colour_it).format(v=value), _with(meaning, target, replace(target, colour=colour))
    if len({thing.kind for thing in meaning.things}) < len(meaning.things) and rng.random() < 0.3:
        kind = next(t.kind for t in meaning.things if sum(u.kind == t.kind for u in meaning.things) > 1)
        if any((kind, colour) in HELD_OUT for _ in "x"):
            return None
        count = sum(thing.kind == kind for thing in meaning.things)
        many = wording.noun_phrase(NounPhrase(rng.choice(wording.kinds[kind]), count, article="the"), rng)
        things = tuple(replace(thing, colour=colour) if thing.kind == kind else thing for thing in meaning.things)
        return rng.choice(wording.colour_edits[:8]).format(the=many, n=many, v=value), replace(meaning, things=things)
    text = rng.choice(wording.colour_edits).format(the=text, n=bare, v=value)
    return text, _with(meaning, target, replace(target, colour=colour))


def _size(meaning, wording, rng):
    found = _target(meaning, wording, rng)
    if not found:
        return None
    target, text, bare = found
    size = rng.choice(SIZES)
    if len(meaning.things) == 1 and rng.random() < 0.35:
        return rng.choice(wording.size_it[size]), _with(meaning, target, replace(target, size=size))
    text = rng.choice(wording.size_edits[size]).format(the=text, n=bare)
    return text, _with(meaning, target, replace(target, size=size))


def _swap(meaning, wording, rng):
    found = _target(meaning, wording, rng)
    if not found:
        return None
    target, text, bare = found
    colour = rng.random() < 0.2
    kinds = [kind for kind in KINDS if kind != target.kind]
    kind = rng.choice(kinds)
    # A new thing keeps the old one's colour and size where nobody says another.
    new = replace(target, kind=kind)
    group = Group(kind)
    if colour:
        new = replace(new, colour=rng.choice([c for c in COLOURS if (kind, c) not in HELD_OUT]))
        group = replace(group, colour=new.colour)
    return rng.choice(wording.swap_edits).format(the=text, n=bare, a=name(group, wording, rng)), _with(
        meaning, target, new
    )


def _move(meaning, wording, rng):
    found = _target(meaning, wording, rng)
    free = [place for place in PLACES if place not in {thing.place for thing in meaning.things}]
    if not found or not free:
        return None
    target, text, _ = found
    place = rng.choice(free)
    moved = _with(meaning, target, replace(target, place=place))
    goal = rng.choice(wording.goals[place])
    if len(meaning.things) == 1 and rng.random() < 0.3:
        return rng.choice(wording.move_it).format(p=goal), moved
    return rng.choice(wording.move_edits).format(the=text, p=goal), moved


def _add(meaning, wording, rng):
    group = random_group(rng, plain=0.6, most=2)
    if rng.random() < 0.12 and meaning.things:
        group = replace(group, kind=rng.choice(meaning.things).kind, colour=None)
    thing = group.things()[0]
    said = name(group, wording, rng)
    free = meaning.free_places
    if group.count > len(free):
        text = rng.choice(wording.add_edits).format(a=said)
        stood = [Thing(thing[0], thing[1], place, thing[2]) for place in free]
        return text, replace(meaning, things=(*meaning.things, *stood), is_partial=True)
    if group.count == 1 and rng.random() < 0.45:
        place = rng.choice(free)
        text = rng.choice(wording.add_placed).format(a=said, p=rng.choice(wording.places[place]))
        return text, replace(meaning, things=(*meaning.things, Thing(thing[0], thing[1], place, thing[2])))
    text = rng.choice(wording.add_edits).format(a=said)
    stood = [Thing(thing[0], thing[1], place, thing[2]) for place in free[: group.count]]
    return text, replace(meaning, things=(*meaning.things, *stood))


def _remove(meaning, wording, rng):
    found = _target(meaning, wording, rng)
    if not found:
        return None
    target, text, bare = found
    things = [thing for thing in meaning.things if thing is not target]
    same = [thing for thing in meaning.things if thing.kind == target.kind]
    if len(same) > 1 and rng.random() < 0.4:
        text = wording.noun_phrase(NounPhrase(rng.choice(wording.kinds[target.kind]), len(same), article="the"), rng)
        bare, things = text, [thing for thing in things if thing.kind != target.kind]
    return rng.choice(wording.remove_edits).format(the=text, n=bare), replace(meaning, things=tuple(things))


def _clear(meaning, wording, rng):
    return rng.choice(wording.clear_edits), replace(meaning, things=())


def _keep(meaning, wording, rng):
    return rng.choice(wording.keep_edits), meaning


def _unknown(meaning, wording, rng):
    """What cannot be done."""
    partial = replace(meaning, is_partial=True)
    kind = rng.random()
    if kind < 0.2:
        return foreign_text(rng), partial
    strange = Group(None)
    if kind < 0.5:
        said = name(strange, wording, rng)
        if rng.random() < 0.3:
            place = rng.choice(wording.places[rng.choice(PLACES)])
            return rng.choice(wording.add_placed).format(a=said, p=place), partial
        return rng.choice(wording.add_edits).format(a=said), partial
    if kind < 0.7:
        if rng.random() < 0.5:
            gone = wording.noun_phrase(NounPhrase(rng.choice(wording.unknown_nouns), article="the"), rng)
        else:
            absent = [kind for kind in KINDS if kind not in {thing.kind for thing in meaning.things}]
            gone = wording.noun_phrase(NounPhrase(rng.choice(wording.kinds[rng.choice(absent)]), article="the"), rng)
        return rng.choice(wording.remove_edits).format(the=gone, n=gone), partial
    found = _target(meaning, wording, rng)
    if not found:
        return None
    _, text, bare = found
    if kind < 0.85:
        return rng.choice(wording.swap_edits).format(the=text, n=bare, a=name(strange, wording, rng)), partial
    if kind < 0.93:
        return rng.choice(wording.colour_edits).format(the=text, n=bare, v=rng.choice(wording.unknown_colours)), partial
    return rng.choice(wording.unknown_wholes), partial


_ACTIONS = (_sky, _ground, _both, _colour, _size, _swap, _move, _add, _remove, _clear, _keep)
_WEIGHTS = (16, 12, 5, 14, 8, 9, 7, 13, 11, 1.5, 2.5)
