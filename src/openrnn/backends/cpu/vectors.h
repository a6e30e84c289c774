// Vectors and functions of them: what the loops of a generated kernel are made of.
// Whoever includes this defines `real` as float or double before. No header of the C++ library is
// included, which would take longer to compile than the kernel itself.
#pragma once

#include <stdint.h>

#define INLINE __attribute__((always_inline)) inline

namespace openrnn {

// --- vectors -------------------------------------------------------------------------------------

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif

template <class T> struct Bits;
template <> struct Bits<float> {
  typedef int32_t type;
  typedef uint32_t unsigned_type;
  static constexpr int digits = 24, max_exponent = 128;
};
template <> struct Bits<double> {
  typedef int64_t type;
  typedef uint64_t unsigned_type;
  static constexpr int digits = 53, max_exponent = 1024;
};

typedef Bits<real>::type bits;
typedef Bits<real>::unsigned_type ubits;
constexpr int kLanes = kBytes / sizeof(real);
typedef real vec __attribute__((vector_size(kBytes)));
typedef bits mask __attribute__((vector_size(kBytes)));   // a comparison: 0 or -1 in each lane
typedef ubits uvec __attribute__((vector_size(kBytes)));
constexpr real kInfinity = real(__builtin_inf());

// The numbers from 0 on, as what a function takes that puts a vector together from them; all lanes.
template <class T, T... Number> struct Numbers {};
template <class T, T Count> struct Below {
#if defined(__clang__)
  typedef __make_integer_seq<Numbers, T, Count> type;
#else
  typedef Numbers<T, __integer_pack(Count)...> type;
#endif
};
typedef Below<bits, kLanes>::type Lanes;
template <bits... Lane> INLINE mask numbers(Numbers<bits, Lane...>) { return mask{Lane...}; }
// Each lane has what was in that whose number differs in the bit Step.
template <int Step, bits... Lane> INLINE vec crossed(vec v, Numbers<bits, Lane...>) {
#if defined(__clang__)
  return __builtin_shufflevector(v, v, (Lane ^ Step)...);
#else
  return __builtin_shuffle(v, mask{(Lane ^ Step)...});
#endif
}

INLINE vec splat(real x) { return x - vec{}; }
INLINE mask splat_mask(bool x) { return mask{} - bits(x); }

struct Full {};                 // a whole vector
struct Part { int64_t count; };  // the first lanes of one
INLINE mask first_lanes(Part part) { return numbers(Lanes{}) < mask{} + bits(part.count); }

INLINE vec load(Full, const real* p) { vec v; __builtin_memcpy(&v, p, sizeof v); return v; }
INLINE void store(Full, real* p, vec v) { __builtin_memcpy(p, &v, sizeof v); }
// Of a part no other lane is touched: by instructions for that, where there are some. Else the compiler
// puts it together in memory, and reading that at once stalls.
#ifdef __AVX512F__
#define OPENRNN_LANES
typedef float floats __attribute__((vector_size(64)));
typedef double doubles __attribute__((vector_size(64)));
INLINE unsigned lanes_of(Part part) { return (1u << part.count) - 1; }
INLINE floats load_lanes(const float* p, unsigned lanes) {
  return __builtin_ia32_loadups512_mask(p, floats{}, (unsigned short)lanes);
}
INLINE doubles load_lanes(const double* p, unsigned lanes) {
  return __builtin_ia32_loadupd512_mask(p, doubles{}, (unsigned char)lanes);
}
INLINE void store_lanes(float* p, unsigned lanes, floats v) {
  __builtin_ia32_storeups512_mask(p, v, (unsigned short)lanes);
}
INLINE void store_lanes(double* p, unsigned lanes, doubles v) {
  __builtin_ia32_storeupd512_mask(p, v, (unsigned char)lanes);
}
#elif defined(__AVX__) && !defined(__AVX512F__)
#define OPENRNN_LANES
typedef float floats __attribute__((vector_size(32)));
typedef double doubles __attribute__((vector_size(32)));
typedef int ints __attribute__((vector_size(32)));
typedef long long longs __attribute__((vector_size(32)));
INLINE floats load_lanes(const float* p, mask lanes) {
  return __builtin_ia32_maskloadps256((const floats*)p, (ints)lanes);
}
INLINE doubles load_lanes(const double* p, mask lanes) {
  return __builtin_ia32_maskloadpd256((const doubles*)p, (longs)lanes);
}
INLINE void store_lanes(float* p, mask lanes, floats v) {
  __builtin_ia32_maskstoreps256((floats*)p, (ints)lanes, v);
}
INLINE void store_lanes(double* p, mask lanes, doubles v) {
  __builtin_ia32_maskstorepd256((doubles*)p, (longs)lanes, v);
}
INLINE mask lanes_of(Part part) { return first_lanes(part); }
#endif
#ifdef OPENRNN_LANES
INLINE vec load(Part part, const real* p) { return load_lanes(p, lanes_of(part)); }
INLINE void store(Part part, real* p, vec v) { store_lanes(p, lanes_of(part), v); }
#else
INLINE vec load(Part part, const real* p) {
  vec v = {};
  for (int64_t i = 0; i < part.count; i++) v[i] = p[i];
  return v;
}
INLINE void store(Part part, real* p, vec v) {
  for (int64_t i = 0; i < part.count; i++) p[i] = v[i];
}
#endif
INLINE vec load(Full, const real* p, int64_t stride) {
  vec v;
  for (int i = 0; i < kLanes; i++) v[i] = p[i * stride];
  return v;
}
INLINE vec load(Part part, const real* p, int64_t stride) {
  vec v = {};
  for (int64_t i = 0; i < part.count; i++) v[i] = p[i * stride];
  return v;
}
INLINE void store(Full, real* p, int64_t stride, vec v) {
  for (int i = 0; i < kLanes; i++) p[i * stride] = v[i];
}
INLINE void store(Part part, real* p, int64_t stride, vec v) {
  for (int64_t i = 0; i < part.count; i++) p[i * stride] = v[i];
}
// The lanes that count, and `other` in those beyond the end.
INLINE vec only(Full, vec v, real) { return v; }
INLINE vec only(Part part, vec v, real other) {
  return first_lanes(part) ? v : splat(other);
}

// a > b ? a : b and a < b ? a : b, in one instruction where the compiler would take two: b if a is NaN,
// and NaN if b is.
#ifdef __AVX512F__
#ifdef __clang__
INLINE floats larger(floats a, floats b) { return __builtin_ia32_maxps512(a, b, 4); }
INLINE floats smaller(floats a, floats b) { return __builtin_ia32_minps512(a, b, 4); }
INLINE doubles larger(doubles a, doubles b) { return __builtin_ia32_maxpd512(a, b, 4); }
INLINE doubles smaller(doubles a, doubles b) { return __builtin_ia32_minpd512(a, b, 4); }
#else
INLINE floats larger(floats a, floats b) { return __builtin_ia32_maxps512_mask(a, b, a, 65535, 4); }
INLINE floats smaller(floats a, floats b) { return __builtin_ia32_minps512_mask(a, b, a, 65535, 4); }
INLINE doubles larger(doubles a, doubles b) { return __builtin_ia32_maxpd512_mask(a, b, a, 255, 4); }
INLINE doubles smaller(doubles a, doubles b) { return __builtin_ia32_minpd512_mask(a, b, a, 255, 4); }
#endif
#elif defined(__AVX__) && !defined(__AVX512F__)
INLINE floats larger(floats a, floats b) { return __builtin_ia32_maxps256(a, b); }
INLINE floats smaller(floats a, floats b) { return __builtin_ia32_minps256(a, b); }
INLINE doubles larger(doubles a, doubles b) { return __builtin_ia32_maxpd256(a, b); }
INLINE doubles smaller(doubles a, doubles b) { return __builtin_ia32_minpd256(a, b); }
#else
INLINE vec larger(vec a, vec b) { return a > b ? a : b; }
INLINE vec smaller(vec a, vec b) { return a < b ? a : b; }
#endif

INLINE vec choose(mask m, vec a, vec b) { return m ? a : b; }
INLINE mask choose(mask m, mask a, mask b) { return (m & a) | (~m & b); }
INLINE vec to_number(mask m) { return choose(m, splat(1), splat(0)); }
INLINE mask to_mask(vec v) { return v != 0; }

// --- functions -----------------------------------------------------------------------------------

// 2^n as an exponent, in two factors, so that neither overflows where their product does not.
INLINE vec scale(vec x, vec n) {
  constexpr int mantissa = Bits<real>::digits - 1;
  constexpr bits bias = Bits<real>::max_exponent - 1;
  mask k = __builtin_convertvector(n, mask);
  mask half = k >> 1;
  uvec first = (uvec)(half + bias) << mantissa, second = (uvec)(k - half + bias) << mantissa;
  return x * (vec)first * (vec)second;
}

// 1.5 * 2^digits: added to it, a number is rounded to a whole one, which then is in its last bits.
constexpr real kMagic = sizeof(real) == 4 ? real(12582912.0) : real(6755399441055744.0);

// x = n ln 2 + r with |r| <= ln 2 / 2: gives kMagic + n, and e^r - 1 = r + r^2 p(r): in float by the p
// whose largest error is least, 3e-9 of e^r (Remez), in double by the Taylor series.
INLINE vec reduced_expm1(vec x, vec* shifted) {
  constexpr bool single = sizeof(real) == 4;
  *shifted = x * real(1.4426950408889634) + kMagic;
  const vec n = *shifted - kMagic;
  // ln 2 in two parts, of which the first times n is exact
  const real high = single ? real(0.693359375) : real(6.93147180369123816490e-01);
  const real low = single ? real(-2.12194440054690582767e-4) : real(1.90821492927058770002e-10);
  vec r = (x - n * high) - n * low;
  vec p;
  if (single) {
    p = splat(real(0.00138145401768));
    p = p * r + real(0.00836874510894);
    p = p * r + real(0.0416683907835);
    p = p * r + real(0.16666520399);
    p = p * r + real(0.499999934321);
  } else {
    p = splat(real(1.0 / 6227020800.0));
    p = p * r + real(1.0 / 479001600);
    p = p * r + real(1.0 / 39916800);
    p = p * r + real(1.0 / 3628800);
    p = p * r + real(1.0 / 362880);
    p = p * r + real(1.0 / 40320);
    p = p * r + real(1.0 / 5040);
    p = p * r + real(1.0 / 720);
    p = p * r + real(1.0 / 120);
    p = p * r + real(1.0 / 24);
    p = p * r + real(1.0 / 6);
    p = p * r + real(1.0 / 2);
  }
  return p * r * r + r;
}

// Beyond these the exponential is 0 or infinite. A comparison with NaN is false, so NaN stays.
constexpr real kLow = sizeof(real) == 4 ? real(-104) : real(-746);
constexpr real kHigh = sizeof(real) == 4 ? real(89) : real(710);

INLINE vec clamped(vec x) { return smaller(splat(kHigh), larger(splat(kLow), x)); }

INLINE vec exp(vec x) {
  vec shifted, p = reduced_expm1(clamped(x), &shifted);
  return scale(p + 1, shifted - kMagic);
}

INLINE vec expm1(vec x) {
  vec shifted, p = reduced_expm1(clamped(x), &shifted), n = shifted - kMagic;
  // For the largest n the power alone is infinite.
  vec near = scale(p, n) + (scale(splat(1), n) - 1);
  near = choose(x == 0, x, near);  // keeps the sign of -0
  return choose(n > Bits<real>::max_exponent - 1, scale(p + 1, n), near);
}

// 2^n of kMagic + n, as an exponent, for n from the smallest of a normal number to that of infinity.
INLINE vec power_of_two(vec shifted) {
  constexpr int mantissa = Bits<real>::digits - 1;
  constexpr ubits bias = Bits<real>::max_exponent - 1;
  return (vec)(((uvec)shifted << mantissa) + (bias << mantissa));
}

INLINE vec sigmoid(vec x) {
  constexpr real high = sizeof(real) == 4 ? real(87) : real(708);  // 1 + e^-x is 1 before
  vec shifted, p = reduced_expm1(-smaller(splat(high), larger(splat(-kHigh), x)), &shifted);
  return 1 / (1 + (p + 1) * power_of_two(shifted));
}

// From expm1, so that small numbers keep all their digits.
INLINE vec tanh(vec x) {
  const real far = 22;  // tanh is 1 from here on
  vec y = smaller(splat(far), larger(splat(-far), x));
  vec shifted, p = reduced_expm1(y + y, &shifted);
  vec two = power_of_two(shifted);
  vec e = p * two + (two - 1);
  vec t = e / (e + 2);
  return choose(x == 0, x, t);  // keeps the sign of -0
}

#define OPENRNN_BY_LANE(name)                                   \
  inline vec name(vec x) {                                      \
    for (int i = 0; i < kLanes; i++)                            \
      x[i] = sizeof(real) == 4 ? real(__builtin_##name##f(float(x[i]))) : real(__builtin_##name(x[i])); \
    return x;                                                   \
  }
OPENRNN_BY_LANE(log)
OPENRNN_BY_LANE(log1p)
OPENRNN_BY_LANE(log2)
OPENRNN_BY_LANE(log10)
OPENRNN_BY_LANE(exp2)
OPENRNN_BY_LANE(sinh)
OPENRNN_BY_LANE(cosh)
OPENRNN_BY_LANE(erf)
OPENRNN_BY_LANE(sin)
OPENRNN_BY_LANE(cos)
OPENRNN_BY_LANE(tan)
OPENRNN_BY_LANE(asin)
OPENRNN_BY_LANE(acos)
OPENRNN_BY_LANE(atan)
OPENRNN_BY_LANE(asinh)
OPENRNN_BY_LANE(acosh)
OPENRNN_BY_LANE(atanh)
OPENRNN_BY_LANE(sqrt)
OPENRNN_BY_LANE(floor)
OPENRNN_BY_LANE(ceil)
OPENRNN_BY_LANE(trunc)

// To the nearest, halves to even, as the processor's default mode has it.
inline vec round(vec x) {
  for (int i = 0; i < kLanes; i++) x[i] = sizeof(real) == 4 ? real(__builtin_nearbyintf(float(x[i]))) : real(__builtin_nearbyint(x[i]));
  return x;
}
inline vec pow(vec a, vec b) {
  for (int i = 0; i < kLanes; i++) a[i] = sizeof(real) == 4 ? real(__builtin_powf(float(a[i]), float(b[i]))) : real(__builtin_pow(a[i], b[i]));
  return a;
}
// With the sign of b, as Python has it.
inline vec remainder(vec a, vec b) {
  for (int i = 0; i < kLanes; i++) {
    real r = real(__builtin_fmod(a[i], b[i]));  // exact, also by way of double
    a[i] = (r != 0 && (b[i] < 0) != (r < 0)) ? r + b[i] : r;
  }
  return a;
}
INLINE vec rsqrt(vec x) { return 1 / sqrt(x); }
INLINE vec reciprocal(vec x) { return 1 / x; }
INLINE vec abs(vec x) { return (vec)((uvec)x & (~uvec{} >> 1)); }
INLINE vec sign(vec x) { return choose(x > 0, splat(1), choose(x < 0, splat(-1), splat(0))); }
INLINE vec relu(vec x) { return choose(x < 0, splat(0), x); }
INLINE vec maximum(vec a, vec b) { return choose((a > b) | (a != a), a, b); }  // NaN wins
INLINE vec minimum(vec a, vec b) { return choose((a < b) | (a != a), a, b); }

// All lanes put together: the halves, their halves, and so on.
template <int Step = kLanes / 2, class Take> INLINE real folded(vec v, Take take) {
  if constexpr (Step == 0) return v[0];
  else return folded<Step / 2>(take(v, crossed<Step>(v, Lanes{})), take);
}
INLINE real sum(vec v) {
  return folded(v, [](vec a, vec b) { return a + b; });
}
INLINE real largest(vec v) { return folded(v, maximum); }
INLINE real smallest(vec v) { return folded(v, minimum); }

// Runs `body(width, j)` over j = 0 .. count in vectors, the last of which may be a part.
template <class Body> INLINE void along(int64_t count, Body body) {
  int64_t j = 0;
  for (; j + kLanes <= count; j += kLanes) body(Full{}, j);
  if (j < count) body(Part{count - j}, j);
}

// --- the kernel and who runs it ------------------------------------------------------------------

// Runs work(data) on some threads, this one among them, as GNU OpenMP's GOMP_parallel does.
typedef void (*Pool)(void (*work)(void*), void* data, unsigned threads, unsigned flags);
typedef int (*PoolSize)();  // how many there are, asked by one of them: omp_get_num_threads

// An array whose rows go into a sum. Those of a state may be asked for as the step before left them:
// the row of that step counts, where a sequence begins `initial`, and at a reset `again`.
// One that the steps have added up has a row for each sequence.
enum How : int64_t { kPacked, kUsers, kPrevious, kSummed };
struct Factor {
  const real* array;
  How how;
  const real* initial;  // null for zeros
  const real* again;
};

// A sum over all rows of leftᵀ right, (m, n), or of right alone, (1, n), once all steps are done.
struct OverRows {
  Factor left, right;
  real* result;
  int64_t m, n;
};

// One of several threads that make each product of the same rows together, or null.
struct Member;

// rows (count, depth) times a packed weight, added to `start` if there is one
typedef void (*Product)(Member* member, int64_t count, const real* left, int64_t row_stride,
                        int64_t depth_stride, const real* packed, int64_t depth, real* result,
                        int64_t result_stride, int64_t columns, const real* start,
                        int64_t start_stride);

// What the caller gives; pointers are to arrays in the order of the generated file.
struct Call {
  int64_t steps, reverse, threads;
  Pool pool;                   // torch's own, if it has one that we know how to use
  PoolSize pool_size;
  const int64_t* sizes;        // rows at each step
  const int64_t* offsets;      // sum of the sizes before a step
  const int64_t* order;        // the user's number of each sequence; null: the same
  int64_t sequences;           // how many there are, those without steps among them
  int64_t places;              // rows of the user's arrays
  int64_t between, stride;     // of these, if they are padded, or zeros: step t of the user's
                               // sequence b is row t * between + b * stride
  const real* const* rows;     // inputs with rows, (sum of sizes, features)
  real* const* outputs;        // (sum of sizes, features)
  const real* const* wholes;   // inputs without rows
  const real* const* initial;  // states, (largest size, features); null for zeros
  real* const* final;
  const bool* resets;          // for each row whether a reset is before it; null: for none
  int64_t resets_after;        // going back: the state is a gradient, which is taken behind the step
  real* const* again;          // at a reset, (largest size, features): the states, null for zeros,
                               // or, going back, the sums of their gradients
  Product int8;                // as the product of rows and weights that a kernel is given, in 8 bits
  const int64_t* strides;      // of the last two dimensions of each of the inputs without rows
  const OverRows* over_rows;
};

// Matrices, depth by columns, that are packed before the first step.
struct Weight {
  const real* table;  // numbers that stand in the code, or else
  int64_t whole;      // which input it is
  bool is_plain;      // all of that input, with its own strides; else those below
  int64_t depth, columns, depth_stride, column_stride;
  int64_t matrices;
  const int64_t* offsets;
  int64_t scale;  // of int8: which input has the scale of each column of each matrix; else -1
};

// A sum of inputs without rows, made before the first step.
struct Vector {
  int64_t size, count;
  const int64_t* terms;  // which inputs
};

// An array that is made.
struct Output {
  int64_t size, is_users;
};

// A generated kernel: runs all steps for some rows of the batch.
struct Kernel {
  void (*run_rows)(const Call& call, int64_t first, int64_t count, int64_t most,
                   const real* const* weights, real* memory, Product product, Member* member,
                   real* aside);
  int64_t of_row;    // numbers for each row of the batch
  int64_t of_chunk;  // numbers for each row of those steps that are prepared together
  int64_t aside;     // numbers for each row where a step's outputs go of all members but the first
  int64_t rows, outputs, wholes, states, sums;  // how many arrays the caller gives
  int64_t weights;
  const Weight* weight;
  int64_t vectors;
  const Vector* vector;
  const Output* output;
  const int64_t* state_size;
};

// Sums that a product keeps in registers: rows by vectors of a panel. With 16 registers 4 by 3 leave
// three for the weight and one for the row; with 32 there is room for 6 by 4.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kRows = 6, kPanelVectors = 4;
#else
constexpr int kRows = 4, kPanelVectors = 3;
#endif
constexpr int kPanel = kPanelVectors * kLanes;  // columns of a packed panel
INLINE constexpr int64_t panels(int64_t columns) { return (columns + kPanel - 1) / kPanel; }
INLINE constexpr int64_t packed_size(int64_t depth, int64_t columns) {
  return panels(columns) * kPanel * depth;
}
// The same in 8 bits: 4 depths of a column side by side, and for each column a sum and a scale.
constexpr int kSums = kBytes / 4;  // columns of a vector
INLINE constexpr int64_t int8_size(int64_t depth, int64_t columns) {
  const int64_t bytes = (depth + 3) / 4 * 4 + sizeof(int32_t) + sizeof(float);
  return (columns + kSums - 1) / kSums * kSums * bytes / int64_t(sizeof(real));
}
INLINE constexpr int64_t padded(int64_t size) { return (size + 15) / 16 * 16; }
INLINE int64_t clip(int64_t rows, int64_t count) {
  return rows < 0 ? 0 : rows > count ? count : rows;
}
// The row of a sequence's states in the user's arrays.
INLINE int64_t state_row(const Call& call, int64_t row) {
  return call.order != nullptr ? call.order[row] : row;
}

// The row of a step of a sequence in an array, which may lie as the user's do.
INLINE int64_t place(const Call& call, int64_t step, int64_t row, bool is_users) {
  if (is_users && call.between != 0)
    return step * call.between + call.order[row] * call.stride;
  return call.offsets[step] + row;
}

// A state before its first step.
INLINE void begin_state(const Call& call, real* to, const real* initial, int64_t row,
                        int64_t count) {
  if (initial != nullptr)
    __builtin_memcpy(to, initial + state_row(call, row) * count, count * sizeof(real));
  else
    __builtin_memset(to, 0, count * sizeof(real));
}

// The gradient of a state that a reset made: it goes into the sum, if there is one, and no further.
INLINE void take_state(const Call& call, real* from, real* sum, int64_t row, int64_t count) {
  if (sum != nullptr)
    for (int64_t j = 0; j < count; j++) sum[state_row(call, row) * count + j] += from[j];
  __builtin_memset(from, 0, count * sizeof(real));
}

INLINE void copy(real* to, const real* from, int64_t count) {
  __builtin_memcpy(to, from, count * sizeof(real));
}

// The i-th step in the order of the loop, and how many of `count` rows from `first` on it has.
INLINE int64_t step_of(const Call& call, int64_t i) {
  return call.reverse ? call.steps - 1 - i : i;
}
INLINE int64_t rows_at(const Call& call, int64_t i, int64_t first, int64_t count) {
  return clip(call.sizes[step_of(call, i)] - first, count);
}

// As many steps, at least one, as have at most so many rows together; gives these.
inline int64_t take_steps(const Call& call, int64_t begin, int64_t first, int64_t count,
                          int64_t most, int64_t* end) {
  int64_t rows = 0, i = begin;
  for (; i < call.steps; i++) {
    const int64_t more = rows_at(call, i, first, count);
    if (i > begin && rows + more > most) break;
    rows += more;
  }
  *end = i;
  return rows;
}

// Where the rows of some steps, in the order of the loop, are in packed arrays and in the user's, and
// which sequence's they are.
inline void find_rows(const Call& call, int64_t begin, int64_t end, int64_t first, int64_t count,
                      int64_t* packed, int64_t* users, int64_t* sequences) {
  for (int64_t i = begin; i < end; i++) {
    const int64_t step = step_of(call, i), rows = rows_at(call, i, first, count);
    for (int64_t r = first; r < first + rows; r++) {
      *packed++ = place(call, step, r, false);
      *users++ = place(call, step, r, true);
      *sequences++ = r;
    }
  }
}

// Rows of sums before the first step.
INLINE void clear(real* sums, int64_t first, int64_t count, int64_t size) {
  __builtin_memset(sums + first * size, 0, count * size * sizeof(real));
}

// Brings the rows of some steps together, `between` numbers apart, in the order of the loop.
inline void gather(const Call& call, int64_t begin, int64_t end, int64_t first, int64_t count,
                   const real* array, bool is_users, int64_t size, real* to, int64_t between) {
  for (int64_t i = begin; i < end; i++) {
    const int64_t step = step_of(call, i), rows = rows_at(call, i, first, count);
    for (int64_t r = 0; r < rows; r++, to += between)
      copy(to, array + place(call, step, first + r, is_users) * size, size);
  }
}

// The inverse.
inline void scatter(const Call& call, int64_t begin, int64_t end, int64_t first, int64_t count,
                    const real* from, int64_t between, int64_t size, real* array, bool is_users) {
  for (int64_t i = begin; i < end; i++) {
    const int64_t step = step_of(call, i), rows = rows_at(call, i, first, count);
    for (int64_t r = 0; r < rows; r++, from += between)
      copy(array + place(call, step, first + r, is_users) * size, from, size);
  }
}

}  // namespace openrnn
