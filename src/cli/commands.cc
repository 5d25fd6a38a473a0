// SPDX-License-Identifier: Apache-2.0
#include "cli/commands.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <limits>
#include <set>
#include <system_error>

#include "base/files.h"
#include "base/machine.h"
#include "base/paths.h"
#include "base/utf8.h"
#include "base/version.h"
#include "cli/terminal/help.h"
#include "model/model_files.h"
#include "tensor/ops.h"
#include "text/unicode.h"
#include "train/training_steps.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr const char* kEnvironment = "environment";

std::string PartOf(const std::string& path) { return path + ".partial"; }

// Whether the file goes on behind these bytes. One that can't be read does not.
bool Continues(const std::string& file, std::string_view bytes) {
  std::ifstream in(file, std::ios::binary);
  std::string beginning(bytes.size() + 1, '\0');
  in.read(beginning.data(), std::ssize(beginning));
  return in.good() && beginning.starts_with(bytes);
}

// The value of --config among the arguments of a command, the last one if there are several; empty if there is none.
std::string ConfigPath(const std::vector<std::string>& arguments) {
  const std::string name = "--config", prefix = name + "=";
  std::string path;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i].starts_with(prefix)) path = arguments[i].substr(prefix.size());
    if (arguments[i] == name && i + 1 < arguments.size()) path = arguments[i + 1];
  }
  return path;
}

bool TakesSeveral(const CLI::Option& option) { return option.get_items_expected_max() > 1; }
bool TakesList(const CLI::Option& option) { return TakesSeveral(option) || option.get_type_name() == kListType; }

// A list as one text with commas between its parts, any other value as it is written.
std::string TextOf(const ordered_json& value) {
  if (!value.is_array()) return value.is_string() ? value.get<std::string>() : value.dump();
  std::string text;
  for (const ordered_json& part : value) text += (text.empty() ? "" : ",") + TextOf(part);
  return text;
}

// `value` as arguments: --key value, for several values several times, or --key=true for a flag.
void AppendArguments(const std::string& where, const CLI::Option& option, const std::string& key,
                     const ordered_json& value, std::vector<std::string>& to) {
  const auto is_scalar = [](const ordered_json& v) { return v.is_string() || v.is_number(); };
  const bool is_flag = option.get_items_expected_max() == 0;
  const bool is_list = TakesList(option) && value.is_array() && std::ranges::all_of(value, is_scalar);
  if (is_flag ? !value.is_boolean() : !is_scalar(value) && !is_list) {
    const char* wanted = is_flag             ? "true or false"
                         : TakesList(option) ? "a text, a number or a list of these"
                                             : "a text or a number";
    throw UsageError(Concat(where, ": \"", key, "\" is ", value.dump(), " where ", wanted, " is needed"));
  }
  if (is_flag) return to.push_back("--" + key + "=" + TextOf(value));
  const bool several = TakesSeveral(option) && is_list;
  for (const ordered_json& part : several ? value : ordered_json::array({value})) {
    to.insert(to.end(), {"--" + key, TextOf(part)});
  }
}

// Whether the option --key is among the arguments.
bool IsGiven(const std::vector<std::string>& arguments, const std::string& key) {
  return std::ranges::any_of(arguments, [name = "--" + key](const std::string& argument) {
    return argument == name || argument.starts_with(name + "=");
  });
}

// JSON can't hold other bytes, which names of files may have.
std::string Utf8(const std::string& text) {
  Utf8Joiner joiner;
  const std::string valid = joiner.Add(text);
  return valid + joiner.Finish();
}

}  // namespace

void OutputFile::Write(const std::function<void(const fs::path&)>& write) const {
  std::error_code ignored;
  const fs::path target = Resolve(path);
  const NameLock lock(target);
  if (overwrite) {
    write(path);
    if (in_parts) fs::remove(PartOf(path), ignored);
    return;
  }
  const fs::path hidden = Sibling(target, "new");
  std::string beside = target.string() + ".new";
  fs::remove(hidden, ignored);
  try {
    write(hidden);
    if (RenameToFree(hidden, target)) return SyncDirectory(target.parent_path());
    for (int n = 2; !RenameToFree(hidden, beside); ++n) beside = Concat(target.string(), ".new-", n);
  } catch (...) {
    fs::remove(hidden, ignored);
    throw;
  }
  throw Error(Concat(path, " has been written by another process meanwhile and stays; the result is in ", beside));
}

