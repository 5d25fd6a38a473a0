#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/tokenizers: small tokenizers in the shape of each family's tokenizer.json, and what the PyPI
package `tokenizers` makes of awkward and random texts with them. tests/tokenizer_fixture_test.cc reads both.

usage: python3 tools/make_tokenizer_fixtures.py      (wants the package `tokenizers`, 0.20 or later)

The tokenizers are trained on this repository's documents and the texts below, so running this again after a document
has changed gives other tokenizers, and expectations that fit them.

Random texts are not stored. Both sides make them from expected.json's `atoms` and `ranges` with one generator:
  state = state * 6364136223846793005 + 1442695040888963407 (mod 2^64);  Draw(n) = (state >> 33) mod n
  text: 1 + Draw(24) times: if Draw(2) is 0, atom Draw(number of atoms), else of range Draw(number of ranges) the
  character first + Draw(last - first + 1).
Per block of 100 texts, expected.json holds FNV-1a hashes (64 bits) of all texts, all ids (each as 4 bytes, little
endian, after each text the id 2^32 - 1) and all decoded texts. Random ids: per sequence 1 + Draw(24) ids Draw(size).
"""
import json
import pathlib

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "tests" / "data" / "tokenizers"
BLOCKS, BLOCK = 100, 100
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
         r"|\s+(?!\S)|\s+")

FAMILY_TOKENS = {
    "gpt2": ["<|endoftext|>"],
    "smollm2": ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<reponame>", "<file_sep>"],
    "qwen2": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "llama3": ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
}

NASTY = [
    "", " ", "  ", "   ", "\n", "\n\n", "\n\n\n", "\r\n", "\r\n\r\n", "\r\r\n", "\t", "\t\t x", " \n", "\n ",
    " \n \n x",
    "Hello, world!", "Hello  world", "Hello   world ", " leading", "   leading", "trailing ", "trailing   ",
    "a\r\nb\r\n",
    "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\n#### 72", "x = 3.14159, y = -2e10; 1,000,000",
    "12345678901234567890",
    "007 1 12 123 1234 12345", "\u0663\u0661\u0664 \u096a\u0968 \uff11\uff12 \u2167 \u00bd \u2460 \U0001D7D8",
    "x\u00b2+y\u00b3",
    "don't DON'T Don'T we'll WE'LL they're I'M I'd 'S 's '\u017f \u2019s it's's '", "''s'''t 'tis 'llama",
    "caf\u00e9", "cafe\u0301", "e\u0301\u0323 e\u0323\u0301 \u1ec7 \u212b \u00c5 A\u030a",
    "\u1100\u1161\u11a8 \uac01 \ud55c\uad6d\uc5b4",
    "\u0958 \u0915\u093c", "\ufb01 \ufb05 \u1e9b\u0323", "\U0001D15E", "\u0344 \u0374 \u037e \u0387", "\U0002F81A",
    "a\u0315\u0300\u05ae\u0062",
    "\u00a0", "a\u00a0b", "\u0085", "a\u0085\u0085b", "\u180e", "a\u180eb \u180e", "\u2003\u2003x", "\u3000\u3000",
    "\u200b \ufeff\u200e",
    "\u2028\u2029", "\x0b\x0c", "\x00", "a\x00b", "\x01\x02\x1f\x7f", "\x1c\x1d\x1e", "\x80\x9f",
    "\U0001F468\u200D\U0001F469\u200D\U0001F467\u200D\U0001F466",
    "\U0001F44D\U0001F3FD \U0001F1E9\U0001F1EA \u2764\ufe0f", "\U0001F600\U0001F600\U0001F600",
    "\u4f60\u597d\uff0c\u4e16\u754c\uff01", "\u3053\u3093\u306b\u3061\u306f \u30ab\u3099",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440!", "\u05e9\u05c1\u05dc\u05d5\u05dd",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0650\u0633\u0652\u0645\u0650", "\u0928\u092e\u0938\u094d\u0924\u0947",
    "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "\u0561\u0562 \u10d0\u10d1 \u1361",
    "\\boxed{\\frac{1}{2}} $x^2$ \\(a_{ij}\\)", "!!!???...---", "a_b__c",
    "foo(bar)[0]{1};// x\n\tif (a && b) {\n\t\treturn;\n\t}\n",
    "    indented\n        more\n", "https://example.org/a?b=c&d=%20#e", "ALLCAPS camelCase snake_case kebab-case",
    "\U0010FFFF\uE000\uFFFD", "\ufdd0", "I\u0307 \u0130 \u0131 \u017f \u212a",
    "<|endoftext|>", "a<|endoftext|>b", " <|im_start|> user\nHi<|im_end|>\n",
    "<|im_start|>system\nYou are.<|im_end|>\n<|im_start|>",
    "<|im_end|", "<|im_end|>|>", "<|<|im_end|>", "<|begin_of_text|>x", "<|begin_of_text|><|begin_of_text|>",
    "x<|eot_id|><|end_of_text|>",
    "<|start_header_id|>user<|end_header_id|>\n\nHi", "<repo_name>a<file_sep>b", "<repo_name",
    "<think>\n\n</think>\n\nok", "<think>><thinking>", "two words two  words",
    "caf\u00e9\u2615 cafe\u0301\u2615 cafe\u0301", "\u00e9! e\u0301!", "<a<ab<abc<abcd",
    "unreachable by merges", " unreachable", "unreachableunreachable",
]

ATOMS = [
         " ", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "\u00a0", "\u0085", "\u180e", "\u2003", "\u3000",
         "\u2028", "\x00", "\u200d", "\ufe0f",
         "'s", "'S", "'\u017f", "'ll", "'LL", "'re", "'", "the", " the", "and ", "answer", " 42", "123", "1000000",
         "=", "...", "!?", "e\u0301",
         "\u0301", "\u0323", "\u093c", "\u3099", "\U0001F468\u200D\U0001F469", "\u00e9", "<|endoftext|>",
         "<|im_start|>", "<|im_end|>", "<|eot_id|>",
         "<|", "|>", "<think>", "two words", "caf\u00e9\u2615", "\u00e9!", " unreachable", "\\frac{", "}"]

RANGES = [[0x20, 0x7E], [0x61, 0x7A], [0x41, 0x5A], [0x30, 0x39], [0x00, 0x1F], [0x7F, 0xFF],
          [0x100, 0x24F], [0x300, 0x36F],
          [0x370, 0x3FF], [0x400, 0x4FF], [0x591, 0x5EA], [0x621, 0x669], [0x904, 0x94D], [0xE01, 0xE3A],
          [0x1100, 0x1112],
          [0x1161, 0x1175], [0x11A8, 0x11C2], [0x1E00, 0x1FFF], [0x2000, 0x206F], [0x2100, 0x218B], [0x2460, 0x249B],
          [0x3000, 0x303F], [0x3041, 0x30FA], [0x4E00, 0x9FFF], [0xAC00, 0xD7A3], [0xF900, 0xFA6D], [0xFB00, 0xFB4F],
          [0xFF01, 0xFF5E], [0x1D15E, 0x1D164], [0x1D400, 0x1D7FF], [0x1F300, 0x1F64F], [0x2F800, 0x2FA1D]]

LONG = [["a", 100000], ["ab", 50000], ["the answer ", 10000], [" ", 100000], ["\n ", 50000], ["9", 100000],
        ["\u4f60\u597d", 30000],
        ["\u0301\u0323", 50000], ["!", 100000], ["mississippi", 10000]]


class Generator:
    def __init__(self, seed):
        self.state = seed

    def draw(self, n):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) % n

    def text(self):
        parts = []
        for _ in range(1 + self.draw(24)):
            if self.draw(2) == 0:
                parts.append(ATOMS[self.draw(len(ATOMS))])
            else:
                first, last = RANGES[self.draw(len(RANGES))]
                parts.append(chr(first + self.draw(last - first + 1)))
        return "".join(parts)


class Hash:
    """FNV-1a, 64 bits."""

    def __init__(self):
        self.value = 0xCBF29CE484222325

    def add(self, data):
        for byte in data:
            self.value = (self.value ^ byte) * 0x100000001B3 % 2**64

    def add_ids(self, ids):
        for i in list(ids) + [2**32 - 1]:
            self.add(i.to_bytes(4, "little"))

    def hex(self):
        return f"{self.value:016x}"


def pre_tokenizer(family):
    if family == "gpt2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if family == "smollm2":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    regex = SPLIT % (r"\p{N}" if family == "qwen2" else r"\p{N}{1,3}")
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(regex), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def train(family, corpus, size):
    """The family's tokenizer.json with a small vocabulary, as an object."""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizer(family)
    if family == "qwen2":
        t.normalizer = normalizers.NFC()
    t.decoder = decoders.ByteLevel()
    first = FAMILY_TOKENS[family] if family == "smollm2" else []  # there special tokens have the first ids
    t.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=size, show_progress=False, special_tokens=first,
                                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    t.post_processor = processors.ByteLevel(trim_offsets=family == "llama3")
    # GPT-2's file says that its special token is matched in the normal form.
    t.add_special_tokens([AddedToken(x, normalized=family == "gpt2") for x in FAMILY_TOKENS[family]])
    if family == "qwen2":
        # Beyond the family: what added tokens can be. The third is written in NFD and matched in the normal form.
        t.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False),
                      AddedToken("cafe\u0301\u2615", normalized=True), AddedToken("two words", normalized=False),
                      AddedToken("\u00e9!", normalized=False), AddedToken("<a", normalized=False),
                      AddedToken("<abc", normalized=False)])
    if family == "llama3":
        bos = FAMILY_TOKENS[family][0]
        t.post_processor = processors.Sequence([
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1",
                                          special_tokens=[(bos, t.token_to_id(bos))])])
    data = json.loads(t.to_str())
    if family == "llama3":
        model = data["model"]
        model["ignore_merges"] = True
        # Words that no merge makes; the added tokens move behind them.
        words = ["unreachable", "\u0120unreachable"]
        words = [w for w in words if w not in model["vocab"]]
        start = len(model["vocab"])
        for i, word in enumerate(words):
            model["vocab"][word] = start + i
        for token in data["added_tokens"]:
            token["id"] += len(words)
        special = data["post_processor"]["processors"][1]["special_tokens"]
        special[FAMILY_TOKENS[family][0]]["ids"] = [start + len(words)]
    else:  # the older spelling
        data["model"]["merges"] = [" ".join(m) for m in data["model"]["merges"]]
    return data


