#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/verifier_pairs.json: pairs of answers with our verdict and that of the package math-verify.

    python3 tools/make_verifier_fixtures.py        needs math-verify; its version is recorded in the file

PAIRS has one gold answer a line, then "==" before each answer that is equal to it, or "!=" before each that is not: the
verdicts of docs/verifier.md. math-verify reads both sides within \\boxed{}, as a reward would.
tests/verifier_fixture_test.cc holds the library to the first verdict, and the list of disagreements in
docs/verifier.md to the two.
"""

import importlib.metadata
import json
import pathlib

from math_verify import parse, verify

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data" / "verifier_pairs.json"

PAIRS = {
    "integers": r"""
72 == 72 == 72. == 72.0 == 72.00 == +72 == 072 == $72$ == \(72\) == \text{72} == {72} == (72)
72 != 73 != -72 != 27 != 7.2 != 720 != 72.1 != 7200\%
-7 == -7 == −7 == - 7 == -7.0 == (-7)
-7 != 7 != -8
0 == 0 == -0 == 0.0 == 00
7425000 == 7,425,000 == 7{,}425{,}000 == 7,\!425,\!000 == 7 425 000 == 7\,425\,000
7425000 != 7,425,001 != 7,425
10000 != 10001 != 9999 != 10000.5 != 1000 != 100000
123456789012345678901234567890 == 123456789012345678901234567890 == 123,456,789,012,345,678,901,234,567,890
123456789012345678901234567890 != 123456789012345678901234567891
1000 == 1 000 == 1000.0 == 10^3 == 1 \times 10^3 == 1 \cdot 10^{3}
1000000 == 1 million == 10^6 == 10^{6}
1000000 != 1 billion != 10^5
""",
    "fractions": r"""
10/9 == \frac{10}{9} == \dfrac{10}{9} == \tfrac{10}{9} == \cfrac{10}{9} == \frac{20}{18} == 20/18 == 1\frac{1}{9} == 1 1/9
10/9 != 9/10 != -\frac{10}{9} != \frac{10}{8} != 1.1 != 1.11 != 1.1111
-\frac{10}{9} == -10/9 == \frac{-10}{9} == \frac{10}{-9} == -1\frac19
\frac{1}{3} == \frac13 == \left( \frac13 \right) == \frac 13 == \frac1{3} == \frac{1}3 == \frac{2}{6} == 1/3
\frac{1}{3} != 0.3 != 0.33 != 0.333 != 3 != \frac{1}{4}
1 == \frac3{3} == \frac{3}{3} == 3/3
\frac{9}{5} == 1\frac45 == 1\frac{4}{5} == 1.8 == 1.80 == 9/5
\frac{9}{5} != 1\frac{5}{4} != \frac{4}{5} != 14/5
\frac{3}{2} == \frac{\frac{3}{4}}{\frac{1}{2}} == 1.5 == 1\frac12
""",
    "decimals": r"""
0.4 == .4 == 0.40 == \frac{2}{5} == 2/5
0.4 != 0.5 != 4 != 0.04 != 0.41
0.25 == \frac{1}{4} == 1/4 == .25 == 0.250
1000.99 == \$1,000.99 == 1,000.99 == 1000.990
1000.99 != 1000.98 != 100.099 != 1001
3.14159 != 3.14158 != \pi != 3.1416
0.001 == 10^{-3} == 1 \times 10^{-3} == \frac{1}{1000}
16386.20 == \$16,\!386.20 == 16386.2 == 16{,}386.20
2.5 == \frac52 == 2\frac12 == 5/2
0.1 != 0.1000001 != 0.09999999
""",
    "percent and units": r"""
28\% == 28\% == 28 \% == 28%
28\% != 28 != 0.28 != 29\% != 2.8\%
50 == 50\% == 50% == 50 \%
50 != 0.5 != 0.5\% != 5000\%
15 == 15\mbox{ cm}^2 == 15\text{ cm}^2 == 15 \text{ cm} == 15\textnormal{ miles} == 15\text{ apples} == 15^\circ == 15^{\circ} == \$15
15 != 16\text{ cm} != 15x != 15\% \text{ of } 30 != 150\text{ cm}
\frac{1}{3} == \frac{1}{3} \text{meters} == \frac13\text{ m}
90^\circ == 90 == 90^{\circ} == 90° == 90\text{ degrees}
90^\circ != 91^\circ != 180^\circ
18\text{ dollars} == 18 == \$18 == 18\text{ dollars}
5\text{ minutes} != 5\text{ hours} != 6\text{ minutes}
\$50 != 50\text{ cents} != \$5
10 != 100 \text{ units} != 1 \text{ unit}
""",
    "roots": r"""
