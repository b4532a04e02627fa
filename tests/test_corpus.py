"""The embedded corpus: what it promises, checked from its sentences and not from its inside."""

import itertools
import os
import re
import subprocess
import sys
from collections import Counter

import pytest

from utils import corpus, korean, lexicon
from utils.combinations import is_held_out
from utils.corpus import Pair, generate
from utils.lexicon import ADJECTIVES, NOUNS
from utils.phrases import (
    Form,
    accompanied,
    adjective_phrase,
    after_words,
    assemble,
    auxiliary,
    noun_phrase,
    phrase,
    prepositional,
    third_person,
    time_phrase,
    verb_phrase,
)

NAMES = {noun.en for noun in NOUNS.values() if noun.group == "name"}
NUMBER_OF = {form: noun.en for noun in NOUNS.values() for form in (noun.en, noun.plural)}
BEFORE_NOUN = {"a", "an", "the", "this", "that", "my", "our", "of"}
ALL_FRAMES = [*lexicon.FRAMES, *lexicon.DITRANSITIVE_FRAMES, lexicon.HAVE]
VERB_OF = {
    tuple(form.split()): frame.en
    for frame in ALL_FRAMES
    for form in (frame.en, frame.past, third_person(frame.en))
}
GIVING = {frame.en for frame in lexicon.DITRANSITIVE_FRAMES}


@pytest.fixture(scope="module")
def train() -> list[Pair]:
    return generate("grammar", "train", 20_000, seed=1)


@pytest.fixture(scope="module")
def held_out() -> dict[str, list[Pair]]:
    return {split: generate("grammar", split, 1000, seed=1) for split in ("eval", "test")}


def words_of(sentence: str) -> list[str]:
    """Words without punctuation, the first as it stands in the lexicon."""
    words = [word.rstrip(".,?") for word in sentence.split(" ")]
    if words[0] not in NOUNS and words[0].removesuffix("'s") not in NOUNS and words[0] != "I":
        words[0] = words[0].lower()
    return words


# ------------------------------------------------------------------- the interface


def test_sentences_are_one_line_of_single_spaces(train, held_out):
    for pair in itertools.chain(train, *held_out.values()):
        for text in (pair.src, pair.tgt):
            assert re.fullmatch(r"[^\s.?]+( [^\s.?]+)*[.?]", text)
        assert pair.src[0].isupper()
        assert pair.src[-1] == pair.tgt[-1]


def test_lengths(train):
    lengths = [len(pair.src.split()) for pair in train]
    assert max(lengths) <= 14
    assert 6 <= sum(lengths) / len(lengths) <= 9


@pytest.mark.parametrize("task", corpus.TASKS)
def test_the_seed_decides(task):
    once = generate(task, "train", 300, seed=4)
    assert generate(task, "train", 300, seed=4) == once
    assert generate(task, "train", 120, seed=4) == once[:120]
    assert generate(task, "train", 300, seed=5) != once
    assert len({pair.src for pair in once}) == 300


