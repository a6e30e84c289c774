// Products in 8 bits: rows are taken to 8 bits when they come, and the sums are whole numbers. So a
// result is the same, bit for bit, whatever the processor has for them; see openrnn/step/int8.py,
// which says in torch operations what is computed. Included by the runtime of kernels that have such
// products, in which `real` is float.
#pragma once

#include <cstring>
#include <vector>

namespace openrnn {
namespace {

typedef int32_t sums __attribute__((vector_size(kBytes)));
typedef float floats32 __attribute__((vector_size(kBytes)));
typedef uint8_t bytes __attribute__((vector_size(kBytes)));
typedef int16_t shorts __attribute__((vector_size(kBytes)));

INLINE sums load_sums(const void* p) { sums v; __builtin_memcpy(&v, p, sizeof v); return v; }

// The compiler may not see through it: a product that is added to something is rounded before.
template <class V> INLINE void rounded(V& v) {
#if defined(__AVX512F__)
  asm("" : "+v"(v));
#elif defined(__x86_64__)
  asm("" : "+x"(v));
#elif defined(__aarch64__)
  asm("" : "+w"(v));
#else
  asm("" : "+m"(v));
#endif
}

// Two numbers of a row, the same for all columns, times two of each column, in 16 bits. The row's are
// read where they are used: the compiler would keep them in registers that the sums need.
typedef int32_t two __attribute__((may_alias, aligned(1)));
INLINE sums multiply_twos(const uint8_t* row, shorts weight) {
  const two& twos = *reinterpret_cast<const two*>(row);
#if defined(__AVX512BW__)
  sums result;
  asm("vpbroadcastd %1, %0\n\tvpmaddwd %2, %0, %0" : "=&v"(result) : "m"(twos), "v"(weight));
  return result;
#elif defined(__AVX2__) && !defined(__AVX512F__)
  sums result;
  asm("vpbroadcastd %1, %0\n\tvpmaddwd %2, %0, %0" : "=&x"(result) : "m"(twos), "x"(weight));
  return result;
#elif defined(__SSE2__) && !defined(__AVX__)
  sums result;
  asm("movd %1, %0\n\tpshufd $0, %0, %0\n\tpmaddwd %2, %0"
      : "=&x"(result) : "m"(twos), "x"(weight));
  return result;
#else
  const shorts product = (shorts)(sums{} + twos) * weight;  // 255 · 127 fits 16 bits
  return (((sums)product << 16) >> 16) + ((sums)product >> 16);
#endif
}

// Four numbers of a row, unsigned and the same for all columns, and a weight's four of each column,
// signed: `add_fours` adds their products to each column's sum. There is an instruction for it that
// cannot overflow; the older one for bytes, vpmaddubsw, can, so else it is done in 16 bits, for the
// first and the third, and for the others.
#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
constexpr bool kSplit = false;
struct RowFours {
  sums all;
  INLINE explicit RowFours(const uint8_t* p) {
    int32_t four;
    __builtin_memcpy(&four, p, sizeof four);
    all = sums{} + four;
  }
};
struct WeightFours {
  sums all;
  INLINE explicit WeightFours(const void* p) : all(load_sums(p)) {}
};
INLINE sums add_fours(sums sum, const RowFours& row, const WeightFours& weight) {
#if defined(__AVX512VNNI__)
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(row.all), "v"(weight.all));
#else
  asm("{vex} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(row.all), "x"(weight.all));
#endif
  return sum;
}
#else
constexpr bool kSplit = true;  // of rows, by `split_fours`
struct RowFours {
  const uint8_t* at;
  INLINE explicit RowFours(const uint8_t* p) : at(p) {}
};
struct WeightFours {
  shorts even, odd;
  INLINE explicit WeightFours(const void* p) {
    const shorts both = (shorts)load_sums(p);
    even = (both << 8) >> 8, odd = both >> 8;
  }
};
INLINE sums add_fours(sums sum, const RowFours& row, const WeightFours& weight) {
  return sum + multiply_twos(row.at, weight.even) + multiply_twos(row.at + 4, weight.odd);
}
#endif
constexpr int64_t kFour = kSplit ? 8 : 4;  // bytes of four numbers of a row

// Bytes as numbers of 16 bits: the first and third of four, then the second and fourth.
inline void split_fours(uint8_t* to, const uint8_t* from, int64_t count) {
  for (int64_t i = 0; i < count; i += 4, to += 8) {
    uint32_t four;
    __builtin_memcpy(&four, from + i, sizeof four);
    const uint32_t half[2] = {four & 0x00ff00ff, (four >> 8) & 0x00ff00ff};
    __builtin_memcpy(to, half, sizeof half);
  }
}

template <int Step> INLINE vec largest_within(vec v) {
  if constexpr (Step > 0) {
    v = maximum(v, crossed<Step>(v, Lanes{}));
    v = largest_within<Step / 2>(v);
  }
  return v;
}

// The largest of a in the first half, and of b in the second; NaN if there is one.
INLINE vec largest_of(vec a, vec b) {
  constexpr int half = kLanes / 2;
  a = maximum(a, crossed<half>(a, Lanes{})), b = maximum(b, crossed<half>(b, Lanes{}));
  return largest_within<half / 2>(first_lanes(Part{half}) ? a : b);
}

// --- rows ----------------------------------------------------------------------------------------

INLINE int64_t whole_fours(int64_t depth) { return (depth + 3) / 4 * 4; }

// Rows in 8 bits: x ≈ scale (byte - zero). Memory stays from one use to the next.
struct Int8Rows {
  std::vector<uint8_t> memory, row_bytes;
  std::vector<float> scales;
  std::vector<int32_t> zeros;
  int64_t rows = 0, stride = 0;

