"""The words of the embedded corpus, and which of them go together.

Data only: every table is read once, on import, into the named tuples below. What a verb acts on,
where, and with which tool, and which nouns an adjective suits, is written out here, so that the
grammar can only say sensible things: nobody drinks a chair, and soup is salty but not brave.

In the tables, ``@group`` stands for all nouns of a group of `NOUN_TABLE`.
"""

import re
from typing import NamedTuple


class Noun(NamedTuple):
    """A common noun, or a name.

    Attributes:
        en: English singular (or the only form).
        plural: English plural; the same as ``en`` where there is just one form.
        ko: Korean.
        kind: "count" (a book), "mass" (bread), "plural" (noodles), "unique" (the news), or "bare"
            (Korean, Minsu: never an article).
        group: its group in `NOUN_TABLE`, or "name" or "city".
        classifier: Korean counting word, "" if the grammar never counts it.
        measure: English measure word for a mass noun that is counted (two cups of tea), or "".
    """

    en: str
    plural: str
    ko: str
    kind: str
    group: str
    classifier: str
    measure: str


class Frame(NamedTuple):
    """One way to use a verb. A verb may have several, with other objects in other places.

    Attributes:
        en: English base form; its first word is inflected.
        past: English past form.
        ko: Korean dictionary form.
        particle: what marks the Korean object: "을", "에게" or "이".
        profile: key of `PROFILES`: which tenses and time words suit it.
        subjects: who does it: "person", "adult", or animals joined by "+".
        article: the object's English article: "a", "the", or "generic" (bare plural).
        objects: English words for what it acts on; empty if intransitive.
        places: where it is done: English words of places and cities.
        extras: tools, manners, and "with" where company suits it.
    """

    en: str
    past: str
    ko: str
    particle: str
    profile: str
    subjects: str
    article: str
    objects: tuple[str, ...]
    places: tuple[str, ...]
    extras: tuple[str, ...]


class Adjective(NamedTuple):
    """An adjective and the nouns it suits; ``predicative`` is False for new and old."""

    en: str
    ko: str
    nouns: tuple[str, ...]
    predicative: bool


class TimeWord(NamedTuple):
    """An adverbial of time, and the scales of `PROFILES` it belongs to."""

    en: str
    ko: str
    tense: str
    scale: str


# group | kind | classifier and English measure word | english korean, ...
# "(...)" gives an irregular plural, "[...]" the word's own classifier.
NOUN_TABLE = """
job | count | 명 | student 학생, doctor 의사, nurse 간호사, chef 요리사, firefighter 소방관, singer
    가수, actor 배우, writer 작가, painter 화가, farmer 농부, soldier 군인, scientist 과학자, lawyer
    변호사, reporter 기자, musician 음악가, carpenter 목수, pilot 조종사, clerk 점원
adult | count | 명 | man(men) 남자, woman(women) 여자
youth | count | 명 | boy 남자아이, girl 여자아이, child(children) 아이
relation | count | 명 | friend 친구, neighbor 이웃, cousin 사촌, colleague 동료
animal | count | 마리 | dog 개, cat 고양이, rabbit 토끼, horse 말, cow 소, pig 돼지, duck 오리,
    mouse(mice) 쥐, monkey 원숭이, squirrel 다람쥐
fruit | count | 개 | apple 사과, pear 배, peach 복숭아, strawberry 딸기, tomato 토마토
vegetable | count | 개 | potato 감자, carrot 당근, onion 양파, cucumber 오이
snack | count | 개 | cookie 쿠키, sandwich 샌드위치, egg 달걀, cake 케이크, pizza[판] 피자
dish | mass | | bread 빵, soup 수프, meat 고기, kimchi 김치, cheese 치즈
dish | plural | | noodles 국수
drink | mass | 잔 cups | coffee 커피, tea 차
drink | mass | 병 bottles | water 물, milk 우유, juice 주스
beer | mass | 병 bottles | beer 맥주
text | count | 권 | book 책, novel 소설, dictionary 사전
text | count | 통 | letter 편지, email 이메일
text | count | | newspaper[부] 신문, poem[편] 시, report 보고서
paper | count | 장 | map 지도, photo 사진, ticket 표, document 서류
show | count | 편 | movie 영화, musical 뮤지컬
media | count | | song[곡] 노래, story 이야기
media | mass | | music 음악
media | unique | | news 뉴스
furniture | count | 개 | chair 의자, desk 책상, table 탁자, bed 침대, sofa 소파, mirror 거울, clock
    시계
container | count | 개 | box 상자, drawer 서랍
opening | count | | door 문, window 창문
tableware | count | 개 | cup 컵, plate 접시, bowl 그릇, bottle 병
tool | count | 개 | knife(knives) 칼, spoon 숟가락, fork 포크, brush 붓, broom 빗자루, hammer 망치
stationery | count | 자루 | pen 펜, pencil 연필
belonging | count | 개 | umbrella 우산, bag 가방, wallet 지갑, key 열쇠, hat 모자, toy 장난감, doll
    인형, gift 선물, coat[벌] 코트, blanket[장] 담요
belonging | count | | passport 여권
device | count | 대 | computer 컴퓨터, phone 전화기, camera 카메라, radio 라디오
instrument | count | 대 | piano 피아노, guitar 기타, violin 바이올린
vehicle | count | 대 | car 자동차, bicycle 자전거, truck 트럭
transport | count | 대 | bus 버스, taxi 택시, train 기차
transport | mass | | subway 지하철
plant | count | 송이 | flower 꽃, rose 장미
tree | count | 그루 | tree 나무
structure | count | | house[채] 집, building 건물, bridge 다리, tower 탑, wall 벽, room 방
subject | bare | | Korean 한국어, English 영어, math 수학, history 역사, science 과학, taekwondo
    태권도
task | count | 개 | problem 문제, puzzle 퍼즐, riddle 수수께끼
data | count | | address 주소, password 비밀번호
place | count | | library 도서관, school 학교, hospital 병원, park 공원, kitchen 부엌, restaurant
    식당, office 사무실, museum 박물관, station 역, market 시장, store 가게, bookstore 서점, bakery
    빵집, cafe 카페, classroom 교실, garden 정원, beach 해변, theater 극장, hotel 호텔, airport
    공항, farm 농장, zoo 동물원
home | bare | | home 집
"""