def test_the_seed_decides_in_any_process():
    code = (
        "from utils.corpus import generate; import zlib;"
        "print(zlib.crc32(repr(generate('grammar', 'eval', 60, 3)).encode()))"
    )
    printed = set()
    for hash_seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        result = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, check=True
        )
        printed.add(result.stdout)
    assert len(printed) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sorting", "train", 1, 0), "sorting"),
        (("grammar", "dev", 1, 0), "dev"),
        (("grammar", "train", -1, 0), "-1"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        generate(*arguments)


def test_more_than_there_is_is_an_error_with_both_numbers(monkeypatch):
    monkeypatch.setattr(corpus, "LENGTHS", range(3, 4))
    monkeypatch.setattr(corpus, "SYLLABLES", ("ba", "di"))
    with pytest.raises(ValueError, match=r"\b9\b.*\b[1-8]\b"):
        generate("copy", "train", 9, seed=0)


def test_reversed_direction():
    pair = Pair("I slept.", "저는 잤어요.", ((0, 0), (1, 1)), ((0, 1),), (1, 5), (1, 3))
    back = pair.reversed_direction()
    assert back == Pair("저는 잤어요.", "I slept.", ((0, 0), (1, 1)), ((1, 0),), (1, 3), (1, 5))
    assert back.reversed_direction() == pair


# ------------------------------------------------------------------- copy and reverse


@pytest.mark.parametrize("task", ["copy", "reverse"])
def test_rows(task):
    splits = {split: generate(task, split, 400, seed=2) for split in corpus.SPLITS}
    for pair in itertools.chain(*splits.values()):
        src, tgt = pair.src.split(" "), pair.tgt.split(" ")
        assert 3 <= len(src) <= 12
        assert tgt == (src if task == "copy" else src[::-1])
        last = len(src) - 1
        assert pair.sure == tuple((i, i if task == "copy" else last - i) for i in range(len(src)))
        assert [word[:n] for word, n in zip(src, pair.src_stems, strict=True)] == src
        assert [word[:n] for word, n in zip(tgt, pair.tgt_stems, strict=True)] == tgt
    sources = [{pair.src for pair in pairs} for pairs in splits.values()]
    assert not any(a & b for a, b in itertools.combinations(sources, 2))


# ------------------------------------------------------------------- what is held out


def noun_after(words: list[str], at: int) -> tuple[str | None, int]:
    """The noun of the noun phrase that starts at ``at``, if one does, and where it ends."""
    words = [*words, "", "", ""]
    while (
        words[at] in BEFORE_NOUN
        or words[at] in ADJECTIVES
        or words[at] in lexicon.NUMBERS
        or words[at].endswith("'s")
        or words[at + 1] == "of"  # cups of coffee
    ):
        at += 1
    return (NUMBER_OF[words[at]], at + 1) if words[at] in NUMBER_OF else (None, at)


def combinations_in(sentence: str) -> set[tuple[str, str]]:
    """Verb-object and adjective-noun combinations, read off the English words."""
    clauses = re.split(r", (?:and|but) ", sentence)
    return set().union(*map(combinations_in_clause, clauses))


def combinations_in_clause(clause: str) -> set[tuple[str, str]]:
    words, found = words_of(clause), set()
    for word, following in itertools.pairwise(words):
        if word in ADJECTIVES and following in NUMBER_OF:
            found.add((word, NUMBER_OF[following]))
    relative = words[2:3] in (["who"], ["that"]) and words[0] == "the"
    for at, word in enumerate(words):
        attributive = words[at + 1 : at + 2] and words[at + 1] in NUMBER_OF
        if word in ADJECTIVES and not attributive:
            nouns = [NUMBER_OF[w] for w in words[:at] if w in NUMBER_OF]
            if nouns:  # not: I am tired
                found.add((word, nouns[0] if relative else nouns[-1]))
        for size in (2, 1):
            verb = VERB_OF.get(tuple(words[at : at + size]))
            if verb:
                found |= {(verb, noun) for noun in objects_of(verb, words, at, at + size)}
                break
    return found


def objects_of(verb: str, words: list[str], start: int, end: int) -> list[str]:
    if words[:2] == ["how", "many"]:
        return [NUMBER_OF[words[2]]]
    if (
        words[2:3] == ["that"]
        and words[0] == "the"
        and start + 1 < len(words)
        and words[end] == "was"
    ):
        return [NUMBER_OF[words[1]]]
    if verb in GIVING:
        _, end = (None, end + 1) if words[end] in ("me", "us") else noun_after(words, end)
    noun, end = noun_after(words, end)
    objects = [noun] if noun else []
    if noun and words[end : end + 1] == ["and"]:
        objects += filter(None, noun_after(words, end + 1)[:1])
    return objects


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("The kind man bought two red cars.", {("kind", "man"), ("red", "car"), ("buy", "car")}),
        ("Tom gave my lazy friend a book.", {("lazy", "friend"), ("give", "book")}),
        ("The book that Tom bought was thin.", {("buy", "book"), ("thin", "book")}),
        ("The man who sold the car is tired.", {("sell", "car"), ("tired", "man")}),
        ("How many cups did Tom wash?", {("wash", "cup")}),
        ("Is this room small?", {("small", "room")}),
        ("The room was small but clean.", {("small", "room"), ("clean", "room")}),
        ("Will Tom drink two cups of tea?", {("drink", "tea")}),
        ("Tom broke four cups.", {("break", "cup")}),
        ("Tom waited for Anna.", {("wait for", "Anna")}),
        ("Tom washed a cup and a plate.", {("wash", "cup"), ("wash", "plate")}),
        ("I am tired.", set()),
    ],
)
def test_combinations_are_read_off_sentences(sentence, expected):
    assert combinations_in(sentence) == expected


def test_training_has_no_held_out_combination(train):
    seen = Counter(c for pair in train for c in combinations_in(pair.src))
    assert len(seen) > 1500
    assert not [combination for combination in seen if is_held_out(*combination)]


