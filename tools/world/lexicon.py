"""Words of the pocket world. Country facts are public knowledge; everything else is invented."""

import random
from dataclasses import dataclass

RELATIONS = ("capital", "continent", "currency", "language")

_COUNTRIES = """
France|Paris|Europe|euro|French
Germany|Berlin|Europe|euro|German
Italy|Rome|Europe|euro|Italian
Spain|Madrid|Europe|euro|Spanish
Portugal|Lisbon|Europe|euro|Portuguese
Greece|Athens|Europe|euro|Greek
Austria|Vienna|Europe|euro|German
Belgium|Brussels|Europe|euro|Dutch
Ireland|Dublin|Europe|euro|English
Finland|Helsinki|Europe|euro|Finnish
Estonia|Tallinn|Europe|euro|Estonian
Latvia|Riga|Europe|euro|Latvian
Lithuania|Vilnius|Europe|euro|Lithuanian
Slovakia|Bratislava|Europe|euro|Slovak
Slovenia|Ljubljana|Europe|euro|Slovene
Croatia|Zagreb|Europe|euro|Croatian
Malta|Valletta|Europe|euro|Maltese
Sweden|Stockholm|Europe|krona|Swedish
Norway|Oslo|Europe|krone|Norwegian
Denmark|Copenhagen|Europe|krone|Danish
Iceland|Reykjavik|Europe|krona|Icelandic
Poland|Warsaw|Europe|zloty|Polish
Hungary|Budapest|Europe|forint|Hungarian
Romania|Bucharest|Europe|leu|Romanian
Serbia|Belgrade|Europe|dinar|Serbian
Albania|Tirana|Europe|lek|Albanian
Ukraine|Kyiv|Europe|hryvnia|Ukrainian
Switzerland|Bern|Europe|franc|German
Turkey|Ankara|Asia|lira|Turkish
Japan|Tokyo|Asia|yen|Japanese
China|Beijing|Asia|yuan|Chinese
India|New Delhi|Asia|rupee|Hindi
Nepal|Kathmandu|Asia|rupee|Nepali
Pakistan|Islamabad|Asia|rupee|Urdu
Bangladesh|Dhaka|Asia|taka|Bengali
Thailand|Bangkok|Asia|baht|Thai
Vietnam|Hanoi|Asia|dong|Vietnamese
Laos|Vientiane|Asia|kip|Lao
Cambodia|Phnom Penh|Asia|riel|Khmer
Myanmar|Naypyidaw|Asia|kyat|Burmese
Malaysia|Kuala Lumpur|Asia|ringgit|Malay
Mongolia|Ulaanbaatar|Asia|tugrik|Mongolian
Bhutan|Thimphu|Asia|ngultrum|Dzongkha
Iran|Tehran|Asia|rial|Persian
Iraq|Baghdad|Asia|dinar|Arabic
Jordan|Amman|Asia|dinar|Arabic
Oman|Muscat|Asia|rial|Arabic
Qatar|Doha|Asia|riyal|Arabic
Bahrain|Manama|Asia|dinar|Arabic
Lebanon|Beirut|Asia|pound|Arabic
Afghanistan|Kabul|Asia|afghani|Pashto
Kazakhstan|Astana|Asia|tenge|Kazakh
Uzbekistan|Tashkent|Asia|som|Uzbek
Kyrgyzstan|Bishkek|Asia|som|Kyrgyz
Tajikistan|Dushanbe|Asia|somoni|Tajik
Armenia|Yerevan|Asia|dram|Armenian
Egypt|Cairo|Africa|pound|Arabic
Morocco|Rabat|Africa|dirham|Arabic
Algeria|Algiers|Africa|dinar|Arabic
Tunisia|Tunis|Africa|dinar|Arabic
Libya|Tripoli|Africa|dinar|Arabic
Ethiopia|Addis Ababa|Africa|birr|Amharic
Kenya|Nairobi|Africa|shilling|Swahili
Tanzania|Dodoma|Africa|shilling|Swahili
Rwanda|Kigali|Africa|franc|Kinyarwanda
Somalia|Mogadishu|Africa|shilling|Somali
Ghana|Accra|Africa|cedi|English
Nigeria|Abuja|Africa|naira|English
Senegal|Dakar|Africa|franc|French
Togo|Lome|Africa|franc|French
Gabon|Libreville|Africa|franc|French
Cameroon|Yaounde|Africa|franc|French
Angola|Luanda|Africa|kwanza|Portuguese
Mozambique|Maputo|Africa|metical|Portuguese
Zambia|Lusaka|Africa|kwacha|English
Malawi|Lilongwe|Africa|kwacha|English
Namibia|Windhoek|Africa|dollar|English
Botswana|Gaborone|Africa|pula|English
Canada|Ottawa|America|dollar|English
Cuba|Havana|America|peso|Spanish
Jamaica|Kingston|America|dollar|English
Honduras|Tegucigalpa|America|lempira|Spanish
Nicaragua|Managua|America|cordoba|Spanish
Colombia|Bogota|America|peso|Spanish
Venezuela|Caracas|America|bolivar|Spanish
Ecuador|Quito|America|dollar|Spanish
Peru|Lima|America|sol|Spanish
Chile|Santiago|America|peso|Spanish
Argentina|Buenos Aires|America|peso|Spanish
Uruguay|Montevideo|America|peso|Spanish
Paraguay|Asuncion|America|guarani|Spanish
Brazil|Brasilia|America|real|Portuguese
Australia|Canberra|Oceania|dollar|English
Fiji|Suva|Oceania|dollar|Fijian
Samoa|Apia|Oceania|tala|Samoan
New Zealand|Wellington|Oceania|dollar|English
"""


