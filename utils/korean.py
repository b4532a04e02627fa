"""Korean morphology: particles chosen by sound, and verbs in the polite style (해요체).

Everything works on Hangul syllables, which Unicode lays out by a formula:

    code = 0xAC00 + (initial * 21 + vowel) * 28 + final

so that adding or dropping a final consonant is arithmetic. Words are given as they stand in a
dictionary (``"돕다"``); which of them conjugate irregularly is listed in `IRREGULAR`, because the
spelling does not tell: 듣다 is irregular (들어요) and 닫다 is not (닫아요).
"""

_BASE, _LAST = 0xAC00, 0xD7A3
_NUM_VOWELS, _NUM_FINALS = 21, 28
_VOWELS = "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"
_FINALS = " ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ"

# What 아/어 makes of a stem that ends in this vowel and has no final consonant.
_CONTRACTIONS = {
    "ㅗ": "ㅘ",  # 보 + 아 = 봐
    "ㅜ": "ㅝ",  # 배우 + 어 = 배워
    "ㅣ": "ㅕ",  # 마시 + 어 = 마셔
    "ㅚ": "ㅙ",  # 되 + 어 = 돼
    "ㅏ": "ㅏ",  # 가 + 아 = 가
    "ㅓ": "ㅓ",  # 서 + 어 = 서
    "ㅐ": "ㅐ",  # 보내 + 어 = 보내
    "ㅔ": "ㅔ",  # 세 + 어 = 세
    "ㅕ": "ㅕ",  # 켜 + 어 = 켜
}

# Irregular words by the sound that changes. A stem in ㅡ or ㄹ, or in 하, needs no listing.
IRREGULAR = {
    word: kind
    for kind, words in {
        "ㅂ": "돕다 굽다 줍다 눕다 덥다 춥다 맵다 쉽다 어렵다 무겁다 가볍다 두껍다 뜨겁다 차갑다 "
        "더럽다 아름답다 귀엽다 시끄럽다 어둡다 부드럽다 외롭다 지혜롭다 날카롭다 고맙다 가깝다",
        "ㄷ": "듣다 걷다 묻다 싣다 깨닫다",
        "ㅅ": "짓다 젓다 붓다 낫다 잇다 긋다",
        "ㅎ": "빨갛다 파랗다 노랗다 하얗다 까맣다 그렇다 어떻다",
        "르": "고르다 나르다 머무르다 부르다 모르다 자르다 흐르다 누르다 빠르다 다르다 게으르다 "
        "목마르다",
    }.items()
    for word in words.split()
}

# Particles by what the word before them ends in: (after a vowel, after a consonant).
PARTICLES = {
    "은": ("는", "은"),  # topic
    "이": ("가", "이"),  # subject
    "을": ("를", "을"),  # object
    "와": ("와", "과"),  # and, with
    "로": ("로", "으로"),  # by means of; ㄹ counts as a vowel here
    "예요": ("예요", "이에요"),  # is
    "였어요": ("였어요", "이었어요"),  # was
}


def split_syllable(syllable: str) -> tuple[int, str, str]:
    """Take a Hangul syllable apart: (number of the initial, vowel, final or " ").

    Raises:
        ValueError: ``syllable`` is not one whole Hangul syllable.
    """
    if len(syllable) != 1 or not _BASE <= ord(syllable) <= _LAST:
        raise ValueError(f"{syllable!r} is not one Hangul syllable (가 to 힣)")
    rest, final = divmod(ord(syllable) - _BASE, _NUM_FINALS)
    initial, vowel = divmod(rest, _NUM_VOWELS)
    return initial, _VOWELS[vowel], _FINALS[final]


def join_syllable(initial: int, vowel: str, final: str = " ") -> str:
    """Put a syllable together; the inverse of `split_syllable`."""
    number = (initial * _NUM_VOWELS + _VOWELS.index(vowel)) * _NUM_FINALS + _FINALS.index(final)
    return chr(_BASE + number)


def final_consonant(word: str) -> str:
    """The consonant that ``word`` ends in, or " " if it ends in a vowel."""
    return split_syllable(word[-1])[2]


def with_final(word: str, final: str) -> str:
    """``word`` with its last syllable ending in ``final`` (" " for none)."""
    initial, vowel, _ = split_syllable(word[-1])
    return word[:-1] + join_syllable(initial, vowel, final)


