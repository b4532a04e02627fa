"""Sentence patterns: which parts make a sentence, and in which order in each language.

Korean: subject, time or how often, place, with whom or what, object, manner, verb.
English: subject, how often, verb, object, manner or with whom or what, place, time.

Rules that fix the one Korean translation, and mostly the one way back:

    은/는  marks the subject of a statement, and of any sentence that says what is so: is, has,
           likes, needs, lives.
    이/가  marks the subject of a question about an action (민수가 무엇을 샀어요?), of "the" and a
           noun before an adjective (방이 깨끗해요, but 제 방은 깨끗해요), of a relative clause,
           what there is or is had, needed or become, and who (누가).
    안     negates verbs; -지 않다 negates adjectives and verbs of noun + 하다 (공부하지 않아요).
    the    has no counterpart: whether an object has "a" or "the" depends on its verb and pattern.
           People in the plural take 들; things are counted, or in the plural only where English
           speaks of a kind (likes dogs).

Sentences of more than one clause are in `utils.clauses`, questions in `utils.questions`.
"""

from functools import cache

from utils import korean, lexicon
from utils.combinations import Choice, Usage
from utils.grammar import JOBS, PEOPLE, Adverbials, Speaker, Subject, article_of, place_phrase
from utils.lexicon import ADJECTIVES, NOUNS, Adjective, Frame, Noun
from utils.phrases import (
    Form,
    Phrase,
    adjective_phrase,
    after_words,
    auxiliary,
    coordinated,
    noun_phrase,
    phrase,
    prepositional,
    verb_words,
    with_korean,
)

NOTHING_MORE = Adverbials([], [], [], [], [])
COPULA = {"present": "예요", "past": "였어요"}
THERE_IS = {tense: verb_words("있다", tense) for tense in COPULA}
_THERE_IS_NOT = {tense: verb_words("없다", tense) for tense in COPULA}
_IS_NOT = {tense: verb_words("아니다", tense) for tense in COPULA}
_ME = phrase("me", "저에게", "0-0", ko_stems="저")
_US = phrase("us", "우리에게", "0-0", ko_stems="우리")
_DEGREES = {en: phrase(en, ko, "0-0") for en, ko in lexicon.DEGREES.items()}
_EARLY_OR_LATE = [phrase(en, lexicon.MANNERS[en], "0-0") for en in ("early", "late")]
_RIDES = {ride: prepositional("by", NOUNS[ride], "로", bare=True) for ride in lexicon.RIDES}


def statement(
    subject: Subject, verb: Phrase, objects: list[Phrase], adverbials: Adverbials = NOTHING_MORE
) -> Form:
    """Subject, verb and the rest in the order of each language."""
    often, end, when, around, manner = adverbials
    return Form(
        [subject.phrase, *often, verb, *objects, *end],
        [subject.phrase, *when, *around, *objects, *manner, verb],
        verb,
    )


# ------------------------------------------------------------------- what somebody does


def intransitive(s: Speaker) -> Form:
    """Minsu slept well yesterday."""
    frame = s.usage(s.intransitive).frame
    tense, negative = s.tense(frame), s.chance(0.14)
    subject = s.person("은", frame.subjects)
    adverbials = s.adverbials(frame, tense, subject, how=not negative)
    return statement(subject, s.verb(frame, tense, subject.person, negative), [], adverbials)


def animal(s: Speaker) -> Form:
    """The dog chased the squirrel in the garden."""
    usage = s.usage(s.animal)
    frame = usage.frame
    noun = NOUNS[s.pick(frame.subjects.split("+"))]
    s.used.add(noun.en)
    words = s.noun(noun, "은", determiner="the", adjective=s.adjective(noun, 0.35))
    subject = Subject(words, "third", noun.en)
    tense = s.tense(frame)
    objects = [s.object_of(usage)] if usage.objects else []
    adverbials = s.adverbials(frame, tense, subject)
    return statement(subject, s.verb(frame, tense, "third"), objects, adverbials)


