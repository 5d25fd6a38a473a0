# SPDX-License-Identifier: Apache-2.0
"""What compare.py prints, and what it writes as JSON."""
from dataclasses import asdict

from common import text_table
from cpu_rows import DTYPES, Share
from sides import PEAK_ROW, PRODUCT_ROW


def with_turns(text, figures):
    return f"{text} ({', '.join(map(str, figures.turns))})"


def judged(figure, bar):
    return "yes" if figure >= bar else "no"


# ------------------------------------------------------------------------------------------------------ beside PyTorch
def ratio_cell(figures):
    return with_turns(f"{figures.ratio:.2f}x", figures) if figures else "-"


def row_lines(one, peer):
    """One line for each dtype that is compared."""
    for key, contest in one.contests.items():
        labels, bar = ["swarr", peer.label], one.what.at_least[key]
        name = one.what.name if key == "best" else f"{one.what.name}, {key}"
        quiet, every = contest.figures(labels, True), contest.figures(labels, False)
        counting = contest.counting(labels)
        if not counting:
            cells = [f"{best.median():,.0f}" if (best := contest.best(label)) else "-" for label in labels]
            yield [name, *cells, "-", "-", f"{bar:.2f}x", "error" if contest.failed(labels) else "?"]
            continue
        ways = [contest.best(label).way for label in labels]
        speeds = [
            " ".join(filter(None, (f"{speed:,.0f}", way.dtype if key == "best" else None, way.variant)))
            for speed, way in zip(counting.medians, ways)
        ]
        met = judged(counting.ratio, bar) + (", few quiet turns" if contest.lacks_quiet_turns(labels) else "")
        yield [name, *speeds, ratio_cell(quiet), ratio_cell(every), f"{bar:.2f}x", met]


def row_table(comparison, peer):
    lines = [["tokens/s", "swarr", peer.label, "ratio, quiet turns", "all turns", "at least", "met"]]
    for one in comparison.measured:
        if not isinstance(one.what, Share):
            lines += row_lines(one, peer)
    return text_table(lines)


def check_line(peer, found):
    """What the peer's own check found, and whether its matrix products are a peer's."""
    if isinstance(found, str):
        return f"{peer.label}: {found}"
    shares = {d: max(one["bit_equal_logprobs"] for way, one in found.items() if d in way) for d in DTYPES}
    equal = ", ".join(f"{dtype} at most {100 * share:.0f}%" for dtype, share in shares.items())
    return (
        f"{peer.label}: computes what it claims; f32 product {peer.details['product_gflops']:.0f} GFLOP/s; "
        f"log-probabilities of decoding that equal the forward pass's bit for bit: {equal}"
    )


# -------------------------------------------------------------------------------------------------- beside the peak
def share_figures(contests, pick):
    """The smallest and the largest op's, with its name: what `pick` takes of the ops' figures."""
    found = [(figures.medians[0], op, figures) for op, c in contests.items() if (figures := pick(c, ["swarr"]))]
    return (min(found), max(found)) if len(found) == len(contests) else None


def peak_beside(one):
    """The higher one of the two that were measured around it."""
    return max(moment.peaks[PEAK_ROW] for moment in (one.before, one.after) if moment)


def share_line(one, peak):
    quiet = share_figures(one.contests, lambda c, labels: c.figures(labels, True))
    every = share_figures(one.contests, lambda c, labels: c.figures(labels, False))
    counting = share_figures(one.contests, lambda c, labels: c.counting(labels))
    bar = f"{one.what.at_least:.0%}"
    if not counting:
        return [one.what.name, "-", "-", "-", "-", "-", bar, "?"]
    (low, op, _), (high, _, _) = counting
    cells = [with_turns(f"{found[0][0] / peak:.0%}", found[0][2]) if found else "-" for found in (quiet, every)]
    few = any(contest.lacks_quiet_turns(["swarr"]) for contest in one.contests.values())
    met = judged(low / peak, one.what.at_least) + (", few quiet turns" if few else "")
    return [one.what.name, op, *cells, f"{low / peak_beside(one):.0%}", f"{high / peak:.0%}", bar, met]


