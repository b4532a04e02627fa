"""Sentence patterns of questions; the rules are those of `utils.patterns`.

Korean asks in the order of a statement, with the question word in the place of what it asks for:

    누가 (who)  무엇을 (what)  누구를 (whom)  어디에, 어디에서 (where)  언제 (when)  왜 (why)
    어떻게 (how)  몇 and a classifier (how many)
"""

from functools import cache

from utils import lexicon
from utils.clauses import definite
from utils.combinations import STATIVE, Usage
from utils.grammar import JOBS, LOCATED, Adverbials, Speaker, Subject, article_of
from utils.korean import attach
from utils.lexicon import NOUNS, Frame, Noun
from utils.patterns import (
    COPULA,
    NOTHING_MORE,
    THERE_IS,
    described,
    described_as,
    journey,
    lasting,
    one_or_two,
    pointed_at,
    receiver,
    somebody,
    statement,
    there_be,
    whereabouts,
)
from utils.phrases import Form, Phrase, adjective_phrase, auxiliary, phrase

_WHO = Subject(phrase("who", "누가", "0-0"), "third", "who")
_WHEN = phrase("when", "언제", "0-0")
_WHY = phrase("why", "왜", "0-0")
_HOW = phrase("how", "어떻게", "0-0")
_WHERE = {
    particle: phrase("where", "어디" + particle, "0-0", ko_stems="어디")
    for particle in ("에", "에서")
}


def _do(tense: str, subject: Subject) -> Phrase:
    """Do, does, did or will."""
    if tense == "present":
        return auxiliary("does" if subject.agreement == "third" else "do")
    return auxiliary("did" if tense == "past" else "will")


def _asked_about(s: Speaker, frame: Frame) -> Subject:
    """The subject of a question with a verb; nobody asks about themselves."""
    return s.person("은" if frame.profile in STATIVE else "이", frame.subjects, speakers=False)


def _ask(
    s: Speaker,
    frame: Frame,
    tense: str,
    subject: Subject,
    objects: list[Phrase],
    adverbials: Adverbials = NOTHING_MORE,
    asked: Phrase | None = None,
) -> Form:
    """A question with do or will; ``asked`` is an adverb such as why, or what is acted on."""
    often, end, when, around, manner = adverbials
    verb, words = s.verb(frame, tense, "bare"), [asked] if asked else []
    return Form(
        [*words, _do(tense, subject), subject.phrase, *often, verb, *objects, *end],
        [subject.phrase, *when, *words, *around, *objects, *manner, verb],
        verb,
        "?",
    )


# ------------------------------------------------------------------- yes or no


def yes_no_transitive(s: Speaker) -> Form:
    """Did Minsu buy a book at the market?"""
    usage = s.usage(s.transitive)
    frame, tense = usage.frame, s.tense(usage.frame)
    subject = _asked_about(s, frame)
    obj = one_or_two(s, usage)
    return _ask(s, frame, tense, subject, [obj], s.adverbials(frame, tense, subject))


def yes_no_intransitive(s: Speaker) -> Form:
    """Does Minsu often swim?"""
    frame = s.usage(s.intransitive).frame
    tense, subject = s.tense(frame), _asked_about(s, frame)
    return _ask(s, frame, tense, subject, [], s.adverbials(frame, tense, subject))


def yes_no_ditransitive(s: Speaker) -> Form:
    """Will Minsu give Suji a book?"""
    usage = s.usage(s.ditransitive)
    frame, tense = usage.frame, s.pick(("past", "future"))
    subject = _asked_about(s, frame)
    objects = [receiver(s, subject), s.object_of(usage, owned=False)]
    return _ask(s, frame, tense, subject, objects, s.adverbials(frame, tense, subject))


def yes_no_motion(s: Speaker) -> Form:
    """Did Minsu go to school by bus?"""
    frame = s.pick(lexicon.MOTION_FRAMES)
    tense, subject = s.tense(frame), _asked_about(s, frame)
    goal, adverbials = journey(s, frame, tense, subject, how=True)
    return _ask(s, frame, tense, subject, [goal], adverbials)