NAMES = (
    "Minsu 민수, Suji 수지, Jiho 지호, Yuna 유나, Minjun 민준, Jihun 지훈, "
    "Eunji 은지, Seojun 서준, Dahye 다혜, Junho 준호, Yujin 유진, Hyemin 혜민, "
    "Tom 톰, Anna 안나, Jack 잭, Laura 로라, Paul 폴, Maria 마리아, "
    "Ben 벤, Lucy 루시, Daniel 다니엘, Alice 앨리스, Peter 피터, Helen 헬렌"
)
CITIES = (
    "Seoul 서울, Busan 부산, Daegu 대구, Jeju 제주, London 런던, Paris 파리, Tokyo 도쿄, Rome 로마"
)

# Places whose English preposition is not "in", and those without an article.
_AT = "school station library museum market store bookstore bakery cafe beach hotel airport zoo"
PREPOSITIONS = {
    **dict.fromkeys([*_AT.split(), "theater", "restaurant", "home"], "at"),
    "farm": "on",
}
ARTICLELESS = ("school", "home")

# Which tenses suit a verb, whether its present needs a word for how often, and the scales of time
# words that go with it. "state" and "keep" verbs say what is so rather than what happens: their
# questions keep the topic particle.
PROFILES = {
    "daily": (("present", "past", "future"), "day"),
    "morning": (("present", "past", "future"), "morning"),
    "often": (("present", "past", "future"), "week"),
    "rare": (("present", "past", "future"), "month"),
    "once": (("past", "future"), "day"),
    "event": (("past", "future"), "week"),
    "project": (("past", "future"), "month"),
    "mishap": (("past",), "week"),
    "sighting": (("past",), "day"),
    "state": (("present", "present", "past"), ""),
    "keep": (("present", "present", "past"), ""),
}