void OutputFile::Write(std::string_view bytes) const {
  Write([&](const fs::path& to) { WriteFileAtomically(to, bytes); });
}

void OutputFile::StopAfter(std::int64_t done, std::int64_t all, const std::string& things, std::string_view part,
                           const Stopping& stopping) const {
  const std::string file = path.empty() ? "" : PartOf(path);
  const bool kept = !path.empty() && !part.empty(), has_more = kept && Continues(file, part);
  if (kept && !has_more) {
    stopping.saving(true);
    OutputFile{.path = file, .overwrite = overwrite}.Write(part);
    stopping.saving(false);
  }
  const bool in_the_way = !path.empty() && (Exists(file) || Exists(path));
  throw Interrupted(Concat("interrupted after ", done, " of ", all, " ", things, "; ",
                           kept ? "what is finished is in " + file : "nothing of them is in a file",
                           has_more ? ", where an earlier run left it and more" : "", "; give the command again",
                           in_the_way ? " with --overwrite" : "", " for all of them",
                           kept ? ", which replaces that file" : ""));
}

OptionSet::OptionSet(CLI::App& app, const Environment& environment) : app_(app), environment_(environment) {
  inputs_.push_back({"--config", &config_,
                     app_.add_option("--config", config_, "JSON that gives options by the same names; flags win")
                         ->type_name("FILE")});
}

