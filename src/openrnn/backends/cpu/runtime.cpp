// What all kernels of one dtype share: products, packing, threads. Compiled once for each dtype.
#include "vectors.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(__unix__)
#include <unistd.h>
#endif

#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

namespace openrnn {
namespace {

// --- products ------------------------------------------------------------------------------------

INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// How columns are split into panels of at most kPanelVectors vectors, all of like width.
struct Panels {
  int64_t vectors, count;
  explicit Panels(int64_t columns, int64_t lanes = kLanes)
      : vectors((columns + lanes - 1) / lanes),
        count((vectors + kPanelVectors - 1) / kPanelVectors) {}
  int64_t width(int64_t panel) const {  // in vectors
    return vectors / count + (panel < vectors % count);
  }
};

// Of two rows of a square, the lanes with the bit Step in their number go from b to a, the others
// from a to b: with all steps 1, 2, 4 ... and all pairs of rows so far apart it is transposed.
template <int Step, bits... Lane> INLINE void exchange(vec& a, vec& b, Numbers<bits, Lane...>) {
#if defined(__clang__)
  const vec first = __builtin_shufflevector(a, b, (Lane & Step ? kLanes + Lane - Step : Lane)...);
  const vec second = __builtin_shufflevector(a, b, (Lane & Step ? kLanes + Lane : Lane + Step)...);
#else
  const vec first = __builtin_shuffle(a, b, mask{(Lane & Step ? kLanes + Lane - Step : Lane)...});
  const vec second = __builtin_shuffle(a, b, mask{(Lane & Step ? kLanes + Lane : Lane + Step)...});
#endif
  a = first, b = second;
}

template <int Step> INLINE void exchange_rows(vec* rows) {
  if constexpr (Step < kLanes) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; i++)
      if (!(i & Step)) exchange<Step>(rows[i], rows[i + Step], Lanes{});
    exchange_rows<2 * Step>(rows);
  }
}

// to[d][j] = from[j][d], square by square.
void transpose(real* to, int64_t to_stride, const real* from, int64_t column_stride,
               int64_t depth_stride, int64_t columns, int64_t depth) {
  for (int64_t d = 0; d < depth; d += kLanes)
    for (int64_t j = 0; j < columns; j += kLanes) {
      const real* square = from + j * column_stride + d * depth_stride;
      real* at = to + d * to_stride + j;
      if (d + kLanes <= depth && j + kLanes <= columns && depth_stride == 1) {
        vec rows[kLanes];
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; i++) rows[i] = load(Full{}, square + i * column_stride);
        exchange_rows<1>(rows);
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; i++) store(Full{}, at + i * to_stride, rows[i]);
      } else {
        for (int64_t b = 0; b < least(kLanes, depth - d); b++)
          for (int64_t a = 0; a < least(kLanes, columns - j); a++)
            at[b * to_stride + a] = square[a * column_stride + b * depth_stride];
      }
    }
}

// Where each depth of a matrix is: equally far apart, or as a table tells.
struct Depths {
  const real* first;
  int64_t stride;
  const real* const* each;  // null without a table
  INLINE const real* at(int64_t depth) const {
    return each != nullptr ? each[depth] : first + depth * stride;
  }
};

// Panel behind panel, in each all columns of the first depth, then of the second, and so on. What is
// missing in the last vector is zero. The depths begin at one of `weight`, the columns too; the panels
// are in `parts`, of which a call packs one.
void pack(real* packed, Depths weight, int64_t first_depth, int64_t first_column,
          int64_t column_stride, int64_t depth, int64_t columns, int64_t part = 0,
          int64_t parts = 1) {
  const Panels panels(columns);
  const int64_t begin = panels.count * part / parts, end = panels.count * (part + 1) / parts;
  int64_t before = 0;
  for (int64_t panel = 0; panel < begin; panel++) before += panels.width(panel) * kLanes;
  // Depths outside where a row of the weight lies in one piece: each line of memory is read once.
  const int64_t step = column_stride == 1 ? 1 : depth;
  for (int64_t k = 0; k < depth; k += step) {
    const real* const line = weight.at(first_depth + k) + first_column * column_stride;
    for (int64_t panel = begin, first = before; panel < end; panel++) {
      const int64_t row = panels.width(panel) * kLanes, width = least(row, columns - first);
      const real* from = line + first * column_stride;
      real* to = packed + first * depth + k * row;
      if (step == 1 && width == kPanel) {
        copy(to, from, kPanel);  // of a size that the compiler knows
      } else if (step == 1) {
        for (int64_t j = 0; j < row; j += kLanes) {
          const int64_t rest = width - j;
          store(Full{}, to + j, rest >= kLanes ? load(Full{}, from + j)
                                : rest > 0     ? load(Part{rest}, from + j)
                                               : vec{});
        }
      } else {
        transpose(to, row, from, column_stride, weight.stride, width, depth);
        for (int64_t j = width; j < row; j++)
          for (int64_t d = 0; d < depth; d++) to[d * row + j] = 0;
      }
      first += row;
    }
  }
}

// How rows are split into groups of at most kRows, all of like height.
struct Groups {
  int64_t rows, count;
  explicit Groups(int64_t rows) : rows(rows), count((rows + kRows - 1) / kRows) {}
  int64_t height(int64_t group) const { return rows / count + (group < rows % count); }
};

