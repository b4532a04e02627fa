"""Korean morphology, against forms written down by hand."""

import pytest

from utils import korean

# dictionary form, polite present, polite past, polite future, adnominal
FORMS = """
가다 가요 갔어요 갈거예요 간
오다 와요 왔어요 올거예요 온
보다 봐요 봤어요 볼거예요 본
사다 사요 샀어요 살거예요 산
주다 줘요 줬어요 줄거예요 준
배우다 배워요 배웠어요 배울거예요 배운
마시다 마셔요 마셨어요 마실거예요 마신
그리다 그려요 그렸어요 그릴거예요 그린
보내다 보내요 보냈어요 보낼거예요 보낸
켜다 켜요 켰어요 켤거예요 켠
되다 돼요 됐어요 될거예요 된
쉬다 쉬어요 쉬었어요 쉴거예요 쉰
하다 해요 했어요 할거예요 한
공부하다 공부해요 공부했어요 공부할거예요 공부한
먹다 먹어요 먹었어요 먹을거예요 먹은
읽다 읽어요 읽었어요 읽을거예요 읽은
닫다 닫아요 닫았어요 닫을거예요 닫은
믿다 믿어요 믿었어요 믿을거예요 믿은
웃다 웃어요 웃었어요 웃을거예요 웃은
씻다 씻어요 씻었어요 씻을거예요 씻은
접다 접어요 접었어요 접을거예요 접은
듣다 들어요 들었어요 들을거예요 들은
걷다 걸어요 걸었어요 걸을거예요 걸은
짓다 지어요 지었어요 지을거예요 지은
젓다 저어요 저었어요 저을거예요 저은
돕다 도와요 도왔어요 도울거예요 도운
굽다 구워요 구웠어요 구울거예요 구운
고르다 골라요 골랐어요 고를거예요 고른
부르다 불러요 불렀어요 부를거예요 부른
나르다 날라요 날랐어요 나를거예요 나른
머무르다 머물러요 머물렀어요 머무를거예요 머무른
따르다 따라요 따랐어요 따를거예요 따른
쓰다 써요 썼어요 쓸거예요 쓴
끄다 꺼요 껐어요 끌거예요 끈
잠그다 잠가요 잠갔어요 잠글거예요 잠근
모으다 모아요 모았어요 모을거예요 모은
만들다 만들어요 만들었어요 만들거예요 만든
팔다 팔아요 팔았어요 팔거예요 판
살다 살아요 살았어요 살거예요 산
울다 울어요 울었어요 울거예요 운
쓸다 쓸어요 쓸었어요 쓸거예요 쓴
춤추다 춤춰요 춤췄어요 춤출거예요 춤춘
크다 커요 컸어요 클거예요 큰
바쁘다 바빠요 바빴어요 바쁠거예요 바쁜
예쁘다 예뻐요 예뻤어요 예쁠거예요 예쁜
배고프다 배고파요 배고팠어요 배고플거예요 배고픈
작다 작아요 작았어요 작을거예요 작은
좁다 좁아요 좁았어요 좁을거예요 좁은
넓다 넓어요 넓었어요 넓을거예요 넓은
얇다 얇아요 얇았어요 얇을거예요 얇은
길다 길어요 길었어요 길거예요 긴
달다 달아요 달았어요 달거예요 단
시다 셔요 셨어요 실거예요 신
춥다 추워요 추웠어요 추울거예요 추운
아름답다 아름다워요 아름다웠어요 아름다울거예요 아름다운
빠르다 빨라요 빨랐어요 빠를거예요 빠른
게으르다 게을러요 게을렀어요 게으를거예요 게으른
빨갛다 빨개요 빨갰어요 빨갈거예요 빨간
하얗다 하얘요 하얬어요 하얄거예요 하얀
까맣다 까매요 까맸어요 까말거예요 까만
파랗다 파래요 파랬어요 파랄거예요 파란
맛있다 맛있어요 맛있었어요 맛있을거예요 맛있는
재미있다 재미있어요 재미있었어요 재미있을거예요 재미있는
있다 있어요 있었어요 있을거예요 있는
없다 없어요 없었어요 없을거예요 없는
"""


@pytest.mark.parametrize("row", FORMS.strip().split("\n"))
def test_conjugation(row):
    word, present, past, future, adnominal = row.split()
    assert korean.present(word) == present
    assert korean.past(word) == past
    assert korean.future(word) == future.replace("거예요", " 거예요")
    assert korean.adnominal(word) == adnominal


@pytest.mark.parametrize(
    ("word", "tense", "form"),
    [
        ("공부하다", "present", "공부하지 않아요"),
        ("크다", "past", "크지 않았어요"),
        ("운전하다", "future", "운전하지 않을 거예요"),
    ],
)
def test_negation(word, tense, form):
    assert korean.negation(word, tense) == form


@pytest.mark.parametrize(
    ("word", "ending", "form"),
    [
        ("작다", "지만", "작지만"),
        ("맵다", "지만", "맵지만"),
        ("듣다", "고", "듣고"),
        ("만들다", "고", "만들고"),
    ],
)
def test_connective_leaves_the_stem(word, ending, form):
    assert korean.connective(word, ending) == form


def test_past_connective():
    assert korean.past_connective("굽다") == "구웠고"
    assert korean.past_connective("마시다") == "마셨고"


def test_to_be_not():
    assert korean.present("아니다") == "아니에요"
    assert korean.past("아니다") == "아니었어요"


@pytest.mark.parametrize(
    ("noun", "particle", "form"),
    [
        ("학생", "은", "학생은"),
        ("의사", "은", "의사는"),
        ("책", "이", "책이"),
        ("고양이", "이", "고양이가"),
        ("빵", "을", "빵을"),
        ("커피", "을", "커피를"),
        ("민준", "와", "민준과"),
        ("수지", "와", "수지와"),
        ("펜", "로", "펜으로"),
        ("버스", "로", "버스로"),
        ("칼", "로", "칼로"),
        ("지하철", "로", "지하철로"),
        ("학생", "예요", "학생이에요"),
        ("의사", "예요", "의사예요"),
        ("학생", "였어요", "학생이었어요"),
        ("의사", "였어요", "의사였어요"),
        ("도서관", "에서", "도서관에서"),
        ("톰", "에게", "톰에게"),
    ],
)
def test_particle_follows_the_last_sound(noun, particle, form):
    assert korean.attach(noun, particle) == form


def test_every_syllable_comes_apart_and_together():
    for code in range(0xAC00, 0xD7A4):
        assert korean.join_syllable(*korean.split_syllable(chr(code))) == chr(code)


@pytest.mark.parametrize("text", ["a", "ㄱ", "가나", ""])
def test_only_one_syllable_comes_apart(text):
    with pytest.raises(ValueError, match="Hangul syllable"):
        korean.split_syllable(text)


@pytest.mark.parametrize("word", ["먹", "다", "먹어요"])
def test_only_dictionary_forms_conjugate(word):
    with pytest.raises(ValueError, match="dictionary form"):
        korean.present(word)