  void take(int64_t count, const real* left, int64_t row_stride, int64_t depth_stride,
            int64_t depth) {
    const int64_t whole = whole_fours(depth);
    rows = count, stride = whole / 4 * kFour;
    if (int64_t(memory.size()) < rows * stride + kBytes) memory.resize(rows * stride + kBytes);
    if (kSplit && int64_t(row_bytes.size()) < whole + kBytes) row_bytes.resize(whole + kBytes);
    if (int64_t(scales.size()) < rows) scales.resize(rows), zeros.resize(rows);
    for (int64_t r = 0; r < rows; r++) {
      const real* row = left + r * row_stride;
      uint8_t* const to = memory.data() + r * stride;
      uint8_t* const own = kSplit ? row_bytes.data() : to;
      if (depth_stride != 1)
        take_row(r, own, depth, [&](auto width, int64_t j) {
          return load(width, row + j * depth_stride, depth_stride);
        });
      else if (depth >= kLanes)
        take_row(r, own, depth, [&](auto, int64_t j) { return load(Full{}, row + j); });
      else
        take_row(r, own, depth, [&](auto, int64_t) {
          vec x = {};
          std::memcpy(&x, row, depth * sizeof(real));
          return x;
        });
      if (kSplit) split_fours(to, own, whole);
    }
  }

  template <class Read> INLINE void take_row(int64_t r, uint8_t* to, int64_t depth, Read read) {
    vec least = {}, most = {}, strange = {};
    over(depth, [&](auto width, int64_t j) __attribute__((always_inline)) {
      const vec x = read(width, j);
      least = smaller(x, least), most = larger(x, most);
      strange += x * 0;  // NaN, if x is not finite
    });
    const vec ends = largest_of(most + strange, -least);
    const float high = ends[0], low = -ends[kLanes / 2];
    float scale = high / 255 - low / 255;
    if (scale < __FLT_MIN__) scale = 0;
    const bool finite = scale - scale == 0;
    const float inverse = scale > 0 && finite ? 1 / scale : 0;
    scales[r] = finite ? scale : __builtin_nanf("");
    zeros[r] = 0;
    if (inverse == 0) {
      std::memset(to, 0, whole_fours(depth));
      return;
    }
    const real magic = 12582912;  // 1.5 · 2^23: what is added to it is rounded to a whole number
    vec zero = splat(-low * inverse);
    rounded(zero);
    zero = (zero + magic) - magic;
    zeros[r] = int32_t(zero[0]);
    over(depth, [&](auto width, int64_t j) __attribute__((always_inline)) {
      vec x = read(width, j) * real(inverse);
      rounded(x);
      put(to + j, smaller(splat(255), larger(splat(0), ((x + magic) - magic) + zero)));
    });
    for (int64_t j = depth; j < whole_fours(depth); j++) to[j] = 0;
  }

