"""Phrases in two languages at once: English words, Korean words, and which belongs to which.

A `Phrase` is a run of words that is unbroken in English and in Korean; a sentence is the same
phrases in two orders (`assemble`). The links between words follow one rule table.

Sure links join content words:

    noun, name, adjective, adverb, number, question word -- their Korean counterpart
    this, that, my, our, Minsu's -- 이, 그, 제, 우리, 민수의
    verb -- the Korean word with its stem;  not -- 안, 않아요 or the 없어요, 아니에요 it turns into
    under, behind, near, with -- 아래에, 뒤에, 근처에, 함께: Korean has a word of its own there
    have, be (somewhere) -- 있어요;  no -- 없어요;  cups, bottles -- 잔, 병

Possible links join what only marks the grammar:

    a, the, to, at, in, from -- the noun, whose particle says the same
    do, does, did, will -- every word of the Korean verb;  verb -- 거예요
    is, am, are, was, were -- the adjective, or the noun that 예요 is joined to
    who, that (relative) -- the adnominal verb;  and, but -- the word that ends in 와, 고, 지만
    a classifier (권, 마리) -- the number and the noun that it counts
"""

from functools import cache
from typing import NamedTuple

from utils import korean
from utils.lexicon import Adjective, Noun

Links = tuple[tuple[int, int], ...]


class Phrase(NamedTuple):
    """Words of both languages, links between them, and how many letters of each are its stem."""

    en: tuple[str, ...]
    ko: tuple[str, ...]
    sure: Links
    possible: Links
    en_stems: tuple[int, ...]
    ko_stems: tuple[int, ...]


class Form(NamedTuple):
    """A sentence ready to be written down.

    Attributes:
        english: its phrases in English order.
        korean: the same in Korean order; a phrase without Korean words may be missing.
        verb: the phrase that an auxiliary, which has no Korean word, is linked to.
        mark: "." or "?".
    """

    english: list[Phrase]
    korean: list[Phrase]
    verb: Phrase
    mark: str = "."


@cache
def phrase(en: str, ko: str, sure: str, possible: str = "", ko_stems: str = "") -> Phrase:
    """A phrase from plain text, links written as "0-1 2-0".

    Args:
        en: English words; the stem of ``Minsu's`` ends before the apostrophe.
        ko: Korean words.
        sure: sure links.
        possible: possible links.
        ko_stems: the stem of each Korean word, where that is not the whole word.
    """
    en_words, ko_words = tuple(en.split()), tuple(ko.split())
    stems = ko_stems.split() or ko_words
    return Phrase(
        en_words,
        ko_words,
        _links(sure),
        _links(possible),
        tuple(len(word.removesuffix("'s")) for word in en_words),
        tuple(map(len, stems)),
    )


def _links(text: str) -> Links:
    return tuple((int(a), int(b)) for a, b in (link.split("-") for link in text.split()))


def together(first: Phrase, second: Phrase) -> Phrase:
    """``second`` after ``first`` in both languages."""
    s, t = len(first.en), len(first.ko)
    return Phrase(
        first.en + second.en,
        first.ko + second.ko,
        first.sure + tuple((i + s, j + t) for i, j in second.sure),
        first.possible + tuple((i + s, j + t) for i, j in second.possible),
        first.en_stems + second.en_stems,
        first.ko_stems + second.ko_stems,
    )


def coordinated(first: Phrase, second: Phrase, conjunction: str = "and") -> Phrase:
    """``first`` and ``second``; the last Korean word of ``first`` already says "and"."""
    link = ((0, -1),)  # to the Korean word before it
    joint = Phrase((conjunction,), (), (), link, (len(conjunction),), ())
    return together(together(first, joint), second)


def assemble(form: Form) -> tuple[str, str, Links, Links, tuple[int, ...], tuple[int, ...]]:
    """Write a sentence down: the fields of a `Pair`, in its order."""
    starts, tgt_words, tgt_stems, start = {}, [], [], 0
    for part in form.korean:
        starts[id(part)] = start
        start += len(part.ko)
        tgt_words += part.ko
        tgt_stems += part.ko_stems
    src_words, src_stems, sure, possible, s = [], [], [], [], 0
    for part in form.english:
        en = part.en
        if part.ko:
            t = starts[id(part)]
            for i, j in part.sure:
                sure.append((s + i, t + j))
            for i, j in part.possible:
                possible.append((s + i, t + j))
        else:
            t = starts[id(form.verb)]
            for j in range(len(form.verb.ko)):
                possible.append((s, t + j))
        s += len(en)
        src_words += en
        src_stems += part.en_stems
    src = " ".join(src_words)
    sure.sort()
    possible.sort()
    return (
        src[0].upper() + src[1:] + form.mark,
        " ".join(tgt_words) + form.mark,
        tuple(sure),
        tuple(possible),
        tuple(src_stems),
        tuple(tgt_stems),
    )