# base/past (if irregular) | Korean (particle) | profile(:subjects) | article objects | places |
# extras; a verb may have several rows.
VERBS = """
eat/ate | 먹다 | daily | a @fruit @snack @dish | kitchen restaurant park school home | slowly
    quickly alone with
eat/ate | 먹다 | daily | a cake noodles meat pizza | restaurant home | fork fork fork fork slowly
eat/ate | 먹다 | daily | a soup | restaurant home | spoon spoon slowly
drink/drank | 마시다 | daily | a coffee tea juice milk water | kitchen cafe office home park |
    slowly quickly alone with
drink/drank | 마시다 | daily:adult | a beer | restaurant home beach | alone with
buy/bought | 사다 | often | a @fruit @vegetable @dish egg milk juice cookie cake | market store |
    with
buy/bought | 사다 | often | a pen pencil umbrella bag wallet hat toy doll gift coat blanket cup
    plate bowl flower rose | market store | with
buy/bought | 사다 | event | a knife spoon fork brush broom hammer | market store | with
buy/bought | 사다 | often | a book novel dictionary map newspaper | bookstore | with alone
buy/bought | 사다 | project:adult | a car bicycle truck house piano guitar violin computer camera
    phone bed sofa table clock mirror | |
sell/sold | 팔다 | project:adult | the car truck house piano violin computer camera building
    restaurant store farm | |
make/made | 만들다 | daily | a cake cookie sandwich soup pizza cheese noodles kimchi | kitchen home
    | with alone
make/made | 만들다 | event | a toy doll chair table box desk | | with alone hammer hammer
bake | 굽다 | daily | a bread cake cookie potato pizza | kitchen home | with alone
cook | 요리하다 | daily | a soup meat noodles egg | kitchen home restaurant | with alone
order | 주문하다 | daily | a coffee tea juice cake sandwich | cafe |
order | 주문하다 | daily:adult | a beer pizza noodles soup meat | restaurant |
write/wrote | 쓰다 | often | a letter poem report | library office home cafe | pen pencil alone
write/wrote | 쓰다 | event | a email novel story song | library home cafe | quickly alone with
draw/drew | 그리다 | often | a flower rose tree house map tower bridge building @animal | park
    garden classroom home | pencil pen brush slowly alone with
paint | 칠하다 | event | the wall door window chair desk table box bridge building | | brush brush
    carefully slowly with
listen to | 듣다 | daily | a music news song story | home park cafe | quietly alone with
listen to | 듣다 | daily | the radio | home office kitchen | quietly alone with
watch | 보다 | often | a movie musical | theater | alone with quietly
watch | 보다 | daily | a news | home | alone with quietly
study/studied | 공부하다 | daily | a Korean English math history science | library school home cafe
    classroom | hard hard alone with
learn | 배우다 | often | a @subject | school | hard quickly with
practice | 연습하다 | daily | the piano guitar violin | school home | hard hard alone with
practice | 연습하다 | daily | a taekwondo | school park | hard hard alone with
translate | 번역하다 | event:adult | a novel poem letter document book email report | office library
    home | carefully quickly alone with
print | 출력하다 | often | a document photo map report ticket email | office library home | quickly
borrow | 빌리다 | often | a book novel dictionary | library school |
borrow | 빌리다 | event | a umbrella bicycle camera blanket car | hotel |
open | 열다 | once | the box drawer bottle bag door window | | slowly quietly quickly carefully
close | 닫다 | once | the door window drawer box | | slowly quietly quickly
lock | 잠그다 | once | the door window drawer box | | key quietly
fix | 고치다 | event | the car bicycle truck computer phone camera radio clock door piano wall
    bridge | | quickly carefully well alone with
fix | 고치다 | event | the chair desk table bed | | hammer hammer hammer quickly well alone
find/found | 찾다 | mishap | the key wallet phone umbrella bag passport hat camera ticket hammer
    brush | hotel airport station park school market | quickly
lose/lost | 잃어버리다 | mishap | the key wallet phone umbrella bag passport hat ticket camera |
    hotel airport station park beach market |
forget/forgot | 잊어버리다 | mishap | the address password song story riddle | |
remember | 기억하다 | state | the address password song story movie novel riddle problem @job | |
break/broke | 깨뜨리다 | mishap | a cup plate bowl bottle window mirror | |
carry/carried | 나르다 | once | the box chair desk table bed sofa bag mirror | | slowly quickly
    carefully with alone
move | 옮기다 | once | the sofa bed piano clock mirror table desk chair | | slowly quickly carefully
    with alone
wash | 씻다 | once | the cup plate bowl bottle spoon fork @fruit potato carrot cucumber | kitchen |
    quickly carefully
sweep/swept | 쓸다 | daily | the room kitchen classroom office store | | broom broom broom quietly
    quickly alone with
tidy/tidied | 정리하다 | often | the room desk drawer kitchen office classroom bag | | quickly well
    alone with
boil | 끓이다 | daily | a water milk soup tea coffee | kitchen home |
pour | 따르다 | once | the coffee tea milk juice water | | slowly carefully quickly
stir/stirred | 젓다 | once | the soup coffee tea milk juice | | spoon slowly carefully
peel | 깎다 | once | a apple pear peach potato carrot cucumber | kitchen home | knife slowly quickly
    carefully
slice | 썰다 | once | a onion carrot potato cucumber tomato meat cheese | kitchen home | knife
    slowly quickly carefully
pick | 따다 | once | a @fruit cucumber | garden farm | carefully with alone
plant | 심다 | event | a tree flower rose potato onion tomato strawberry | garden farm park | with
    alone
raise | 키우다 | keep | generic dog cat rabbit horse cow pig duck | farm |
chase | 쫓다 | sighting:cat | the mouse rabbit squirrel duck | park garden farm | quietly quickly
chase | 쫓다 | sighting:dog | the cat rabbit squirrel duck | park garden farm | quickly
drive/drove | 운전하다 | often:adult | a car bus truck taxi | | slowly carefully alone
ride/rode | 타다 | often | a bicycle horse | park beach | slowly alone with
ride/rode | 타다 | often | a bus train taxi | | alone with
build/built | 짓다 | project:adult | a house school hospital library hotel museum restaurant store
    building theater bridge tower | @city |
visit | 방문하다 | rare | the museum zoo farm library hospital school theater tower @city | | with
    alone
choose/chose | 고르다 | once | a gift book hat coat bag flower toy cake umbrella doll camera | store
    | quickly with alone
use | 사용하다 | daily | a computer phone camera dictionary map | office library home |
use | 사용하다 | daily | a hammer brush broom | school garden |
use | 사용하다 | daily | a knife fork spoon bowl plate | kitchen restaurant |
check | 확인하다 | once | the ticket passport map address | airport station hotel | quickly
    carefully
check | 확인하다 | once | the email document report password problem | office home | quickly
    carefully
deliver | 배달하다 | daily:adult | a letter newspaper pizza milk water | | quickly
solve | 풀다 | once | a problem puzzle riddle | library classroom home cafe | quickly alone with
collect | 모으다 | keep | generic book map toy doll hat clock cup ticket camera photo | |
hide/hid | 숨기다 | once | the key gift letter wallet doll passport photo | | well quickly
fold | 접다 | once | the letter newspaper umbrella blanket map | | carefully quickly slowly
touch | 만지다 | once | the cat dog rabbit horse cow pig doll mirror wall | | carefully
throw away/threw away | 버리다 | once | the box bottle newspaper letter chair document blanket toy |
    |
turn on | 켜다 | once | the computer radio phone camera | |
turn off | 끄다 | once | the computer radio phone camera | | quickly
like | 좋아하다 | state | generic @animal @fruit @vegetable @dish cookie sandwich egg coffee tea
    milk juice @show song music flower rose novel @subject | |
hate | 싫어하다 | state | generic mouse dog cat carrot onion cucumber egg cheese kimchi coffee milk
    meat math history science musical | |
love | 사랑하다 | state | the @name @relation man woman child | |
trust | 믿다 | state | the @name @job @relation man woman | |
need | 필요하다 이 | state | a umbrella pen pencil key computer phone car bicycle chair desk bed
    dictionary map coat blanket knife hammer broom spoon box bag ticket passport | |
meet/met | 만나다 | often | the @name @job @relation boy girl child | park cafe library station
    restaurant airport school |
call | 전화하다 에게 | often | the @name @relation doctor lawyer reporter | |
help | 돕다 | often | the @name @job @relation child boy girl man woman | hospital school library
    market farm |
invite | 초대하다 | event | the @name @relation singer musician writer scientist actor painter | |
wait for | 기다리다 | once | the @name @relation | cafe station park library airport school theater
    | quietly alone with
wait for | 기다리다 | once | the bus taxi train | station airport | alone with
praise | 칭찬하다 | once | the @name student nurse chef clerk child boy girl @relation | school
    office |
follow | 따라가다 | once | the @name man woman child dog cat duck soldier reporter | | quietly
    slowly quickly
sleep/slept | 자다 | daily | | home hotel | well alone
sleep/slept | 자다 | sighting:dog+cat+rabbit+duck | | garden kitchen | well quietly
sleep/slept | 자다 | sighting:pig+cow+horse | | farm | well quietly
sleep/slept | 자다 | sighting:monkey | | zoo | well quietly
run/ran | 달리다 | daily | | park beach | quickly slowly alone with
run/ran | 달리다 | sighting:dog+cat+rabbit+horse+squirrel+mouse | | park garden farm | quickly
walk | 걷다 | daily | | park beach garden | slowly quickly quietly alone with
swim/swam | 수영하다 | daily | | beach hotel | slowly alone with
dance | 춤추다 | often | | theater park school home | happily alone with
sing/sang | 노래하다 | often | | theater park school home | loudly loudly happily loudly quietly
    alone with
laugh | 웃다 | daily | | classroom theater office cafe | happily loudly quietly
cry/cried | 울다 | once | | hospital park station airport | loudly quietly alone
work | 일하다 | daily:adult | | office hospital restaurant store farm library hotel museum | hard
    quickly alone with
rest | 쉬다 | daily | | home park hotel beach | well quietly alone with
play | 놀다 | daily | | park beach home zoo | happily quietly alone with
play | 놀다 | sighting:dog+cat+rabbit+duck+squirrel | | park garden | happily
play | 놀다 | sighting:pig+cow+horse | | farm | happily
play | 놀다 | sighting:monkey | | zoo | happily
bark | 짖다 | sighting:dog | | garden farm park | loudly
live | 살다 | keep | | @city | alone with
stay | 머무르다 | rare | | hotel @city | alone with
travel | 여행하다 | rare | | | alone with
exercise | 운동하다 | daily | | park beach school home | hard hard alone with
hike | 등산하다 | rare | | | alone with
wake up/woke up | 일어나다 | morning | | | early early early late late
"""

