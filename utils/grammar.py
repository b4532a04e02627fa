"""Choosing words that go together: the parts that sentence patterns are made of.

A `Speaker` says nothing itself: it gives the patterns noun phrases, verbs and adverbials that suit
each other, and notes whether a held-out combination is among them.
"""

import random
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from utils import lexicon
from utils.combinations import Choice, Combinations, Usage
from utils.lexicon import FRAMES, NOUNS, Adjective, Frame, Noun
from utils.phrases import (
    Phrase,
    accompanied,
    before_word,
    coordinated,
    noun_phrase,
    phrase,
    prepositional,
    time_phrase,
    verb_phrase,
)

# To live and to stay: their place takes 에, as with 있다, and is never left out.
LOCATED = ("살다", "머무르다")


class Subject(NamedTuple):
    """Who or what a sentence is about.

    Attributes:
        phrase: its words, particle included.
        agreement: "I", "third" or "other".
        word: its noun in English, a pronoun, or "both" for two names.
    """

    phrase: Phrase
    agreement: str
    word: str

    @property
    def person(self) -> str:
        """The agreement of verbs other than "to be": "third" or "other"."""
        return "third" if self.agreement == "third" else "other"

    def be(self, tense: str) -> str:
        """The form of "to be", in the present or past."""
        forms = {"I": ("am", "was"), "third": ("is", "was"), "other": ("are", "were")}
        return forms[self.agreement][tense == "past"]


class Adverbials(NamedTuple):
    """Adverbials of one sentence, by where they stand."""

    often: list[Phrase]  # English, before the verb
    end: list[Phrase]  # English
    when: list[Phrase]  # Korean, after the subject
    around: list[Phrase]  # Korean, before the object
    manner: list[Phrase]  # Korean, before the verb


@cache
def place_phrase(place: str, particle: str) -> Phrase:
    """Where: in the library -- 도서관에서, and with 에, 도서관에."""
    return prepositional(
        lexicon.PREPOSITIONS.get(place, "in"),
        NOUNS[place],
        particle,
        bare=place in lexicon.ARTICLELESS or NOUNS[place].kind == "bare",
    )


@cache
def _side_phrase(preposition: str, ko: str, landmark: str) -> Phrase:
    noun = noun_phrase(NOUNS[landmark], determiner="the")
    return before_word(preposition, noun, ko + "에", len(ko))


def _places_of(frame: Frame) -> list[Phrase]:
    particle = "에" if frame.ko in LOCATED else "에서"
    return [place_phrase(place, particle) for place in frame.places]


def _time_words() -> dict[tuple[str, str], list[Phrase]]:
    words: dict[tuple[str, str], list[Phrase]] = defaultdict(list)
    for word in lexicon.TIME_WORDS:
        words[word.tense, word.scale].append(time_phrase(word.en, word.ko))
    return words


_SOON = [time_phrase("soon", "곧")]


def _nouns(*groups: str) -> list[Noun]:
    return [noun for noun in NOUNS.values() if noun.group in groups]


# Everything that does not depend on the split is put together once.
_PLACES_OF = {(frame.en, frame.places): _places_of(frame) for frame in FRAMES}
_TIMES = _time_words()
_CLOCK = [
    phrase(f"at {en} o'clock", f"{ko} 시에", "1-0 2-1", "0-1", f"{ko} 시")
    for en, ko in lexicon.NUMBERS.items()
    if en != "twenty"
]
_NUMBERS = [pair for pair in lexicon.NUMBERS.items() if pair[0] != "one"]
_FEW = _NUMBERS[:4]
_FREQUENCIES = [phrase(en, ko, "0-0") for en, ko in lexicon.FREQUENCIES.items()]
_USUALLY = _FREQUENCIES[list(lexicon.FREQUENCIES).index("usually")]
_MANNERS = {en: phrase(en, ko, "0-0") for en, ko in lexicon.MANNERS.items()}
_TOOLS = {
    tool: prepositional("with", NOUNS[tool], "로", article="a")
    for frame in FRAMES
    for tool in frame.extras
    if tool in NOUNS
}
_PRONOUNS = {
    ("I", "은"): phrase("I", "저는", "0-0", ko_stems="저"),
    ("I", "이"): phrase("I", "제가", "0-0", ko_stems="제"),
    ("we", "은"): phrase("we", "우리는", "0-0", ko_stems="우리"),
    ("we", "이"): phrase("we", "우리가", "0-0", ko_stems="우리"),
}
_NAMES = _nouns("name")
_RELATIONS = _nouns("relation")
JOBS = _nouns("job")
PEOPLE = _nouns("job", "adult", "youth")
ADULTS = [noun for noun in PEOPLE if noun.group != "youth" and noun.en != "student"]
_NOUN_PHRASES: dict[tuple, Phrase] = {}
_VERB_PHRASES: dict[tuple, Phrase] = {}


