# SPDX-License-Identifier: Apache-2.0
"""The mutants of a C++ source file: one operator, constant or term of a line changed (tools/mutate.py).

The sources are formatted by clang-format, so that a binary operator, and nothing else that is written with the same
characters (template brackets, pointers, references), has a blank on both sides.
"""

import collections
import hashlib
import re

TOKEN = re.compile(
    r"""(?P<skip>//[^\n]*|/\*.*?\*/|^[ \t]*\#(?:\\\n|[^\n])*|\[\[.*?\]\])
      |(?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])+')
      |(?P<number>0[xX][0-9a-fA-F'.]+(?:[pP][+-]?\d+)?[uUlLfF]*|\d[\d']*(?:\.\d*)?(?:[eE][+-]?\d+)?[uUlLfF]*)
      |(?P<word>[A-Za-z_]\w*)
      |(?P<op><<=|>>=|<=>|\.\.\.|::|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|[^\s])""",
    re.S | re.M | re.X,
)
PRECEDENCE = {"||": 1, "&&": 2, "|": 3, "^": 4, "&": 5, "==": 6, "!=": 6, "<": 7, ">": 7, "<=": 7, ">=": 7, "<=>": 7}
PRECEDENCE.update({"<<": 8, ">>": 8, "+": 9, "-": 9, "*": 10, "/": 10, "%": 10})
REPLACED = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "+": "-", "-": "+", "*": "/", "/": "*"}
REPLACED.update({"&&": "||", "||": "&&"})
COMPOUND = {"+=": "-=", "-=": "+=", "*=": "/=", "/=": "*="}
COMPARISONS = {"==", "!=", "<", ">", "<=", ">="}
CLOSING = {"(": ")", "[": "]", "{": "}"}
# Where an expression begins or ends at its own depth of brackets.
BOUNDARY = {",", ";", "?", ":", "=", "{", "}", "return", "else", "case", "do", *COMPOUND}
# What is no arithmetic: up to the bracket or semicolon at its end.
IGNORED = {"throw": ";", "using": ";", "template": None, "enum": ";", "Concat": ")", "static_assert": ")", "operator": ")"}