// Group behind group, in each all rows of the first depth, then of the second, and so on.
void pack_left(real* packed, Depths left, int64_t first_depth, int64_t first_row,
               int64_t row_stride, int64_t depth, int64_t rows) {
  const Groups groups(rows);
  for (int64_t k = 0; k < depth; k++) {
    const real* from = left.at(first_depth + k) + first_row * row_stride;
    for (int64_t group = 0, row = 0; group < groups.count; group++) {
      const int64_t height = groups.height(group);
      real* to = packed + row * depth + k * height;
      if (row_stride == 1 && height == kRows)
        copy(to, from, kRows);  // of a size that the compiler knows
      else
        for (int64_t i = 0; i < height; i++) to[i] = from[i * row_stride];
      row += height, from += height * row_stride;
    }
  }
}

// Makes the compiler hold a vector in a register, where it would read it again for every row.
INLINE void keep(vec& v) {
#if defined(__AVX512F__)
  asm("" : "+v"(v));
#elif defined(__x86_64__)
  asm("" : "+x"(v));
#elif defined(__aarch64__)
  asm("" : "+w"(v));
#endif
}

// Some rows times `Panels` panels of `Vectors` vectors, kept in registers from the first depth to the
// last, and then written, added to `start` if there is one. Meanwhile what is at `ahead` is brought
// nearer, so many bytes of it at each depth.
template <int Rows, int Panels, int Vectors>
__attribute__((noinline)) void block(const real* left, int64_t row_stride, int64_t depth_stride,
                                     const real* packed, int64_t panel_stride, int64_t depth,
                                     real* result, int64_t result_stride, int64_t columns,
                                     const real* start, int64_t start_stride, const char* ahead,
                                     int64_t ahead_bytes) {
  constexpr int width = Panels * Vectors;
  vec sums[Rows][width] = {};
  for (int64_t k = 0; k < depth; k++) {
    // Of fewer rows, reading the weight is all there is to do.
    if (Rows > 2) __builtin_prefetch(ahead + k * ahead_bytes, 0, 2);
    vec w[width];
#pragma GCC unroll 16
    for (int p = 0; p < Panels; p++)
#pragma GCC unroll 16
      for (int v = 0; v < Vectors; v++) {
        w[p * Vectors + v] = load(Full{}, packed + p * panel_stride + (k * Vectors + v) * kLanes);
        if (Panels == 1) keep(w[p * Vectors + v]);
      }
#pragma GCC unroll 16
    for (int r = 0; r < Rows; r++) {
      const vec x = splat(left[r * row_stride + k * depth_stride]);
#pragma GCC unroll 16
      for (int v = 0; v < width; v++) sums[r][v] += x * w[v];
    }
    // GCC tuned for Zen rounds the product of a lone sum apart, and no other: then a row would not be
    // the same in every block.
    if (Rows * width == 1) keep(sums[0][0]);
  }
  constexpr int most = width - 1;  // only the last vector may be a part
  const Part rest = {columns - most * kLanes};
  const bool is_full = rest.count == kLanes;
#pragma GCC unroll 16
  for (int r = 0; start != nullptr && r < Rows; r++, start += start_stride) {
#pragma GCC unroll 16
    for (int v = 0; v < most; v++) sums[r][v] = load(Full{}, start + v * kLanes) + sums[r][v];
    const real* from = start + most * kLanes;
    sums[r][most] = (is_full ? load(Full{}, from) : load(rest, from)) + sums[r][most];
  }
#pragma GCC unroll 16
  for (int r = 0; r < Rows; r++, result += result_stride) {
#pragma GCC unroll 16
    for (int v = 0; v < most; v++) store(Full{}, result + v * kLanes, sums[r][v]);
    if (is_full) store(Full{}, result + most * kLanes, sums[r][most]);
    else store(rest, result + most * kLanes, sums[r][most]);
  }
}

typedef void (*Block)(const real*, int64_t, int64_t, const real*, int64_t, int64_t, real*, int64_t,
                      int64_t, const real*, int64_t, const char*, int64_t);

template <int Rows> INLINE Block block_of(int64_t vectors, int64_t panels) {
  constexpr int most = Rows == 1 ? 4 : Rows == 2 ? 2 : 1;  // few rows take several panels at once
  if (panels == most && most > 1) return block<Rows, most, kPanelVectors>;
  switch (vectors) {
    case 1: return block<Rows, 1, 1>;
    case 2: return block<Rows, 1, 2>;
    case 3: return block<Rows, 1, 3>;
    default: return block<Rows, 1, kPanelVectors>;
  }
}

INLINE Block block_for(int64_t rows, int64_t vectors, int64_t panels) {
  switch (rows) {
    case 1: return block_of<1>(vectors, panels);
    case 2: return block_of<2>(vectors, panels);
    case 3: return block_of<3>(vectors, panels);
    case 4: return block_of<4>(vectors, panels);
#if defined(__AVX512F__) || defined(__aarch64__)
    case 5: return block_of<5>(vectors, panels);
    case 6: return block_of<6>(vectors, panels);
#endif
  }
  __builtin_unreachable();
}