@dataclass(frozen=True)
class Country:
    name: str
    capital: str
    continent: str
    currency: str
    language: str


COUNTRIES = tuple(Country(*line.split("|")) for line in _COUNTRIES.strip().splitlines())

FIRST_NAMES = (
    "Anna Boris Clara Daniel Elena Felix Greta Hugo Ines Jonas Karla Leo Mira Nils Olga Paul Rosa "
    "Simon Tara "
    "Viktor Wanda Yara Zeno Bela Ciro Dora Emil Flora Gustav Hanna Ivo Judit"
).split()
LAST_NAMES = (
    "Adler Brandt Castell Dorn Eklund Farkas Gruber Holm Iversen Jansen Kessler Lindt Moreau Novak "
    "Orsini Petrov "
    "Quist Reyes Sandor Tamm Ulrich Varga Weber Zeller Amado Bonnet Carlsen Duarte Engel Ferrer "
    "Goran Hasek"
).split()
ORG_FIRST = (
    "Northgate Silverline Oakfield Bluestone Redwood Harbour Summit Riverside Lantern Falcon "
    "Meridian Amber"
).split()
ORG_LAST = (
    "Mills Bank Press Labs Museum Theatre School Bakery Motors Textiles Library Hospital".split()
)
TOWNS = (
    "Arden Belmont Corva Dunmore Elsfield Fenwick Glenholm Hartwell Ilmar Kestrel Lorne Marwick "
    "Nordby Oldham Pelham "
    "Quarra Rosedale Selby Thornby Upton Vesper Westmere Yarrow Zell"
).split()
JOBS = "baker teacher doctor painter pilot farmer nurse lawyer cook writer driver gardener".split()

# Fixed attributes: the world's facts about things.
COLOURS = "red blue green yellow white black brown grey".split()
MATERIALS = "wood steel glass paper wool leather stone clay".split()
SIZES = "small large".split()
OBJECTS = (
    "kettle lamp chair table basket bottle blanket candle clock coat drum fence flag glove hammer "
    "jar knife ladder "
    "mirror needle oven pillow plate ring rope saddle scarf shelf spoon statue suitcase tent tray "
    "umbrella vase "
    "wagon whistle bucket button carpet"
).split()