# The same columns; the objects are what is given, to whom is not listed.
DITRANSITIVE_VERBS = """
give/gave | 주다 | event | a gift book flower rose toy doll hat umbrella key ticket cake pen photo
    puzzle | |
send/sent | 보내다 | event | a letter email photo gift document report book ticket riddle problem
    puzzle | |
show | 보여주다 | event | a photo map letter passport ticket gift doll document camera dog cat | |
lend/lent | 빌려주다 | event | a book umbrella pen pencil car bicycle camera dictionary coat
    computer broom hammer brush knife | |
teach/taught | 가르치다 | rare | a @subject | |
bring/brought | 가져다주다 | once | a coffee tea water juice bread cake chair blanket newspaper
    umbrella cup plate | |
"""

# Where to is chosen from `DESTINATIONS`.
MOTION_VERBS = """
go/went | 가다 | daily | | |
come/came | 오다 | daily | | |
arrive | 도착하다 | once | | |
"""
PEOPLE_GROUPS = ("job", "adult", "youth", "relation")
# What may be compared in liking: animals with animals, food with food.
DOMAINS = (
    ("animal",),
    ("fruit", "vegetable", "snack", "dish"),
    ("drink",),
    ("show", "media", "text"),
    ("subject",),
)
# Groups of which nobody says "this is a ...", beside people.
NOT_POINTED_AT = ("animal", "place", "transport", "media", "data", "opening")