// Depths of a panel that are taken together for all rows: 32 KB of it, where the first cache has room
// for more than that. Else it would come from the second in any case, and more depths cost less.
int64_t deep_panel() {
#if defined(_SC_LEVEL1_DCACHE_SIZE)
  if (sysconf(_SC_LEVEL1_DCACHE_SIZE) >= 48 << 10) return 128;
#endif
  return 256;
}
const int64_t kDeep = deep_panel();

// result (rows, columns) = left (rows, depth) times a packed weight, added to `start` if there is
// one, so many depths at a time. A row stride of 0 says that left is packed, these behind those.
void multiply(int64_t rows, const real* left, int64_t row_stride, int64_t depth_stride,
              const real* packed, int64_t depth, real* result, int64_t result_stride,
              int64_t columns, const real* start, int64_t start_stride, int64_t together = kDeep) {
  const Groups groups(rows);
  const Panels panels(columns);
  const bool even = rows % groups.count == 0;
  const int64_t at_once = !even ? 1 : groups.height(0) == 1 ? 4 : groups.height(0) == 2 ? 2 : 1;
  for (int64_t panel = 0, column = 0; panel < panels.count;) {
    const int64_t vectors = panels.width(panel);
    const int64_t last = panel + at_once - 1;
    const bool several = last < panels.count && panels.width(last) == kPanelVectors;
    const int64_t taken = several ? at_once : 1;
    const int64_t width = least(columns - column, taken * vectors * kLanes);
    for (int64_t k = 0; k == 0 || k < depth; k += together) {
      const int64_t deep = least(together, depth - k), of_depth = vectors * kLanes;
      const real* panel_at = packed + k * of_depth;
      // What is behind these depths comes next: each group of rows asks for its share of it, but not a
      // lone one, which waits for these depths themselves.
      const char* ahead = reinterpret_cast<const char*>(panel_at + deep * of_depth);
      const int64_t bytes = of_depth * sizeof(real);
      const int64_t ahead_bytes = groups.count == 1 ? 0 : bytes / groups.count;
      for (int64_t group = 0, row = 0; group < groups.count; group++) {
        const int64_t height = groups.height(group);
        real* to = result + row * result_stride + column;
        const real* begin = k > 0 ? to : start ? start + row * start_stride + column : nullptr;
        const real* from = row_stride == 0 ? left + k * rows + row * deep
                                           : left + row * row_stride + k * depth_stride;
        block_for(height, vectors, taken)(
            from, row_stride == 0 ? 1 : row_stride, row_stride == 0 ? height : depth_stride,
            panel_at, depth * of_depth, deep, to, result_stride, width, begin,
            k > 0 ? result_stride : start_stride, ahead, ahead_bytes);
        row += height, ahead += deep * ahead_bytes;
      }
    }
    packed += depth * taken * vectors * kLanes;
    column += width;
    panel += taken;
  }
}

// --- memory and threads --------------------------------------------------------------------------

// Asks for large pages, of which fewer have to be got one by one when memory is first written.
void ask_for_large_pages(void* data, int64_t size) {
#if defined(__linux__)
  const uintptr_t page = 1 << 21, begin = (reinterpret_cast<uintptr_t>(data) + page - 1) & ~(page - 1);
  const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + size) & ~(page - 1);
  if (end > begin) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

struct Memory {
  real* data;
  explicit Memory(int64_t count) {
    const int64_t size = (count * sizeof(real) + 127) / 64 * 64;
    data = static_cast<real*>(std::aligned_alloc(64, size));
    if (size >= 1 << 22) ask_for_large_pages(data, size);
  }
  ~Memory() { std::free(data); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
};

// Calls take(data) on some threads: of the pool, if there is one, and else on new ones.
void on_threads(Pool pool, int64_t threads, void (*take)(void*), void* data) {
  if (pool != nullptr) {
    pool(take, data, static_cast<unsigned>(threads), 0);
    return;
  }
  std::vector<std::thread> helpers;
  for (int64_t i = 1; i < threads; i++) helpers.emplace_back(take, data);
  take(data);
  for (auto& helper : helpers) helper.join();
}

// Calls work(i) for i = 0 .. count, each by one thread.
template <class Work> void parallel(Pool pool, int64_t wanted, int64_t count, Work work) {
  const int64_t threads = least(wanted, count);
  if (threads <= 1) {
    for (int64_t i = 0; i < count; i++) work(i);
    return;
  }
  struct Shared {
    Work* work;
    int64_t count;
    int64_t next;
  } shared = {&work, count, 0};
  auto take = [](void* data) {
    Shared& shared = *static_cast<Shared*>(data);
    for (int64_t i; (i = __atomic_fetch_add(&shared.next, 1, __ATOMIC_RELAXED)) < shared.count;)
      (*shared.work)(i);
  };
  on_threads(pool, threads, take, &shared);
}

// --- several threads for the same rows -----------------------------------------------------------

// Threads that all run all steps for the same rows, and share the work of the products alone: each
// makes some columns, and takes the others from `shared`, which has room for two products. So who
// is late may still read the one while another writes the next.
struct Team {
  int64_t count = 0;  // known when the first of them has begun
  std::vector<real> shared;
  alignas(64) int64_t arrived = 0;
  alignas(64) int64_t generation = 0;

  explicit Team(int64_t room) : shared(2 * room) {}

