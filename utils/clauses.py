"""Sentence patterns of more than one clause; the rules are those of `utils.patterns`.

A first clause ends in -고 (and) or -지만 (but). A relative clause stands before its noun in Korean,
its verb in the adnominal form of the past: the man who bought the car -- 자동차를 산 남자.
"""

from functools import cache

from utils import korean, lexicon
from utils.combinations import Usage
from utils.grammar import ADULTS, PEOPLE, Speaker, Subject, place_phrase
from utils.lexicon import Frame
from utils.patterns import journey
from utils.phrases import (
    Form,
    Phrase,
    adjective_phrase,
    after_words,
    auxiliary,
    phrase,
    with_comma,
    with_korean,
)


def two_subjects(s: Speaker) -> Form:
    """Minsu baked bread, and Suji drank tea."""
    _, verbs = s.pick(s.scenes)
    first, second = s.two(verbs)
    return _two_clauses(s, first, second, "past", "and", korean.past_connective(first.frame.ko))


def two_likings(s: Speaker) -> Form:
    """Minsu likes coffee, but Suji likes tea."""
    like = s.pick(s.liking)
    return _two_clauses(s, like, like, "present", "but", korean.connective(like.frame.ko, "지만"))


def _two_clauses(
    s: Speaker, first: Usage, second: Usage, tense: str, conjunction: str, connected: str
) -> Form:
    clauses = []
    for usage in (first, second):
        subject, verb = s.named("은"), s.verb(usage.frame, tense, "third")
        clauses.append((subject.phrase, verb, s.object_of(usage, owned=False)))
    (subject, verb, obj), (subject_2, verb_2, obj_2) = clauses
    verb, obj = with_korean(verb, connected), with_comma(obj)
    return Form(
        [subject, verb, obj, auxiliary(conjunction), subject_2, verb_2, obj_2],
        [subject, obj, verb, subject_2, obj_2, verb_2],
        verb,
    )


def two_actions(s: Speaker) -> Form:
    """Minsu ate a sandwich and drank coffee at the cafe."""
    place, verbs = s.pick(s.scenes)
    first, second = s.two(verbs)
    subject = s.person("은")
    parts = []
    for usage in (first, second):
        parts += [s.verb(usage.frame, "past", subject.person), s.object_of(usage, plain=True)]
    verb, obj, verb_2, obj_2 = parts
    verb = with_korean(verb, korean.connective(first.frame.ko))
    where = [place_phrase(place, "에서")] if s.chance(0.6) else []
    return Form(
        [subject.phrase, verb, obj, auxiliary("and"), verb_2, obj_2, *where],
        [subject.phrase, *where, obj, verb, obj_2, verb_2],
        verb,
    )


def relative_subject(s: Speaker) -> Form:
    """The man who bought the car was busy."""
    usage = s.usage(s.eventful)
    frame = usage.frame
    verb = adnominal(frame, f"who {frame.past}")
    obj = s.object_of(usage, definite(frame), plain=True)
    noun, chance = s.other(ADULTS if frame.subjects == "adult" else PEOPLE), s.random()
    head = s.noun(noun, "은", determiner="the")
    subject = Subject(head, "third", noun.en)
    if chance < 0.45 and (options := s.predicates_of(noun)):
        word, held = s.pick(options)
        s.held |= held
        tense = s.pick(("present", "past"))
        main = after_be(subject.be(tense), adjective_phrase(word, tense))
        return Form([head, verb, obj, main], [obj, verb, head, main], main)
    motion_frame = s.pick(lexicon.MOTION_FRAMES)
    goal, adverbials = journey(s, motion_frame, "past", subject, how=False)
    main = s.verb(motion_frame, "past", "third")
    return Form(
        [head, verb, obj, main, goal, *adverbials.end],
        [obj, verb, head, *adverbials.when, goal, main],
        main,
    )


def relative_object(s: Speaker) -> Form:
    """The car that Minsu bought was expensive."""
    while True:
        usage = s.usage(s.eventful)
        noun, held = s.pick(usage.objects)
        clashing = lexicon.CLASHES.get(usage.frame.en, ())
        options = [choice for choice in s.predicates_of(noun) if choice[0].en not in clashing]
        if options and noun.kind in ("count", "mass") and noun.group not in lexicon.PEOPLE_GROUPS:
            break
    s.used.add(noun.en)
    word, also_held = s.pick(options)
    frame, held = usage.frame, s.held or held or also_held
    subject = s.person("이", frame.subjects)
    while subject.phrase.en[0] == "that":  # the doll that that doctor hid
        s.held = False  # whatever it was about that doctor is not said
        subject = s.person("이", frame.subjects)
    s.held |= held
    head = s.noun(noun, "은", determiner="the")
    verb = adnominal(frame, frame.past)
    main = after_be("was", adjective_phrase(word, "past"))
    that = auxiliary("that")
    return Form([head, that, subject.phrase, verb, main], [subject.phrase, verb, head, main], verb)


@cache
def adnominal(frame: Frame, en: str) -> Phrase:
    """A verb before a noun: who bought -- 산."""
    words = en.split()
    head = int(words[0] == "who")
    others = " ".join(f"{i}-0" for i in range(len(words)) if i != head)
    return phrase(en, korean.adnominal(frame.ko), f"{head}-0", others)


@cache
def after_be(be: str, predicate: Phrase) -> Phrase:
    """A predicative adjective after "to be"."""
    return after_words(be, predicate)


def definite(frame: Frame) -> str:
    """The article of an object that is known: "the" wherever it can be."""
    return frame.article if frame.article == "generic" else "the"


# Each pattern and its weight in the choice among `corpus.PATTERNS`.
COMPLEX = {
    two_subjects: 2,
    two_likings: 2,
    two_actions: 3,
    relative_subject: 3,
    relative_object: 3,
}