  // As `along`, but the last vector begins before the end of the one before, if it can: it is full.
  template <class Body> static INLINE void over(int64_t count, Body body) {
    if (count < kLanes) {
      body(Part{count}, 0);
      return;
    }
    for (int64_t j = 0; j + kLanes < count; j += kLanes) body(Full{}, j);
    body(Full{}, count - kLanes);
  }

  // A whole vector, also of the last few: what is behind them is written later.
  static INLINE void put(uint8_t* to, vec x) {
    const mask whole = __builtin_convertvector(x, mask);
#if defined(__AVX512F__)
    typedef uint8_t few __attribute__((vector_size(kLanes)));
    const few b = __builtin_convertvector(whole, few);
#else
    const bytes b = low_bytes((bytes)whole, Below<int, kBytes>::type{});
#endif
    __builtin_memcpy(to, &b, kLanes);
  }

  // The lowest of each lane's bytes, side by side.
  template <int... Byte>
  static INLINE bytes low_bytes(bytes v, Numbers<int, Byte...>) {
#if defined(__clang__)
    return __builtin_shufflevector(v, v, (Byte % kLanes * int(sizeof(real)))...);
#else
    return __builtin_shuffle(v, bytes{uint8_t(Byte % kLanes * sizeof(real))...});
#endif
  }
};

// --- weights -------------------------------------------------------------------------------------

// A packed weight: panel behind panel, in each the first 4 depths of all columns, then the next; then
// the sum of each column, and its scale.
struct Int8Weight {
  int64_t depth, columns;
  int8_t* panels;
  int32_t* of_columns;
  float* scales;

