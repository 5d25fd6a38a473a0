#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/verifier_neighbours.json: generated pairs of answers whose verdicts follow from how they are made.

    python3 tools/make_verifier_neighbours.py        needs sympy; its version is recorded in the file

Each kind is a rule of docs/verifier.md. Where two numbers are compared, sympy says whether they are equal; the other
verdicts hold by construction, such as that 7 apples are 7 and that a product of letters is no unit. Numbers are drawn
with a fixed seed, so that the file is the same every time. tests/verifier_fixture_test.cc holds the library to it.
"""

import json
import pathlib
import random

import sympy
from sympy import Integer, Rational

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data" / "verifier_neighbours.json"
RANDOM = random.Random(13)
FORMS = [str.lower, str.upper, str.capitalize]


def number():
    return RANDOM.randint(2, 98)


def cased(word):
    return RANDOM.choice(FORMS)(word)


def recurring(whole, before, cycle):
    """The value of whole.before(cycle)."""
    shift, period = 10 ** len(before), 10 ** len(cycle)
    head = Integer(int(before or "0")) / shift
    return Integer(whole) + head + Integer(int(cycle)) / (shift * (period - 1))


def spellings(whole, before, cycle):
    yield rf"{whole}.{before}({cycle})"
    yield rf"{whole}.{before}\overline{{{cycle}}}"
    yield rf"{whole}.{before}\bar{{{cycle}}}"
    if len(cycle) == 1:
        yield rf"{whole}.{before}\dot{{{cycle}}}"
        yield f"{whole}.{before}{cycle}\u0305"
    else:
        yield rf"{whole}.{before}\dot{{{cycle[0]}}}{cycle[1:-1]}\dot{{{cycle[-1]}}}"


def latex(value):
    return rf"\frac{{{value.p}}}{{{value.q}}}" if value.q != 1 else str(value.p)


def recurring_decimals():
    decimals = [(number() % 3, RANDOM.choice(["", "0", "1", "25", "40"]), cycle)
                for cycle in ["3", "03", "30", "9", "09", "6", "54", "054", "142857", "27", "270"] for _ in range(2)]
    for decimal in decimals:
        value = recurring(*decimal)
        for answer in spellings(*decimal):
            yield latex(value), answer, True
        for other in RANDOM.sample(decimals, 2):
            gold, answer = (RANDOM.choice(list(spellings(*d))) for d in (decimal, other))
            yield gold, answer, sympy.simplify(value - recurring(*other)) == 0
        finite = f"{decimal[0]}.{decimal[1]}{decimal[2]}"
        yield RANDOM.choice(list(spellings(*decimal))), finite, sympy.Rational(finite) == value


CARDINALS = ("one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
             "seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety").split()
PARTS = ("half halves third thirds quarter quarters fourth fourths fifth fifths sixth sixths seventh eighths ninth "
         "tenth tenths eleventh twelfths twentieth thirtieths hundredth hundredths thousandth thousandths millionth "
         "billionths").split()
FACTORS = "double twice thrice triple quadruple twofold tenfold score myriad googol zillion".split()
NEGATIONS = "not never neither nor no none minus negative negatives except without isn't".split()
CHANGES = ("squared cubed factorial times plus over more less fewer or mod modulo base maybe theta alpha pi "
           "remainder reciprocal inverse").split()
MULTIPLIERS = {"dozen": 12, "gross": 144, "hundred": 100, "thousand": 10**3, "lakh": 10**5, "million": 10**6,
               "crore": 10**7, "billion": 10**9, "trillion": 10**12, "quadrillion": 10**15}


def number_words():
    for word in CARDINALS + PARTS + FACTORS + NEGATIONS + CHANGES:
        n = number()
        yield str(n), f"{n} {cased(word)}", False
    for tens in CARDINALS[-8:]:
        n = number()
        yield str(n), f"{n} {cased(tens)}-{cased(RANDOM.choice(CARDINALS[:9]))}", False
    for word in PARTS[::3] + FACTORS[::3] + NEGATIONS[::3]:
        n = number()
        yield str(n), rf"{n}\text{{ {cased(word)}}}", False


def multipliers():
    for word, factor in MULTIPLIERS.items():
        n = number()
        plural = word if word == "gross" else word + RANDOM.choice(["", "s"])
        yield str(n * factor), f"{n} {cased(plural)}", True
        yield str(n), f"{n} {cased(plural)}", False
        yield str(n), rf"{n}\text{{ {cased(word)}}}", False
        second, by = RANDOM.choice(list(MULTIPLIERS.items()))
        yield str(n * factor * by), f"{n} {cased(word)} {cased(second)}", True
        yield str(n * factor), f"{n} {cased(word)} {cased(second)}", False


def monomials():
    for letters in "x ab xy abc xyz pqr mgh rst uvw def abcd wxyz mnpq abxy abcx pv nRT IR kT mv ma qvB".split():
        for space in ["", " ", r"\,", r"\ "]:
            n = number()
            pair = (str(n), f"{n}{space}{letters}")
            yield (*(pair if RANDOM.random() < 0.5 else pair[::-1]), False)


UNITS = ["kg", "m/s", "m/s^2", "m^2", "cm^2", "km/h", "ft", "mph", "hours", "degrees", "dollars", "miles per hour",
         "square feet", "cubic meters", r"\text{ N}", r"\text{ J}", r"\text{ W}", r"^\circ\text{C}", "°F", "a day",
         "per week", "apples", "Apples", "men", "students", "red cars", "sandwiches", "points", "units^2",
         r"\text{ m/s}^2", r"\text{ kg}\cdot\text{m}", "pairs of shoes"]
MEASURES = ["kg", "g", "m", "cm", "km", "miles", "hours", "minutes", "dollars", "cents", "km/h", "m/s", "m^2", "m^3",
            "N", "J"]


def units():
    for unit in UNITS:
        n = number()
        space = "" if unit[0] in "\\^°" else " "
        yield str(n), f"{n}{space}{unit}", True
        yield str(n + 1), f"{n}{space}{unit}", False
    for _ in range(20):
        one, other = RANDOM.sample(MEASURES, 2)
        n = number()
        yield rf"{n}\text{{ {one}}}", rf"{n}\text{{ {other}}}", False


NAMES = ["x", "AB", "BC", r"\overline{AB}", "P(A)", "f(3)", "f(x)", r"\angle ABC", r"m\angle A", r"\text{Area}", "Area",
         r"\text{Total cost}", "S_{10}", "a_n", r"\theta", "P(A|B)", r"\text{Area of }\triangle ABC", "", "|AB|"]
NO_NAMES = ["2x", "x^2", "-x", "|x|", "xy", "x+y", "x(x+1)", r"\sqrt{x}", r"\frac{x}{2}", "n!", r"\text{twice }x",
            r"\text{not }x", r"\text{half the area}", r"AB \cdot CD", r"P(A)P(B)", "ab", "1+"]


def left_sides():
    for name in NAMES:
        n = number()
        yield str(n), f"{name} = {n}", True
        yield str(n), f"{name} = {n + 1}", False
        yield str(n), rf"{name} \ne {n}", False
    for name in NO_NAMES:
        n = number()
        yield str(n), f"{name} = {n}", False


def unions_and_relations():
    for _ in range(12):
        a, b, c, d = sorted(RANDOM.sample(range(-40, 40), 4))
        gold = rf"[{a},{b}]\cup[{c},{d})"
        yield gold, rf"[{a}, {b}.0] \cup [{c}, {2 * d}/2)", True
        yield gold, rf"[{c},{d}) ∪ [{a},{b}]", True
        yield gold, rf"[{a},{b}]\cup[{c},{d}]", False
        yield gold, rf"[{a},{b}]\cup[{c},{d + 1})", False
        yield gold, rf"[{a},{b}]\cap[{c},{d})", False
        yield f"x > {a}", f"{a}.0 < x", True
        yield f"x > {a}", f"x < {a}", False
        yield f"x > {a}", rf"x \ge {a}", False
        yield f"{a} < x < {b}", f"{b} > x > {a}", True
        yield f"{a} < x < {b}", f"{a} < x < {c}", False


SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
FRACTIONS = {"½": (1, 2), "⅓": (1, 3), "⅔": (2, 3), "¼": (1, 4), "¾": (3, 4), "⅕": (1, 5), "⅖": (2, 5), "⅗": (3, 5),
             "⅘": (4, 5), "⅙": (1, 6), "⅚": (5, 6), "⅛": (1, 8), "⅜": (3, 8), "⅝": (5, 8), "⅞": (7, 8)}
DRESSES = ["**{}**", "`{}`", "'{}'", '"{}"', "“{}”", "*{}*", "__{}__", "#### **{}**", r"\large {}", r"\underline{{{}}}",
           r"{}\\", r"\textcolor{{red}}{{{}}}", r"\mathbf{{{}}}", "{}{{}}", r"\Huge{{{}}}", "\u200e{}", "\u00ad{}",
           "\u2007{}", "₹{}", "{}\u2060", r"\text{{{}}}", "${}$", r"\({}\)"]


def dressed():
    for dress in DRESSES:
        n = number()
        yield str(n), dress.format(n), True
        yield str(n), dress.format(n + 1), False
    for sign, (p, q) in FRACTIONS.items():
        n = number()
        yield latex(Rational(p, q)), sign, True
        yield latex(n + Rational(p, q)), f"{n}{sign}", True
        yield latex(Rational(p + 1, q)), sign, False
    for power in range(-5, 8):
        n = number()
        answer = f"{n}×10{str(power).translate(SUPERSCRIPTS)}"
        yield latex(n * Rational(10)**power), answer, True
        yield latex(n * Rational(10)**(power + 1)), answer, False
        yield latex(n * Rational(10)**power), f"{n}e{power}", True


def percents():
    for word in ["percent", "Percent", "percents", "pct", "percentage", "per cent", "PER CENT", r"\%", "%", "％"]:
        n = number()
        yield rf"{n}\%", f"{n} {word}", True
        yield rf"{n}\%", f"{n + 1} {word}", False
        yield latex(Rational(n, 100)), f"{n} {word}", False
        yield f"{100 * n}", f"{n} {word}", False
    for word in ["per thousand", "per mille", "cents", "‰", "permille", ""]:
        n = number()
        yield rf"{n}\%", f"{n} {word}".strip(), False


KINDS = [recurring_decimals, number_words, multipliers, monomials, units, left_sides, unions_and_relations, dressed,
         percents]


def main():
    pairs = [(kind.__name__, gold, answer, bool(equal)) for kind in KINDS for gold, answer, equal in kind()]
    rows = ",\n".join(json.dumps(pair, ensure_ascii=False) for pair in pairs)
    head = json.dumps({"script": "tools/make_verifier_neighbours.py", "versions": {"sympy": sympy.__version__},
                       "columns": ["kind", "gold", "answer", "equal"]})
    OUT.write_text(f'{head[:-1]}, "pairs": [\n{rows}\n]}}\n', encoding="utf-8")
    print(f"{len(pairs)} pairs, {sum(not pair[3] for pair in pairs)} of wrong answers")


if __name__ == "__main__":
    main()
