"""Words that a model already knows well: as a trigger they would pull in their own meaning (and lose it)."""

__all__ = ["is_common"]

_TEXT = """
    a an and of in on with the my our your new style look brand art artwork artist design photo photograph photography
    picture image painting drawing illustration sketch render rendering cartoon anime comic logo icon poster print
    graphic pattern texture background portrait landscape abstract modern vintage retro minimal minimalist classic
    realistic digital watercolor watercolour oil pencil ink pixel vector flat line paper neon pop noir pastel
    person people man men woman women boy girl child baby face hand hair eye eyes body model
    dog cat bird horse fish animal tree flower plant grass leaf forest mountain river lake sea ocean beach sky cloud sun
    moon star snow rain fire water earth city town street road house home building room kitchen office school shop
    car bike bus train plane boat ship food fruit apple orange bread cake coffee tea wine bottle cup glass table chair
    bed door window book phone computer camera clock shoe shirt dress hat bag ball toy game music
    red green blue yellow orange purple pink black white grey gray brown gold golden silver colour color
    big small old young good bad beautiful pretty nice cute cool hot cold dark light bright soft hard fast slow happy
    sad one two three product company team summer winter spring autumn love life world king queen dragon robot magic
    der die das ein eine und mit stil neu neue marke kunst bild bilder foto zeichnung malerei gemälde entwurf muster
    mensch mann frau kind gesicht hund katze vogel pferd fisch tier baum blume wald berg fluss see meer himmel sonne
    mond stern feuer wasser stadt straße haus zimmer auto rad zug schiff essen apfel brot kaffee tee wein flasche tisch
    stuhl bett tür fenster buch uhr schuh hemd kleid hut tasche spiel musik rot grün blau gelb schwarz weiß grau
    groß klein alt jung schön warm kalt hell dunkel firma sommer herbst liebe leben welt
"""
_COMMON = frozenset(_TEXT.split())


def is_common(trigger: str) -> bool:
    """Say whether every word of the trigger is an everyday word in English or German captions."""
    words = trigger.lower().split()
    return bool(words) and all(word in _COMMON for word in words)