\sqrt{3} == \sqrt3 == \sqrt 3 == 1\sqrt{3} == \frac{3}{\sqrt{3}} == \frac{\sqrt{12}}{2}
\sqrt{3} != \sqrt{2} != 3 != 1.7 != 1.7320508 != \frac{\sqrt{3}}{2}
2\sqrt{3} == \sqrt{12} == 2\sqrt3 == 2 \cdot \sqrt{3} == \frac{4\sqrt{3}}{2} == 2 \times \sqrt{3}
2\sqrt{3} != 3\sqrt{2} != -2\sqrt{3} != \sqrt{6} != 2 + \sqrt{3}
\sqrt{2}+\sqrt{5} == \sqrt 2+\sqrt 5 == \sqrt5+\sqrt2
\sqrt{2}+\sqrt{5} != \sqrt{7} != \sqrt{2}-\sqrt{5}
\frac{\sqrt{2}}{2} == \frac{1}{\sqrt{2}} == \sqrt{\frac{1}{2}} == \frac{\sqrt2}2 == \sqrt{2}/2
\frac{1+\sqrt{5}}{2} == \frac{1}{2}+\frac{\sqrt{5}}{2} == \frac{\sqrt5+1}{2} == (1+\sqrt{5})/2
\frac{1+\sqrt{5}}{2} != 2 != \frac{1-\sqrt{5}}{2} != 1.618
\sqrt2-1 == \frac{1}{1+\sqrt2} == \frac{1}{\sqrt{2}+1} == -1+\sqrt{2}
10\sqrt{3}+\sqrt{4} == 10\sqrt3+2 == 2+10\sqrt3
1 != 1\sqrt{19} != \sqrt{2}
\sqrt[3]{2} == \sqrt[3]{2}
\sqrt[3]{2} != \sqrt{2} != 2
""",
    "pi and i": r"""
\frac{9}{4}\pi == \frac94\pi == \frac{9\pi}{4} == 2.25\pi == \frac{18}{8}\pi
\frac{9}{4}\pi != \frac{4}{9}\pi != \frac94 != 7.07
\pi == \pi == 1\pi == π
\pi != 3.14 != 3.14159265358979 != 2\pi != \frac{22}{7}
3+2i == 3+2i == 2i+3 == 3 + 2 i
3+2i != 3-2i != 2+3i != 5
\frac34i == \frac{3}{4}i == \frac{3i}{4} == 0.75i
\frac{\pi^2}{6} == \frac{\pi^{2}}{6} == \pi^2/6
4\pi+2 == 2+4\pi
4\pi+2 != 6\pi
""",
    "tuples and intervals": r"""
(6,31,-1) == (6, 31, -1) == \left(6,31,-1\right) == (6.0,31,-1)
(6,31,-1) != (31,6,-1) != (6,31) != (6,31,1) != (6,31,-1,0)
(1,\frac92) == (1,4.5) == \left(1,\frac{9}{2}\right)
(3,2) == (p,q)=(3,2) == (3, 2)
(3,2) != (2,3) != 3 != 32 != 6
[0,1) == [0, 1) == \left[0,1\right) == x \in [0,1)
[0,1) != (0,1) != [0,9) != [0,1] != (0,1]
(-\infty,3] == (-\infty, 3] == \left(-\infty,3\right]
(-\infty,3] != (-\infty,3) != (3,\infty) != (-\infty,4]
(-\infty,0)\cup(1,2] == \left(-\infty,0\right)\cup\left(1,2\right]
(-\infty,0)\cup(1,2] != (1,2] != (-\infty,0)\cup(1,2)
(3,1) != \{1,3\} != \{3,1\} != [3,1]
(0,\sqrt{12}) == (0,2\sqrt{3})
""",
    "sets and lists": r"""