def transitive(s: Speaker) -> Form:
    """Minsu ate an apple quickly."""
    usage = s.usage(s.transitive)
    frame = usage.frame
    tense = s.tense(frame)
    # Not to hate is odd, and not to find or lose is 못 rather than 안.
    negative = s.chance(0.14) and frame.profile != "mishap" and frame.en != "hate"
    subject = s.person("은", frame.subjects)
    obj = s.object_of(usage, numbers=()) if negative else one_or_two(s, usage)
    if negative and tense == "present" and obj.en[0] in ("a", "an"):
        tense = "past"  # nobody "does not buy a pen" as a habit
    verb = s.verb(frame, tense, subject.person, negative)
    adverbials = s.adverbials(frame, tense, subject, how=not negative)
    return statement(subject, verb, [obj], adverbials)


def one_or_two(s: Speaker, usage: Usage) -> Phrase:
    """What the verb acts on, at times two things: an apple and a pear."""
    if len(usage.frame.objects) < 3 or s.chance(0.86):
        return s.object_of(usage)
    frame = usage.frame
    first, second = s.fresh(usage.objects), s.fresh(usage.objects)
    return coordinated(
        s.thing(first, "와", frame.article, plain=True),
        s.thing(second, frame.particle, frame.article, plain=True),
    )


def ditransitive(s: Speaker) -> Form:
    """Minsu gave Suji a book."""
    usage = s.usage(s.ditransitive)
    frame = usage.frame
    tense, negative = s.pick(("past", "past", "future")), s.chance(0.1)
    subject = s.person("은")
    limits = {"numbers": ()} if negative else {}
    objects = [receiver(s, subject), s.object_of(usage, owned=False, **limits)]
    adverbials = s.adverbials(frame, tense, subject)
    return statement(subject, s.verb(frame, tense, subject.person, negative), objects, adverbials)


def receiver(s: Speaker, subject: Subject) -> Phrase:
    """To whom something is given."""
    chance = s.random()
    if chance < 0.25 and subject.word not in ("I", "we"):
        s.used.add("I" if chance < 0.17 else "we")
        return _ME if chance < 0.17 else _US
    if chance < 0.65:
        return s.noun(s.name(), "에게")
    if chance < 0.8:
        return s.relation("에게", 0.1).phrase
    noun = s.other(PEOPLE)
    return s.noun(noun, "에게", determiner="the", adjective=s.adjective(noun, 0.2))


def motion(s: Speaker) -> Form:
    """Minsu went to school by bus."""
    frame = s.pick(lexicon.MOTION_FRAMES)
    tense, negative = s.tense(frame), s.chance(0.13)
    subject = s.person("은")
    goal, adverbials = journey(s, frame, tense, subject, how=not negative)
    verb = s.verb(frame, tense, subject.person, negative)
    return statement(subject, verb, [goal], adverbials)


def journey(
    s: Speaker, frame: Frame, tense: str, subject: Subject, how: bool
) -> tuple[Phrase, Adverbials]:
    """Where to, and when, by what or with whom, as suits the place."""
    place = s.pick(lexicon.DESTINATIONS)
    city = NOUNS[place].group == "city"
    parts, time, often = [], [], []
    if how and s.chance(0.45):
        ride = s.pick(lexicon.RIDES_TO_CITIES if city else lexicon.RIDES)
        if place not in lexicon.ABROAD and s.chance(0.65):
            parts = [_RIDES[ride]]
        elif subject.word != "both":
            parts = [s.companion()]
    if tense == "present" and how and s.chance(0.5):
        often = [s.frequency()]
    elif tense == "present" and how:
        time = [s.time(s.pick(("week", "month", "month")) if city else "day", tense)]
    elif tense != "present" and s.chance(0.4):
        clock = not city and s.chance(0.4)
        time = [s.clock() if clock else s.time(s.pick(("week", "month")) if city else "day", tense)]
    manner = []
    if how and not parts and not often and not city and s.chance(0.2):
        manner = [s.pick(_EARLY_OR_LATE)]
    end = parts + manner + time
    return _goal(frame, place), Adverbials(often, end, time + often, parts, manner)


@cache
def _goal(frame: Frame, place: str) -> Phrase:
    """To the library, home, at the station."""
    noun = NOUNS[place]
    if place == "home":
        return noun_phrase(noun, "에")
    if frame.en == "arrive" and noun.group == "city":
        return place_phrase(place, "에")
    preposition = "at" if frame.en == "arrive" else "to"
    return prepositional(
        preposition, noun, "에", bare=noun.kind == "bare" or place in lexicon.ARTICLELESS
    )


# ------------------------------------------------------------------- what is so


