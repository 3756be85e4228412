// From the gradients of all slots of all steps: those of weights, biases and input.
#pragma once

#include "tiled_gradients.hpp"

namespace recurra::RECURRA_ISA {

// Sums that are at most added to a part of the gradients while it is in the second cache, and tiles of such a part.
constexpr int kSums = 2, kPart = 32;
// What is multiplied must stay in the second cache beside it.
constexpr std::size_t kPacked = std::size_t(5) << 18;
// Rows of the input's gradient that are computed at once.
constexpr int kInputRows = 48;

template <class T> class Gradients : TiledGradients<T> {
 public:
  Gradients(const Layer& layer, const Clock& clock, Workspace& workspace)
      : TiledGradients<T>(layer, clock, workspace),
        width_(width_for<T>(layer, clock.total())),
        tiled_(width_ == Width::kTiled),
        input_blocks_(blocks_of(layer.input_size, W)) {}

  // Count the memory that is needed, before the workspace takes it.
  void plan_memory(int threads) {
    this->plan_bias(threads);
    std::size_t input_panels = 0;
    for (const Product& product : plan_.products)
      if (product.source == kInput && layer_.d_input.data) input_panels += depth(width_, layer_.hidden) * input_blocks_ * W;
    input_panels_ = workspace_.template count<T>(input_panels);
    const std::ptrdiff_t most = (blocks_ + threads_ - 1) / threads_ * W;
    if (tiled_) {
      this->plan_tiles(most, std::ptrdiff_t(input_blocks_) * W);
      return;
    }
    while (sums_ > 1 && sums_ * kSum * plan_.slots * most * sizeof(T) > kPacked) --sums_;
    per_thread_ = max<std::size_t>(std::size_t(kSum) * sums_ * (plan_.slots * (most + kTileRows) + kTileVectors * W),
                                        std::size_t(kInputRows) * input_blocks_ * W) +
                  kTileRows * kTileVectors * W;
    scratch_ = workspace_.template count<T>(per_thread_ * threads_);
    this->plan_rows(max(kSum * sums_, kInputRows));
  }

  // Before the recurrence: pack a thread's part of weight_ih and clear its sums.
  void prepare(int thread, Share share) {
    pack_input(share_of(input_blocks_, thread, threads_));
    for (int block = share.begin; block < share.end; ++block)
      for (int s = 0; s < plan_.slots; ++s)
        store(workspace_.template at<T>(d_bias_) + s * padded_ + std::ptrdiff_t(block) * W, Vec<T>{});
  }

  // Of the rows of all matrices and biases that a thread owns.
  void weights(int thread, Share share) {
    if (share.begin == share.end) return;
    if (tiled_) {
      this->weights_on_tiles(thread, share);
      return;
    }
    T* scratch = workspace_.template at<T>(scratch_) + thread * per_thread_;
    const std::ptrdiff_t unit = std::ptrdiff_t(share.begin) * W;
    const int units = static_cast<int>(min<std::ptrdiff_t>(layer_.hidden, std::ptrdiff_t(share.end) * W) - unit);
    const std::ptrdiff_t total = clock_.total();
    T* packed = scratch;
    T* panels = packed + std::ptrdiff_t(kSum) * sums_ * plan_.slots * (units + kTileRows);
    T* corner = scratch + per_thread_ - kTileRows * kTileVectors * W;
    std::ptrdiff_t j = 0;
    int r = 0;
    if (total == 0) clear(unit, units);
    for (std::ptrdiff_t m = 0; m < total; m += kSum * sums_) {
      const int many = static_cast<int>(min<std::ptrdiff_t>(kSum * sums_, total - m));
      for (int first = 0; first < many; first += kSum) {
        const int rows = min(kSum, many - first);
        const T* slots = static_cast<const T*>(layer_.kept) + (m + first) * row_ + unit;
        for (int s = 0; s < plan_.slots; ++s) {
          pack_tiles(slots + s * padded_, rows, units, packed + packed_at(s, first, units));
          add_bias(slots + s * padded_, rows, share, workspace_.template at<T>(d_bias_) + s * padded_);
        }
      }
      std::ptrdiff_t j_end = j;
      int r_end = r;
      for (std::size_t p = 0; p < plan_.products.size(); ++p) {
        const Product& product = plan_.products[p];
        if (!first_of_source(p)) continue;
        j_end = j;
        r_end = r;
        gather(rows_[thread].data(), masks_[thread].data(), product, m, many, j_end, r_end);
        source_gradients(thread, product, m > 0, many, unit, units, packed, panels, corner);
      }
      j = j_end;
      r = r_end;
    }
    write_bias(share);
  }

  // Of the input, for a thread's part of all rows; every slot's gradient must be there.
  void input(int thread) {
    if (layer_.d_input.data == nullptr) return;
    const int at_once = tiled_ ? kTiledInputRows : kInputRows;
    T* scratch = workspace_.template at<T>(scratch_) + thread * per_thread_;
    const std::ptrdiff_t total = clock_.total();
    const Part<std::ptrdiff_t> mine = share_of(total, thread, threads_);
    const std::ptrdiff_t width = std::ptrdiff_t(input_blocks_) * W;
    std::ptrdiff_t t = 0, r = mine.begin;
    while (t < layer_.steps && r >= clock_.rows(t)) r -= clock_.rows(t++);
    for (std::ptrdiff_t m = mine.begin; m < mine.end; m += at_once) {
      const int many = static_cast<int>(min<std::ptrdiff_t>(at_once, mine.end - m));
      if (tiled_) this->narrow_slots(thread, m, many);
      for (int piece = 0; piece < input_pieces(); ++piece) {
        int nth = 0;
        for (const Product& product : plan_.products) {
          if (product.source != kInput) continue;
          const Strip<T> strip = input_panel(piece, nth);
          const T* source = nth > 0 ? scratch : nullptr;
          if (tiled_) {
            multiply<T>(&strip, 1, static_cast<int>(layer_.hidden), this->input_halves(thread, nth), many, scratch, width, source,
                        width);
          } else {
            const T* slots = static_cast<const T*>(layer_.kept) + m * row_ + product.slot * padded_;
            for (int i = 0; i < many; ++i) rows_[thread][i] = slots + i * row_;
            multiply<T>(&strip, 1, static_cast<int>(layer_.hidden), rows_[thread].data(), many, scratch, width, source,
                        width);
          }
          ++nth;
        }
      }
      for (int i = 0; i < many; ++i) {
        while (r >= clock_.rows(t)) {
          ++t;
          r = 0;
        }
        std::memcpy(clock_.template at<T>(layer_.d_input, t, static_cast<int>(r)), scratch + i * width,
                    sizeof(T) * layer_.input_size);
        ++r;
      }
    }
  }

 private:
  using TiledGradients<T>::W;
  using TiledGradients<T>::layer_;
  using TiledGradients<T>::plan_;
  using TiledGradients<T>::clock_;
  using TiledGradients<T>::workspace_;
  using TiledGradients<T>::padded_;
  using TiledGradients<T>::row_;
  using TiledGradients<T>::threads_;
  using TiledGradients<T>::rows_;
  using TiledGradients<T>::masks_;
  using TiledGradients<T>::d_bias_;
  using TiledGradients<T>::clear;
  using TiledGradients<T>::add_bias;
  using TiledGradients<T>::write_bias;
  using TiledGradients<T>::repeated;
  using TiledGradients<T>::first_of_source;
  using TiledGradients<T>::input_products;
  using TiledGradients<T>::gather;
  using GradientTerms<T>::blocks_;
  using TiledGradients<T>::scratch_;
  using TiledGradients<T>::per_thread_;

  // Units that a thread owns, in tiles of kTileRows rows of the weights' gradients.
  static int tiles_of(int units) { return (units + kTileRows - 1) / kTileRows; }

  // Where the rows from `first` on of a slot are packed.
  std::ptrdiff_t packed_at(int slot, int first, int units) const {
    return (std::ptrdiff_t(slot) * sums_ + first / kSum) * kSum * (units + kTileRows);
  }

  // packed[tile][row][unit of the tile]
  void pack_tiles(const T* slots, int many, int units, T* to) const {
    const int tiles = tiles_of(units);
    for (int tile = 0; tile < tiles; ++tile) {
      const Share part = share_of(units, tile, tiles);
      const int size = part.size();
      T* at = to + std::ptrdiff_t(part.begin) * kSum;
      const T* from = slots + part.begin;
      if (size == kTileRows) {
        for (int i = 0; i < many; ++i) std::memcpy(at + i * kTileRows, from + i * row_, kTileRows * sizeof(T));
      } else {
        for (int i = 0; i < many; ++i)
          for (int u = 0; u < size; ++u) at[i * size + u] = from[i * row_ + u];
      }
    }
  }

  // Gradients of every matrix that multiplied one source, from `many` rows.
  void source_gradients(int thread, const Product& like, bool add, int many, std::ptrdiff_t unit, int units,
                        const T* packed, T* panels, T* corner) {
    const std::ptrdiff_t width = terms_of(layer_, like);
    const int count = static_cast<int>((width + W - 1) / W);
    const int pieces = (count + kTileVectors - 1) / kTileVectors;
    const int tiles = tiles_of(units);
    for (int piece = 0; piece < pieces; ++piece) {
      const Share strip = share_of(count, piece, pieces);
      const int vectors = strip.size();
      const std::ptrdiff_t column = std::ptrdiff_t(strip.begin) * W;
      const int existing = static_cast<int>(min<std::ptrdiff_t>(width - column, vectors * W));
      pack_source(thread, like, many, column, vectors, existing, panels);
      for (std::size_t p = 0; p < plan_.products.size(); ++p) {
        const Product& product = plan_.products[p];
        if (product.source != like.source || product.index != like.index) continue;
        if (layer_.d_weights[product.matrix] == nullptr) continue;
        T* to = static_cast<T*>(layer_.d_weights[product.matrix]) + (product.gate * layer_.hidden + unit) * width + column;
        for (int part = 0; part < tiles; part += kPart)
          for (int first = 0; first < many; first += kSum)
            for (int tile = part; tile < min(tiles, part + kPart); ++tile) {
              const Share rows = share_of(units, tile, tiles);
              const T* from = packed + packed_at(product.slot, first, units) + std::ptrdiff_t(rows.begin) * kSum;
              tile_gradient(rows.size(), vectors, existing, min(kSum, many - first), from,
                            panels + std::ptrdiff_t(first) * vectors * W, to + rows.begin * width, width,
                            add || first > 0 || repeated(p), corner);
            }
      }
    }
  }

  // panels[row][v] of what was multiplied, under its mask.
  void pack_source(int thread, const Product& like, int many, std::ptrdiff_t column, int vectors, int existing, T* panels) const {
    const bool mask = like.source == kState && masked(layer_, like);
    for (int i = 0; i < many; ++i)
      for (int v = 0; v < vectors; ++v) {
        const int left = existing - v * W;
        const T* from = rows_[thread][i] + column + v * W;
        Vec<T> x = left >= W ? load(from) : load_first(from, left);
        if (mask) x = x * load_first(masks_[thread][i] + column + v * W, min(left, W));
        store(panels + (std::ptrdiff_t(i) * vectors + v) * W, x);
      }
  }

  // One tile of a gradient, of which only the first columns exist.
  void tile_gradient(int size, int vectors, int existing, int rows, const T* packed, const T* panel, T* to,
                     std::ptrdiff_t width, bool adding, T* corner) const {
    std::ptrdiff_t columns[kTileVectors];
    for (int v = 0; v < kTileVectors; ++v) columns[v] = v * W;
    if (existing == vectors * W) {
      const Out<T> out{to, width, columns, adding ? to : nullptr, width, nullptr, 0};
      micro_packed_for<T>(size, vectors)(rows, packed, panel, out);
      return;
    }
    const Out<T> out{corner, kTileVectors * W, columns, nullptr, 0, nullptr, 0};
    micro_packed_for<T>(size, vectors)(rows, packed, panel, out);
    for (int u = 0; u < size; ++u)
      for (int c = 0; c < existing; ++c) {
        const T sum = corner[u * kTileVectors * W + c];
        to[u * width + c] = adding ? to[u * width + c] + sum : sum;
      }
  }

  // Where the panels of one strip of the input's columns begin, and its size.
  int input_pieces() const { return (input_blocks_ + kTileVectors - 1) / kTileVectors; }
  Share input_strip(int piece) const { return share_of(input_blocks_, piece, input_pieces()); }

  Strip<T> input_panel(int piece, int nth_product) const {
    const Share strip = input_strip(piece);
    T* panel = workspace_.template at<T>(input_panels_) +
               depth(width_, layer_.hidden) * W * (std::ptrdiff_t(input_products()) * strip.begin + std::ptrdiff_t(nth_product) * (strip.end - strip.begin));
    Strip<T> made{panel, strip.end - strip.begin, {}, nullptr, width_};
    for (int v = 0; v < made.vectors; ++v) made.columns[v] = std::ptrdiff_t(strip.begin + v) * W;
    return made;
  }

  void pack_input(Share share) {
    if (layer_.d_input.data == nullptr) return;
    for (int piece = 0; piece < input_pieces(); ++piece) {
      int nth = 0;
      for (const Product& product : plan_.products) {
        if (product.source != kInput) continue;
        const Strip<T> strip = input_panel(piece, nth++);
        for (int v = 0; v < strip.vectors; ++v) {
          const int block = input_strip(piece).begin + v;
          if (block < share.begin || block >= share.end) continue;
          const Column<T> column = column_of<T>(layer_, layer_.weights[0],
                                                product.gate * layer_.hidden * layer_.input_size + std::ptrdiff_t(block) * W,
                                                lanes(layer_.input_size, block, W), 0);
          pack_columns(strip, v, column, static_cast<int>(layer_.hidden), layer_.input_size);
        }
      }
    }
  }

  const Width width_;
  const bool tiled_;
  const int input_blocks_;
  int sums_ = kSums;
  std::size_t input_panels_ = 0;
};

}  // namespace recurra::RECURRA_ISA