DESTINATIONS = (
    "library school hospital park restaurant office museum station market store bookstore bakery "
    "cafe beach theater hotel airport farm zoo home Seoul Busan Daegu Jeju London Paris Tokyo Rome"
).split()
RIDES = ("bus", "taxi", "train", "subway", "subway", "bicycle", "car")  # the subway twice as often
RIDES_TO_CITIES = ("bus", "train", "car")
ABROAD = ("Jeju", "London", "Paris", "Tokyo", "Rome")  # no bus goes there
WHEREABOUTS = (
    "library school hospital park kitchen restaurant office museum station market store bookstore "
    "bakery cafe classroom garden beach theater hotel airport farm zoo home Seoul Busan Daegu Jeju "
    "London Paris Tokyo Rome"
).split()
# What people have.
_HAVE_OBJECTS = (
    "@belonging @device @instrument @vehicle dog cat rabbit horse cow house friend cousin book "
    "dictionary novel map clock mirror sofa bed desk ticket"
)
# Nouns that take my, our and a name's, as what people own.
_OWNED = (
    "@belonging @device @instrument @vehicle @text @stationery dog cat house room desk bed chair "
    "clock photo document address password problem song story cup"
)

# English, Korean | nouns. Colours, size and the like suit things; some suit people.
ADJECTIVE_TABLE = """
big 크다 | house building room park hospital library market school bag box tree dog pig horse cow
    cake mirror desk table clock station airport
small 작다 | house building room park bag box tree dog cat mouse cake mirror desk table clock
    kitchen cup doll school
new 새 | car house computer phone bag coat umbrella chair bicycle camera movie song novel desk hat
    wallet truck hotel
old 오래된 | house building car song movie clock book chair piano map bridge photo camera novel
    hotel radio
expensive 비싸다 | car house computer phone bag coat camera piano violin guitar meat clock hotel
    ticket bicycle sofa wallet cake
cheap 싸다 | bag coat bicycle hat umbrella chair pen pencil cup ticket apple potato bread noodles
    hotel book
clean 깨끗하다 | room kitchen park hotel cup plate bowl window mirror beach hospital school coat
    restaurant
dirty 더럽다 | room kitchen bag wall window cup plate hat coat car blanket desk door bowl bottle dog
    chair truck
pretty 예쁘다 | flower rose doll hat coat cup garden plate bag umbrella cafe girl cat
beautiful 아름답다 | song music garden beach rose poem tower building bridge flower museum hotel
    story
delicious 맛있다 | @fruit @snack @dish coffee tea juice
hot 뜨겁다 | soup water coffee tea milk noodles potato
cold 차갑다 | water milk juice coffee tea beer noodles soup
warm 따뜻하다 | coat blanket room bread water tea milk soup
sweet 달다 | @fruit cake cookie juice
spicy 맵다 | soup noodles kimchi onion meat
salty 짜다 | soup kimchi cheese meat noodles
sour 시다 | apple peach strawberry juice kimchi tomato
bitter 쓰다 | coffee tea beer cucumber
fresh 신선하다 | @fruit @vegetable milk egg juice meat
heavy 무겁다 | box bag desk chair table bed sofa computer camera piano bicycle dictionary mirror
light 가볍다 | box bag chair computer camera bicycle umbrella coat phone blanket guitar
long 길다 | letter novel movie report email story bridge coat poem song
short 짧다 | letter novel movie report email story poem song pencil
tall 높다 | building tower tree wall
spacious 넓다 | room kitchen office house classroom park library restaurant garden farm
thick 두껍다 | book dictionary novel coat blanket wall newspaper
thin 얇다 | book blanket coat newspaper plate novel
red 빨갛다 | apple strawberry tomato rose flower car bag hat coat umbrella bus door wallet
blue 파랗다 | car bag hat coat door umbrella cup chair bus bicycle pen plate
yellow 노랗다 | flower rose hat umbrella bag bus coat taxi pencil chair duck
white 하얗다 | cat rabbit horse wall cup flower plate house duck dog coat piano
black 까맣다 | cat dog car bag coat hat umbrella piano horse pig cow wallet
interesting 재미있다 | book movie novel story musical history science museum puzzle
boring 지루하다 | book movie novel story musical history report
difficult 어렵다 | problem puzzle riddle book @subject
easy 쉽다 | problem puzzle riddle book song poem math English Korean science
famous 유명하다 | singer actor writer painter scientist chef song novel poem museum tower restaurant
    musician lawyer bakery
useful 유용하다 | book dictionary computer map knife English Korean camera bicycle
important 중요하다 | document letter report email problem news math history
strange 이상하다 | story man letter movie song woman house box riddle
comfortable 편안하다 | chair sofa bed coat hotel train car
soft 부드럽다 | bread blanket sofa cake cheese bed
sturdy 튼튼하다 | chair desk table box bridge building bag bicycle
quiet 조용하다 | library park cafe room garden beach hotel child student office museum
noisy 시끄럽다 | market restaurant cafe station classroom airport dog bus child
bright 밝다 | room kitchen office classroom library
dark 어둡다 | room kitchen theater garden house
cute 귀엽다 | dog cat rabbit duck pig monkey squirrel mouse child doll toy
fast 빠르다 | car train horse rabbit dog computer taxi bicycle
slow 느리다 | car computer bus train phone truck horse
sad 슬프다 | song movie novel story musical poem music
kind 친절하다 | @job @relation man woman @name
smart 똑똑하다 | @youth @relation student scientist lawyer doctor dog monkey @name
diligent 부지런하다 | @relation student farmer nurse chef clerk carpenter soldier @name
lazy 게으르다 | @youth @relation student cat pig clerk @name
brave 용감하다 | @youth soldier firefighter pilot dog @relation @name
honest 정직하다 | @relation lawyer reporter student clerk child man woman @name
wise 지혜롭다 | doctor writer farmer man woman scientist @relation @name
busy 바쁘다 | @job @relation @name
tired 피곤하다 | @job @relation @youth man woman @name
hungry 배고프다 | @youth @animal student @relation @name
sick 아프다 | @youth @animal student man woman @relation @name
happy 행복하다 | @youth @relation student man woman farmer chef singer @name
healthy 건강하다 | @youth @relation dog cat farmer soldier @name
lonely 외롭다 | writer painter man woman child student @relation @name
young 젊다 | doctor nurse chef singer actor writer painter man woman lawyer soldier farmer
"""
# Adjectives that stand only before a noun, listed in the Korean form that they have there.
ATTRIBUTIVE_ONLY = ("new", "old")
# Adjectives for how somebody is just now; these go with yesterday and the like.
PASSING_STATES = ("busy", "tired", "hungry", "sick", "happy", "lonely")