def somebody(s: Speaker, speakers: bool = True) -> Subject:
    """Somebody whose profession can be told."""
    chance = s.random()
    if speakers and chance < 0.15:
        return s.speaker("I", "은")
    if chance < 0.65:
        return s.named("은")
    if chance < 0.85:
        return s.relation("은", 0.15)
    noun = NOUNS[s.pick(("man", "woman"))]
    parts = {"determiner": s.pick(("this", "that")), "adjective": s.adjective(noun, 0.25)}
    return Subject(s.noun(noun, "은", **parts), "third", noun.en)


def copular(s: Speaker) -> Form:
    """Minsu is a famous singer."""
    subject, noun = somebody(s), s.other(JOBS)
    parts = {"determiner": "a", "adjective": lasting(s, noun)}
    tense, chance = s.pick(("present", "past")), s.random()
    if chance < 0.22:
        tense = s.pick(("past", "future"))
        time = [s.time("month", tense)] if s.chance(0.4) else []
        verb = s.verb(lexicon.BECOME, tense, subject.person)
        complement = s.noun(noun, "이", **parts)
        return statement(subject, verb, [complement], Adverbials([], time, time, [], []))
    be = subject.be(tense)
    if chance < 0.42:
        verb = phrase(f"{be} not", _IS_NOT[tense], "1-0", "0-0")
        return statement(subject, verb, [s.noun(noun, "이", **parts)])
    words = after_words(be, s.noun(noun, COPULA[tense], **parts))
    return Form([subject.phrase, words], [subject.phrase, words], words)


def lasting(s: Speaker, noun: Noun) -> Adjective | None:
    """Perhaps an adjective that somebody can be called for long: a famous singer."""
    return s.adjective(noun, 0.5, (*lexicon.PASSING_STATES, "young"))


def demonstrative(s: Speaker) -> Form:
    """This is not my old bag."""
    this, noun = pointed_at(s)
    if s.chance(0.25):
        verb = phrase("is not", _IS_NOT["present"], "1-0", "0-0")
        words = described_as(s, noun, "이")
        return Form([this, verb, words], [this, words, verb], verb)
    words = after_words("is", described_as(s, noun, COPULA["present"]))
    return Form([this, words], [this, words], words)


def pointed_at(s: Speaker) -> tuple[Phrase, Noun]:
    """This or that, and what it is."""
    en, ko = s.pick((("this", "이것"), ("that", "그것")))
    return phrase(en, ko + "은", "0-0", ko_stems=ko), s.other(lexicon.POINTED_AT)


def described_as(s: Speaker, noun: Noun, particle: str) -> Phrase:
    """A red apple, or my bag."""
    owned = noun.en in lexicon.OWNED and s.chance(0.55)
    determiner = s.owner() if owned else article_of(noun, "a")
    return s.noun(noun, particle, determiner=determiner, adjective=s.adjective(noun, 0.3))


def described(s: Speaker, options: list[Choice]) -> Subject:
    """The subject of an adjective, whose particle depends on what comes before the noun."""
    noun, _ = s.fresh(options)
    if noun.kind == "bare":
        return Subject(s.noun(noun, "은"), "third", noun.en)
    chance = s.random()
    plural = noun.kind == "plural" or (noun.group in ("job", "youth") and chance > 0.88)
    determiner = "the"
    if noun.group == "relation" or (noun.en in lexicon.OWNED and chance < 0.25):
        determiner = s.owner()
    elif noun.kind == "count" and 0.6 < chance < 0.8:
        determiner = s.pick(("this", "that"))
    particle = "이" if determiner == "the" else "은"
    words = s.noun(noun, particle, determiner=determiner, plural=plural)
    return Subject(words, "other" if plural else "third", noun.en)


def adjectival(s: Speaker) -> Form:
    """The soup was very spicy."""
    adjective, tense = s.pick(lexicon.PREDICATES), s.pick(("present", "present", "past"))
    passing = adjective.en in lexicon.PASSING_STATES
    if passing and s.chance(0.2):
        subject = s.speaker(s.pick(("I", "we")), "은")
    else:
        subject = described(s, s.nouns_of[adjective.en])
    negative = s.chance(0.3)
    degree, time = [], []
    if not negative and s.chance(0.35):
        degree = [_DEGREES[s.pick(lexicon.DEGREES_OF[adjective.en])]]
    if tense == "past" and passing and s.chance(0.5):
        time = [s.time("day", tense)]
    verb = adjective_phrase(adjective, tense, negative)
    return Form(
        [subject.phrase, auxiliary(subject.be(tense)), *degree, verb, *time],
        [subject.phrase, *time, *degree, verb],
        verb,
    )