@pytest.mark.parametrize("split", ["eval", "test"])
def test_every_held_out_sentence_has_a_combination_that_training_never_shows(
    split, train, held_out
):
    seen = {c for pair in train for c in combinations_in(pair.src)}
    for pair in held_out[split]:
        assert set(combinations_in(pair.src)) - seen, pair.src


def test_both_kinds_of_combination_are_held_out(held_out):
    for pairs in held_out.values():
        found = [c for pair in pairs for c in combinations_in(pair.src) if is_held_out(*c)]
        with_adjective = sum(word in ADJECTIVES for word, _ in found)
        assert min(with_adjective, len(found) - with_adjective) > len(found) / 5


def test_every_word_keeps_most_of_its_combinations():
    frames = [*lexicon.FRAMES, *lexicon.DITRANSITIVE_FRAMES]
    known = {(frame.en, noun) for frame in frames for noun in frame.objects}
    known |= {(word.en, noun) for word in ADJECTIVES.values() for noun in word.nouns}
    for word in {word for combination in known for word in combination}:
        mine = [combination for combination in known if word in combination]
        assert sum(is_held_out(*c) for c in mine) <= len(mine) / 8


def test_a_fair_share_is_held_out():
    combinations = [(f.en, noun) for f in lexicon.FRAMES for noun in f.objects]
    combinations += [(word.en, noun) for word in ADJECTIVES.values() for noun in word.nouns]
    share = sum(is_held_out(*combination) for combination in combinations) / len(combinations)
    assert 0.06 < share <= 0.1


def test_no_source_is_in_two_splits_whatever_the_seeds(train, held_out):
    sources = [
        {pair.src for pair in train},
        {p.src for p in held_out["eval"]} | {p.src for p in generate("grammar", "eval", 1000, 9)},
        {p.src for p in held_out["test"]} | {p.src for p in generate("grammar", "test", 1000, 8)},
    ]
    assert not any(a & b for a, b in itertools.combinations(sources, 2))


def test_every_word_of_the_held_out_splits_is_in_training(train, held_out):
    for side in (0, 1):
        known = {word for pair in train for word in re.findall(r"[\w']+", pair[side])}
        held = "".join(pair[side] for pairs in held_out.values() for pair in pairs)
        words = re.findall(r"[\w']+", held)
        unknown = [word for word in words if word not in known]
        assert len(unknown) <= len(words) / 150  # rare forms of known words


# ------------------------------------------------------------------- the lexicon


def entries() -> list[list[str]]:
    """All English entries, a list for each word class."""
    verbs = [*ALL_FRAMES, *lexicon.MOTION_FRAMES, lexicon.BECOME]
    proper = [noun.en for noun in NOUNS.values() if noun.group in ("name", "city")]
    return [
        [word for word in NOUNS if word not in proper],
        proper,
        list(dict.fromkeys(frame.en for frame in verbs)),
        list(ADJECTIVES),
        [*lexicon.MANNERS, *lexicon.FREQUENCIES, *lexicon.DEGREES],
        list(dict.fromkeys(word.en for word in lexicon.TIME_WORDS)),
        list(lexicon.NUMBERS),
        ["with", *(side[0] for side in lexicon.SIDES)],
    ]


def test_lexicon_is_large_and_balanced():
    sizes = [len(words) for words in entries()]
    assert sum(sizes) >= 350
    assert max(sizes) <= 0.4 * sum(sizes)
    assert all(len(set(words)) == len(words) for words in entries())


def test_no_entry_is_rare(train):
    text = Counter()
    for pair in train:
        words = words_of(pair.src)
        text.update(words)
        text.update(" ".join(words[i : i + n]) for n in (2, 3) for i in range(len(words)))
    for adverb in {word.en for word in lexicon.TIME_WORDS}:
        assert text[adverb] >= 25, adverb
    for noun in NOUNS.values():
        forms = {noun.en, noun.plural, noun.en + "'s"}
        assert sum(text[form] for form in forms) >= 25, noun.en
    for frame in ALL_FRAMES:
        forms = {frame.en, frame.past, third_person(frame.en)}
        assert sum(text[form] for form in forms) >= 25, frame.en
    for word in itertools.chain(ADJECTIVES, lexicon.MANNERS, lexicon.NUMBERS, lexicon.DEGREES):
        assert text[word] >= 25, word