# Adjectives of which there can be too much.
EXCESSIVE = frozenset(
    (
        "big small expensive dirty hot cold warm sweet spicy salty sour bitter heavy light long "
        "short thick thin boring difficult easy strange noisy bright dark fast slow sad busy tired "
        "lazy young"
    ).split()
)

_ADJECTIVE_PAIRS = """
kind and smart, diligent and honest, brave and wise, small and cute, big and heavy, small and light,
cheap and delicious, clean and quiet, spacious and bright, small and dark, long and boring,
short and interesting, big and sturdy, warm and soft, sweet and delicious, beautiful and famous,
fresh and delicious, thick and heavy, thin and light, cheap and sturdy, clean and bright,
expensive but delicious, small but clean, big but light, difficult but interesting, easy but boring,
spicy but delicious, salty but delicious, sour but delicious, long but interesting, short but sad,
smart but lazy, busy but kind, busy but happy, tired but happy, heavy but sturdy, small but bright,
slow but comfortable, noisy but clean, thin but warm, expensive but useful, cheap but useful,
difficult but important, small but sturdy, expensive but comfortable, small but fast, lazy but cute
"""

# Adjectives that make no sense of what a verb brings about, or ends.
CLASHES = {
    "build": ("old", "new", "noisy", "dirty", "dark", "famous", "clean"),
    "make": ("old", "new", "cheap", "expensive", "famous"),
    "bake": ("fresh", "warm", "hot", "cheap", "expensive"),
    "write": ("old", "new", "famous"),
    "wash": ("clean",),
    "sweep": ("clean",),
    "tidy": ("clean",),
    "break": ("dirty",),
    "plant": ("tall", "old", "delicious", "spicy", "sour", "sweet", "fresh"),
    "bring": ("dirty",),
    "give": ("dirty",),
    "boil": ("hot", "warm", "cold"),
    "pour": ("bitter",),
    "use": ("useful",),
    "deliver": ("hot", "warm"),
    "slice": ("delicious",),
    "peel": ("delicious",),
    "print": ("expensive", "cheap", "old"),
    "hate": ("delicious", "fresh", "warm", "interesting", "cute", "beautiful", "sweet"),
    "like": ("boring", "sick", "lazy"),
}
# Verbs whose objects are never counted, and verbs that may have any number of them; with all other
# verbs numbers stop at five.
UNCOUNTED = ("use", "drive", "ride", "build")
IN_NUMBERS = ("buy", "print", "plant", "pick", "make", "bake", "peel", "borrow", "order", "have")
_NUMBERS = (
    "one 한, two 두, three 세, four 네, five 다섯, six 여섯, seven 일곱, eight 여덟, nine 아홉, "
    "ten 열, eleven 열한, twelve 열두, twenty 스무"
)

