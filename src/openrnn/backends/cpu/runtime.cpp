// What all kernels of one dtype share: products, packing, threads. Compiled once for each dtype.
#include "vectors.h"

#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

namespace openrnn {
namespace {

// --- products ------------------------------------------------------------------------------------

constexpr int kPanelVectors = kPanel / kLanes;

// Panels of kPanel columns, all depths of one panel behind the other; missing columns are zero.
inline void pack(real* packed, const real* weight, int64_t depth_stride, int64_t column_stride,
                 int64_t depth, int64_t columns) {
  for (int64_t first = 0; first < columns; first += kPanel) {
    const int64_t width = columns - first < kPanel ? columns - first : kPanel;
    for (int64_t k = 0; k < depth; k++, packed += kPanel) {
      const real* from = weight + k * depth_stride + first * column_stride;
      for (int64_t j = 0; j < width; j++) packed[j] = from[j * column_stride];
      for (int64_t j = width; j < kPanel; j++) packed[j] = 0;
    }
  }
}

// Rows times some panels, kept in registers from the first to the last depth.
template <int Rows, int Panels>
__attribute__((noinline)) void product_block(const real* left, int64_t row_stride,
                                             int64_t depth_stride, const real* packed,
                                             int64_t depth, real* result, int64_t result_stride,
                                             int64_t columns) {
  constexpr int width = Panels * kPanelVectors;
  vec sums[Rows][width] = {};
  for (int64_t k = 0; k < depth; k++) {
    vec w[width];
#pragma GCC unroll 16
    for (int p = 0; p < Panels; p++)
#pragma GCC unroll 16
      for (int v = 0; v < kPanelVectors; v++)
        w[p * kPanelVectors + v] =
            load(Full{}, packed + (p * depth + k) * kPanel + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < Rows; r++) {
      const vec x = splat(left[r * row_stride + k * depth_stride]);
#pragma GCC unroll 16
      for (int v = 0; v < width; v++) sums[r][v] += x * w[v];
    }
  }
  for (int r = 0; r < Rows; r++)
    for (int v = 0; v < width; v++) {
      real* at = result + r * result_stride + v * kLanes;
      const int64_t rest = columns - v * kLanes;
      if (rest >= kLanes) store(Full{}, at, sums[r][v]);
      else if (rest > 0) store(Part{rest}, at, sums[r][v]);
    }
}

template <int Panels>
INLINE void product_rows(int64_t rows, const real* left, int64_t row_stride, int64_t depth_stride,
                         const real* packed, int64_t depth, real* result, int64_t result_stride,
                         int64_t columns) {
#define OPENRNN_ROWS(n)                                                                       \
  case n:                                                                                     \
    return product_block<n, Panels>(left, row_stride, depth_stride, packed, depth, result,    \
                                    result_stride, columns);
  switch (rows) {
    OPENRNN_ROWS(1)
    OPENRNN_ROWS(2)
    OPENRNN_ROWS(3)
    OPENRNN_ROWS(4)
    OPENRNN_ROWS(5)
    OPENRNN_ROWS(6)
  }
#undef OPENRNN_ROWS
}

// result (rows, columns) = left (rows, depth) times a packed weight.
void product(int64_t rows, const real* left, int64_t row_stride, int64_t depth_stride,
                    const real* packed, int64_t depth, real* result, int64_t result_stride,
                    int64_t columns) {
  const int64_t count = panels(columns);
  // Few rows take several panels at once, so that enough sums are under way.
  const int64_t at_once = kPanelVectors == 4 ? (rows == 1 ? 2 : 1) : rows == 1 ? 4 : rows <= 3 ? 2 : 1;
  const int64_t groups = (rows + 5) / 6;
  for (int64_t p = 0; p < count;) {
    const int64_t take = p + at_once <= count ? at_once : 1;
    int64_t row = 0;
    for (int64_t g = 0; g < groups; g++) {  // groups of like size
      const int64_t height = rows / groups + (g < rows % groups);
      const real* from = left + row * row_stride;
      real* to = result + row * result_stride + p * kPanel;
      const real* panel = packed + p * depth * kPanel;
      const int64_t rest = columns - p * kPanel;
      if (take == 1)
        product_rows<1>(height, from, row_stride, depth_stride, panel, depth, to, result_stride, rest);
      else if (height == 1 && take == 4)
        product_block<1, 4>(from, row_stride, depth_stride, panel, depth, to, result_stride, rest);
      else if (height == 1)
        product_block<1, 2>(from, row_stride, depth_stride, panel, depth, to, result_stride, rest);
      else if (height == 2)
        product_block<2, 2>(from, row_stride, depth_stride, panel, depth, to, result_stride, rest);
      else
        product_block<3, 2>(from, row_stride, depth_stride, panel, depth, to, result_stride, rest);
      row += height;
    }
    p += take;
  }
}

struct Memory {
  real* data;
  explicit Memory(int64_t count)
      : data(static_cast<real*>(std::aligned_alloc(64, (count * sizeof(real) + 127) / 64 * 64))) {}
  ~Memory() { std::free(data); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
};

// Calls work(i) for i = 0 .. count, each by one thread.
template <class Work> void parallel(const Call& call, int64_t count, Work work) {
  const int64_t threads = call.threads < count ? call.threads : count;
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
  if (call.pool != nullptr) {
    call.pool(take, &shared, static_cast<unsigned>(threads), 0);
    return;
  }
  std::vector<std::thread> helpers;
  for (int64_t i = 1; i < threads; i++) helpers.emplace_back(take, &shared);
  take(&shared);
  for (auto& helper : helpers) helper.join();
}

// Rows that are run through all steps together: as many as keep their memory in the second cache.
inline int64_t rows_at_once(int64_t memory) {
  const int64_t fit = 256 * 1024 / int64_t(sizeof(real)) / (memory + 1);
  return fit < 12 ? 12 : fit > 96 ? 96 : fit;
}

}  // namespace
}  // namespace openrnn

using namespace openrnn;

// Packs the weights, and splits the batch into blocks of rows, each of which one thread runs through
// all steps. No row's result depends on which block it is in.
extern "C" void run(const Call* given, const Kernel* kernel) {
  const Call& call = *given;
  if (call.steps == 0) return;
  const int64_t begin = call.sizes[0], end = call.sizes[call.steps - 1];
  const int64_t total = begin > end ? begin : end;
  if (total == 0) return;
  int64_t size = 0;
  for (int64_t w = 0; w < kernel->weights; w++)
    size += kernel->weight[w].matrices *
            packed_size(kernel->weight[w].depth, kernel->weight[w].columns);
  Memory packed(size);
  std::vector<const real*> weights(kernel->weights + 1);
  real* free = packed.data;
  for (int64_t w = 0; w < kernel->weights; w++) {
    const Weight& weight = kernel->weight[w];
    const real* source = weight.table ? weight.table : call.wholes[weight.whole];
    weights[w] = free;
    for (int64_t m = 0; m < weight.matrices; m++) {
      pack(free, source + weight.offsets[m], weight.depth_stride, weight.column_stride, weight.depth,
           weight.columns);
      free += packed_size(weight.depth, weight.columns);
    }
  }
  const int64_t most = rows_at_once(kernel->memory);
  const int64_t threads = call.threads < total ? call.threads : total;
  int64_t blocks = (total + most - 1) / most;
  blocks = (blocks + threads - 1) / threads * threads;  // as many for each thread
  blocks = blocks < total ? blocks : total;
  parallel(call, blocks, [&](int64_t block) {
    const int64_t first = total * block / blocks, stop = total * (block + 1) / blocks;
    Memory scratch((stop - first) * kernel->memory);
    kernel->run_rows(call, first, stop - first, weights.data(), scratch.data, product);
  });
}