def test_no_word_has_two_translations():
    for table in (
        {noun.en: noun.ko for noun in NOUNS.values() if noun.en != "home"},  # 집, like house
        {word.en: word.ko for word in ADJECTIVES.values()},
        lexicon.MANNERS,
        lexicon.NUMBERS,
    ):
        assert len(set(table.values())) == len(table)
    assert len({(f.en, f.ko) for f in ALL_FRAMES}) == len({f.en for f in ALL_FRAMES})
    assert all(f.en != f.past for f in ALL_FRAMES)


def test_unknown_nouns_in_a_table_are_an_error():
    with pytest.raises(ValueError, match="unicorn"):
        lexicon.nouns_of("cat unicorn")


# ------------------------------------------------------------------- the sentences


KINDS = {
    "intransitive": r"^\w+ (slept|ran|walked|danced|laughed|worked)\b.*\.$",
    "transitive": r"^\w+ (bought|ate|opened) .*\.$",
    "ditransitive": r" (gave|sent|lent) (me|us|[A-Z]\w+) (a|an|the) ",
    "copular": r" (is|was) an? [\w ]+\.$",
    "existential": r"^There (is|are|was|were) ",
    "adjective": r" (is|was|are) (very|really|too) \w+\.$",
    "possession": r" (has|have) ",
    "number and classifier": r" (two|three|four|five) \w+",
    "measure": r" (cups|bottles) of ",
    "place": r" (in|at) the \w+",
    "time": r" (yesterday|last week|tomorrow)\.$",
    "clock": r" at \w+ o'clock",
    "instrument": r" with an? \w+",
    "companion": r" with [A-Z]\w+",
    "vehicle": r" by (bus|train|subway)",
    "negation": r" (does|did|will|is) not ",
    "no": r"^There (is|was) no ",
    "yes or no": r"^(Did|Does|Is|Will) .*\?$",
    "who": r"^Who .*\?$",
    "what": r"^What did ",
    "where": r"^Where ",
    "when": r"^When ",
    "why": r"^Why ",
    "how": r"^How (did|does|will) ",
    "how many": r"^How many ",
    "two clauses": r", and ",
    "but": r" but ",
    "two nouns": r"^[A-Z]\w+ and [A-Z]\w+ ",
    "past": r" bought ",
    "future": r" will \w+ (a|the) ",
    "present": r" (often|always|usually) \w+s ",
    "relative subject": r"^The \w+ who ",
    "relative object": r"^The \w+ that ",
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_sentence(kind, train):
    assert sum(bool(re.search(KINDS[kind], pair.src)) for pair in train) >= 40


def test_every_pattern_is_used(monkeypatch):
    used = Counter()
    for pattern in corpus.PATTERNS:
        monkeypatch.setattr(corpus, "PATTERNS", {pattern: 1})
        used[pattern] = len(generate("grammar", "train", 30, seed=0))
    assert len(used) == 30
    assert min(used.values()) == 30


def ends_in_consonant(word: str) -> bool:
    return (ord(word[-1]) - 0xAC00) % 28 != 0


def test_plain_sentences_translate_word_by_word(train):
    frames = {frame.past: frame for frame in lexicon.FRAMES if frame.particle == "을"}
    checked = 0
    for pair in train:
        words = words_of(pair.src)
        if len(words) != 4 or words[0] not in NAMES or words[1] not in frames:
            continue
        if words[2] not in ("a", "an", "the"):
            continue
        name, thing = NOUNS[words[0]].ko, NOUNS[words[3]].ko
        topic = name + ("은" if ends_in_consonant(name) else "는")
        acted_on = thing + ("을" if ends_in_consonant(thing) else "를")
        assert pair.tgt == f"{topic} {acted_on} {korean.past(frames[words[1]].ko)}."
        checked += 1
    assert checked > 50


@pytest.mark.parametrize(
    ("english", "topic"),
    [
        (r"^(?!There|Who|What|When|Where)[A-Z]\w+ (bought|met|likes|has|is|was) ", r"^\w+[은는] "),
        (
            r"^(Did|Will) [A-Z]\w+ (buy|go|eat|meet|wash|draw|write|bake|come|solve) ",
            r"^\w+[이가] ",
        ),
        (r"^Does [A-Z]\w+ (like|have|need) ", r"^\w+[은는] "),
        (r"^The \w+ (is|was) (not )?\w+\.$", r"^\w+[이가] "),
        (r"^(This|That) \w+ (is|was) (not )?\w+\.$", r"^[이그] \w+[은는] "),
        (r"^Who (bought|met|likes|fixed|drew|wrote|hates) ", r"^누가 "),
        (r"^There (is|was) (a|an) ", r"[이가] 있었?어요\.$"),
        (r"^There (is|was) no ", r"[이가] 없었?어요\.$"),
    ],
)
def test_particle_of_the_subject(english, topic, train):
    matching = [pair for pair in train if re.search(english, pair.src)]
    assert len(matching) > 10
    for pair in matching:
        assert re.search(topic, pair.tgt), pair


def test_korean_determines_the_english_too(train):
    assert len({pair.tgt for pair in train}) == len(train)


# ------------------------------------------------------------------- alignments


def test_links_and_stems_fit_their_words(train):
    for pair in train:
        src, tgt = pair.src.split(" "), pair.tgt.split(" ")
        assert len(pair.src_stems) == len(src)
        assert len(pair.tgt_stems) == len(tgt)
        for words, stems in ((src, pair.src_stems), (tgt, pair.tgt_stems)):
            for word, stem in zip(words, stems, strict=True):
                assert 0 < stem <= len(word.rstrip(".,?"))
        links = pair.sure + pair.possible
        assert len(set(links)) == len(links)
        assert all(i < len(src) and j < len(tgt) for i, j in links)
        assert list(pair.sure) == sorted(pair.sure)


FUNCTION_WORDS = set(
    "a an the to at in on for of by with and but will do does did is am are was were there who "
    "that how up off away".split()
)
FUNCTION_FORMS = {"거예요"} | {noun.classifier for noun in NOUNS.values() if noun.classifier}


def test_every_content_word_has_a_sure_link(train):
    for pair in train:
        sure_src, sure_tgt = {i for i, _ in pair.sure}, {j for _, j in pair.sure}
        linked_src = sure_src | {i for i, _ in pair.possible}
        linked_tgt = sure_tgt | {j for _, j in pair.possible}
        for i, word in enumerate(words_of(pair.src)):
            assert i in sure_src or word in FUNCTION_WORDS, (word, pair)
            assert i in linked_src, (word, pair)
        for j, word in enumerate(pair.tgt.rstrip(".?").split(" ")):
            assert j in sure_tgt or word in FUNCTION_FORMS, (word, pair)
            assert j in linked_tgt, (word, pair)


def test_sure_links_of_nouns_join_translations(train):
    for pair in train[:4000]:
        src, tgt = words_of(pair.src), pair.tgt.split(" ")
        for i, j in pair.sure:
            noun = NOUNS.get(NUMBER_OF.get(src[i].removesuffix("'s"), ""))
            if noun and src[i + 1 : i + 2] != ["of"]:
                stem = tgt[j][: pair.tgt_stems[j]]
                assert stem in (noun.ko, noun.ko + "들"), pair


def noun(word: str, particle: str = "", **parts):
    return noun_phrase(NOUNS[word], particle, **parts)


def verb(word: str, tense: str, agreement: str = "third", negative: bool = False):
    frame = next(f for f in [*ALL_FRAMES, *lexicon.MOTION_FRAMES] if f.en == word)
    return verb_phrase(word, frame.past, frame.ko, tense, agreement=agreement, negative=negative)


def test_a_statement_by_hand():
    subject, bought = noun("Minsu", "은"), verb("buy", "past")
    old_books = noun("book", "을", adjective=ADJECTIVES["old"], number=("three", "세"))
    place, day = prepositional("at", NOUNS["market"], "에서"), time_phrase("on Monday", "월요일에")
    form = Form(
        [subject, bought, old_books, place, day], [subject, day, place, old_books, bought], bought
    )
    pair = Pair(*assemble(form))
    assert pair.src == "Minsu bought three old books at the market on Monday."
    assert pair.tgt == "민수는 월요일에 시장에서 오래된 책을 세 권 샀어요."
    assert pair.sure == ((0, 0), (1, 7), (2, 5), (3, 3), (4, 4), (7, 2), (9, 1))
    assert pair.possible == ((2, 6), (4, 6), (5, 2), (6, 2), (8, 1))
    assert pair.src_stems == (5, 6, 5, 3, 5, 2, 3, 6, 2, 6)
    assert pair.tgt_stems == (2, 3, 2, 3, 1, 1, 1, 3)


def test_negation_by_hand():
    subject, obj = noun("Anna", "은"), noun("key", "을", determiner="my")
    will_not = verb("find", "future", negative=True)
    pair = Pair(*assemble(Form([subject, will_not, obj], [subject, obj, will_not], will_not)))
    assert (pair.src, pair.tgt) == (
        "Anna will not find my key.",
        "안나는 제 열쇠를 안 찾을 거예요.",
    )
    assert pair.sure == ((0, 0), (2, 3), (3, 4), (4, 1), (5, 2))
    assert pair.possible == ((1, 3), (1, 4), (1, 5), (3, 5))


def test_long_negation_by_hand():
    subject, does_not = noun("Tom", "은"), verb("study", "present", negative=True)
    pair = Pair(*assemble(Form([subject, does_not], [subject, does_not], does_not)))
    assert (pair.src, pair.tgt) == ("Tom does not study.", "톰은 공부하지 않아요.")
    assert pair.sure == ((0, 0), (2, 2), (3, 1))
    assert pair.possible == ((1, 1), (1, 2))


def test_a_question_by_hand():
    where = phrase("where", "어디에", "0-0", ko_stems="어디")
    subject, go, company = noun("child", "이", determiner="the"), verb("go", "past", "bare"), None
    company = accompanied(noun("cousin", "와", determiner=NOUNS["Suji"]))
    form = Form(
        [where, auxiliary("did"), subject, go, company], [subject, company, where, go], go, "?"
    )
    pair = Pair(*assemble(form))
    assert pair.src == "Where did the child go with Suji's cousin?"
    assert pair.tgt == "아이가 수지의 사촌과 함께 어디에 갔어요?"
    assert pair.sure == ((0, 4), (3, 0), (4, 5), (5, 3), (6, 1), (7, 2))
    assert pair.possible == ((1, 5), (2, 0), (5, 2))
    assert pair.src_stems == (5, 3, 3, 5, 2, 4, 4, 6)
    assert pair.tgt_stems == (2, 2, 2, 2, 2, 3)


def test_measures_and_copula_by_hand():
    tea = noun("tea", "을", number=("two", "두"))
    assert (tea.en, tea.ko) == (("two", "cups", "of", "tea"), ("차를", "두", "잔"))
    assert tea.sure == ((3, 0), (0, 1), (1, 2))
    assert tea.possible == ((0, 2), (3, 2), (2, 2))
    was = after_words(
        "was", noun("actor", "였어요", determiner="a", adjective=ADJECTIVES["honest"])
    )
    assert (was.en, was.ko) == (("was", "an", "honest", "actor"), ("정직한", "배우였어요"))
    assert was.sure == ((2, 0), (3, 1))
    assert was.possible == ((0, 1), (1, 1))
    assert was.ko_stems == (3, 2)


def test_adjective_by_hand():
    not_red = adjective_phrase(ADJECTIVES["red"], "past", True)
    assert (not_red.en, not_red.ko) == (("not", "red"), ("빨갛지", "않았어요"))
    assert not_red.sure == ((0, 1), (1, 0))


# ------------------------------------------------------------------- how many there are


def test_one_form_alone_has_more_than_ten_million_sentences(train):
    """Tom bought a red apple with Anna at the market on Monday: counted, and among the others."""
    times = Counter((word.scale, word.tense) for word in lexicon.TIME_WORDS)
    total = 0
    for frame in lexicon.FRAMES:
        if frame.objects and frame.places and "with" in frame.extras:
            scale = lexicon.PROFILES[frame.profile][1]
            when = sum(times[scale, tense] for tense in ("past", "future"))
            things = 0
            for noun in frame.objects:
                if NOUNS[noun].group not in ("name", "city", "relation"):
                    suited = [word.en for word in ADJECTIVES.values() if noun in word.nouns]
                    kept = sum(not is_held_out(word, noun) for word in suited)
                    things += kept * (not is_held_out(frame.en, noun))
            total += len(NAMES) * (len(NAMES) - 1) * things * len(frame.places) * when
    assert total > 10_000_000
    when = "|".join(word.en for word in lexicon.TIME_WORDS)
    form = re.compile(rf"[A-Z].* with [A-Z]\w+ (in|at) .* ({when})\.")
    assert sum(bool(form.fullmatch(pair.src)) for pair in train) > 2


@pytest.mark.slow
def test_a_million_pairs_have_one_translation_each_and_are_few_of_many():
    translation: dict[str, str] = {}
    back: dict[str, str] = {}
    runs = [generate("grammar", "train", 250_000, seed) for seed in range(4)]
    for pair in itertools.chain(*runs):
        assert translation.setdefault(pair.src, pair.tgt) == pair.tgt
    for src, tgt in translation.items():
        assert back.setdefault(tgt, src) == src
    assert len(translation) > 800_000