MANNERS = {
    "slowly": "천천히",
    "quickly": "빨리",
    "quietly": "조용히",
    "loudly": "크게",
    "hard": "열심히",
    "carefully": "조심스럽게",
    "happily": "즐겁게",
    "well": "잘",
    "early": "일찍",
    "late": "늦게",
    "alone": "혼자",
}
FREQUENCIES = {"often": "자주", "always": "항상", "sometimes": "가끔", "usually": "보통"}
DEGREES = {"very": "아주", "really": "정말", "too": "너무"}

TIME_TABLE = """
yesterday 어제 | past | day week morning
last night 어젯밤에 | past | day
this morning 오늘 아침에 | past | day
last week 지난주에 | past | week month
last weekend 지난 주말에 | past | day week
last month 지난달에 | past | week month
last year 작년에 | past | month
recently 최근에 | past | week month
tomorrow 내일 | future | day week morning
tonight 오늘 밤에 | future | day
next week 다음 주에 | future | week month
next weekend 다음 주말에 | future | day week
next month 다음 달에 | future | week month
next year 내년에 | future | month
soon 곧 | future | day week month
on Monday 월요일에 | past future | day week
on Tuesday 화요일에 | past future | day week
on Wednesday 수요일에 | past future | day week
on Thursday 목요일에 | past future | day week
on Friday 금요일에 | past future | day week
on Saturday 토요일에 | past future | day week
on Sunday 일요일에 | past future | day week
every day 매일 | present | day morning
every morning 매일 아침 | present | day morning
every evening 매일 저녁 | present | day
every week 매주 | present | week
every weekend 주말마다 | present | day week
every month 매달 | present | week month
every year 매년 | present | month month
"""

# English, Korean noun for the side | what stands at it | what may be there.
_SIDES = """
on 위 | table desk bed sofa | @text @paper @tableware @stationery @device wallet key hat doll gift
    bag passport knife spoon fork apple cake
under 아래 | table desk bed chair sofa tree | cat dog rabbit box bag doll toy umbrella key
in 안 | box drawer bag | @stationery @paper wallet key passport book letter doll toy spoon knife
    camera phone cookie hat
behind 뒤 | door sofa house tree building school wall | cat dog bicycle umbrella box rabbit squirrel
next to 옆 | table bed desk sofa door tree | chair bag box cat dog umbrella guitar clock piano
in front of 앞 | house hospital school station hotel restaurant building tower | car bicycle taxi
    tree dog truck bus
near 근처 | bridge tower station park hospital school library airport beach market | bakery
    bookstore cafe restaurant hotel museum theater zoo store bridge tower
"""
# What may be at a place: place | nouns.
_CONTENTS = """
kitchen | table chair bread milk juice water cheese apple onion potato egg cake cat mouse knife
    bottle
classroom | desk chair student computer clock boy girl map child
library | student book dictionary computer desk map reporter
park | tree bicycle child dog duck squirrel rabbit flower boy girl musician
garden | flower rose tree cat rabbit squirrel table chair painter duck
farm | cow horse pig duck rabbit dog truck farmer
zoo | monkey rabbit horse duck child squirrel
office | computer desk phone clock lawyer clerk sofa camera
room | bed mirror desk clock piano guitar radio sofa cat
hospital | doctor nurse bed soldier child firefighter
station | train taxi clock clerk soldier bakery
airport | pilot clock bus taxi soldier reporter singer
store | clerk umbrella hat bag toy doll clock
cafe | piano writer student sofa cake coffee tea lawyer
theater | actor singer musician piano reporter
beach | dog child man woman boy girl horse
"""

_WORD = re.compile(r"(\w+)(?:\((\w+)\))?(?:\[(\w+)\])?")
_ENGLISH_AND_KOREAN = re.compile(r"([a-zA-Z ]+) ([가-힣 ]+)")


def _split_pairs(text: str) -> list[tuple[str, str]]:
    """Read "english korean, english korean" into pairs."""
    return [tuple(entry.strip().rsplit(" ", 1)) for entry in text.split(",")]


