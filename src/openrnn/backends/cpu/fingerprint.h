// Whether weights are those that were packed before: 64 bits, on which each of their numbers counts, and
// which to find takes less time than to pack them, a tenth where they are large. It is made for changes
// that happen, of which one in 2^64 goes unseen, and not against someone who looks for such a one.
#pragma once

#include <cstring>
#include <vector>

#include "vectors.h"

namespace openrnn {
namespace {

typedef uint64_t wide __attribute__((vector_size(kBytes)));

constexpr uint64_t kOdd = 0x9E3779B97F4A7C15;  // 2^64 over the golden ratio

// For one word each state goes to one of its own, and for one state each word does.
template <class T> INLINE T stirred(T state, T word) {
  state = (state ^ word) * kOdd;
  return state ^ state >> 29;  // a product takes no bit down
}

class Fingerprint {
 public:
  Fingerprint() {
    for (int i = 0; i < kStates * kWords; i++) state_[i / kWords][i % kWords] = kOdd * (i + 1);
  }
  void take(const char* from, int64_t bytes) {
    wide state[kStates];  // its address is nobody's, so it stays in registers
    for (int i = 0; i < kStates; i++) state[i] = state_[i];
    for (; bytes >= kStates * kBytes; from += kStates * kBytes, bytes -= kStates * kBytes)
#pragma GCC unroll 8
      for (int i = 0; i < kStates; i++) state[i] = stirred(state[i], read(from + i * kBytes, kBytes));
    for (; bytes > 0; from += kBytes, bytes -= kBytes)
      state[0] = stirred(state[0], read(from, bytes < kBytes ? bytes : kBytes));
    for (int i = 0; i < kStates; i++) state_[i] = state[i];
  }
  uint64_t value() const {
    uint64_t all = 0;
    for (int i = 0; i < kStates * kWords; i++) all = stirred(all, state_[i / kWords][i % kWords]);
    return all;
  }

 private:
  static constexpr int kStates = 8, kWords = kBytes / sizeof(uint64_t);  // states: so many do not wait
  static INLINE wide read(const char* from, int64_t bytes) {
    wide found = {};
    __builtin_memcpy(&found, from, bytes);
    return found;
  }
  wide state_[kStates];
};

// Lines of numbers in memory, in each so many of so many bytes.
struct Lines {
  const char* first;
  int64_t bytes, count, length, line_stride, stride;  // strides in numbers

  Lines part(int64_t begin, int64_t end) const {
    return {first + begin * line_stride * bytes, bytes, end - begin, length, line_stride, stride};
  }
  uint64_t fingerprint() const {
    Fingerprint found;
    const bool is_dense = stride == 1 && line_stride == length;
    const int64_t lines = is_dense ? 1 : count, each = is_dense ? count * length : length;
    for (int64_t i = 0; i < lines; i++) {
      const char* line = first + i * line_stride * bytes;
      if (stride == 1) found.take(line, each * bytes);
      else take_apart(line, &found);
    }
    return found.value();
  }

 private:
  // The numbers of a line that are not side by side.
  void take_apart(const char* line, Fingerprint* found) const {
    char some[1024];
    int64_t filled = 0;
    for (int64_t j = 0; j < length; j++) {
      if (filled + bytes > int64_t(sizeof some)) found->take(some, filled), filled = 0;
      std::memcpy(some + filled, line + j * stride * bytes, bytes);
      filled += bytes;
    }
    found->take(some, filled);
  }
};

// A matrix, (columns, depth), in lines that lie in one piece if there are such.
Lines lines_of(const char* first, int64_t bytes, int64_t columns, int64_t depth,
               int64_t column_stride, int64_t depth_stride) {
  if (column_stride == 1) return {first, bytes, depth, columns, depth_stride, 1};
  return {first, bytes, columns, depth, column_stride, depth_stride};
}

// Of all that a call packs.
uint64_t fingerprint_of(const Call& call, const Kernel& kernel) {
  std::vector<Lines> all;
  uint64_t found = 0;
  const auto add = [&](const Lines& lines) {
    constexpr int64_t kNumbers = 1 << 16;  // for one thread
    const int64_t most = 1 + kNumbers / (lines.length + 1);
    for (int64_t i = 0; i < lines.count; i += most)
      all.push_back(lines.part(i, least(i + most, lines.count)));
  };
  for (int64_t w = 0; w < kernel.weights; w++) {
    const Weight& weight = kernel.weight[w];
    if (weight.table != nullptr) continue;
    const bool is_int8 = weight.scale >= 0;
    const Apart apart = apart_in(call, weight);
    const int64_t bytes = is_int8 ? 1 : sizeof(real);
    found = stirred(stirred(found, uint64_t(apart.depth)), uint64_t(apart.column));
    for (int64_t m = 0; m < weight.matrices; m++) {
      const int64_t offset = weight.offsets[m];
      const char* first = reinterpret_cast<const char*>(call.wholes[weight.whole]) + offset * bytes;
      add(lines_of(first, bytes, weight.columns, weight.depth, apart.column, apart.depth));
      if (!is_int8) continue;
      const float* scale = reinterpret_cast<const float*>(call.wholes[weight.scale]);
      const char* own_scale = reinterpret_cast<const char*>(scale + offset / weight.depth);
      add({own_scale, sizeof(float), 1, weight.columns, weight.columns, 1});
    }
  }
  for (int64_t v = 0; v < kernel.vectors; v++) {
    const Vector& vector = kernel.vector[v];
    for (int64_t i = 0; i < vector.count; i++) {
      const char* first = reinterpret_cast<const char*>(call.wholes[vector.terms[i]]);
      add({first, sizeof(real), 1, vector.size, vector.size, 1});
    }
  }
  const int64_t count = all.size();
  std::vector<uint64_t> each(count);
  parallel(call.pool, call.threads, count, [&](int64_t i) { each[i] = all[i].fingerprint(); });
  for (uint64_t one : each) found = stirred(found, one);
  return found;
}

}  // namespace
}  // namespace openrnn
