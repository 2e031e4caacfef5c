"""Writes characters.txt, what each character is to normalization and to the cutting of words, by asking the libraries.

Run: python tables.py > characters.txt, with datatrove 0.10.1 and spaCy 3.8 installed.
A line is FIRST LAST FLAGS, in hexadecimal; the flags are those of characters.rs.
"""

import re
import unicodedata

import spacy
from datatrove.utils.text import PUNCTUATION, WHITESPACE_PATTERN
from spacy.lang.char_classes import ALPHA

cut = spacy.blank("en").tokenizer
letter = re.compile("[" + ALPHA + "]")


def flags(c):
    category = unicodedata.category(c)
    prefix = bool(cut.prefix_search(c + "a"))
    suffix = bool(cut.suffix_search("z" + c))
    return (
        (category == "Nd")
        | (category == "Mn") << 1
        | (c in PUNCTUATION or bool(WHITESPACE_PATTERN.match(c))) << 2
        | any(m.start() == 1 for m in cut.infix_finditer("\0" + c + "\0")) << 3
        | bool(letter.match(c)) << 4
        | prefix << 5
        | suffix << 6
        # Units are cut off digits too, but they are letters.
        | (category == "Sc" and not suffix and bool(cut.suffix_search("0" + c))) << 7
    )


def main():
    first, last, found = 0, -1, 0
    for code in range(0x110001):
        now = flags(chr(code)) if code < 0x110000 and not 0xD800 <= code < 0xE000 else 0
        if now != found or code == 0x110000:
            if found:
                print(f"{first:x} {last:x} {found:x}")
            first, found = code, now
        last = code


main()