def _rows(table: str) -> list[list[str]]:
    """Cells of each row; a line that starts with a space continues the row before it."""
    lines = table.strip().replace("\n    ", " ").split("\n")
    return [[cell.strip() for cell in line.split("|")] for line in lines if line]


def _plural(noun: str) -> str:
    if noun.endswith(("s", "x", "ch", "sh")) or noun in ("potato", "tomato"):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def _read_nouns() -> dict[str, Noun]:
    nouns: dict[str, Noun] = {}
    for group, kind, counting, text in _rows(NOUN_TABLE):
        shared, _, measure = counting.partition(" ")
        for word, ko in _split_pairs(text):
            en, irregular, classifier = _WORD.match(word).groups()
            plural = irregular or (_plural(en) if kind == "count" else en)
            nouns[en] = Noun(en, plural, ko, kind, group, classifier or shared, measure)
    for group, text in (("name", NAMES), ("city", CITIES)):
        for en, ko in _split_pairs(text):
            nouns[en] = Noun(en, en, ko, "bare", group, "", "")
    return nouns


NOUNS = _read_nouns()


def nouns_of(words: str) -> tuple[str, ...]:
    """The nouns that a cell of a table names, groups written out.

    Raises:
        ValueError: a word is no noun of the lexicon.
    """
    found: dict[str, None] = {}
    for word in words.split():
        group = [noun.en for noun in NOUNS.values() if "@" + noun.group == word]
        if not group and word not in NOUNS:
            raise ValueError(f"{word!r} is no noun or group of nouns of the lexicon")
        found.update(dict.fromkeys(group or [word]))
    return tuple(found)


def _read_frames(table: str) -> list[Frame]:
    frames = []
    for english, korean, profile, objects, places, extras in _rows(table):
        en, _, past = english.partition("/")
        ko, _, particle = korean.partition(" ")
        profile, _, subjects = profile.partition(":")
        article, _, acted_on = objects.partition(" ")
        frames.append(
            Frame(
                en=en,
                past=past or _regular_past(en),
                ko=ko,
                particle=particle or "을",
                profile=profile,
                subjects=subjects or "person",
                article=article,
                objects=nouns_of(acted_on),
                places=nouns_of(places),
                extras=tuple(extras.split()),
            )
        )
    return frames


def _regular_past(verb: str) -> str:
    first, space, rest = verb.partition(" ")
    return first + ("d" if first.endswith("e") else "ed") + space + rest


def _read_adjectives() -> dict[str, Adjective]:
    adjectives = {}
    for words, nouns in _rows(ADJECTIVE_TABLE):
        en, ko = words.split()
        adjectives[en] = Adjective(en, ko, nouns_of(nouns), en not in ATTRIBUTIVE_ONLY)
    return adjectives


def _read_time_words() -> list[TimeWord]:
    """One entry for each tense and scale, so that `TIME_WORDS` can be asked for both at once."""
    words = []
    for text, tenses, scales in _rows(TIME_TABLE):
        en, ko = _ENGLISH_AND_KOREAN.match(text).groups()
        for tense in tenses.split():
            words.extend(TimeWord(en, ko, tense, scale) for scale in scales.split())
    return words


FRAMES = _read_frames(VERBS)
DITRANSITIVE_FRAMES = _read_frames(DITRANSITIVE_VERBS)
MOTION_FRAMES = _read_frames(MOTION_VERBS)
BECOME = _read_frames("become/became | 되다 이 | project | | |")[0]
HAVE = _read_frames("have/had | 있다 이 | state | | |")[0]
ADJECTIVES = _read_adjectives()
TIME_WORDS = _read_time_words()
NUMBERS = dict(_split_pairs(_NUMBERS))
HAD = nouns_of(_HAVE_OBJECTS)
OWNED = frozenset(nouns_of(_OWNED))
# What suits few nouns is said of them oftener, so that all adjectives are learnt.
PREDICATES = [
    word
    for word in ADJECTIVES.values()
    if word.predicative
    for _ in range(3 if len(word.nouns) < 11 else 1)
]
ADJECTIVE_PAIRS = [tuple(pair.split()) for pair in _ADJECTIVE_PAIRS.replace("\n", " ").split(",")]
DEGREES_OF = {
    word.en: [
        degree
        for degree in DEGREES
        if (degree != "too" or word.en in EXCESSIVE) and (degree, word.en) != ("very", "delicious")
    ]
    for word in ADJECTIVES.values()
}
# (preposition, 위, what has this side, what may be there) and (place, what may be there)
SIDES = [
    (*_ENGLISH_AND_KOREAN.match(words).groups(), nouns_of(at), nouns_of(what))
    for words, at, what in _rows(_SIDES)
]
CONTENTS = [(place, nouns_of(what)) for place, what in _rows(_CONTENTS)]
POINTED_AT = [
    noun
    for noun in NOUNS.values()
    if noun.kind in ("count", "mass") and noun.group not in (*PEOPLE_GROUPS, *NOT_POINTED_AT)
]