def _at_some_hour(frame: Frame) -> bool:
    scale = lexicon.PROFILES[frame.profile][1]
    return not frame.objects and scale in ("day", "morning") and frame.en != "sleep"


class Speaker(Combinations):
    """Chooses words for one split: at random, but the same from the same seed.

    Args:
        split: "train", where held-out combinations are never chosen, or another.
        rng: where all chance comes from.

    Attributes:
        random: the next number in [0, 1).
        held: whether the present sentence has a held-out combination.
        repeats: whether the present sentence had to mention something twice; better not said.
        used: people, names and things that the present sentence has mentioned.
    """

    def __init__(self, split: str, rng: random.Random) -> None:
        super().__init__(split)
        self.random = rng.random
        self.held = False
        self.repeats = False
        self.used: set[str] = set()

    def start(self) -> None:
        """Begin a new sentence."""
        self.held = self.repeats = False
        self.used.clear()

    def pick(self, options):
        """One of ``options``."""
        # random() is the same in every version of Python, what choice() does with it is not.
        return options[int(self.random() * len(options))]

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.random() < probability

    # ------------------------------------------------------------- nouns

    def noun(self, noun: Noun, particle: str, **parts) -> Phrase:
        """A noun phrase; see `phrases.noun_phrase`."""
        key = (noun.en, particle, *parts.items())
        found = _NOUN_PHRASES.get(key)
        if found is None:
            found = _NOUN_PHRASES[key] = noun_phrase(noun, particle, **parts)
        return found

    def adjective(
        self, noun: Noun, probability: float, clashing: Sequence[str] = ()
    ) -> Adjective | None:
        """Perhaps an adjective that suits ``noun``, but none that is ``clashing``."""
        choices = self.adjectives_of.get(noun.en)
        if not choices or noun.kind == "bare" or self.random() >= probability:
            return None
        adjective, held = self.pick(choices)
        if adjective.en in clashing:
            return None
        self.held |= held
        return adjective

    def fresh(self, options: list[Choice]) -> Choice:
        """`other` for nouns that may be held out; the one that is chosen counts as said."""
        for _ in range(20):
            chosen = self.pick(options)
            if chosen[0].en not in self.used:
                break
        else:
            self.repeats = True  # some verbs have only one or two objects
        self.used.add(chosen[0].en)
        self.held |= chosen[1]
        return chosen

    def other(self, nouns: list[Noun]) -> Noun:
        """One of ``nouns`` that the sentence has not mentioned; and mark it mentioned."""
        while (noun := self.pick(nouns)).en in self.used:
            pass
        self.used.add(noun.en)
        return noun

    def name(self) -> Noun:
        """A name that the sentence has not mentioned."""
        return self.other(_NAMES)

    def owner(self) -> str | Noun:
        """My, our or a name's; no "my" or "our" where "we" is the subject."""
        if "we" in self.used or self.chance(0.5):
            return self.name()
        return "my" if "I" in self.used or self.chance(0.6) else "our"

    def person(self, particle: str, kind: str = "person", speakers: bool = True) -> Subject:
        """Somebody as subject: a name, a pronoun, or somebody by what they are.

        Args:
            particle: "은" or "이".
            kind: "person", or "adult" for what no child does.
            speakers: whether I and we may be it, who ask no questions about themselves.
        """
        chance = self.random()
        if speakers and chance < 0.13:
            return self.speaker("I" if chance < 0.09 else "we", particle)
        if chance < 0.5:
            return self.named(particle)
        if chance < 0.56:
            pair = coordinated(self.noun(self.name(), "와"), self.noun(self.name(), particle))
            return Subject(pair, "other", "both")
        if chance < 0.67:
            return self.relation(particle, 0.2)
        noun = self.other(ADULTS if kind == "adult" else PEOPLE)
        parts = {"determiner": "the", "adjective": self.adjective(noun, 0.2)}
        if chance > 0.92:
            return Subject(self.noun(noun, particle, plural=True, **parts), "other", noun.en)
        if chance > 0.84:
            parts["determiner"] = self.pick(("this", "that"))
        return Subject(self.noun(noun, particle, **parts), "third", noun.en)

    def speaker(self, word: str, particle: str) -> Subject:
        """I or we."""
        self.used.add(word)
        return Subject(_PRONOUNS[word, particle], "I" if word == "I" else "other", word)

    def named(self, particle: str) -> Subject:
        """Somebody by name."""
        name = self.other(_NAMES)
        return Subject(self.noun(name, particle), "third", name.en)

    def relation(self, particle: str, adjective: float) -> Subject:
        """Somebody's friend or neighbor, with an adjective by chance."""
        noun = self.other(_RELATIONS)
        parts = {"determiner": self.owner(), "adjective": self.adjective(noun, adjective)}
        return Subject(self.noun(noun, particle, **parts), "third", noun.en)

    def thing(
        self,
        chosen: Choice,
        particle: str,
        article: str,
        *,
        numbers: Sequence[tuple[str, str]] = (),
        owned: bool = True,
        plain: bool = False,
        clashing: Sequence[str] = (),
    ) -> Phrase:
        """A noun phrase about what `fresh` chose, for any place but that of a subject.

        Args:
            chosen: the noun, and whether the combination it is in is held out.
            particle: Korean particle.
            article: "a", "the" or "generic" (bare plural), where nothing else determines it.
            numbers: what it may be counted with.
            owned: whether it may be mine, or this one.
            plain: whether article and noun are to be all.
            clashing: adjectives to avoid.
        """
        noun = chosen[0]
        if noun.kind == "bare":
            return self.noun(noun, particle)
        if noun.group == "relation" and article == "the":
            return self.noun(noun, particle, determiner=self.owner())
        chance = 0.5 if plain else self.random()
        counted = chance < 0.25 and numbers and article == "a" and bool(noun.classifier)
        measured = counted and noun.measure
        adjective = None if plain or measured else self.adjective(noun, 0.22, clashing)
        if article == "generic":
            return self.noun(noun, particle, adjective=adjective, plural=noun.kind == "count")
        determiner = article_of(noun, article)
        if counted:
            return self.noun(noun, particle, adjective=adjective, number=self.pick(numbers))
        if not owned:
            return self.noun(noun, particle, determiner=determiner, adjective=adjective)
        if chance > 0.88 and noun.kind == "count" and noun.group != "place":
            determiner = self.pick(("this", "that"))
        elif chance > 0.76 and noun.en in lexicon.OWNED:
            determiner = self.owner()
        return self.noun(noun, particle, determiner=determiner, adjective=adjective)

    def object_of(self, usage: Usage, article: str = "", **limits) -> Phrase:
        """What a verb acts on; ``article`` instead of the verb's own. See `thing`."""
        frame = usage.frame
        if "numbers" not in limits and frame.en not in lexicon.UNCOUNTED:
            limits["numbers"] = _NUMBERS if frame.en in lexicon.IN_NUMBERS else _FEW
        return self.thing(
            self.fresh(usage.objects),
            frame.particle,
            article or frame.article,
            clashing=lexicon.CLASHES.get(frame.en, ()),
            **limits,
        )

    def having(self, numbers: bool = True) -> Phrase:
        """What somebody has."""
        counted = _FEW if numbers else ()
        return self.thing(self.fresh(self.had), "이", "a", numbers=counted, owned=False)

    # ------------------------------------------------------------- verbs and adverbials

    def verb(self, frame: Frame, tense: str, agreement: str, negative: bool = False) -> Phrase:
        """The verb; see `phrases.verb_phrase`."""
        key = (frame.en, tense, agreement, negative)
        found = _VERB_PHRASES.get(key)
        if found is None:
            found = _VERB_PHRASES[key] = verb_phrase(
                frame.en, frame.past, frame.ko, tense, agreement=agreement, negative=negative
            )
        return found

    def usage(self, verbs: list[list[Usage]]) -> Usage:
        """One of the verbs, and one of its usages."""
        return self.pick(self.pick(verbs))

    def two(self, verbs: list[list[Usage]]) -> tuple[Usage, Usage]:
        """Usages of two different verbs."""
        first = self.pick(verbs)
        while (second := self.pick(verbs)) is first:
            pass
        return self.pick(first), self.pick(second)

    def tense(self, frame: Frame) -> str:
        """One of the tenses that suit the verb."""
        return self.pick(lexicon.PROFILES[frame.profile][0])

    def time(self, scale: str, tense: str) -> Phrase:
        """When: a word that suits both the scale of time and the tense."""
        return self.pick(_TIMES[tense, scale])

    def clock(self) -> Phrase:
        """At three o'clock."""
        return self.pick(_CLOCK)

    def frequency(self) -> Phrase:
        """How often."""
        return self.pick(_FREQUENCIES)

    def place_of(self, frame: Frame) -> Phrase:
        """Where the verb is done."""
        return self.pick(_PLACES_OF[frame.en, frame.places])

    def adverbials(
        self, frame: Frame, tense: str, subject: Subject, *, how: bool = True, where: bool = True
    ) -> Adverbials:
        """Adverbials that suit a verb; a present habit always says how often, if ``how``.

        Args:
            frame: the verb.
            tense: its tense.
            subject: who does it; nobody is alone in company.
            how: whether to say how, with whom and how often, as under no negation.
            where: whether to say where; if that is asked, it is asked for what is usual.
        """
        often, time, extra, place = [], [], [], []
        scale = lexicon.PROFILES[frame.profile][1]
        if tense == "present":
            if how and scale and self.chance(0.5):
                often = [self.frequency() if where else _USUALLY]
            elif how and scale:
                time = [self.time(scale, tense)]
        elif _at_some_hour(frame) and self.chance(0.3):
            time = [self.clock()]
        elif scale and self.chance(0.36):
            time = [self.time(scale, tense)]
        if how and frame.extras and self.chance(0.33) and time != _SOON:
            extra = self._extra(self.pick(frame.extras), subject)
        if frame.ko in LOCATED and where:
            place = [self.place_of(frame)]
        elif frame.places and where and self.chance(0.28 if extra and time else 0.34):
            place = [self.place_of(frame)]
        if frame.ko in LOCATED:
            return Adverbials(often, place + extra + time, time + often, extra + place, [])
        end, when = extra + place + time, time + often
        if extra and extra[0].ko[0] in _MANNER_WORDS:
            return Adverbials(often, end, when, place, extra)
        return Adverbials(often, end, when, place + extra, [])

    def _extra(self, extra: str, subject: Subject) -> list[Phrase]:
        """How, with what, or with whom; nothing if it does not suit the subject."""
        if extra in NOUNS:
            return [_TOOLS[extra]]
        if extra == "with":
            return [] if subject.word == "both" else [self.companion()]
        if extra == "alone" and subject.agreement == "other":
            return []
        return [_MANNERS[extra]]

    def number(self) -> tuple[str, str]:
        """How many, from two up."""
        return self.pick(_NUMBERS)

    def spot(self) -> tuple[Phrase, Noun]:
        """A place with something that may be there: in the park, a tree."""
        if self.chance(0.5):
            return self.side()
        place, nouns = self.pick(lexicon.CONTENTS)
        noun = NOUNS[self.pick(nouns)]
        self.used.add(noun.en)
        return place_phrase(place, "에"), noun

    def side(self) -> tuple[Phrase, Noun]:
        """A side of something with what may be there: under the table, a cat."""
        preposition, ko, landmarks, nouns = self.pick(lexicon.SIDES)
        noun = NOUNS[self.pick(nouns)]
        while (landmark := self.pick(landmarks)) == noun.en:
            pass
        self.used.update((noun.en, landmark))
        return _side_phrase(preposition, ko, landmark), noun

    def companion(self) -> Phrase:
        """With whom: a name, or my friend."""
        if self.chance(0.7):
            return accompanied(self.noun(self.name(), "와"))
        friends = [noun for noun in _RELATIONS if noun.en not in self.used]
        return accompanied(self.noun(self.pick(friends), "와", determiner=self.owner()))


_MANNER_WORDS = frozenset(ko for en, ko in lexicon.MANNERS.items() if en != "alone")


def article_of(noun: Noun, article: str) -> str:
    """What ``article`` comes to with this noun: no "a" milk, and always "the" news."""
    if noun.kind == "bare":
        return ""
    if article == "a" and noun.kind != "count":
        return "the" if noun.kind == "unique" else ""
    return article