def share_table(comparison):
    """Of the highest peak of the run: one that was measured while the machine was disturbed flatters. But clocks move,
    so the share of the peak beside the row stands there too."""
    peak = comparison.highest[PEAK_ROW]
    lines = [["share of the f32 peak", "least", "quiet turns", "all turns", "of the peak beside", "largest", "at least", "met"]]
    lines += [share_line(one, peak) for one in comparison.measured if isinstance(one.what, Share)]
    return text_table(lines)


# ----------------------------------------------------------------------------------------------------------- the report
def moment_text(moment):
    return f"{moment.peaks[PEAK_ROW]:.0f}, {moment.peaks[PRODUCT_ROW]:.0f}" if moment else "-"


def print_moments(comparison):
    print("Before and after each row: GFLOP/s of multiply-adds, and of a product in the second-level cache; the load.")
    print("And how many of its measurements, each of one side in one turn, were quiet:")
    for one in comparison.measured:
        loads = " to ".join(f"{m.load:.2f}" for m in (one.before, one.after) if m)
        parts = [part for c in one.contests.values() for entrant in c.entrants for part in entrant.parts.values()]
        quiet = sum(comparison.watch.is_quiet(part.conditions) for part in parts)
        peaks = f"{moment_text(one.before)}; {moment_text(one.after)}"
        print(f"  {one.what.name}: {peaks}; load {loads}; {quiet} of {len(parts)} quiet")


def print_errors(comparison):
    for one in comparison.measured:
        for contest in one.contests.values():
            for entrant in contest.entrants:
                if entrant.error:
                    print(f"error: {contest.name}: {entrant.way.label} {entrant.text()}: {entrant.error}")


def print_report(environment, comparison):
    swarr = comparison.swarr.details
    peak = comparison.highest[PEAK_ROW]
    processors = ",".join(map(str, environment["processors"]))
    print(f"{environment['processor']}, processors {processors}, {environment['threads']} threads, ", end="")
    print(f"f32 peak {peak:.0f} GFLOP/s, load before {environment['load_before']:.2f}")
    print("swarr " + ", ".join(f"{key} {value}" for key, value in swarr.items()))
    print("Medians, in brackets over how many turns of each side. Those of quiet turns count where these are enough.\n")
    kinds = [isinstance(one.what, Share) for one in comparison.measured]
    if not all(kinds):
        for peer in comparison.peers:
            print(row_table(comparison, peer) + "\n")
    if any(kinds):
        print(share_table(comparison) + "\n")
    for peer in comparison.peers:
        print(check_line(peer, comparison.checks.get(peer.label, "not checked")))
    print_errors(comparison)
    print_moments(comparison)


def figures_json(contest, labels):
    quiet, every = contest.figures(labels, True), contest.figures(labels, False)
    return {
        "quiet": quiet and asdict(quiet),
        "all": every and asdict(every),
        "few_quiet_turns": contest.lacks_quiet_turns(labels),
    }


def measured_json(one, peers):
    groups = [["swarr"]] if isinstance(one.what, Share) else [["swarr", peer.label] for peer in peers]

    def contest_json(contest):
        compared = [{"sides": labels, **figures_json(contest, labels)} for labels in groups]
        return {"turns": contest.turns, "figures": compared, "entrants": contest.json()}

    return {
        "name": one.what.name,
        "at_least": one.what.at_least,
        "before": asdict(one.before),
        "after": one.after and asdict(one.after),
        "contests": {key: contest_json(contest) for key, contest in one.contests.items()},
    }


def report_json(environment, comparison):
    return {
        **environment,
        "swarr": comparison.swarr.details,
        "peers": {peer.label: {"interpreter": peer.python, **peer.details} for peer in comparison.peers},
        "checks": comparison.checks,
        "highest_peaks": comparison.highest,
        "quickest_look": comparison.watch.least,
        "measured": [measured_json(one, comparison.peers) for one in comparison.measured],
    }