@cache
def auxiliary(word: str) -> Phrase:
    """A word that has no Korean counterpart of its own: did, is, will."""
    return Phrase((word,), (), (), (), (len(word),), ())


def noun_phrase(
    noun: Noun,
    particle: str = "",
    *,
    determiner: str | Noun = "",
    adjective: Adjective | None = None,
    number: tuple[str, str] | None = None,
    plural: bool = False,
) -> Phrase:
    """A noun with all that belongs to it: "my old books" -- 제 오래된 책을.

    Args:
        noun: its noun.
        particle: a key of `korean.PARTICLES`, among them "예요" for the copula, or a particle that
            has one form only.
        determiner: "a", "the", a key of `DETERMINERS`, or the noun of an owner; "" where the noun
            is counted.
        adjective: an adjective before the noun.
        number: English and Korean number; the Korean one follows with the noun's classifier.
        plural: English plural, and 들 for people.
    """
    en = noun.plural if plural or number else noun.en
    ko = noun.ko + ("들" if plural and noun.classifier == "명" else "")
    words = Phrase((en,), (korean.attach(ko, particle),), ((0, 0),), (), (len(en),), (len(ko),))
    if adjective:
        words = together(phrase(adjective.en, attributive(adjective), "0-0"), words)
    if number:
        words = _counted(words, noun, number)
    return _determined(words, determiner) if determiner else words


def _counted(part: Phrase, noun: Noun, number: tuple[str, str]) -> Phrase:
    """Two cups of tea -- 차 두 잔: what counts it stands before the English noun, behind Korean."""
    before = (number[0], noun.measure, "of") if noun.measure else (number[0],)
    behind = (number[1], noun.classifier)
    n, at = len(before), len(part.ko)  # where the English noun phrase and the Korean number begin
    sure = [(i + n, j) for i, j in part.sure] + [(0, at)]
    possible = [(i + n, j) for i, j in part.possible]
    possible += [(0, at + 1), (n + len(part.en) - 1, at + 1)]
    if noun.measure:
        sure.append((1, at + 1))
        possible.append((2, at + 1))
    return Phrase(
        before + part.en,
        part.ko + behind,
        tuple(sure),
        tuple(possible),
        tuple(map(len, before)) + part.en_stems,
        part.ko_stems + tuple(map(len, behind)),
    )


def _determined(part: Phrase, determiner: str | Noun) -> Phrase:
    """``part`` after an article, which Korean lacks, a determiner or the name of an owner."""
    if isinstance(determiner, Noun):
        owner = phrase(f"{determiner.en}'s", f"{determiner.ko}의", "0-0", ko_stems=determiner.ko)
        return together(owner, part)
    if determiner in DETERMINERS:
        return together(phrase(determiner, DETERMINERS[determiner], "0-0"), part)
    return after_words(_a_or_an(part.en[0]) if determiner == "a" else determiner, part)


def _a_or_an(word: str) -> str:
    """The article before ``word``, by sound: a useful book, an honest man."""
    vowel = word[0] in "aeiou" and not word.startswith(("useful", "uni"))
    return "an" if vowel or word.startswith("honest") else "a"


DETERMINERS = {"this": "이", "that": "그", "my": "제", "our": "우리"}


def attributive(adjective: Adjective) -> str:
    """The Korean form before a noun; new and old are listed in it already."""
    return korean.adnominal(adjective.ko) if adjective.predicative else adjective.ko


def third_person(verb: str) -> str:
    """The verb's third person singular; its first word is inflected: wakes up."""
    first, space, rest = verb.partition(" ")
    if first == "have":
        return "has"
    if first.endswith(("s", "sh", "ch", "x", "z", "o")):
        first += "es"
    elif first.endswith("y") and first[-2] not in "aeiou":
        first = first[:-1] + "ies"
    else:
        first += "s"
    return first + space + rest


def negated_shortly(ko: str) -> bool:
    """Whether the verb takes 안 (안 사요); one of noun + 하다 takes -지 않다 (공부하지 않아요)."""
    return not ko.endswith("하다") or ko == "좋아하다"


def verb_words(ko: str, tense: str, negative: bool = False) -> str:
    """The Korean verb of a main clause, one to three words."""
    if negative and not negated_shortly(ko):
        return korean.negation(ko, tense)
    form = {"present": korean.present, "past": korean.past, "future": korean.future}[tense](ko)
    return "안 " + form if negative else form


