// SPDX-License-Identifier: Apache-2.0
#include "tensor/safetensors.h"

#include <doctest/doctest.h>

#include <cstring>

#include "temp_directory.h"
#include "tensor/memory.h"

namespace swarr {
namespace {

using doctest::Contains;

// The bytes of a file with this header and `data_bytes` bytes behind it.
std::string FileWith(const std::string& header, std::size_t data_bytes) {
  const std::uint64_t length = header.size();
  std::string bytes(sizeof length, '\0');
  std::memcpy(bytes.data(), &length, sizeof length);
  return bytes + header + std::string(data_bytes, '\0');
}

std::string Describe(const std::string& name, const std::string& dtype, const std::string& shape,
                     const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
}

// The sentence with which a file of these bytes is refused; empty if it is accepted.
std::string Refusal(const std::string& bytes) {
  const TempDirectory dir;
  WriteFileAtomically(dir / "f", bytes);
  try {
    const SafetensorsFile file(dir / "f");
  } catch (const Error& e) {
    const std::string sentence = e.what();
    CHECK(sentence.starts_with((dir / "f").string() + ": "));
    return sentence.substr(sentence.find("/f: ") + 4);
  }
  return "";
}

// The same for a header whose tensors are followed by `data_bytes` bytes.
std::string RefusalOf(const std::string& tensors, std::size_t data_bytes) {
  return Refusal(FileWith("{" + tensors + "}", data_bytes));
}

OwnedTensor Counting(DType dtype, std::initializer_list<std::int64_t> shape) {
  OwnedTensor t(dtype, shape);
  for (std::int64_t i = 0; i < t.view().size(); ++i) {
    if (dtype == DType::kF64) t.view().data<double>()[i] = static_cast<double>(i) + 0.1;
    if (dtype == DType::kF32) t.view().data<float>()[i] = static_cast<float>(i) + 0.1f;
    if (dtype == DType::kBF16) t.view().data<BFloat16>()[i] = BFloat16(static_cast<float>(i) + 0.1f);
    if (dtype == DType::kI32) t.view().data<std::int32_t>()[i] = -static_cast<std::int32_t>(i);
  }
  return t;
}

bool SameBytes(const Tensor& a, const Tensor& b) {
  return a.SameShape(b) && std::memcmp(a.raw(), b.raw(), a.bytes()) == 0;
}

TEST_CASE("tensors of every dtype and rank come back bit for bit, with their metadata") {
  const TempDirectory dir;
  const OwnedTensor a = Counting(DType::kF32, {3});
  const OwnedTensor b = Counting(DType::kF64, {2, 3});
  const OwnedTensor c = Counting(DType::kI32, {1, 2, 1, 5});
  const OwnedTensor half = Counting(DType::kBF16, {3, 5});
  const OwnedTensor none = Counting(DType::kF32, {0, 4});
  WriteSafetensors(dir / "f",
                   {{"a", a.view()}, {"b", b.view()}, {"c", c.view()}, {"half", half.view()}, {"none", none.view()}},
                   {{"by", "me"}});
  const SafetensorsFile file(dir / "f");
  CHECK(file.names() == std::vector<std::string>{"a", "b", "c", "half", "none"});
  CHECK(file.metadata() == std::map<std::string, std::string>{{"format", "pt"}, {"by", "me"}});
  CHECK(file.shape("c") == std::vector<std::int64_t>{1, 2, 1, 5});
  CHECK(file.dtype("b") == DType::kF64);
  CHECK(file.Contains("a"));
  CHECK_FALSE(file.Contains("d"));
  const OwnedTensor a2(DType::kF32, {3});
  const OwnedTensor b2(DType::kF64, {2, 3});
  const OwnedTensor c2(DType::kI32, {1, 2, 1, 5});
  const OwnedTensor half2(DType::kBF16, {3, 5});
  file.CopyTo("a", a2.view());
  file.CopyTo("b", b2.view());
  file.CopyTo("c", c2.view());
  file.CopyTo("half", half2.view());
  file.CopyTo("none", none.view());
  CHECK(SameBytes(a.view(), a2.view()));
  CHECK(SameBytes(b.view(), b2.view()));
  CHECK(SameBytes(c.view(), c2.view()));
  CHECK(SameBytes(half.view(), half2.view()));
}

TEST_CASE("a written file is laid out as by the reference writer: widest first, then by name, header padded to 8") {
  const TempDirectory dir;
  const OwnedTensor i = Counting(DType::kI32, {1});
  const OwnedTensor f = Counting(DType::kF32, {1});
  const OwnedTensor d = Counting(DType::kF64, {1});
  WriteSafetensors(dir / "f", {{"a", i.view()}, {"d", f.view()}, {"c", f.view()}, {"z", d.view()}});
  const std::string header = R"({"__metadata__":{"format":"pt"},)" + Describe("z", "F64", "[1]", "[0,8]") + "," +
                             Describe("c", "F32", "[1]", "[8,12]") + "," + Describe("d", "F32", "[1]", "[12,16]") +
                             "," + Describe("a", "I32", "[1]", "[16,20]") + "}";
  const std::string bytes = ReadFile(dir / "f");
  const std::size_t padded = (header.size() + 7) / 8 * 8;
  REQUIRE(bytes.size() == 8 + padded + 20);
  CHECK(bytes.substr(0, 8 + padded) == FileWith(header + std::string(padded - header.size(), ' '), 0));
}

TEST_CASE("what can't be written is refused and leaves no file") {
  const TempDirectory dir;
  const OwnedTensor t = Counting(DType::kF32, {1});
  CHECK_THROWS_WITH_AS(WriteSafetensors(dir / "f", {{"a", t.view()}, {"a", t.view()}}), Contains("the name 'a'"),
                       Error);
  CHECK_THROWS_WITH_AS(WriteSafetensors(dir / "f", {{"__metadata__", t.view()}}), Contains("the name '__metadata__'"),
                       Error);
  CHECK_THROWS_WITH_AS(WriteSafetensors(dir / "f", {{"a", Tensor()}}), Contains("'a' has no shape"), Error);
  CHECK_THROWS_WITH_AS(WriteSafetensors(dir / "none/f", {}), Contains("No such file"), Error);
  CHECK(std::filesystem::is_empty(dir.path()));
}

TEST_CASE("what the format allows is accepted") {
  CHECK(RefusalOf("", 0) == "");
  CHECK(Refusal(FileWith("\t\n{}\r ", 0)) == "");
  CHECK(RefusalOf(Describe("scalar", "F32", "[]", "[0,4]"), 4) == "");
  CHECK(RefusalOf(Describe("none", "F32", "[2,0]", "[0,0]") + "," + Describe("a", "I32", "[1]", "[0,4]"), 4) == "");
  CHECK(RefusalOf(Describe("b", "F32", "[1]", "[4,8]") + "," + Describe("a", "U8", "[4]", "[0,4]"), 8) == "");
  CHECK(RefusalOf(Describe("packed", "F4", "[3,2]", "[0,3]"), 3) == "");
}

TEST_CASE("a file that is too short or announces a wrong header is refused") {
  CHECK(Refusal("") == "0 bytes are too few for a safetensors file");
  CHECK(Refusal("1234567") == "7 bytes are too few for a safetensors file");
  CHECK_THROWS_WITH_AS(SafetensorsFile("/nonexistent/f"), Contains("No such file"), Error);
  std::string bytes = FileWith("{}", 0);
  bytes[0] = 3;
  CHECK(Refusal(bytes) ==
        "a header of 3 bytes is announced, but only 2 follow; the file is truncated: fetch or write it again");
  bytes[4] = 1;
  CHECK_MESSAGE(Refusal(bytes).find("more than the format allows") != std::string::npos, Refusal(bytes));
  CHECK_MESSAGE(Refusal(std::string(8, '\xFF')).find("more than the format allows") != std::string::npos, "2^64 - 1");
}

TEST_CASE("a header that is no JSON object of the right types is refused") {
  const auto contains = [](const std::string& refusal, const std::string& part) {
    CHECK_MESSAGE(refusal.find(part) != std::string::npos, refusal);
  };
  contains(Refusal(FileWith("", 0)), "header: no valid JSON");
  contains(Refusal(FileWith("{", 0)), "header: no valid JSON");
  contains(Refusal(FileWith("{\"\xC3\x28\":1}", 0)), "ill-formed UTF-8");
  contains(Refusal(FileWith("[]", 0)), "the header is no JSON object");
  contains(RefusalOf("\"a\":1", 0), "tensor 'a' is described by no JSON object");
  contains(RefusalOf("\"a\":{\"shape\":[],\"data_offsets\":[0,4]}", 4), "tensor 'a' has no field 'dtype'");
  contains(RefusalOf(Describe("a", "F31", "[]", "[0,4]"), 4), "tensor 'a' has the unknown dtype \"F31\"");
  contains(RefusalOf(Describe("a", "F32", "4", "[0,4]"), 4), "tensor 'a': shape is no JSON array");
  contains(RefusalOf(Describe("a", "F32", "[-1]", "[0,4]"), 4), "tensor 'a': shape holds -1");
  contains(RefusalOf(Describe("a", "F32", "[1.0]", "[0,4]"), 4), "tensor 'a': shape holds 1.0");
  contains(RefusalOf(Describe("a", "F32", "[1]", "[0,\"4\"]"), 4), "tensor 'a': data_offsets holds \"4\"");
  contains(RefusalOf(Describe("a", "F32", "[1]", "[0,18446744073709551616]"), 4), "tensor 'a': data_offsets holds 1.8");
  contains(RefusalOf(Describe("a", "F32", "[1]", "[0,4,8]"), 4), "tensor 'a' has 3 data_offsets");
  contains(RefusalOf("\"__metadata__\":[]", 0), "__metadata__ is no JSON object");
  contains(RefusalOf("\"__metadata__\":{\"step\":1}", 0), "the entry 'step' of __metadata__ is no string");
}

TEST_CASE("a name that occurs twice is refused") {
  CHECK(RefusalOf(Describe("a", "F32", "[1]", "[0,4]") + "," + Describe("a", "F32", "[1]", "[4,8]"), 8) ==
        "header: the key 'a' occurs twice; remove one");
}

TEST_CASE("a tensor whose size is a lie is refused") {
  CHECK(RefusalOf(Describe("a", "F32", "[2]", "[0,4]"), 4) ==
        "tensor 'a' of F32 and shape [2] needs 8 bytes, but its data_offsets span 4");
  CHECK(RefusalOf(Describe("a", "F32", "[1]", "[4,0]"), 4) == "tensor 'a' ends at byte 0, before it begins at 4");
  CHECK(RefusalOf(Describe("a", "F32", "[4294967296,4294967296]", "[0,0]"), 0) ==
        "tensor 'a' of shape [4294967296, 4294967296] has more bits than 64-bit numbers can count");
  CHECK(RefusalOf(Describe("a", "F4", "[3]", "[0,2]"), 2) == "tensor 'a' of F4 and shape [3] fills no whole bytes");
}

TEST_CASE("tensors that overlap, leave holes, or do not end with the file are refused") {
  const std::string a = Describe("a", "F32", "[2]", "[0,8]");
  CHECK(RefusalOf(a + "," + Describe("b", "F32", "[1]", "[4,8]"), 8) == "tensors 'a' and 'b' overlap");
  CHECK(RefusalOf(a + "," + Describe("b", "F32", "[2]", "[0,8]"), 8) == "tensors 'a' and 'b' overlap");
  CHECK(RefusalOf(a + "," + Describe("b", "F32", "[1]", "[12,16]"), 16) ==
        "the 4 bytes before tensor 'b' belong to no tensor");
  CHECK(RefusalOf(Describe("b", "F32", "[1]", "[4,8]"), 8) == "the 4 bytes before tensor 'b' belong to no tensor");
  CHECK(RefusalOf(a, 9) == "1 bytes after the last tensor belong to no tensor");
  CHECK(RefusalOf(a, 7) ==
        "the tensors need 8 bytes, but only 7 follow the header; the file is truncated: fetch or write it again");
}

TEST_CASE("a tensor is read only as what it is") {
  const TempDirectory dir;
  WriteFileAtomically(
      dir / "f", FileWith("{" + Describe("half", "F16", "[2]", "[0,4]") + "," + Describe("one", "F32", "[]", "[4,8]") +
                              "," + Describe("w", "F32", "[2,3]", "[8,32]") + "}",
                          32));
  const SafetensorsFile file(dir / "f");
  const OwnedTensor transposed(DType::kF32, {3, 2});
  const OwnedTensor wide(DType::kF64, {2, 3});
  CHECK_THROWS_WITH_AS(file.CopyTo("w", transposed.view()), Contains("'w' is [2, 3] f32 where [3, 2] f32 is needed"),
                       Error);
  CHECK_THROWS_WITH_AS(file.CopyTo("w", wide.view()), Contains("'w' is [2, 3] f32 where [2, 3] f64 is needed"), Error);
  CHECK_THROWS_WITH_AS(file.CopyTo("one", Tensor()), Contains("'one' is [] f32"), Error);
  CHECK_THROWS_WITH_AS(file.CopyTo("v", wide.view()), Contains("there is no tensor 'v'"), Error);
  CHECK(file.shape("half") == std::vector<std::int64_t>{2});
  CHECK_THROWS_WITH_AS(file.dtype("half"), Contains("tensor 'half' is F16, which this version can't read"), Error);
}

TEST_CASE("every truncation of a good file is refused") {
  const std::string good = FileWith(Concat("{", Describe("a", "F32", "[2]", "[0,8]"), "}"), 8);
  CHECK(Refusal(good) == "");
  for (std::size_t size = 0; size < good.size(); ++size) CHECK(Refusal(good.substr(0, size)) != "");
}

}  // namespace
}  // namespace swarr