def yes_no_being(s: Speaker) -> Form:
    """Is Minsu a doctor? Is this your bag? Is the room clean? Is the key in the drawer?"""
    tense, kind = s.pick(("present", "present", "past")), s.pick(range(4))
    if kind == 0:
        subject, noun = somebody(s, speakers=False), s.other(JOBS)
        adjective = lasting(s, noun)
        words = s.noun(noun, COPULA[tense], determiner="a", adjective=adjective)
    elif kind == 1:
        this, noun = pointed_at(s)
        subject, tense = Subject(this, "third", noun.en), "present"
        words = described_as(s, noun, COPULA[tense])
    elif kind == 2:
        adjective = s.pick(lexicon.PREDICATES)
        subject = described(s, s.nouns_of[adjective.en])
        words = adjective_phrase(adjective, tense)
    else:
        subject, place = whereabouts(s, speakers=False)
        verb = phrase(subject.be(tense), THERE_IS[tense], "0-0")
        return Form([verb, subject.phrase, place], [subject.phrase, place, verb], verb, "?")
    be = auxiliary(subject.be(tense))
    return Form([be, subject.phrase, words], [subject.phrase, words], words, "?")


def yes_no_having(s: Speaker) -> Form:
    """Does Minsu have a car? Is there a cat under the table?"""
    tense = s.pick(("present", "present", "past"))
    if s.chance(0.5):
        subject = s.person("은", speakers=False)
        return _ask(s, lexicon.HAVE, tense, subject, [s.having()])
    place, noun = s.spot()
    be = phrase(f"{there_be(noun, tense, False)} there", THERE_IS[tense], "0-0", "1-0")
    words = s.noun(noun, "이", determiner=article_of(noun, "a"), adjective=s.adjective(noun, 0.3))
    return Form([be, words, place], [place, words, be], be, "?")


# ------------------------------------------------------------------- question words


def who(s: Speaker) -> Form:
    """Who fixed the car yesterday?"""
    usage = s.usage(s.transitive if s.chance(0.8) else s.intransitive)
    if usage.frame.en == "need":
        usage = s.usage(s.eventful)
    frame, tense = usage.frame, s.tense(usage.frame)
    objects = [_known_object(s, usage, tense)] if usage.objects else []
    adverbials = s.adverbials(frame, tense, _WHO)
    form = statement(_WHO, s.verb(frame, tense, "third"), objects, adverbials)
    return form._replace(mark="?")


# Without an object, what one will sweep (쓸다) is what one will write (쓰다): 무엇을 쓸 거예요?
_SAME_IN_KOREAN = ("sweep",)


def what(s: Speaker) -> Form:
    """What did Minsu buy at the market? Who did Minsu meet?"""
    while (frame := s.usage(s.transitive).frame).en in _SAME_IN_KOREAN:
        pass
    people = any(NOUNS[noun].group in ("name", "relation") for noun in frame.objects)
    tense, subject = s.tense(frame), _asked_about(s, frame)
    adverbials = s.adverbials(frame, tense, subject)
    en, ko = ("who", "누구") if people else ("what", "무엇")
    word = phrase(en, attach(ko, frame.particle), "0-0", ko_stems=ko)
    return _ask(s, frame, tense, subject, [], _asked_late(adverbials), word)


def _asked_late(adverbials: Adverbials) -> Adverbials:
    """Adverbials for a question about an object, which all come before it in Korean."""
    return adverbials._replace(when=adverbials.when + adverbials.around, around=[])


def where(s: Speaker) -> Form:
    """Where did Minsu buy the book? Where is the key?"""
    if s.chance(0.3):
        subject, _ = whereabouts(s, speakers=False)
        tense = s.pick(("present", "past"))
        words, verb = _WHERE["에"], phrase(subject.be(tense), THERE_IS[tense], "0-0")
        return Form([words, verb, subject.phrase], [subject.phrase, words, verb], verb, "?")
    if s.chance(0.25):
        frame = s.pick(lexicon.MOTION_FRAMES[:1])  # go
        usage = Usage(frame, [])
    else:
        usage = s.usage(s.placed)
        frame = usage.frame
    tense, subject = s.tense(frame), _asked_about(s, frame)
    objects = [_known_object(s, usage, tense)] if usage.objects else []
    adverbials = s.adverbials(frame, tense, subject, where=False)
    adverbials = _asked_late(adverbials)
    towards = frame.ko in LOCATED or frame in lexicon.MOTION_FRAMES
    return _ask(s, frame, tense, subject, objects, adverbials, _WHERE["에" if towards else "에서"])


