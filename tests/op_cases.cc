// SPDX-License-Identifier: Apache-2.0
#include "op_case_table.h"

namespace swarr {
namespace {

void AddSmallAttention(Table& table) {
  table.AddAttention({{1}, {0, 0}, 1, 1, 1});                 // one token that sees itself
  table.AddAttention({{1}, {1, 4}, 7, 1, 3});                 // fewer tokens than sinks
  table.AddAttention({{5}, {1, 0}, 2, 2, 3});                 // W = 1: only itself
  table.AddAttention({{5}, {1, 1}, 2, 1, 3});                 // itself and the first
  table.AddAttention({{13}, {0, 0}, 4, 2, 5});                // full
  table.AddAttention({{11}, {3, 0}, 7, 1, 3});                // 7 query heads share one key head
  table.AddAttention({{5}, {3, 1}, 40, 1, 2});                // more query heads for a key head than a block has rows
  table.AddAttention({{11}, {2, 4}, 2, 2, 17});               // S > W; a head longer than a vector
  table.AddAttention({{3}, {7, 4}, 4, 2, 2});                 // T < W
  table.AddAttention({{7}, {7, 1}, 1, 1, 2});                 // T = W
  table.AddAttention({{1, 5, 7}, {0, 4}, 2, 1, 3});           // packed documents, full (sinks mean nothing)
  table.AddAttention({{4, 1, 6, 2}, {3, 1}, 4, 2, 3});        // packed, window and sink
  table.AddAttention({{6, 5}, {2, 4}, 7, 1, 2, {0, 3, 10}});  // some rows see nothing
  table.AddAttention({{3}, {2, 1}, 2, 1, 2, {0, 1, 2}});      // no row sees anything
  table.AddAttention({{4, 1, 6, 2}, {3, 1}, 4, 2, 8});        // heads that matrix instructions take
}

constexpr KlDirection kForward = KlDirection::kForward, kReverse = KlDirection::kReverse;

void AddSmallDistill(Table& table) {
  for (const KlDirection direction : {kForward, kReverse}) {
    table.AddDistill(1, 1, 1, {direction});  // a vocabulary of one: KL 0, no gradient
    table.AddDistill(5, 3, 7, {direction, 1.5});
    table.AddDistill(2, 5, 131, {direction, 0.5});
    table.AddDistill(1025, 1, 2, {direction, 3});  // one row more than the chunk that holds logits
  }
}

void AddSmall(Table& table) {
  table.AddEmbedding(1, 1, 1);
  table.AddEmbedding(13, 7, 5);  // ids repeat: their gradients add up
  table.AddLinear(1, 1, 1, false);
  table.AddLinear(1, 1, 1, true);
  table.AddLinear(7, 129, 3, true);   // one more than a block of the product's k
  table.AddLinear(131, 2, 1, false);  // and, in dw, over rows
  table.AddLinear(3, 5, 37, true);    // one full panel of columns and a part
  table.AddLinear(0, 3, 2, true);     // no rows
  table.AddRmsNorm({1, 1}, 1e-1);
  table.AddRmsNorm({5, 7}, 1e-6);
  table.AddRmsNorm({3, 2, 17}, 1e-5);
  table.AddRope(1, 1, 2);
  table.AddRope(7, 3, 6);
  table.AddSwiGlu(1, 1, 1);
  table.AddSwiGlu(5, 17, 4);
  table.AddAdd(1, 1);
  table.AddAdd(3, 5);
  table.AddReshape(3, 5, 2, 7);
  AddSmallAttention(table);
  table.AddTokenLogprob(1, 1, 1);  // a vocabulary of one: log p = 0, no gradient
  table.AddTokenLogprob(5, 3, 7);
  table.AddTokenLogprob(2, 5, 131);
  table.AddTokenLogprob(1025, 1, 2);  // one row more than the chunk that holds logits
  table.AddSample(1, 1, 1);
  table.AddSample(7, 5, 131);
  table.AddAdamW(1);
  table.AddAdamW(37);
  table.AddEntropy(1, 1, 1);  // a vocabulary of one: H = 0, no gradient
  table.AddEntropy(5, 3, 7);
  table.AddEntropy(2, 5, 131);
  table.AddEntropy(1025, 1, 2);
  AddSmallDistill(table);
}

void AddLarge(Table& table) {
  table.AddEmbedding(120, 31, 200, true);
  table.AddEmbedding(1100, 31, 12, true);
  table.AddLinear(200, 150, 101, true, true);
  table.AddLinear(150, 192, 264, true, true);  // rows of whole vectors, and several blocks of k
  table.AddLinear(2100, 24, 16, false, true);  // a sum over rows that is long enough to be cut
  table.AddRmsNorm({97, 200}, 1e-6, true);
  table.AddRmsNorm({33, 1100}, 1e-6, true);
  table.AddRmsNorm({60, 10, 40}, 1e-6, true);
  table.AddRmsNorm({300, 128}, 1e-6, true);  // a row for half a warp in bf16, and more rows than a block takes
  table.AddRope(150, 4, 32, true);
  table.AddSwiGlu(130, 150, 4, true);
  table.AddAdd(150, 130, true);
  table.AddAttention({{70, 50, 33}, {0, 0}, 4, 2, 16}, true);
  table.AddAttention({{70, 1, 51, 33}, {20, 4}, 7, 7, 19}, true);
  table.AddAttention({{70, 1, 60}, {20, 4}, 4, 2, 64}, true);
  table.AddAttention({{40, 33}, {20, 4}, 4, 2, 40}, true);  // a second panel of columns that is not full
  table.AddAttention({{130, 33}, {0, 0}, 2, 1, 128}, true);
  table.AddTokenLogprob(1100, 20, 50, true);
  table.AddTokenLogprob(40, 6, 700, true);  // vocabularies by which a device chooses its threads
  table.AddTokenLogprob(30, 6, 9001, true);
  table.AddSample(80, 20, 51, true);
  table.AddSample(30, 6, 9001, true);
  table.AddAdamW(20011, true);
  table.AddEntropy(1100, 20, 50, true);
  table.AddEntropy(30, 6, 9001, true);
  table.AddDistill(1100, 20, 50, {kForward, 2}, true);
  table.AddDistill(40, 6, 700, {kReverse, 0.75}, true);
  table.AddDistill(12, 6, 9001, {kReverse}, true);
}

void AddSelected(Table& table) {
  table.AddSelectRows(1, 1);
  table.AddSelectRows(13, 5);
  table.AddSelectRows(210, 200, true);
}

void AddLearnedSinks(Table& table) {
  table.AddAttention({{1}, {0, 0}, 1, 1, 2, {}, true});             // one token beside the sink
  table.AddAttention({{11}, {0, 0}, 4, 2, 3, {}, true});            // full
  table.AddAttention({{11}, {3, 0}, 7, 1, 3, {}, true});            // window
  table.AddAttention({{4, 1, 6, 2}, {3, 1}, 4, 2, 8, {}, true});    // packed, sinks that are keys beside them
  table.AddAttention({{6, 5}, {2, 4}, 7, 1, 2, {0, 3, 10}, true});  // some rows see nothing but the sink
  table.AddAttention({{3}, {2, 1}, 2, 1, 2, {0, 1, 2}, true});      // no row sees a key
  table.AddAttention({{70, 1, 51, 33}, {20, 4}, 7, 7, 19, {}, true}, true);
  table.AddAttention({{170, 1, 60}, {20, 4}, 4, 2, 64, {5}, true}, true);  // more rows than a partial sum of a device
}

}  // namespace

std::vector<OpCase> OpCases() {
  Table table;
  AddSmall(table);
  AddLarge(table);
  AddLearnedSinks(table);
  AddSelected(table);
  return table.Take();
}

std::vector<OpCase> RowCases() {
  Table table;
  table.AddEmbedding(kBatchRows, 31, 37);
  table.AddLinear(kBatchRows, 70, 45, true);
  table.AddRmsNorm({kBatchRows, 37}, 1e-6);
  table.AddRmsNorm({kBatchRows, 3, 17}, 1e-6);
  table.AddRope(kBatchRows, 3, 6);
  table.AddSwiGlu(kBatchRows, 37, 4);
  table.AddAdd(kBatchRows, 33);
  table.AddReshape(kBatchRows, 33, 2, 7);
  table.AddTokenLogprob(kBatchRows, 20, 51);
  table.AddSample(kBatchRows, 20, 51);
  table.AddEntropy(kBatchRows, 20, 51);
  table.AddDistill(kBatchRows, 20, 51, {kForward, 2});
  table.AddDistill(kBatchRows, 20, 51, {kReverse, 2});
  return table.Take();
}

}  // namespace swarr