def two_adjectives(s: Speaker) -> Form:
    """The room is small but clean."""
    (first, conjunction, second), options = s.pick(s.described_twice)
    subject, tense = described(s, options), s.pick(("present", "present", "past"))
    stem = adjective_phrase(ADJECTIVES[first], tense)
    ending = "고" if conjunction == "and" else "지만"
    stem = with_korean(stem, korean.connective(ADJECTIVES[first].ko, ending))
    verb = coordinated(stem, adjective_phrase(ADJECTIVES[second], tense), conjunction)
    be = auxiliary(subject.be(tense))
    return Form([subject.phrase, be, verb], [subject.phrase, verb], verb)


def possession(s: Speaker) -> Form:
    """Minsu does not have a red car."""
    subject, tense, negative = s.person("은"), s.pick(("present", "present", "past")), s.chance(0.2)
    obj = s.having(numbers=not negative)
    if not negative:
        return statement(subject, s.verb(lexicon.HAVE, tense, subject.person), [obj])
    do = {"present": "does" if subject.agreement == "third" else "do", "past": "did"}[tense]
    verb = phrase(f"{do} not have", _THERE_IS_NOT[tense], "1-0 2-0", "0-0")
    return statement(subject, verb, [obj])


def existential(s: Speaker) -> Form:
    """There are three cats under the table."""
    (place, noun), chance = s.spot(), s.random()
    tense = "past" if s.chance(0.3) else "present"
    number = s.number() if chance < 0.35 and noun.classifier else None
    be = there_be(noun, tense, bool(number))
    adjective = None if number and noun.measure else s.adjective(noun, 0.3)
    if chance > 0.8:
        words = s.noun(noun, "이", adjective=adjective)
        verb = phrase(f"there {be} no", _THERE_IS_NOT[tense], "1-0 2-0", "0-0")
    else:
        determiner = "" if number else article_of(noun, "a")
        words = s.noun(noun, "이", determiner=determiner, adjective=adjective, number=number)
        verb = phrase(f"there {be}", THERE_IS[tense], "1-0", "0-0")
    return Form([verb, words, place], [place, words, verb], verb)


def there_be(noun: Noun, tense: str, counted: bool) -> str:
    """The form of "to be" for what there is."""
    many = counted or noun.kind == "plural"
    return {"present": ("is", "are"), "past": ("was", "were")}[tense][many]


def located(s: Speaker) -> Form:
    """The key is not in the drawer."""
    (subject, place), tense = whereabouts(s), s.pick(("present", "past"))
    be = subject.be(tense)
    if s.chance(0.2):
        verb = phrase(f"{be} not", _THERE_IS_NOT[tense], "0-0 1-0")
    else:
        verb = phrase(be, THERE_IS[tense], "0-0")
    time = []
    if tense == "past" and s.chance(0.4):
        time = [s.clock() if s.chance(0.45) else s.time("day", tense)]
    return Form([subject.phrase, verb, place, *time], [subject.phrase, *time, place, verb], verb)


def whereabouts(s: Speaker, speakers: bool = True) -> tuple[Subject, Phrase]:
    """Somebody, and the place where they are; or something, and what it is in or under."""
    if s.chance(0.4):
        return s.person("은", speakers=speakers), place_phrase(s.pick(lexicon.WHEREABOUTS), "에")
    place, noun = s.side()
    determiner = s.owner() if noun.en in lexicon.OWNED and s.chance(0.4) else "the"
    words = s.noun(noun, "은", determiner=determiner, adjective=s.adjective(noun, 0.2))
    return Subject(words, "third", noun.en), place


# Each pattern and its weight in the choice among `corpus.PATTERNS`.
STATEMENTS = {
    transitive: 20,
    intransitive: 6,
    animal: 2,
    ditransitive: 6,
    motion: 4,
    copular: 5,
    demonstrative: 3,
    adjectival: 10,
    two_adjectives: 2,
    possession: 4,
    existential: 5,
    located: 4,
}