def _known_object(s: Speaker, usage: Usage, tense: str) -> Phrase:
    """What a question takes as known: the book; as a habit still a book."""
    frame = usage.frame
    article = frame.article if tense == "present" else definite(frame)
    return s.object_of(usage, article, numbers=())


def when(s: Speaker) -> Form:
    """When will Minsu go to Busan?"""
    return _when_or_why(s, _WHEN, ("past", "future"))


def why(s: Speaker) -> Form:
    """Why did Minsu sell the car?"""
    return _when_or_why(s, _WHY, ("past",))


def _when_or_why(s: Speaker, word: Phrase, tenses: tuple[str, ...]) -> Form:
    usage = s.usage(s.pick((s.eventful, s.eventful, s.intransitive)))
    frame, tense = usage.frame, s.pick(tenses)
    if tense not in lexicon.PROFILES[frame.profile][0]:
        tense = "past"
    subject = _asked_about(s, frame)
    objects = [_known_object(s, usage, tense)] if usage.objects else []
    place = [s.place_of(frame)] if frame.ko in LOCATED or (frame.places and s.chance(0.3)) else []
    return _ask(s, frame, tense, subject, objects, Adverbials([], place, [], place, []), word)


def how(s: Speaker) -> Form:
    """How did Minsu go to Busan?"""
    frame = s.pick(lexicon.MOTION_FRAMES[:2])  # go or come
    tense, subject = s.tense(frame), _asked_about(s, frame)
    goal, adverbials = journey(s, frame, tense, subject, how=False)
    return _ask(s, frame, tense, subject, [goal], adverbials, _HOW)


def how_many(s: Speaker) -> Form:
    """How many books did Minsu buy? How many cats are there in the garden?"""
    chance = s.random()
    if chance < 0.3:
        place, noun = s.spot()
        while not noun.classifier or noun.measure:
            place, noun = s.spot()
        words, verb = _many(noun, "이"), phrase("are there", THERE_IS["present"], "0-0", "1-0")
        return Form([words, verb, place], [place, words, verb], verb, "?")
    if chance < 0.5:
        frame, noun = lexicon.HAVE, s.fresh(s.had)[0]
        subject, tense = s.person("은", speakers=False), "present"
        return _ask(s, frame, tense, subject, [], NOTHING_MORE, _many(noun, "이"))
    usage = s.usage(s.countable)
    frame, noun = usage.frame, s.fresh(usage.objects)[0]
    tense, subject = s.pick(("past", "future")), _asked_about(s, usage.frame)
    if frame.profile in ("mishap", "state"):
        tense = "past"
    adverbials = s.adverbials(frame, tense, subject, how=False)
    words = _many(noun, frame.particle)
    return _ask(s, frame, tense, subject, [], _asked_late(adverbials), words)


@cache
def _many(noun: Noun, particle: str) -> Phrase:
    return phrase(
        f"how many {noun.plural}",
        f"{attach(noun.ko, particle)} 몇 {noun.classifier}",
        "1-1 2-0",
        "0-1 0-2 1-2 2-2",
        f"{noun.ko} 몇 {noun.classifier}",
    )


# Each pattern and its weight in the choice among `corpus.PATTERNS`.
QUESTIONS = {
    yes_no_transitive: 3,
    yes_no_intransitive: 1,
    yes_no_ditransitive: 1,
    yes_no_motion: 1,
    yes_no_being: 3,
    yes_no_having: 2,
    who: 2,
    what: 2,
    where: 2,
    when: 1,
    why: 1,
    how: 1,
    how_many: 2,
}
