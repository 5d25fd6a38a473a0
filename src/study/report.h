// SPDX-License-Identifier: Apache-2.0
// A study's report: its figures and findings, plain text for the terminal, one self-contained HTML file, and everything
// in a folder. Every statement follows from the numbers. A result against expectation is told as plainly as one that
// meets it.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "study/results.h"

namespace swarr {

struct Figure {
  std::string file;     // name of the SVG file, without folder
  std::string caption;  // plain text: what is drawn and how to read it
  std::string svg;
};

inline constexpr const char* kLearningFigure = "learning_curves.svg";

// In this order: accuracy against the share of traces in reach (the central one), that share and the accuracy on those
// traces by arm, accuracy against the share of needed facts in the window, against how often a policy restates, by
// number of steps, learning curves of RL, cost against length. The last two are left out where there are no curves or
// no cost.
std::vector<Figure> StudyFigures(const StudyResults& results);

using TextTable = std::vector<std::vector<std::string>>;  // by row; the first has the heads
TextTable TableOfArms(const StudyResults& results);       // one row per arm: means over seeds
TextTable TableOfTraces(const StudyResults& results);     // the same arms: what their traces look like
TextTable TableOfReach(const StudyResults& results);      // and what these leave possible
TextTable TableOfWays(const StudyResults& results);       // RL and every other way, the most accurate first
TextTable TableOfRuns(const StudyResults& results);       // one row per arm and seed

// "g + (1 - g)/12", of the least that the task's guesses are worth.
std::string BoundFormula(const StudyTask& task);

// What StudyTask::data_ceiling is.
std::string CeilingName(const StudyTask& task);

// What the columns of TableOfReach are.
std::string ReachNote(const StudyTask& task);

// What was run: preset, seeds, problems, model and window, steps, device, time.
std::string Headline(const StudyResults& results);

// Label and value: data ceiling, gaps, recovery, exactness.
std::vector<std::pair<std::string, std::string>> KeyNumbers(const StudyResults& results);

// Sentences. A difference counts only if its 95% interval excludes 0.
std::vector<std::string> Findings(const StudyResults& results);

// "0.512", or "n/a" if not finite; "0.512 [0.481, 0.543]", without the interval where that is undefined.
std::string FormatNumber(double value, int decimals = 3);
std::string FormatEstimate(const Estimate& estimate);

// The table, the key numbers and the findings, in lines of at most 100 columns (for arm names of up to 32).
std::string TerminalReport(const StudyResults& results);

// The same with figures, traces, the course of training, a glossary, settings, limits and how to redo it. The page
// needs no network and no scripts.
std::string HtmlReport(const StudyResults& results);

// As a page of Markdown, which shows the figures of the folder beside it, with the settings and where every run comes
// from.
std::string MarkdownReport(const StudyResults& results);

inline constexpr const char* kResultsFile = "results.json";

// Writes outcomes.jsonl, report.html, report.md, the figures (figures/*.svg) and, last, results.json into `directory`:
// if that is there, so is the rest. It is left out while runs are missing. Each file is written completely or not at
// all; folders are created as needed. Throws Error if a file can't be written.
void WriteReport(const StudyResults& results, const std::filesystem::path& directory);

}  // namespace swarr