  void meet() {
    const int64_t now = __atomic_load_n(&generation, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&arrived, 1, __ATOMIC_ACQ_REL) == count) {
      arrived = 0;
      __atomic_store_n(&generation, now + 1, __ATOMIC_RELEASE);
      return;
    }
    for (int64_t spins = 0; __atomic_load_n(&generation, __ATOMIC_ACQUIRE) == now; spins++)
      if (spins > 4096) std::this_thread::yield();  // there are more threads than cores
  }
};

}  // namespace

struct Member {
  Team* team;
  int64_t index;
  int64_t products;  // so far
};

namespace {

// The product of one of several threads: multiply(begin, end) makes the columns from begin to end,
// in whole panels of vectors of so many lanes.
template <class Multiply>
void share_product(Member* member, int64_t rows, real* result, int64_t result_stride,
                   int64_t columns, int64_t lanes, Multiply multiply) {
  Team& team = *member->team;
  const Panels panels(columns, lanes);
  real* shared = team.shared.data() + member->products++ % 2 * (team.shared.size() / 2);
  int64_t begin = 0, end = 0, column = 0;
  for (int64_t panel = 0; panel < panels.count; panel++) {
    if (panel == panels.count * member->index / team.count) begin = column;
    column = least(columns, column + panels.width(panel) * lanes);
    if (panel + 1 == panels.count * (member->index + 1) / team.count) end = column;
  }
  if (end > begin) {
    multiply(begin, end);
    for (int64_t r = 0; r < rows; r++)
      copy(shared + r * columns + begin, result + r * result_stride + begin, end - begin);
  } else {
    begin = end = 0;
  }
  team.meet();
  for (int64_t r = 0; r < rows; r++) {
    copy(result + r * result_stride, shared + r * columns, begin);
    copy(result + r * result_stride + end, shared + r * columns + end, columns - end);
  }
}

void product(Member* member, int64_t rows, const real* left, int64_t row_stride,
             int64_t depth_stride, const real* packed, int64_t depth, real* result,
             int64_t result_stride, int64_t columns, const real* start, int64_t start_stride) {
  auto part = [&](int64_t begin, int64_t end) {
    multiply(rows, left, row_stride, depth_stride, packed + begin * depth, depth, result + begin,
             result_stride, end - begin, start ? start + begin : nullptr, start_stride);
  };
  if (member == nullptr) part(0, columns);
  else share_product(member, rows, result, result_stride, columns, kLanes, part);
}

// How far depths and columns of a weight's matrices are apart.
struct Apart {
  int64_t depth, column;
};
Apart apart_in(const Call& call, const Weight& weight) {
  if (!weight.is_plain) return {weight.depth_stride, weight.column_stride};
  const int64_t* own = call.strides + 2 * weight.whole;
  if (weight.scale >= 0) return {own[1], own[0]};  // int8 is (columns, depth)
  return {own[0], own[1]};
}

}  // namespace
}  // namespace openrnn

#if defined(OPENRNN_INT8)
#include "int8.h"
#else  // of a kernel that multiplies nothing in 8 bits: it takes a third of the time to compile
namespace openrnn {
namespace {
constexpr Product int8_product = nullptr;
void pack_weight(const Call&, const Weight&, int64_t, const real*, real*, int64_t) {}
}  // namespace
}  // namespace openrnn
#endif

#include "fingerprint.h"

