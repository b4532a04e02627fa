"""Which words may be combined in which split.

Of the combinations of a verb and its object, and of an adjective and its noun, about one in
thirteen is held out: training never shows it, though it shows both words, in enough other
combinations. A checksum of the two words decides, so that no seed moves one to another split.
"""

import functools
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from utils import lexicon
from utils.lexicon import ADJECTIVES, DITRANSITIVE_FRAMES, FRAMES, NOUNS, Adjective, Frame, Noun

Choice = tuple[Noun, bool]  # a noun, and whether it is held out with its verb or adjective

STATIVE = ("state", "keep")
HABITS = ("daily", "often", "rare")
HELD_OUT_SHARE = 10  # one combination in so many, at most
MOST_OF_A_WORD = 8  # of a word's combinations, at most one in so many is held out


def is_held_out(word: str, noun: str) -> bool:
    """Whether training never combines this verb or adjective with this noun (English words)."""
    return (word, noun) in _held_out()


@functools.cache
def _held_out() -> frozenset[tuple[str, str]]:
    """The combinations chosen by checksum, as long as both words keep enough others.

    A word that is only learnt with one or two others could not be told apart from them: what
    fails then would be the word, not the combination. For the same reason nothing is held out
    with "have", with which alone some nouns, such as cousin, are mentioned for the first time.
    """
    frames = (*FRAMES, *DITRANSITIVE_FRAMES)
    known = {(frame.en, noun) for frame in frames for noun in frame.objects}
    known |= {(word.en, noun) for word in ADJECTIVES.values() for noun in word.nouns}
    spare = Counter(word for combination in known for word in combination)
    spare = Counter({word: count // MOST_OF_A_WORD for word, count in spare.items()})
    chosen = set()
    for word, noun in sorted(known, key=lambda pair: zlib.crc32("|".join(pair).encode())):
        if len(chosen) >= len(known) // HELD_OUT_SHARE:
            break
        if spare[word] and spare[noun]:
            chosen.add((word, noun))
            spare[word] -= 1
            spare[noun] -= 1
    return frozenset(chosen)


class Usage(NamedTuple):
    """A verb's frame, with the objects that this split may have."""

    frame: Frame
    objects: list[Choice]


def _by_verb(usages: Iterable[Usage]) -> list[list[Usage]]:
    """Usages of each verb in a list of its own, richer ones repeated to be chosen oftener."""
    verbs: dict[str, list[Usage]] = defaultdict(list)
    for usage in usages:
        verbs[usage.frame.en] += [usage] * max(1, round(len(set(usage.objects)) / 4))
    return list(verbs.values())


def _scenes(usages: list[Usage]) -> list[tuple[str, list[list[Usage]]]]:
    """Places where everyday things are done, each with the usages of what is done there."""
    scenes: dict[str, list[Usage]] = defaultdict(list)
    for usage in usages:
        frame = usage.frame
        everyday = frame.profile in HABITS + ("once",) and frame.en != "use"
        if usage.objects and frame.subjects == "person" and everyday:
            for place in frame.places:
                if NOUNS[place].group != "city":
                    scenes[place].append(usage)
    return [(p, _by_verb(u)) for p, u in scenes.items() if len({x.frame.en for x in u}) > 2]


def _has_place(frame: Frame) -> bool:
    return bool(frame.places) and frame.profile not in ("state", "mishap")


def _is_counted(noun: Noun) -> bool:
    return noun.kind == "count" and bool(noun.classifier)


def _common(first: list[Choice], second: list[Choice]) -> list[Choice]:
    """Nouns of both lists; held out if they are in either."""
    held = dict(second)
    return [(noun, mark or held[noun]) for noun, mark in dict(first).items() if noun in held]


class Combinations:
    """The verbs with their objects and the adjectives with their nouns that one split may have.

    Verbs come as lists of the usages of each, so that every verb is as likely as any other.

    Args:
        split: "train", which has no held-out combination, or another, which has them all.

    Attributes:
        transitive: verbs with an object, done by people.
        intransitive: verbs without, done by people.
        animal: verbs of animals.
        ditransitive: verbs of giving.
        eventful: the transitive verbs that say what happens rather than what is so.
        placed: verbs that are done somewhere.
        countable: verbs with objects that can be counted.
        liking: likes and hates, each with things that can be compared.
        had: what people have.
        scenes: places, each with the verbs of what is done there every day.
        nouns_of: for each adjective, the nouns it suits.
        adjectives_of: for each noun, the adjectives that suit it.
        described_twice: pairs of adjectives with the nouns that both suit.
    """

    def __init__(self, split: str) -> None:
        self._training = split == "train"
        self._read_verbs()
        self._read_adjectives()

    def combinations(
        self, word: str, nouns: Iterable[str], weight: Callable[[str], int] = lambda noun: 1
    ) -> list[Choice]:
        """What ``word`` may be combined with, each noun as often as its weight says."""
        found = []
        for noun in nouns:
            held = is_held_out(word, noun)
            if not (held and self._training):
                found += [(NOUNS[noun], held)] * weight(noun)
        return found

    def _read_verbs(self) -> None:
        frames_of = Counter(noun for frame in FRAMES for noun in frame.objects)

        def weight(noun: str) -> int:  # what few verbs act on is chosen oftener
            return max(1, 8 // max(1, frames_of[noun]))

        def usages(frames: list[Frame]) -> list[Usage]:
            return [Usage(f, self.combinations(f.en, f.objects, weight)) for f in frames]

        simple = usages(FRAMES)
        people = [usage for usage in simple if usage.frame.subjects in ("person", "adult")]
        self.transitive = _by_verb(usage for usage in people if usage.frame.objects)
        self.intransitive = _by_verb(usage for usage in people if not usage.frame.objects)
        self.animal = _by_verb(usage for usage in simple if usage not in people)
        self.ditransitive = _by_verb(usages(DITRANSITIVE_FRAMES))
        self.scenes = _scenes(people)
        self.had = self.combinations("have", lexicon.HAD)
        self.eventful = [
            kept
            for verb in self.transitive
            if (kept := [usage for usage in verb if usage.frame.profile not in STATIVE])
        ]
        self.placed = [
            kept
            for verb in self.transitive + self.intransitive
            if (kept := [usage for usage in verb if _has_place(usage.frame)])
        ]
        self.countable = _by_verb(
            Usage(usage.frame, kept)
            for usage in people
            if usage.frame.article == "a"
            and usage.frame.en not in lexicon.UNCOUNTED
            and (kept := [choice for choice in usage.objects if _is_counted(choice[0])])
        )
        self.liking = [
            Usage(usage.frame, kept)
            for usage in simple
            if usage.frame.en in ("like", "hate")
            for domain in lexicon.DOMAINS
            if len(kept := [choice for choice in usage.objects if choice[0].group in domain]) > 2
        ]

    def _read_adjectives(self) -> None:
        counts = Counter(noun for word in ADJECTIVES.values() for noun in word.nouns)
        self.adjectives_of: dict[str, list[tuple[Adjective, bool]]] = defaultdict(list)
        self.nouns_of: dict[str, list[Choice]] = {}
        for word in ADJECTIVES.values():
            nouns = self.combinations(word.en, word.nouns, lambda noun: max(1, 6 // counts[noun]))
            self.nouns_of[word.en] = nouns
            for noun, held in dict.fromkeys(nouns):
                weight = max(1, (60 if word.predicative else 120) // len(word.nouns))
                self.adjectives_of[noun.en] += [(word, held)] * weight

        self._predicates_of = {
            noun: [choice for choice in choices if choice[0].predicative]
            for noun, choices in self.adjectives_of.items()
        }
        self.described_twice = [
            (pair, both)
            for pair in lexicon.ADJECTIVE_PAIRS
            if (both := _common(self.nouns_of[pair[0]], self.nouns_of[pair[2]]))
        ]

    def predicates_of(self, noun: Noun) -> list[tuple[Adjective, bool]]:
        """Adjectives that may be said of ``noun`` after "is"."""
        return self._predicates_of.get(noun.en, [])