CLI::Option* OptionSet::AddPositional(const std::string& name, std::vector<std::string>& values,
                                      const std::string& help) {
  return app_.add_option(name + ",--" + name, values, help)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

CLI::Option* OptionSet::AddOutput(const std::string& name, OutputFile& file, const std::string& help,
                                  std::function<bool(const fs::path&)> own) {
  if (outputs_.empty()) AddUnrecorded("overwrite", overwrite_, "replace files that are there already");
  const char* of_part = file.in_parts ? "; if a signal stops the command, FILE.partial holds what is finished" : "";
  CLI::Option* option = AddUnrecorded(name, file.path, help + of_part)->type_name("FILE");
  outputs_.push_back({{"--" + name, &file.path, option}, &file, std::move(own)});
  return option;
}

// `flag_names` opens what is said of the file: "--output names x".
void OptionSet::CheckOutput(const Output& output, const std::string& path, const std::string& flag_names) const {
  std::error_code ignored;
  const fs::path file = fs::absolute(path, ignored), directory = file.parent_path();
  SWARR_CHECK(fs::is_directory(directory, ignored), flag_names, ", but there is no directory ", directory.string(),
              "; create it first");
  SWARR_CHECK(!fs::is_directory(file, ignored), flag_names, ", which is a directory; name a file in it");
  SWARR_CHECK(!fs::exists(file, ignored) || fs::is_regular_file(file, ignored), flag_names,
              ", which is something else than a file; choose another");
  SWARR_CHECK(Sibling(Sibling(file, "new"), "partial").filename().string().size() <= NAME_MAX, flag_names,
              ", a name too long for what stands beside it meanwhile; choose a shorter one");
  const fs::path into = fs::weakly_canonical(file, ignored).parent_path();  // behind links
  SWARR_CHECK(::access(into.c_str(), W_OK | X_OK) == 0, flag_names, ", and nothing can be written in ", into.string(),
              ": ", std::generic_category().message(errno), "; choose another place");
  if (!fs::exists(fs::symlink_status(file, ignored))) return;
  for (const File& input : inputs_) {
    if (!fs::equivalent(*input.path, file, ignored)) continue;
    throw UsageError(Concat(flag_names, ", which ", input.flag, " reads; choose another file"));
  }
  if (output.IsOwn()) return;
  SWARR_CHECK(overwrite_, flag_names, ", which is there already; choose another file, or replace it with --overwrite");
  for (const char* mark : {"config.json", "run.json"}) {
    SWARR_CHECK(!fs::exists(into / mark, ignored), flag_names,
                " in the directory of a model or a run, whose files are never replaced; choose another place");
  }
}

void OptionSet::CheckIdle(const Idle& idle) {
  for (const std::string& name : idle.names) {
    const CLI::Option* option = app_.get_option_no_throw("--" + name);
    if (option == nullptr) continue;
    if (option->count() > 0) throw UsageError(Concat("--", name, " has no effect ", idle.why, "; leave it out"));
    std::erase_if(records_, [&](const auto& record) { return record.first == name; });
  }
}

void OptionSet::Check() {
  launch_ = environment_.launch();
  if (launch_.size > 1 && !allows_ranks_) {
    throw UsageError(Concat(app_.get_name(), " runs as one process, but the environment says that this is rank ",
                            launch_.rank, " of ", launch_.size, "; start it without a launcher, or set SWARR_RANKS=1"));
  }
  std::set<fs::path> seen;
  for (const Output& output : outputs_) {
    if (output.option->count() == 0 && output.path->empty()) continue;
    const std::string& path = *output.path;
    if (path.empty()) throw UsageError(output.flag + " is empty; name a file");
    CheckOutput(output, path, Concat(output.flag, " names ", path));
    if (output.file->in_parts) CheckOutput(output, PartOf(path), Concat(output.flag, " may write ", PartOf(path)));
    std::error_code ignored;
    if (!seen.insert(fs::weakly_canonical(fs::absolute(path, ignored), ignored)).second) {
      throw UsageError(Concat(output.flag, " names ", path, ", as another flag does; give each a file of its own"));
    }
    output.file->overwrite = overwrite_ || output.IsOwn();
  }
  for (const Idle& idle : idle_) {
    if (idle.holds()) CheckIdle(idle);
  }
}

ordered_json OptionSet::Resolved() const {
  ordered_json resolved = {{"command", app_.get_name()}};
  for (const auto& [name, value] : records_) {
    ordered_json json = value();
    if (auto* text = json.get_ptr<std::string*>()) {
      if (text->empty()) continue;
      *text = Utf8(*text);
    }
    resolved[name] = std::move(json);
  }
  return resolved;
}

std::vector<std::string> ExpandConfig(CLI::App& program, const std::vector<std::string>& arguments) {
  const std::string path = ConfigPath(arguments);
  CLI::App* command = &program;
  std::size_t depth = 0;
  for (; depth < arguments.size(); ++depth) {
    const auto called = [&](const CLI::App* app) { return app->get_name() == arguments[depth]; };
    const std::vector<CLI::App*> next = command->get_subcommands(called);
    if (next.empty()) break;
    command = next.front();
  }
  if (path.empty() || depth == 0) return arguments;
  const auto config = ParseJson<ordered_json>(ReadFile(path), path);
  SWARR_CHECK(config.is_object(), path, " holds no JSON object");
  const auto split = arguments.begin() + static_cast<std::ptrdiff_t>(depth);
  std::vector<std::string> expanded(arguments.begin(), split);
  for (const auto& [key, value] : config.items()) {
    if (key == "command") {
      if (value == command->get_name()) continue;
      throw UsageError(Concat(path, " is for the command ", value.dump(), ", not for ", command->get_name()));
    }
    if (key == kEnvironment) continue;
    const CLI::Option* option = key == "config" ? nullptr : command->get_option_no_throw("--" + key);
    if (option == nullptr) {
      const std::string near = key == "config" ? "" : DidYouMean("--" + key, OptionNames(*command));
      throw UsageError(Concat(path, ": ", command->get_name(), " has no option \"", Excerpt(key), "\"", near));
    }
    // Of other options the last value counts; several would be joined.
    if (TakesSeveral(*option) && IsGiven(arguments, key)) continue;
    AppendArguments(path, *option, key, value, expanded);
  }
  expanded.insert(expanded.end(), split, arguments.end());
  return expanded;
}

CLI::Validator AtLeast(double least) { return Between(least, std::numeric_limits<double>::infinity()); }

CLI::Validator Between(double least, double most) {
  return CLI::Validator(
      [least, most](const std::string& text) {
        double value = 0;
        const bool number = CLI::detail::lexical_cast(text, value);
        if (number && std::isfinite(value) && value >= least && value <= most) return std::string();
        const std::string bound = std::isfinite(most) ? Concat("from ", least, " to ", static_cast<std::int64_t>(most))
                                                      : Concat("of at least ", least);
        return Concat(text, " given where a number ", bound, " is needed");
      },
      "");
}

ordered_json RunEnvironment(const Context* ctx, int ranks) {
  ordered_json environment = {{"version", Version()}, {"revision", BuildRevision()}};
  if (ctx != nullptr) {
    const bool cuda = ctx->device() == Device::kCuda;
    environment["device"] = cuda ? CudaDeviceName() : Name(Device::kCpu);
    environment["kernels"] = cuda ? Name(Device::kCuda) : Name(ctx->cpu);
    environment["threads"] = ctx->threads;
    environment["ranks"] = ranks;
    environment["machine"] = ProcessorModel();
  }
  return {{kEnvironment, environment}};
}

std::vector<int> ParseIntegers(const std::string& list, const std::string& option) {
  std::vector<int> numbers;
  const char* at = list.data();
  const char* const end = at + list.size();
  while (at < end) {
    int number = 0;
    const auto [next, error] = std::from_chars(at, end, number);
    const bool ends = next == end || (*next == ',' && next + 1 < end);
    if (error != std::errc() || !ends) {
      throw UsageError(Concat(option, " is '", list, "'; give integers with commas between them, like 1,2,3"));
    }
    numbers.push_back(number);
    at = next == end ? end : next + 1;
  }
  return numbers;
}

void ComputeOptions::AddDeviceTo(OptionSet& options) {
  options.Add("device", device, "auto is cuda if this build and this machine have it")
      ->type_name("auto|" + OneOf(kNames<Device>));
}

void ComputeOptions::AddDTypeTo(OptionSet& options, const std::string& help) {
  options.Add("dtype", dtype, help)->type_name("f32|f64|bf16");
}

void ComputeOptions::AddCpuTo(OptionSet& options, const std::string& help) {
  options.Add("cpu", cpu, help)->type_name("auto|" + OneOf(kNames<Cpu>));
}

void ComputeOptions::AddThreadsTo(OptionSet& options) {
  options.AddUnrecorded("threads", threads, "threads; 0 is one for every processor; results do not depend on it",
                        kThreadRange);
}

void ComputeOptions::AddTo(OptionSet& options, const std::string& seed_help) {
  options.Group("Computation");
  AddDeviceTo(options);
  AddDTypeTo(options, "number format of weights and activations");
  options
      .Add("gemm", gemm,
           "matrix products: own (fixed order, exact), or, for comparison and not exact, a library's: eigen on the "
           "processor, cublas on a CUDA device")
      ->type_name(OneOf(kNames<GemmKind>));
  AddCpuTo(options, "CPU kernels; auto is the best that this machine runs");
  AddThreadsTo(options);
  options.Add("seed", seed, seed_help);
  options.AddUnrecorded("memory-report", memory_report, "show at the end where memory went, by name");
}

Device ComputeOptions::ResolveDevice() {
  if (device == "auto") device = Name(CudaDeviceName().empty() ? Device::kCpu : Device::kCuda);
  const Device found = ParseName<Device>("device", device);
  if (found == Device::kCuda) OpenCudaStream();  // says why, where there is none
  return found;
}

DType ComputeOptions::MakeDType() const {
  if (dtype != "f32" && dtype != "f64" && dtype != "bf16") {
    throw UsageError(Concat("unknown --dtype '", dtype, "'; use f32, f64 or bf16"));
  }
  return ParseName<DType>("dtype", dtype);
}

Context ComputeOptions::MakeContext(StepMemory& memory_of_steps) {
  Context ctx{.threads = ResolveThreads(threads), .cpu = ResolveCpu(cpu), .memory = memory_report ? &memory : nullptr};
  memory_of_steps.GiveTo(ctx);
  ctx.gemm = ParseGemm(gemm, ctx.device());
  return ctx;
}

std::unique_ptr<Transformer> ComputeOptions::Load(const std::string& model_dir, bool with_gradients,
                                                  const std::string& of) {
  return LoadModel(model_dir, MakeDType(), with_gradients, MemoryOf(ResolveDevice()),
                   [&](const ModelConfig& config) { Need(ModelParts(config, MakeDType(), with_gradients, of)); });
}

void ComputeOptions::Need(const std::vector<MemoryPart>& parts) {
  if (!available) available.emplace(ResolveDevice());
  needed.insert(needed.end(), parts.begin(), parts.end());
  available->Check(needed);
}

void ComputeOptions::PrintMemory(const Arena& arena) const {
  if (memory_report) std::cerr << memory.ToText(arena);
}

void RequireFree(const fs::path& directory, bool overwrite) {
  std::error_code ignored;
  SWARR_CHECK(overwrite || !fs::exists(directory, ignored) || fs::is_empty(directory, ignored), directory.string(),
              " is not empty; choose another --output-dir, or replace what is there with --overwrite");
}

void PrintJson(const ordered_json& json) {
  std::cout << json.dump(-1, ' ', false, ordered_json::error_handler_t::replace) << '\n';
}

}  // namespace swarr
