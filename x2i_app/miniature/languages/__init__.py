"""The six languages of the miniature world, by their ISO codes. Those of the page are in ui/i18n."""

from x2i_app.miniature.languages.base import Change, Language, Pick, Said, SaidThing
from x2i_app.miniature.languages.de import GERMAN
from x2i_app.miniature.languages.en import ENGLISH
from x2i_app.miniature.languages.fr import FRENCH
from x2i_app.miniature.languages.ja import JAPANESE
from x2i_app.miniature.languages.vi import VIETNAMESE
from x2i_app.miniature.languages.zh import CHINESE

LANGUAGES: dict[str, Language] = {
    language.code: language for language in (ENGLISH, CHINESE, GERMAN, FRENCH, JAPANESE, VIETNAMESE)
}

__all__ = ["LANGUAGES", "Change", "Language", "Pick", "Said", "SaidThing"]
