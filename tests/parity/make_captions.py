#!/usr/bin/env python3
"""make_captions.py -- captions that are hard to tokenise, and the tokens open_clip's tokenizer makes of them.

    python tests/parity/make_captions.py      writes tests/parity/data/captions.bin.gz

Needs open_clip_torch and ftfy. The file: for each caption u32 size, the bytes, u8 whether its tokens depend on ftfy's repair
of text in a wrong encoding, u16 count, the tokens up to the end token (u16 each), all little-endian. Drawn with a fixed seed from pieces that break tokenisers: HTML references, emoji, CJK,
right-to-left text, control characters, ligatures, half and full width, quotes, combining marks, contractions, numbers,
special tokens, terminal escapes, long strings, text in a wrong encoding.
"""
import gzip, os, random, struct
import ftfy, open_clip

PIECES = {
    "words": "a photo of the dog cat house in on Paris NASA iPhone naïve café Straße Ünïcödé façade résumé jalapeño Ångström".split(),
    "contractions": ["it's", "I'm", "they're", "we've", "you'll", "he'd", "DON'T", "it’s", "o'clock", "'s", "'", "''", "y'all'd've", "ſ", "'ſ"],
    "numbers": ["1", "42", "2016", "3.14", "1,000", "10%", "½", "²", "Ⅷ", "٣", "१२", "50mm", "f/2.8", "#1", "7th", "1e-5"],
    "html": ["&amp;", "&lt;b&gt;", "&nbsp;", "&quot;", "&#39;", "&eacute;", "&amp;amp;", "&copy;", "&hellip;", "&#x1F600;", "&notareal;", "&amp", "<br>",
             "<a href=\"x\">", "&#0;", "&#128;", "&euro;", "&Aacute;", "&EACUTE;", "&lt", "&#xD800;", "&rarr;"],
    "emoji": ["🎉", "😀", "👩‍👩‍👧", "❤️", "🇫🇷", "👍🏽", "☃", "✨", "➡️", "©", "™", "\u20e3"],
    "cjk": ["日本語", "東京タワー", "한국어", "中文字符", "ｶﾞ", "カ\u3099", "ㄅ", "、", "。", "「猫」", "ﾊﾟ", "𠮷"],
    "rtl": ["العربية", "עברית", "\u202bשלום\u202c", "\u200fمرحبا", "فارسی", "\u061c"],
    "scripts": ["Привет", "Ελληνικά", "ΣΊΣΥΦΟΣ", "हिन्दी", "ไทย", "ქართული", "İstanbul", "ıI", "ǅ", "ß", "ẞ", "Ω", "K"],
    "control": ["\x00", "\x01", "\x07", "\t", "\r\n", "\n\n", "\x0b", "\x0c", "\x1b[31m", "\x1b[0m", "\x7f", "\u0085", "\u2028", "\u2029", "\u200b", "\u200d",
                "\ufeff", "\u00ad", "\u2060", "\ufffe", "\u206a", "\ufff9", "\u3000", "\u00a0", "\u2003", "\x1c", "\x1f"],
    "ligatures": ["ﬁne", "ﬂow", "ﬀ", "ﬃ", "ﬄ", "ﬅ", "ĳ", "Ǆ", "ﬆ", "Œuvre", "æ"],
    "width": ["ＡＢＣ", "１２３", "！？", "（x）", "￥", "ｈｅｌｌｏ", "＇", "｀", "～"],
    "quotes": ["“double”", "‘single’", "„low“", "«guillemets»", "‚low‘", "′prime″", "–", "—", "…", "´", "ʼ", "‛", "‟"],
    "combining": ["e\u0301", "a\u0308\u0323", "n\u0303", "\u0301", "o\u0302\u0301", "q\u0307\u0323", "Å", "가", "\u1112\u1161\u11ab", "क्षि"],
    "special": ["<start_of_text>", "<end_of_text>", "<END_OF_TEXT>", "<start_of_text", "< end_of_text >", "<|endoftext|>", "<start_of_text><end_of_text>"],
    "signs": ["!", "?!", "...", "--", "@user", "#tag", "http://example.com/a?b=c&d=e", "a_b", "$5", "€10", "C++", "(c)", "*", "~", "`", "^", "|", "\\", "//", "x²", "½-off"],
    "wrong": ["naÃ¯ve", "cafÃ©", "itâ€™s", "â€œquotedâ€\u009d", "Ã¼ber", "ÐŸÑ€Ð¸Ð²ÐµÑ‚", "æ—¥æœ¬", "\x93quoted\x94", "\x85", "sÃ³", "Â©", "â€“", "voilÃ  le travail"],
}
PLAIN = [k for k in PIECES if k != "wrong"]


def caption(rng, kinds):
    parts = []
    for _ in range(rng.choice([1, 2, 3, 5, 8, 13])):
        parts.append(rng.choice(PIECES[rng.choice(kinds)]))
        parts.append(rng.choice([" ", " ", "", "", "  ", ", "]))
    return "".join(parts)


def long_caption(rng):
    piece = rng.choice(["a", "word ", "日", "😀", "&amp;", "e\u0301", "<", "'s", "1", "\u0301", "ab-"])
    return piece * (10000 // len(piece.encode()))


def captions():
    rng = random.Random(7)
    yield ""
    for kind in PIECES:
        yield from PIECES[kind]
    while True:
        roll = rng.random()
        if roll < 0.004:
            yield long_caption(rng)
        elif roll < 0.05:
            yield caption(rng, ["wrong", "words"])
        else:
            yield caption(rng, rng.sample(PLAIN, 3))


def main():
    tokenizer = open_clip.get_tokenizer("ViT-B-16")
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "captions.bin.gz")
    out, source = bytearray(), captions()
    for _ in range(2600):
        text = next(source)
        ids = tokenizer([text])[0].tolist()
        whole, ftfy.fix_text = ftfy.fix_text, lambda t: whole(t, fix_encoding=False)
        repaired = tokenizer([text])[0].tolist() != ids
        ftfy.fix_text = whole
        n = 77
        while n > 2 and ids[n - 1] == 0:
            n -= 1
        data = text.encode("utf-8", "surrogatepass")
        out += struct.pack("<I", len(data)) + data + struct.pack("<BH", repaired, n) + struct.pack("<%dH" % n, *ids[:n])
    with open(path, "wb") as f:
        f.write(gzip.compress(bytes(out), 9, mtime=0))
    print("%s: 2600 captions, %d bytes" % (path, os.path.getsize(path)))


if __name__ == "__main__":
    main()