def expectations(t, seed):
    """What `tokenizers` makes of all texts."""
    def case(text):
        ids = t.encode(text, add_special_tokens=False).ids
        entry = {"text": text, "ids": ids, "decoded": t.decode(ids, skip_special_tokens=False),
                 "without_special": t.decode(ids, skip_special_tokens=True)}
        prompt = t.encode(text, add_special_tokens=True).ids
        if prompt != ids:
            entry["prompt"] = prompt
        t.encode_special_tokens = True
        as_text = t.encode(text, add_special_tokens=False).ids
        t.encode_special_tokens = False
        if as_text != ids:
            entry["special_as_text"] = as_text
        return entry

    generator = Generator(seed)
    blocks = []
    for _ in range(BLOCKS):
        texts, ids, decoded = Hash(), Hash(), Hash()
        for _ in range(BLOCK):
            text = generator.text()
            texts.add(text.encode())
            row = t.encode(text, add_special_tokens=False).ids
            ids.add_ids(row)
            decoded.add(t.decode(row, skip_special_tokens=False).encode())
        blocks.append([texts.hex(), ids.hex(), decoded.hex()])
    random_ids = Hash()
    for _ in range(1000):
        row = [generator.draw(t.get_vocab_size()) for _ in range(1 + generator.draw(24))]
        random_ids.add(t.decode(row, skip_special_tokens=False).encode())
    long = []
    for text, times in LONG:
        ids = Hash()
        row = t.encode(text * times, add_special_tokens=False).ids
        ids.add_ids(row)
        long.append({"text": text, "times": times, "tokens": len(row), "ids": ids.hex()})
    return {"seed": seed, "cases": [case(x) for x in NASTY], "blocks": blocks, "random_ids": random_ids.hex(),
            "long": long}


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    documents = sorted(ROOT.glob("docs/*.md")) + [ROOT / "README.md"]
    corpus = [path.read_text(encoding="utf-8") for path in documents] + NASTY * 3
    families = {}
    for seed, family in enumerate(FAMILY_TOKENS, start=1):
        text = json.dumps(train(family, corpus, 1000), ensure_ascii=False, separators=(",", ":"))
        (OUT / f"{family}.json").write_text(text + "\n", encoding="utf-8")
        families[family] = expectations(Tokenizer.from_str(text), seed)
    expected = {"tokenizers": tokenizers.__version__, "block": BLOCK, "atoms": ATOMS, "ranges": RANGES,
                "families": families}
    text = json.dumps(expected, ensure_ascii=True, separators=(",", ":"))
    (OUT / "expected.json").write_text(text.replace('{"text"', '\n{"text"') + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
