"""The closed vocabulary of the embedded base model: what it can draw, and which things the demo styles leave out.

Pure data, so that the prompts of the demo need no font. Each entry is a Unicode code point and the everyday name that
captions use. The first list is what the demo styles show; everything in the second is unseen by a style adapter.
"""

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["HELD_OUT", "ICONS", "STYLE_SET", "article", "held_out", "phrase"]

_SHOWN = """
1F4DA stack of books; 1F4F1 smartphone; 1F43B bear; 1F428 koala; 1F35F french fries; 1F33B sunflower; 1F3B2 dice;
1F4F7 camera; 1F354 burger; 1F98A fox; 1F355 pizza; 1F4BB laptop; 1F37A beer mug; 1F415 dog; 1F993 zebra; 1F3E0
house; 1F422 turtle; 1F418 elephant; 1F407 rabbit; 1F4E2 loudspeaker; 1F6A2 ship; 2708 airplane; 1F9F2 magnet; 1F41D
bee
"""

# In an order of its own, fixed once by a shuffle: the first n are a fair sample of the rest.
_HELD_OUT = """
1F431 cat face; 1F451 crown; 1F408 cat; 1F3B8 guitar; 1F30B volcano; 1F9C0 cheese; 1F680 rocket; 2693 anchor; 1F344
mushroom; 2615 coffee; 1F50B battery; 2B50 star; 1F30D earth globe; 1F37F popcorn; 1F576 sunglasses; 1F337 tulip;
1F4A3 bomb; 1F424 chick; 1F453 glasses; 1F437 pig face; 1F980 crab; 1F6D2 shopping cart; 1F34C banana; 1F528 hammer;
1F52D telescope; 1F381 gift box; 1F3C6 trophy; 1F308 rainbow; 1F47B ghost; 1F981 lion; 1F3F0 castle; 1F43C panda;
1F480 skull; 1F3B5 music note; 1FA90 ringed planet; 1F512 padlock; 1F3A8 paint palette; 1F350 pear; 1F438 frog;
1F989 owl; 1F3AF dart target; 1F382 birthday cake; 1F9A9 flamingo; 1F319 crescent moon; 1F3A4 microphone; 1F68C bus;
1F6D1 stop sign; 1F992 giraffe; 26FA tent; 1F340 four leaf clover; 2764 red heart; 1F941 drum; 1F514 bell; 2600 sun;
1F352 cherries; 1F34D pineapple; 26F5 sailboat; 1F353 strawberry; 1F345 tomato; 1F334 palm tree; 1F419 octopus;
1F4A7 water drop; 1F955 carrot; 1F378 cocktail; 1F697 car; 1F6E1 shield; 1F388 balloon; 2699 gear; 1F335 cactus;
1F336 chili pepper; 1F56F candle; 1F427 penguin; 2601 cloud; 1F4B0 money bag; 1F36A cookie; 1F642 smiling face;
1F4A1 light bulb; 1F370 strawberry cake; 2702 scissors; 1F45F sneaker; 1F3CE race car; 26BD soccer ball; 1F95A egg;
1F98B butterfly; 1F3A9 top hat; 1F338 cherry blossom; 1F455 shirt; 1F95D kiwi; 1F341 maple leaf; 1F436 dog face;
1F9B7 tooth; 1F4BC briefcase; 1F3C0 basketball; 1F377 wine glass; 1F346 eggplant; 1F9F8 teddy bear; 1F383 pumpkin
lantern; 1FA91 chair; 1F41F fish; 23F0 alarm clock; 1F3A7 headphones; 1F34B lemon; 1F41C ant; 1F384 christmas tree;
1F36D lollipop; 1F4FA television; 1F41E ladybug; 1F525 fire; 26A1 lightning bolt; 1F393 graduation cap; 1F9E9 puzzle
piece; 26C4 snowman; 270F pencil; 2744 snowflake; 1F916 robot; 2602 umbrella; 1F34E red apple; 1FA81 kite; 1F48E gem
stone; 26F0 mountain; 1F951 avocado; 1F32D hot dog; 1F349 watermelon; 1F40B blue whale; 1F50D magnifying glass;
1F332 pine tree; 1F9C1 cupcake; 1F52C microscope; 1F6B2 bicycle; 1F368 ice cream; 1F369 donut; 1F9B4 bone; 1F6A6
traffic light; 1FAB6 feather; 1F527 wrench; 1F984 unicorn; 1F511 key
"""


def _read(table: str) -> dict[str, int]:
    entries = (" ".join(entry.split()).partition(" ") for entry in table.split(";"))
    return {name: int(point, 16) for point, _, name in entries}


STYLE_SET = tuple(_read(_SHOWN))
"""The 24 things that every demo style shows, in the order of its files."""

HELD_OUT = tuple(_read(_HELD_OUT))
"""The 137 things that no demo style shows."""

ICONS: Mapping[str, int] = MappingProxyType(_read(_SHOWN) | _read(_HELD_OUT))
"""Every name with its code point."""


def held_out(n: int) -> list[str]:
    """Return the first n names that no demo style shows; always the same ones."""
    if not 0 < n <= len(HELD_OUT):
        raise ValueError(f"{n} held-out icons were asked for; there are 1 to {len(HELD_OUT)}")
    return list(HELD_OUT[:n])


def article(noun: str) -> str:
    """Return the article that goes before these words."""
    return "an" if noun[0] in "aeiou" else "a"


def phrase(name: str) -> str:
    """Return the caption of one plain icon, for example `an anchor icon`."""
    return f"{article(name)} {name} icon"