namespace openrnn {
namespace {

// Calls work(i, n) for i = 0 .. n, each by a thread of its own, with as many as there are.
template <class Work> void together(const Call& call, Work work) {
  const Pool pool = call.pool_size != nullptr ? call.pool : nullptr;  // it may give fewer than asked
  struct Shared {
    Work* work;
    PoolSize size;
    int64_t count;
    int64_t next;
  } shared = {&work, pool != nullptr ? call.pool_size : nullptr, call.threads, 0};
  auto take = [](void* data) {
    Shared& shared = *static_cast<Shared*>(data);
    const int64_t index = __atomic_fetch_add(&shared.next, 1, __ATOMIC_RELAXED);
    (*shared.work)(index, shared.size ? shared.size() : shared.count);
  };
  on_threads(pool, call.threads, take, &shared);
}

// --- all steps -----------------------------------------------------------------------------------

// Rows that one thread runs through all steps together: so many that reading the weights again for
// the next ones costs little.
constexpr int64_t kMost = 96;

// Rows of several steps that are prepared together where a step has fewer: enough for products.
constexpr int64_t kChunk = 32;

int64_t chunk_rows(const Call& call, int64_t rows) {
  return rows > kChunk ? rows : least(kChunk, rows * call.steps);
}

// Sums over the rows: of many together first, and of these in double precision, so that rounding does
// not grow with their number.
struct RowSums {
  std::vector<double> total;
  std::vector<real> some;
  explicit RowSums(int64_t columns) : total(columns), some(columns) {}
  void add(Depths array, int64_t first_row, int64_t rows, int64_t first, int64_t columns) {
    constexpr int64_t kTogether = 16;
    real* const sums = some.data();
    for (int64_t begin = first_row; begin < first_row + rows; begin += kTogether) {
      const int64_t end = least(first_row + rows, begin + kTogether);
      copy(sums, array.at(begin) + first, columns);
      for (int64_t i = begin + 1; i < end; i++) {
        const real* const row = array.at(i) + first;
        along(columns, [&](auto width, int64_t j) __attribute__((always_inline)) {
          store(width, sums + j, load(width, sums + j) + load(width, row + j));
        });
      }
      for (int64_t j = 0; j < columns; j++) total[first + j] += sums[j];
    }
  }
  void write(real* result, int64_t first, int64_t end) const {
    for (int64_t j = first; j < end; j++) result[j] = real(total[j]);
  }
};

// The left factor of a product, (rows, depth), and where the product goes.
struct Left {
  int64_t rows;
  Depths depths;
  int64_t row_stride;
  real* result;
};

// The result of each left factor (rows, columns) = left (rows, depth) times right (depth, columns).
//
// Blocks of the depth and of the columns are packed so that a panel of `right` stays in the nearest
// caches and a block of a left one in the second. Of many rows the result is large, and comes from far
// for each block: so a block is deep then, and the result added up from pieces of it while it is near.
// A left factor is packed when the first columns need it, and stays packed for the others.
// Each thread has rows, or columns, of its own. Where `sums` are wanted, of right over the depth, they
// are made of what was read to be packed.
void matmul(const std::vector<Left>& lefts, int64_t depth, int64_t columns, Depths right,
            int64_t right_column, int64_t threads, Pool pool, real* sums = nullptr) {
  constexpr int64_t kColumns = 16 * kPanel, kHigh = 24 * kRows, kDeepest = 768, kMany = 512;
  int64_t rows = 0;
  for (const Left& left : lefts) rows += left.rows;
  const bool by_rows = rows >= columns;
  const int64_t parts = least(threads, (by_rows ? rows : columns) / kPanel + 1);
  parallel(pool, threads, parts, [&](int64_t part) {
    const int64_t begin = (by_rows ? rows : columns) * part / parts;
    const int64_t end = (by_rows ? rows : columns) * (part + 1) / parts;
    const int64_t column_end = by_rows ? columns : end;
    // Of a few hundred rows a sum in one piece would be less exact than a sum step by step is.
    const int64_t piece = depth < 1024 ? 64 : kDeep;
    const int64_t deepest = least(rows < kMany ? piece : kDeepest, depth);
    const int64_t high_end = by_rows ? end - begin : rows;
    Memory of_right(deepest * (least(kColumns, column_end) + kPanel)), of_left(deepest * high_end);
    const bool sum = sums != nullptr && (!by_rows || part == 0);
    RowSums totals(sum ? columns : 0);
    for (int64_t k = 0; k < depth; k += deepest) {
      const int64_t deep = least(deepest, depth - k), first_column = by_rows ? 0 : begin;
      for (int64_t c = first_column; c < column_end; c += kColumns) {
        const int64_t width = least(kColumns, column_end - c);
        pack(of_right.data, right, k, c, right_column, deep, width);
        if (sum) totals.add(right, k, deep, c, width);
        int64_t before = 0;  // rows of the left factors before this one
        real* packed = of_left.data;
        for (const Left& left : lefts) {
          const int64_t first = by_rows && begin > before ? begin - before : 0;
          const int64_t last = by_rows ? least(left.rows, end - before) : left.rows;
          const bool is_packed = left.depths.stride != 1 || left.depths.each != nullptr;
          for (int64_t r = first; r < last; r += kHigh) {
            const int64_t high = least(kHigh, last - r);
            const real* from = left.depths.at(k) + r * left.row_stride;
            if (is_packed) {
              for (int64_t i = 0; i < deep && c == first_column; i += piece)
                pack_left(packed + i * high, left.depths, k + i, r, left.row_stride,
                          least(piece, deep - i), high);
              from = packed, packed += high * deep;
            }
            real* const to = left.result + r * columns + c;
            multiply(high, from, is_packed ? 0 : left.row_stride, left.depths.stride, of_right.data,
                     deep, to, columns, width, k > 0 ? to : nullptr, columns, piece);
          }
          before += left.rows;
        }
      }
    }
    if (sum) totals.write(sums, by_rows ? 0 : begin, column_end);
  });
}

// Of one row at one step.
int64_t multiplications(const Kernel& kernel) {
  int64_t count = 0;
  for (int64_t w = 0; w < kernel.weights; w++)
    count += kernel.weight[w].matrices * kernel.weight[w].depth * kernel.weight[w].columns;
  return count;
}

// Multiplications at a step from which on it is worth while that threads meet, and in all, from
// which on it is worth while to wake them.
constexpr int64_t kForTeam = 1 << 16, kToWake = 1 << 19;

// All rows, by all threads together.
void run_in_team(const Call& call, const Kernel& kernel, int64_t rows, const real* const* weights) {
  const int64_t most = chunk_rows(call, rows);
  int64_t columns = 0;
  for (int64_t w = 0; w < kernel.weights; w++)
    columns = kernel.weight[w].columns > columns ? kernel.weight[w].columns : columns;
  Team team(most * columns);
  together(call, [&](int64_t index, int64_t count) {
    if (index == 0) __atomic_store_n(&team.count, count, __ATOMIC_RELEASE);
    while (__atomic_load_n(&team.count, __ATOMIC_ACQUIRE) == 0) std::this_thread::yield();
    Member member = {&team, index, 0};
    Memory scratch(rows * (kernel.of_row + kernel.aside) + most * kernel.of_chunk);
    real* const aside = scratch.data + rows * kernel.of_row + most * kernel.of_chunk;
    kernel.run_rows(call, 0, rows, most, weights, scratch.data, product, &member,
                    index == 0 ? nullptr : aside);
  });
}

constexpr int64_t kToShare = 1 << 16;  // numbers: to copy or add up fewer is for one thread

// What a matrix of a weight takes when it is packed.
int64_t size_of(const Weight& weight) {
  return weight.scale < 0 ? packed_size(weight.depth, weight.columns)
                          : int8_size(weight.depth, weight.columns);
}

// What the weights and the sums of vectors take, and behind them their fingerprint.
int64_t size_of_packed(const Kernel& kernel) {
  int64_t size = sizeof(uint64_t) / sizeof(real);
  for (int64_t w = 0; w < kernel.weights; w++)
    size += kernel.weight[w].matrices * size_of(kernel.weight[w]);
  for (int64_t v = 0; v < kernel.vectors; v++) size += padded(kernel.vector[v].size);
  return size;
}

// Where each of them is in `packed`; there they are brought unless they are there already.
std::vector<const real*> weights_in(real* packed, const Call& call, const Kernel& kernel,
                                    bool are_there) {
  std::vector<const real*> weights(kernel.weights + kernel.vectors + 1);
  for (int64_t w = 0; w < kernel.weights; w++) {
    const Weight& weight = kernel.weight[w];
    const real* source = weight.table ? weight.table : call.wholes[weight.whole];
    const Apart apart = apart_in(call, weight);
    weights[w] = packed;
    for (int64_t m = 0; m < weight.matrices; m++) {
      const int64_t parts = weight.depth * weight.columns < kToShare ? 1 : call.threads;
      if (!are_there && weight.scale < 0)
        parallel(call.pool, call.threads, parts, [&](int64_t part) {
          pack(packed, {source + weight.offsets[m], apart.depth, nullptr}, 0, 0, apart.column,
               weight.depth, weight.columns, part, parts);
        });
      if (!are_there && weight.scale >= 0) pack_weight(call, weight, m, source, packed, parts);
      packed += size_of(weight);
    }
  }
  for (int64_t v = 0; v < kernel.vectors; v++) {
    const Vector& vector = kernel.vector[v];
    weights[kernel.weights + v] = packed;
    if (!are_there) {
      copy(packed, call.wholes[vector.terms[0]], vector.size);
      for (int64_t i = 1; i < vector.count; i++)
        for (int64_t j = 0; j < vector.size; j++) packed[j] += call.wholes[vector.terms[i]][j];
    }
    packed += padded(vector.size);
  }
  return weights;
}

// Where that of what is packed is; it may be at an odd place.
char* fingerprint_in(real* packed, const Kernel& kernel) {
  return reinterpret_cast<char*>(packed + size_of_packed(kernel)) - sizeof(uint64_t);
}

bool is_unchanged(const Call& call, const Kernel& kernel, real* packed) {
  if (packed == nullptr) return false;
  const uint64_t found = fingerprint_of(call, kernel);
  return std::memcmp(&found, fingerprint_in(packed, kernel), sizeof found) == 0;
}

// Where a block of rows begins. Of ragged sequences the first rows have more steps than the last, so
// there are fewer of them in a block.
int64_t first_row(const Call& call, int64_t total, int64_t block, int64_t blocks) {
  const int64_t all = call.offsets[call.steps] - call.offsets[0];
  if (all == total * call.steps || block == blocks) return total * block / blocks;
  int64_t low = 0, high = total;  // the first row before which there is this block's share
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    int64_t before = 0;
    for (int64_t i = 0; i < call.steps; i++) before += least(call.sizes[i], middle);
    if (before * blocks < all * block) low = middle + 1;
    else high = middle;
  }
  return low;
}

// Of the steps that have the most.
int64_t most_rows(const Call& call) {
  const int64_t begin = call.sizes[0], end = call.sizes[call.steps - 1];
  return begin > end ? begin : end;
}

// Packs the weights, unless they are, and splits the batch into blocks of rows, each of which one
// thread runs through all steps. No row's result depends on which block it is in.
void run_steps(const Call& call, const Kernel* kernel, real* packed, bool is_packed) {
  if (call.steps == 0) return;
  const int64_t total = most_rows(call);
  if (total == 0) return;
  Memory own(packed ? 0 : size_of_packed(*kernel));
  const std::vector<const real*> weights =
      weights_in(packed ? packed : own.data, call, *kernel, is_packed);
  const int64_t of_step = total * multiplications(*kernel);
  if (total < call.threads && of_step >= kForTeam && of_step * call.steps >= kToWake) {
    run_in_team(call, *kernel, total, weights.data());
    return;
  }
  const int64_t threads = call.threads < total ? call.threads : total;
  int64_t blocks = (total + kMost - 1) / kMost;
  blocks = (blocks + threads - 1) / threads * threads;  // as many for each thread
  blocks = blocks < total ? blocks : total;
  parallel(call.pool, call.threads, blocks, [&](int64_t block) {
    const int64_t first = first_row(call, total, block, blocks);
    const int64_t count = first_row(call, total, block + 1, blocks) - first;
    if (count == 0) return;
    const int64_t most = chunk_rows(call, count);
    Memory scratch(count * kernel->of_row + most * kernel->of_chunk);
    kernel->run_rows(call, first, count, most, weights.data(), scratch.data, product, nullptr,
                     nullptr);
  });
}

// What no step is made for: a sequence without steps keeps its state, and where a sequence has ended
// the user's arrays are zero.
void leave_alone(const Call& call, const Kernel& kernel) {
  for (int64_t s = 0; s < kernel.states; s++)
    for (int64_t r = call.sizes[0]; r < call.sequences && call.final[s] != nullptr; r++) {
      const int64_t size = kernel.state_size[s];
      begin_state(call, call.final[s] + call.order[r] * size, call.initial[s], r, size);
    }
  for (int64_t o = 0; o < kernel.outputs && call.between != 0; o++) {
    if (!kernel.output[o].is_users) continue;
    const int64_t size = kernel.output[o].size;
    const int64_t steps = call.places / call.sequences;
    const int64_t empty = call.places - call.offsets[call.steps];
    const int64_t parts = empty * size < kToShare ? 1 : call.threads;
    parallel(call.pool, call.threads, parts, [&](int64_t part) {
      for (int64_t t = steps * part / parts; t < steps * (part + 1) / parts; t++)
        for (int64_t r = t < call.steps ? call.sizes[t] : 0; r < call.sequences; r++)
          std::memset(call.outputs[o] + place(call, t, r, true) * size, 0, size * sizeof(real));
    });
  }
}

// The rows of a factor, those of a step behind those of the step before: found by a table, unless they
// lie like that.
struct FactorRows {
  std::vector<const real*> table;
  std::vector<real> zeros;
  Depths depths;
  FactorRows(const Call& call, const Factor& factor, int64_t rows, int64_t size)
      : depths{factor.array, size, nullptr} {
    if (factor.how == kPacked || factor.how == kSummed) return;
    if (factor.how == kUsers && call.between == 0) return;
    table.resize(rows), zeros.resize(size);
    auto state = [&](const real* of, int64_t row) {
      return of != nullptr ? of + state_row(call, row) * size : zeros.data();
    };
    for (int64_t t = 0, i = 0; t < call.steps; t++) {
      // The loop of a gradient goes back: what is before a step is what comes behind it.
      const int64_t before = call.reverse ? t - 1 : t + 1;
      const bool is_first = before < 0 || before == call.steps;
      for (int64_t r = 0; r < call.sizes[t]; r++, i++) {
        if (factor.how == kUsers)
          table[i] = factor.array + place(call, t, r, true) * size;
        else if (call.resets && call.resets[i])
          table[i] = state(factor.again, r);
        else if (is_first || r >= call.sizes[before])
          table[i] = state(factor.initial, r);
        else
          table[i] = factor.array + (call.offsets[before] + r) * size;
      }
    }
    depths.each = table.data();
  }
};

// Of the factors of a product the narrow one is the harder to pack: it is taken as the left one.
bool packs_left(const OverRows& sum) { return sum.m >= sum.n; }

const Factor& packed_of(const OverRows& sum) { return packs_left(sum) ? sum.left : sum.right; }
int64_t packed_width(const OverRows& sum) { return packs_left(sum) ? sum.m : sum.n; }

bool is_same(const Factor& a, const Factor& b) {
  return a.array == b.array && a.how == b.how && a.initial == b.initial && a.again == b.again;
}

// How many rows an array has that is read like that.
int64_t rows_of(const Call& call, How how) {
  return how == kSummed ? most_rows(call) : call.offsets[call.steps];
}

// The sum of an array alone.
void sum_array(const Call& call, const OverRows& sum) {
  const int64_t rows = rows_of(call, sum.right.how);
  const FactorRows array(call, sum.right, rows, sum.n);
  const int64_t parts = rows * sum.n < kToShare ? 1 : call.threads;
  parallel(call.pool, call.threads, parts, [&](int64_t part) {
    const int64_t first = sum.n * part / parts, end = sum.n * (part + 1) / parts;
    RowSums totals(end);
    totals.add(array.depths, 0, rows, first, end - first);
    totals.write(sum.result, first, end);
  });
}

// Products for which the same array is packed. Where its sum is wanted as well, it goes to `sums`.
void sum_products(const Call& call, const std::vector<const OverRows*>& products, real* sums) {
  const Factor& packed = packed_of(*products[0]);
  const int64_t rows = rows_of(call, packed.how);
  const int64_t columns = packed_width(*products[0]);
  const FactorRows right(call, packed, rows, columns);
  std::vector<FactorRows> others;
  std::vector<Left> lefts;
  int64_t turned_size = 0;
  for (const OverRows* sum : products) turned_size += packs_left(*sum) ? sum->m * sum->n : 0;
  Memory turned(turned_size);
  real* free = turned.data;
  for (const OverRows* sum : products) {
    const bool turns = packs_left(*sum);
    const int64_t high = turns ? sum->n : sum->m;
    others.emplace_back(call, turns ? sum->right : sum->left, rows, high);
    lefts.push_back({high, others.back().depths, 1, turns ? free : sum->result});
    free += turns ? sum->m * sum->n : 0;
  }
  matmul(lefts, rows, columns, right.depths, 1, call.threads, call.pool, sums);
  for (size_t i = 0; i < products.size(); i++) {
    const OverRows& sum = *products[i];
    if (packs_left(sum)) transpose(sum.result, sum.n, lefts[i].result, sum.m, 1, sum.n, sum.m);
  }
}

// All sums over the rows. An array is packed once for all products that take it so, and its own sum is
// made of what is read then.
void sum_all(const Call& call, const Kernel& kernel) {
  std::vector<bool> is_made(kernel.sums);
  for (int64_t i = 0; i < kernel.sums && call.offsets[call.steps] == 0; i++) {  // of no rows at all
    const OverRows& sum = call.over_rows[i];
    std::memset(sum.result, 0, sum.m * sum.n * sizeof(real));
    is_made[i] = true;
  }
  for (int64_t i = 0; i < kernel.sums; i++) {
    if (is_made[i] || call.over_rows[i].left.array == nullptr) continue;
    const Factor& packed = packed_of(call.over_rows[i]);
    const int64_t width = packed_width(call.over_rows[i]);
    std::vector<const OverRows*> products;
    real* sums = nullptr;
    for (int64_t j = 0; j < kernel.sums; j++) {
      const OverRows& sum = call.over_rows[j];
      if (is_made[j]) continue;
      if (sum.left.array != nullptr) {
        if (j < i || packed_width(sum) != width || !is_same(packed_of(sum), packed)) continue;
        products.push_back(&sum), is_made[j] = true;
      } else if (sums == nullptr && sum.n == width && is_same(sum.right, packed)) {
        sums = sum.result, is_made[j] = true;
      }
    }
    sum_products(call, products, sums);
  }
  for (int64_t i = 0; i < kernel.sums; i++)
    if (!is_made[i]) sum_array(call, call.over_rows[i]);
}

}  // namespace
}  // namespace openrnn