class Source:
    """The tokens of one file; those of comments, messages and declarations without arithmetic are not live."""

    def __init__(self, name, text):
        self.name, self.text = name, text
        self.tokens = [m for m in TOKEN.finditer(text) if m.lastgroup != "skip"]
        self.values = [m.group() for m in self.tokens]
        self.partner = {}
        stack = []
        for i, value in enumerate(self.values):
            if value in CLOSING:
                stack.append(i)
            elif stack and value == CLOSING[self.values[stack[-1]]]:
                self.partner[i] = stack.pop()
                self.partner[self.partner[i]] = i
        self.live = [True] * len(self.tokens)
        for i, value in enumerate(self.values):
            if value in IGNORED or value == "SWARR_CHECK":
                self._kill(i, value)

    def _kill(self, i, value):
        begin, end = i, i + 1
        if value == "template":
            while self.values[end] not in {">", "("}:
                end += 1
        elif IGNORED.get(value) == ";":
            while self.values[end] != ";":
                end += 1
        else:
            while end not in self.partner:
                end += 1
            if value == "SWARR_CHECK":  # its condition is live, its message is not
                begin = self._end(end + 1, 0)
            end = self.partner[end] if value == "SWARR_CHECK" else self.partner.get(end, end)
        for j in range(begin, min(end + 1, len(self.live))):
            self.live[j] = False

    def blank(self, i, before, after):
        m = self.tokens[i]
        return (not before or self.text[m.start() - 1].isspace()) and (not after or self.text[m.end()].isspace())

    def binary(self, i):
        """The precedence of the binary operator at token i, or 0."""
        if i == 0 or self.values[i] not in PRECEDENCE or not self.blank(i, True, True):
            return 0
        previous = self.tokens[i - 1]
        ends = previous.lastgroup in {"word", "number", "text"} or previous.group() in {")", "]", "}"}
        return PRECEDENCE[self.values[i]] if ends and previous.group() not in {"return", "operator"} else 0

    def _end(self, i, precedence):
        """The first token after the operand that begins at i."""
        while i < len(self.values):
            if self.values[i] in CLOSING and self.values[i] != "{" or self.values[i] == "{" and i in self.partner:
                i = self.partner.get(i, len(self.values) - 1) + 1
                continue
            if self.values[i] in BOUNDARY or self.values[i] in {")", "]"} or 0 < self.binary(i) <= precedence:
                break
            i += 1
        return i

    def _begin(self, i, precedence):
        """The first token of the operand that ends before i."""
        while i > 0:
            value = self.values[i - 1]
            if value in {")", "]", "}"} and i - 1 in self.partner:
                opening = self.partner[i - 1]
                if value == ")" and self.values[opening - 1] in {"for", "if", "while"}:
                    break
                i = opening
                continue
            if value in BOUNDARY or value in {"(", "["} or 0 < self.binary(i - 1) < precedence:
                break
            i -= 1
        return i

    def span(self, begin, end):
        """Offsets of the tokens begin <= i < end."""
        return self.tokens[begin].start(), self.tokens[end - 1].end()

    def edits(self):
        """(operator, begin, end, new text): every mutant, as the replacement of a piece of the file."""
        for i, token in enumerate(self.tokens):
            if not self.live[i]:
                continue
            value, here = self.values[i], (token.start(), token.end())
            if token.lastgroup == "number":
                yield from self._constant(i, here)
            elif value in {"min", "max"} and self.values[i - 2 : i] == ["std", "::"]:
                yield ("min <-> max", *here, "max" if value == "min" else "min")
            elif value == "!":
                yield ("dropped !", *here, "")
            elif value in COMPOUND:
                yield from self._compound(i, here)
            elif value in {"=", "return"} and self.values[i + 1] not in {"{", ";"}:
                yield from self._sign(i)
            if self.binary(i):
                yield from self._binary(i, here)

    def _constant(self, i, here):
        value = self.values[i]
        if value == "0" and self.values[i - 1] not in COMPARISONS:  # an index or the start of a loop: -1 is out of bounds
            yield ("constant + 1", *here, "1")
        elif value.isdigit():
            yield ("constant + 1", *here, str(int(value) + 1))
            yield ("constant - 1", *here, str(int(value) - 1))
        else:
            yield ("constant + 1", *here, f"({value} + 1)")
            yield ("constant - 1", *here, f"({value} - 1)")

    def _compound(self, i, here):
        begin, end = self._begin(i, 0), self._end(i + 1, 0)
        if self.values[end] != ";":  # the step of a loop, which would not end
            return
        yield (f"{self.values[i]} -> {COMPOUND[self.values[i]]}", *here, COMPOUND[self.values[i]])
        yield ("dropped statement", *self.span(begin, end), "")

    def _sign(self, i):
        if self.values[i - 2] == "*" and not self.binary(i - 2):  # a pointer
            return
        end = self._end(i + 1, 0)
        operators = [self.binary(j) for j in range(i + 1, end)]
        begin, stop = self.span(i + 1, end)
        if any(p >= 9 for p in operators) and not any(0 < p < 9 for p in operators) and self.values[end] != "?":
            yield ("sign", begin, stop, f"-({self.text[begin:stop]})")

    def _binary(self, i, here):
        value, precedence = self.values[i], self.binary(i)
        if value in REPLACED:
            yield (f"{value} -> {REPLACED[value]}", *here, REPLACED[value])
        if precedence < 9 or value == "%":
            return
        begin, end = self.span(self._begin(i, precedence), self._end(i + 1, precedence))
        left, right = self.text[begin : here[0]].strip(), self.text[here[1] : end].strip()
        yield ("dropped term" if precedence == 9 else "dropped factor", begin, end, left)
        if value == "+":
            yield ("dropped term", begin, end, right)
        if value in {"-", "/"}:
            yield ("swapped operands", begin, end, f"({right}) {value} ({left})")


def mutants_of(name, text):
    """The one-line mutants of a file, without duplicates. A mutant's key does not depend on line numbers: nth tells
    apart lines with the same text."""
    source, seen, result = Source(name, text), set(), []
    lines = text.splitlines()
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    for operator, begin, end, new in source.edits():
        number = text.count("\n", 0, begin)
        if "\n" in text[begin:end] or "\n" in new:
            continue
        before, offset = lines[number], starts[number]
        after = before[: begin - offset] + new + before[end - offset :]
        if after == before or (number, after) in seen:
            continue
        seen.add((number, after))
        nth = 1 + sum(line.strip() == before.strip() for line in lines[:number])
        result.append({"file": name, "line": number + 1, "nth": nth, "operator": operator, "before": before.strip(),
                       "after": after.strip(), "replacement": after})
    return sorted(result, key=lambda m: m["line"])


def key(mutant):
    return (mutant["file"], mutant["before"], mutant["after"], mutant.get("nth", 1))


def thinned(mutants, per_line):
    """At most so many mutants of each line, chosen by a hash of their keys: the same ones on every run."""
    lines = collections.defaultdict(list)
    for m in mutants:
        lines[m["line"]].append(m)
    order = lambda m: hashlib.sha256(repr(key(m)).encode()).digest()
    return [m for line in lines.values() for m in sorted(line, key=order)[:per_line]]