  Int8Weight(const real* packed, int64_t depth, int64_t columns)
      : depth(depth), columns(columns),
        panels(reinterpret_cast<int8_t*>(const_cast<real*>(packed))) {
    const int64_t all = Panels(columns, kSums).vectors * kSums;
    of_columns = reinterpret_cast<int32_t*>(panels + all * whole_fours(depth));
    scales = reinterpret_cast<float*>(of_columns + all);
  }
};

// As `pack`: the panels are in `parts`, of which a call packs one.
void pack_int8(const Int8Weight& to, const int8_t* weight, int64_t depth_stride,
               int64_t column_stride, const float* scale, int64_t part, int64_t parts) {
  const Panels panels(to.columns, kSums);
  const int64_t begin = panels.count * part / parts, end = panels.count * (part + 1) / parts;
  const int64_t fours = whole_fours(to.depth) / 4, whole = depth_stride == 1 ? to.depth / 4 : 0;
  uint8_t ones[8] = {1, 1, 1, 1};
  if (kSplit) split_fours(ones, ones, 4);
  int64_t first = 0;
  for (int64_t panel = 0; panel < begin; panel++) first += panels.width(panel) * kSums;
  for (int64_t panel = begin; panel < end; panel++) {
    const int64_t row = panels.width(panel) * kSums, width = least(row, to.columns - first);
    int8_t* const at = to.panels + first * fours * 4;
    for (int64_t k = 0; k < fours; k += kSums) {
      const int64_t stop = least(fours, k + kSums);
      for (int64_t j = 0; j < row; j++) {
        if (j % kSums == 0 && j + kSums <= width && k + kSums <= whole) {  // a square
          vec square[kSums];
          for (int i = 0; i < kSums; i++)
            __builtin_memcpy(square + i, weight + (first + j + i) * column_stride + 4 * k, kBytes);
          exchange_rows<1>(square);
          for (int i = 0; i < kSums; i++)
            __builtin_memcpy(at + ((k + i) * row + j) * 4, square + i, kBytes);
          j += kSums - 1;
          continue;
        }
        for (int64_t f = k; f < stop; f++) {
          const int8_t* from = weight + (first + j) * column_stride + 4 * f * depth_stride;
          int8_t* here = at + (f * row + j) * 4;
          if (j < width && f < whole)
            __builtin_memcpy(here, from, 4);
          else
            for (int64_t i = 0; i < 4; i++)
              here[i] = j < width && 4 * f + i < to.depth ? from[i * depth_stride] : 0;
        }
      }
    }
    for (int64_t v = 0; v < row; v += kSums) {
      sums total = {};
      for (int64_t f = 0; f < fours; f++)
        total = add_fours(total, RowFours(ones), WeightFours(at + (f * row + v) * 4));
      __builtin_memcpy(to.of_columns + first + v, &total, sizeof total);
    }
    for (int64_t j = 0; j < row; j++) to.scales[first + j] = j < width ? scale[first + j] : 0;
    first += row;
  }
}

// --- products ------------------------------------------------------------------------------------

// Where a block's rows begin, what it multiplies them with, and where the results go.
struct Int8Block {
  const uint8_t* rows;
  int64_t row_stride;
  const float* row_scales;
  const int32_t* zeros;
  const int8_t* panel;
  int64_t panel_stride, fours;
  const int32_t* of_columns;
  const float* scales;
  real* result;
  int64_t result_stride, columns;
  const real* start;
  int64_t start_stride;
};

// As `block`.
template <int Rows, int Panels, int Vectors>
__attribute__((noinline)) void int8_block(const Int8Block& b) {
  constexpr int width = Panels * Vectors;
  sums total[Rows][width] = {};
  for (int64_t k = 0; k < b.fours; k++) {
#pragma GCC unroll 16
    for (int p = 0; p < Panels; p++)
#pragma GCC unroll 16
      for (int v = 0; v < Vectors; v++) {
        const WeightFours weight(b.panel + p * b.panel_stride + (k * Vectors + v) * kBytes);
#pragma GCC unroll 16
        for (int r = 0; r < Rows; r++)
          total[r][p * Vectors + v] = add_fours(
              total[r][p * Vectors + v], RowFours(b.rows + r * b.row_stride + k * kFour), weight);
      }
  }
#pragma GCC unroll 16
  for (int r = 0; r < Rows; r++)
#pragma GCC unroll 16
    for (int v = 0; v < width; v++) {
      const int64_t j = v * kSums, rest = b.columns - j;
      if (rest <= 0) break;
      floats32 scale;
      __builtin_memcpy(&scale, b.scales + j, sizeof scale);
      const sums exact = total[r][v] - b.zeros[r] * load_sums(b.of_columns + j);
      scale *= b.row_scales[r];
      rounded(scale);
      floats32 y = __builtin_convertvector(exact, floats32) * scale;
      rounded(y);
      real* at = b.result + r * b.result_stride + j;
      const real* from = b.start ? b.start + r * b.start_stride + j : nullptr;
      if (rest >= kSums)
        store(Full{}, at, from ? load(Full{}, from) + (vec)y : (vec)y);
      else
        store(Part{rest}, at, from ? load(Part{rest}, from) + (vec)y : (vec)y);
    }
}

template <int Rows> INLINE void run_int8_block(const Int8Block& b, int64_t vectors, int64_t panels) {
  constexpr int most = Rows == 1 ? 4 : Rows == 2 ? 2 : 1;  // few rows take several panels at once
  if (panels == most && most > 1) return int8_block<Rows, most, kPanelVectors>(b);
  switch (vectors) {
    case 1: return int8_block<Rows, 1, 1>(b);
    case 2: return int8_block<Rows, 1, 2>(b);
    case 3: return int8_block<Rows, 1, 3>(b);
    default: return int8_block<Rows, 1, kPanelVectors>(b);
  }
}

INLINE void run_int8_block(const Int8Block& b, int64_t rows, int64_t vectors, int64_t panels) {
  switch (rows) {
    case 1: return run_int8_block<1>(b, vectors, panels);
    case 2: return run_int8_block<2>(b, vectors, panels);
    case 3: return run_int8_block<3>(b, vectors, panels);
    case 4: return run_int8_block<4>(b, vectors, panels);
#if defined(__AVX512F__) || defined(__aarch64__)
    case 5: return run_int8_block<5>(b, vectors, panels);
    case 6: return run_int8_block<6>(b, vectors, panels);
#endif
  }
  __builtin_unreachable();
}

// The columns from begin, where a panel does, to end of all rows times a packed weight, added to
// `start` if there is one.
void multiply_int8(const Int8Rows& left, const Int8Weight& weight, int64_t begin, int64_t end,
                   real* result, int64_t result_stride, const real* start, int64_t start_stride) {
  const Groups groups(left.rows);
  const Panels panels(weight.columns, kSums);
  const bool even = groups.count > 0 && left.rows % groups.count == 0;
  const int64_t at_once = !even ? 1 : groups.height(0) == 1 ? 4 : groups.height(0) == 2 ? 2 : 1;
  const int64_t deep = whole_fours(weight.depth);
  for (int64_t panel = 0, column = 0; panel < panels.count && column < end;) {
    const int64_t vectors = panels.width(panel);
    if (column < begin) {
      column += vectors * kSums, panel++;
      continue;
    }
    const int64_t last = panel + at_once - 1;
    const bool several = last < panels.count && panels.width(last) == kPanelVectors &&
                         column + (at_once - 1) * kPanelVectors * kSums < end;
    const int64_t taken = several ? at_once : 1;
    const int64_t width = least(end - column, taken * vectors * kSums);
    for (int64_t group = 0, row = 0; group < groups.count; group++) {
      run_int8_block(
          {left.memory.data() + row * left.stride, left.stride, left.scales.data() + row,
           left.zeros.data() + row, weight.panels + column * deep, vectors * kSums * deep, deep / 4,
           weight.of_columns + column, weight.scales + column,
           result + row * result_stride + column, result_stride, width,
           start ? start + row * start_stride + column : nullptr, start_stride},
          groups.height(group), vectors, taken);
      row += groups.height(group);
    }
    column += width;
    panel += taken;
  }
}

// The same in 8 bits; each thread takes the rows to 8 bits for itself.
void int8_product(Member* member, int64_t rows, const real* left, int64_t row_stride,
                  int64_t depth_stride, const real* packed, int64_t depth, real* result,
                  int64_t result_stride, int64_t columns, const real* start,
                  int64_t start_stride) {
  static thread_local Int8Rows quantized;
  quantized.take(rows, left, row_stride, depth_stride, depth);
  const Int8Weight weight(packed, depth, columns);
  auto part = [&](int64_t begin, int64_t end) {
    multiply_int8(quantized, weight, begin, end, result, result_stride, start, start_stride);
  };
  if (member == nullptr) part(0, columns);
  else share_product(member, rows, result, result_stride, columns, kSums, part);
}

// Packs one matrix of a weight, which is (columns, depth), in parts that threads share.
void pack_weight(const Call& call, const Weight& weight, int64_t matrix, const real* source,
                 real* packed, int64_t parts) {
  const Apart apart = apart_in(call, weight);
  const int64_t offset = weight.offsets[matrix];
  const Int8Weight to(packed, weight.depth, weight.columns);
  const int8_t* from = reinterpret_cast<const int8_t*>(source) + offset;
  const float* scale =
      reinterpret_cast<const float*>(call.wholes[weight.scale]) + offset / weight.depth;
  parallel(call.pool, call.threads, parts, [&](int64_t part) {
    pack_int8(to, from, apart.depth, apart.column, scale, part, parts);
  });
}

}  // namespace
}  // namespace openrnn

// For tests: result (rows, columns) = rows (rows, depth) times int8 (columns, depth), scaled by column.
extern "C" void int8_linear_of(int64_t rows, int64_t depth, int64_t columns, const real* left,
                               const int8_t* weight, const float* scale, real* result) {
  using namespace openrnn;
  Memory packed(int8_size(depth, columns));
  const Int8Weight to(packed.data, depth, columns);
  pack_int8(to, weight, 1, depth, scale, 0, 1);
  int8_product(nullptr, rows, left, depth, 1, packed.data, depth, result, columns, columns, nullptr,
               0);
}