using namespace openrnn;

namespace {

// Whether the weights of a call are packed already.
enum : int64_t { kToPack, kIsPacked, kUnlessChanged };

// One call: how it is, and then the addresses of all arrays, kind by kind, with what belongs to them.
Call read_call(const int64_t* words, const Kernel* kernel) {
  Call call;
  call.steps = words[0], call.reverse = words[1], call.threads = words[2];
  call.pool = reinterpret_cast<Pool>(words[3]);
  call.pool_size = reinterpret_cast<PoolSize>(words[4]);
  call.sizes = reinterpret_cast<const int64_t*>(words[5]);
  call.offsets = reinterpret_cast<const int64_t*>(words[6]);
  call.resets = reinterpret_cast<const bool*>(words[9]), call.resets_after = words[10];
  call.order = reinterpret_cast<const int64_t*>(words[11]), call.sequences = words[12];
  call.places = words[13], call.between = words[14], call.stride = words[15];
  words += 16;
  call.rows = reinterpret_cast<const real* const*>(words);
  call.outputs = reinterpret_cast<real* const*>(words += kernel->rows);
  call.wholes = reinterpret_cast<const real* const*>(words += kernel->outputs);
  call.initial = reinterpret_cast<const real* const*>(words += kernel->wholes);
  call.final = reinterpret_cast<real* const*>(words += kernel->states);
  call.again = reinterpret_cast<real* const*>(words += kernel->states);
  call.int8 = int8_product;
  call.strides = words += kernel->states;
  call.over_rows = reinterpret_cast<const OverRows*>(words + 2 * kernel->wholes);
  return call;
}

}  // namespace