\{1,2\} == \{2,1\} == \{1, 2\} == \left\{1,2\right\} == \{2,1.0\}
\{1,2\} != \{1,3\} != \{1\} != \{1,2,3\} != (1,2)
\{1\pm\sqrt5,-2\} == \{-2,1\pm\sqrt{5}\} == \{1+\sqrt5,1-\sqrt5,-2\}
1 \pm \sqrt{19} == 1 \pm \sqrt{19} == 1\pm\sqrt{19} == 1+\sqrt{19}, 1-\sqrt{19} == \{1-\sqrt{19},1+\sqrt{19}\}
1 \pm \sqrt{19} != 1+\sqrt{19} != 1 \pm \sqrt{17}
10, 4, -2 == 10,4,-2
10, 4, -2 != 4, 10, -2 != 10, 4 != 10, 4, 2
\{-12,-11,3\} == -12,-11,3 == 3,-12,-11 == \{3,-11,-12\}
-2,1 == -2, 1 == \{-2,1\} == -2 \text{ and } 1 == x=-2 \text{ or } x=1
-2,1 != -2 != 1 != -2,2
5 != 5,6 != 5 \text{ or } 6 != \{5,6\}
\emptyset == \varnothing
\frac12, \frac13 == 0.5, \frac{2}{6}
""",
    "matrices": r"""
\begin{pmatrix}1&2\\3&4\end{pmatrix} == \begin{bmatrix}1&2\\3&4\end{bmatrix} == \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} == \begin{pmatrix}1.0&\frac42\\3&4\end{pmatrix}
\begin{pmatrix}1&2\\3&4\end{pmatrix} != \begin{pmatrix}1&3\\2&4\end{pmatrix} != \begin{pmatrix}1&2&3&4\end{pmatrix} != \begin{pmatrix}1&2\\3&5\end{pmatrix}
\begin{pmatrix}\frac12\\0\end{pmatrix} == \begin{pmatrix}0.5\\0\end{pmatrix} == \begin{bmatrix}1/2\\0\end{bmatrix}
""",
    "labels and relations": r"""
k=\frac13 == \frac13 == k=\frac{1}{3}
5 == x=5 == x = 5 == n=5
x=5 != x=6 != y=5
7=11a+c != 11a+c != 7
a+3z=0 != 0 != a+3z
x>5 == x > 5
x>5 != x<5 != 5 != x \ge 5
x \leq 5 == x \le 5
""",
    "text and formulas": r"""
\text{Evelyn} == \text{Evelyn} == Evelyn
\text{Evelyn} != \text{Carla} != \text{Evelina}
\text{odd} != \text{even}
204_5 == 204_{5}
204_5 != 204 != 204_6 != 205_5
C == \text{(C)} == (C) == \text{C}
C != B != \text{(D)}
2 != AZYUK2A != x
x+2n+1 != x+1 != x+2n
x^2+1 == x^{2}+1 == x^2 + 1
x^2+1 != x^3+1 != x^2-1
\frac{x}{2} == \dfrac{x}{2} == \frac x2
11a+c == 11a + c
""",
    "tasks instead of answers": r"""
72 != 48+24 != 6 \cdot 12 != 36+36
1591 != 37 \cdot 43 != 37 \times 43
1024 != 2^{10} != 4^5
2\sqrt{2} != \sqrt{2}+\sqrt{2}
""",
}


def lines():
    for kind, block in PAIRS.items():
        for line in block.strip().splitlines():
            sign = " == " if " == " in line else " != "
            gold, *answers = line.split(sign)
            for answer in answers:
                yield {"kind": kind, "gold": gold, "answer": answer, "equal": sign == " == "}


def main():
    pairs = list(lines())
    for pair in pairs:
        gold, answer = (parse("\\boxed{" + pair[side] + "}") for side in ("gold", "answer"))
        pair["math_verify"] = verify(gold, answer)
    versions = {name: importlib.metadata.version(name) for name in ("math-verify", "sympy", "latex2sympy2_extended")}
    rows = ",\n".join(json.dumps(pair, ensure_ascii=False) for pair in pairs)
    head = json.dumps({"script": "tools/make_verifier_fixtures.py", "versions": versions})
    OUT.write_text(f'{head[:-1]}, "pairs": [\n{rows}\n]}}\n', encoding="utf-8")
    differ = [pair for pair in pairs if pair["equal"] != pair["math_verify"]]
    print(f"{len(pairs)} pairs, {len(differ)} disagreements")
    for pair in differ:
        print(f"| `{pair['gold']}` | `{pair['answer']}` | {'equal' if pair['equal'] else 'different'} |")


if __name__ == "__main__":
    main()