def attach(word: str, particle: str) -> str:
    """``word`` and a particle in the form that its last sound asks for.

    Args:
        word: a noun in Hangul.
        particle: a key of `PARTICLES`, or any particle with a single form, such as 에서.
    """
    if particle not in PARTICLES:
        return word + particle
    after_vowel, after_consonant = PARTICLES[particle]
    final = final_consonant(word)
    if final == " " or (particle == "로" and final == "ㄹ"):
        return word + after_vowel
    return word + after_consonant


def _stem(word: str) -> str:
    if len(word) < 2 or word[-1] != "다":
        raise ValueError(f"{word!r} is not a dictionary form, which ends in 다")
    return word[:-1]


def infinitive(word: str) -> str:
    """The form in 아/어 that 요 and the past are built on: 가다 -> 가, 돕다 -> 도와, 쓰다 -> 써."""
    stem, kind = _stem(word), IRREGULAR.get(word)
    initial, vowel, final = split_syllable(stem[-1])
    if stem[-1] == "하":
        return stem[:-1] + "해"
    if kind == "ㅎ":  # 빨갛 + 아 = 빨개, 하얗 + 아 = 하얘
        return stem[:-1] + join_syllable(initial, "ㅒ" if vowel == "ㅑ" else "ㅐ")
    if kind == "ㅂ":
        return with_final(stem, " ") + ("와" if word == "돕다" else "워")
    if kind == "르":  # 고르 + 아 = 골라
        return with_final(stem[:-1], "ㄹ") + ("라" if _is_bright(stem[:-1]) else "러")
    if kind == "ㄷ":
        stem = with_final(stem, "ㄹ")
    elif kind == "ㅅ":
        stem = with_final(stem, " ")
    elif final == " " and vowel == "ㅡ":  # 쓰 + 어 = 써, 바쁘 + 아 = 바빠
        bright = len(stem) > 1 and _is_bright(stem[:-1])
        return stem[:-1] + join_syllable(initial, "ㅏ" if bright else "ㅓ")
    elif final == " " and vowel in _CONTRACTIONS:
        return stem[:-1] + join_syllable(initial, _CONTRACTIONS[vowel])
    return stem + ("아" if _is_bright(stem) else "어")


def _is_bright(stem: str) -> bool:
    """Whether vowel harmony asks for 아 and not 어 after ``stem``."""
    return split_syllable(stem[-1])[1] in "ㅏㅑㅗ"


def _before_eu(word: str, final: str, syllable: str) -> str:
    """Join the stem to an ending in (으): ``final`` after vowels, ``syllable`` after others."""
    stem, kind = _stem(word), IRREGULAR.get(word)
    last = final_consonant(stem)
    if kind == "ㅂ":
        return with_final(stem, " ") + with_final("우", final)
    if kind == "ㄷ":
        return with_final(stem, "ㄹ") + syllable
    if kind == "ㅅ":
        return with_final(stem, " ") + syllable
    if kind == "ㅎ" or last in " ㄹ":  # the ㄹ of 만들다 gives way: 만든, 만들
        return with_final(stem, final)
    return stem + syllable


def present(word: str) -> str:
    """Polite present: 먹다 -> 먹어요."""
    return "아니에요" if word == "아니다" else infinitive(word) + "요"


def past(word: str) -> str:
    """Polite past: 먹다 -> 먹었어요."""
    return _past_stem(word) + "어요"


def _past_stem(word: str) -> str:
    return "아니었" if word == "아니다" else with_final(infinitive(word), "ㅆ")


def future(word: str) -> str:
    """Polite future, two words: 먹다 -> 먹을 거예요."""
    return _before_eu(word, "ㄹ", "을") + " 거예요"


def adnominal(word: str) -> str:
    """The form before a noun, a verb's past and an adjective's present: 읽은, 산, 매운, 맛있는."""
    if word.endswith(("있다", "없다")):
        return _stem(word) + "는"
    return _before_eu(word, "ㄴ", "은")


def connective(word: str, ending: str = "고") -> str:
    """Stem and an ending that never changes it: 작다, 지만 -> 작지만."""
    return _stem(word) + ending


def past_connective(word: str) -> str:
    """Past and 고, which ends a first clause: 먹다 -> 먹었고."""
    return _past_stem(word) + "고"


def negation(word: str, tense: str) -> str:
    """The long negation, two words or three: 공부하지 않았어요.

    Args:
        word: dictionary form.
        tense: ``"present"``, ``"past"`` or ``"future"``.
    """
    ending = {"present": "않아요", "past": "않았어요", "future": "않을 거예요"}[tense]
    return f"{connective(word, '지')} {ending}"