def verb_phrase(
    en: str, past: str, ko: str, tense: str, *, agreement: str, negative: bool
) -> Phrase:
    """A verb as a predicate: "did not buy" -- 안 샀어요.

    Args:
        en: base form.
        past: past form.
        ko: Korean dictionary form.
        tense: "present", "past" or "future".
        agreement: "third" (he), "other" (I, they), or "bare" after an auxiliary (did he buy).
        negative: with not.
    """
    words = verb_words(ko, tense, negative).split()
    if agreement == "bare":
        auxiliaries, form = [], en
    elif negative:
        do = {"present": "does" if agreement == "third" else "do", "past": "did"}
        auxiliaries, form = [do.get(tense, "will"), "not"], en
    elif tense == "future":
        auxiliaries, form = ["will"], en
    elif tense == "past":
        auxiliaries, form = [], past
    else:
        auxiliaries, form = [], third_person(en) if agreement == "third" else en
    english = auxiliaries + form.split()
    head = len(auxiliaries)
    stem_at, not_at = 0, 1
    if negative and negated_shortly(ko):
        stem_at, not_at = 1, 0
    sure = [(head, stem_at)] + ([(1, not_at)] if negative else [])
    possible = [(0, j) for j in range(len(words)) if auxiliaries]
    if tense == "future":
        possible.append((head, len(words) - 1))
    possible += [(i, stem_at) for i in range(head + 1, len(english))]
    return Phrase(
        tuple(english),
        tuple(words),
        tuple(sure),
        tuple(possible),
        tuple(map(len, english)),
        tuple(map(len, words)),
    )


def prepositional(
    preposition: str, noun: Noun, particle: str, *, article: str = "the", bare: bool = False
) -> Phrase:
    """A preposition and a noun that Korean marks with a particle: in the park -- 공원에서.

    Args:
        preposition: one English word.
        noun: its noun.
        particle: Korean particle.
        article: "the" or "a".
        bare: whether to leave the article out.
    """
    return after_words(preposition, noun_phrase(noun, particle, determiner="" if bare else article))


def after_words(words: str, part: Phrase) -> Phrase:
    """``part`` after English words that its last Korean word already expresses: in, the, was."""
    en = tuple(words.split())
    n = len(en)
    return Phrase(
        en + part.en,
        part.ko,
        tuple((i + n, j) for i, j in part.sure),
        tuple((i, len(part.ko) - 1) for i in range(n))
        + tuple((i + n, j) for i, j in part.possible),
        tuple(map(len, en)) + part.en_stems,
        part.ko_stems,
    )


def before_word(words: str, part: Phrase, ko: str, stem: int) -> Phrase:
    """``part`` after English words that Korean says with a word behind it: under -- 아래에.

    Args:
        words: English preposition, of which the last content word is linked: in *front* of.
        part: its noun phrase.
        ko: the Korean word.
        stem: how many letters of it come before its particle.
    """
    n, last = len(words.split()), len(part.ko)
    main = words.split().index("front") if "front" in words else 0
    moved = after_words(words, part)
    possible = tuple((i, last) for i in range(n) if i != main) + moved.possible
    return moved._replace(
        ko=part.ko + (ko,),
        sure=((main, last), *moved.sure),
        possible=possible,
        ko_stems=(*part.ko_stems, stem),
    )


def accompanied(who: Phrase) -> Phrase:
    """With somebody: 수지와 함께."""
    return before_word("with", who, "함께", 2)


def time_phrase(en: str, ko: str) -> Phrase:
    """An adverbial of time; its words are linked one by one where there are as many."""
    english, stems = en.split(), [_without_particle(word) for word in ko.split()]
    content = [i for i, word in enumerate(english) if word != "on"]
    sure = (
        zip(content, range(len(stems)), strict=True)
        if len(content) == len(stems)
        else ((i, j) for i in content for j in range(len(stems)))
    )
    return phrase(
        en,
        ko,
        " ".join(f"{i}-{j}" for i, j in sure),
        "0-0" if english[0] == "on" else "",
        " ".join(stems),
    )


def _without_particle(word: str) -> str:
    return word.removesuffix("에").removesuffix("마다")


@cache
def adjective_phrase(adjective: Adjective, tense: str, negative: bool = False) -> Phrase:
    """An adjective as a predicate, without "to be": not clean -- 깨끗하지 않아요."""
    if negative:
        return phrase(f"not {adjective.en}", korean.negation(adjective.ko, tense), "0-1 1-0")
    return phrase(adjective.en, verb_words(adjective.ko, tense), "0-0")


def with_korean(part: Phrase, ko: str) -> Phrase:
    """``part`` with another form of its one Korean word, as before a second clause."""
    return part._replace(ko=(ko,), ko_stems=(len(ko),))


def with_comma(part: Phrase) -> Phrase:
    """``part`` with a comma after its last English word."""
    return part._replace(en=(*part.en[:-1], part.en[-1] + ","))