// Whether it has run. It does not where weights are said to be packed unless they have changed, and
// they have.
extern "C" int64_t run(const int64_t* words, const Kernel* kernel) {
  const Call call = read_call(words, kernel);
  real* const packed = reinterpret_cast<real*>(words[7]);
  const int64_t is_packed = words[8];
  if (is_packed == kUnlessChanged && !is_unchanged(call, *kernel, packed)) return 0;
  if (call.order != nullptr) leave_alone(call, *kernel);
  run_steps(call, kernel, packed, is_packed != kToPack);
  sum_all(call, *kernel);
  return 1;
}

extern "C" int64_t packed_size_of(const Kernel* kernel) { return size_of_packed(*kernel); }

extern "C" void pack_weights(const int64_t* words, const Kernel* kernel, real* packed) {
  const Call call = read_call(words, kernel);
  // First: what another thread changes now is packed once more then.
  const uint64_t found = fingerprint_of(call, *kernel);
  weights_in(packed, call, *kernel, false);
  std::memcpy(fingerprint_in(packed, *kernel), &found, sizeof found);
}

extern "C" void matmul_of(int64_t rows, int64_t depth, int64_t columns, const real* left,
                          int64_t left_row, int64_t left_depth, const real* right,
                          int64_t right_depth, int64_t right_column, real* result, int64_t threads,
                          Pool pool) {
  matmul({{rows, {left, left_depth, nullptr}, left_row, result}}, depth, columns,
         {right, right_depth, nullptr}, right_column, threads, pool);
}

extern "C" void advise(void* data, int64_t size) { ask_for_large_pages(data, size); }