def object_facts(seed=11):
    """{object: {"colour", "material", "size"}}, drawn once and fixed for good."""
    rng = random.Random(seed)
    return {
        name: {
            "colour": rng.choice(COLOURS),
            "material": rng.choice(MATERIALS),
            "size": rng.choice(SIZES),
        }
        for name in OBJECTS
    }


# Graded wording for reviews. The task trains on the words with even index and is tested on those
# with odd index.
GRADED = {
    "great": "superb brilliant wonderful marvellous outstanding magnificent splendid "
    "flawless".split(),
    "good": "good solid pleasant lovely enjoyable charming clever neat".split(),
    "bad": "weak poor dull clumsy tedious flimsy tiresome bland".split(),
    "awful": "awful terrible dreadful horrible appalling useless atrocious worthless".split(),
}
FILMS = (
    "The Silent Orchard|Midnight Ferry|A Winter Letter|The Glass Road|Paper Kings|Salt and Stone|"
    "The Last Lighthouse|Seven Doors"
).split("|")
FILM_ASPECTS = "plot acting music ending dialogue lighting".split()
PRODUCTS = "phone camera radio jacket backpack bicycle heater printer".split()
PRODUCT_ASPECTS = "design price quality finish sound service".split()

OPPOSITES = (
    ("big", "small"),
    ("hot", "cold"),
    ("fast", "slow"),
    ("old", "young"),
    ("rich", "poor"),
    ("hard", "soft"),
    ("light", "dark"),
    ("high", "low"),
    ("wet", "dry"),
    ("loud", "quiet"),
    ("full", "empty"),
    ("early", "late"),
    ("open", "closed"),
    ("clean", "dirty"),
    ("strong", "weak"),
    ("happy", "sad"),
    ("near", "far"),
    ("thick", "thin"),
    ("sweet", "bitter"),
    ("long", "short"),
)

VENUE_KINDS = ("cafe", "museum", "shop", "inn")  # the inn is the shifted domain of data-to-text
VENUE_FIRST = "Blue Golden Old Little Green Silver White Red".split()
VENUE_LAST = "Fox Anchor Garden Mill Star Bridge Crown Swan".split()
VENUE_OFFER = {
    "cafe": "coffee cake soup bread".split(),
    "museum": "paintings coins maps statues".split(),
    "shop": "books shoes toys flowers".split(),
    "inn": "rooms stew cider breakfast".split(),
}
AREAS = "harbour station market river park castle".split()
PRICES = "low fair high".split()

# Velan, a second language for everyday words: adjectives follow the noun, the verb comes last, no
# articles.
NOUNS = (
    "house dog cat bird tree book door window bread milk water child man woman boat river stone "
    "garden apple fish"
).split()
ADJECTIVES = "red blue green white black big small old young good".split()
VERBS = {
    "sees": "see",
    "likes": "like",
    "finds": "find",
    "wants": "want",
    "brings": "bring",
    "paints": "paint",
}


def velan(seed=5):
    """{English word: Velan word}; words are two syllables (nouns end in -o, adjectives in -a, verbs
    in -i).
    """
    rng = random.Random(seed)
    onsets, vowels = "b d f g k l m n p r s t v z".split(), "aeiou"
    used, table = set(), {}
    for words, last in ((NOUNS, "o"), (ADJECTIVES, "a"), (VERBS, "i")):
        for word in words:
            while True:
                made = rng.choice(onsets) + rng.choice(vowels) + rng.choice(onsets) + last
                if made not in used:
                    break
            used.add(made)
            table[word] = made
    return table


def split_words(words, parts=(0.6, 0.15, 0.25), seed=3):
    """Disjoint (train, validation, test) lists of `words`; used to hold countries and names out of
    tuning.
    """
    words = list(words)
    random.Random(seed).shuffle(words)
    a, b = round(len(words) * parts[0]), round(len(words) * (parts[0] + parts[1]))
    return words[:a], words[a:b], words[b:]
