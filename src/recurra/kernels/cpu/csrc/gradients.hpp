// From the gradients of all slots of all steps: those of weights, biases and input.
#pragma once

#include "common.hpp"

namespace recurra::RECURRA_ISA {

// Rows whose part of the weights' gradients is summed at once; their sums are then added in order.
constexpr int kSum = 128;
// Sums that are at most added to a part of the gradients while it is in the second cache, and tiles of such a part.
constexpr int kSums = 2, kPart = 32;
// What is multiplied must stay in the second cache beside it.
constexpr std::size_t kPacked = std::size_t(5) << 18;
// Rows of the input's gradient that are computed at once.
constexpr int kInputRows = 48, kTiledInputRows = 64;
// On matrix tiles: rows whose part of the weights' gradients is summed at once, which are fewer where a thread's units take
// more memory than this in bfloat16; units that share columns of what was multiplied while these are in the second cache.
constexpr int kTiledSum = 1024, kTiledUnits = 32, kTiledStrips = 4;
constexpr std::size_t kTiledPacked = std::size_t(1) << 22;

template <class T> class Gradients {
 public:
  Gradients(const Layer& layer, const Clock& clock, Workspace& workspace)
      : layer_(layer),
        plan_(*layer.plan),
        clock_(clock),
        width_(width_for<T>(layer, clock.total())),
        tiled_(width_ == Width::kTiled),
        workspace_(workspace),
        blocks_(blocks_of(layer.hidden, W)),
        input_blocks_(blocks_of(layer.input_size, W)),
        padded_(padded_units(layer.hidden)),
        row_(plan_.kept * padded_) {}

  // Count the memory that is needed, before the workspace takes it.
  void plan_memory(int threads) {
    threads_ = threads;
    std::size_t input_panels = 0;
    for (const Product& product : plan_.products)
      if (product.source == kInput && layer_.d_input.data) input_panels += depth(width_, layer_.hidden) * input_blocks_ * W;
    input_panels_ = workspace_.count<T>(input_panels);
    d_bias_ = workspace_.count<T>(plan_.slots * padded_);
    const std::ptrdiff_t most = (blocks_ + threads_ - 1) / threads_ * W;
    if (tiled_) {
      plan_tiles(most);
      return;
    }
    while (sums_ > 1 && sums_ * kSum * plan_.slots * most * sizeof(T) > kPacked) --sums_;
    per_thread_ = std::max<std::size_t>(std::size_t(kSum) * sums_ * (plan_.slots * (most + kTileRows) + kTileVectors * W),
                                        std::size_t(kInputRows) * input_blocks_ * W) +
                  kTileRows * kTileVectors * W;
    scratch_ = workspace_.count<T>(per_thread_ * threads_);
    rows_.assign(threads_, std::vector<const T*>(std::max(kSum * sums_, kInputRows)));
    masks_.assign(threads_, std::vector<const T*>(kSum * sums_));
  }

  // Before the recurrence: pack a thread's part of weight_ih and clear its sums.
  void prepare(int thread, Share share) {
    pack_input(share_of(input_blocks_, thread, threads_));
    for (int block = share.begin; block < share.end; ++block)
      for (int s = 0; s < plan_.slots; ++s)
        store(workspace_.at<T>(d_bias_) + s * padded_ + std::ptrdiff_t(block) * W, Vec<T>{});
  }

  // Of the rows of all matrices and biases that a thread owns.
  void weights(int thread, Share share) {
    if (share.begin == share.end) return;
    if (tiled_) {
      weights_on_tiles(thread, share);
      return;
    }
    T* scratch = workspace_.at<T>(scratch_) + thread * per_thread_;
    const std::ptrdiff_t unit = std::ptrdiff_t(share.begin) * W;
    const int units = static_cast<int>(std::min<std::ptrdiff_t>(layer_.hidden, std::ptrdiff_t(share.end) * W) - unit);
    const std::ptrdiff_t total = clock_.total();
    T* packed = scratch;
    T* panels = packed + std::ptrdiff_t(kSum) * sums_ * plan_.slots * (units + kTileRows);
    T* corner = scratch + per_thread_ - kTileRows * kTileVectors * W;
    std::ptrdiff_t j = 0;
    int r = 0;
    if (total == 0) clear(unit, units);
    for (std::ptrdiff_t m = 0; m < total; m += kSum * sums_) {
      const int many = static_cast<int>(std::min<std::ptrdiff_t>(kSum * sums_, total - m));
      for (int first = 0; first < many; first += kSum) {
        const int rows = std::min(kSum, many - first);
        const T* slots = static_cast<const T*>(layer_.kept) + (m + first) * row_ + unit;
        for (int s = 0; s < plan_.slots; ++s) {
          pack_tiles(slots + s * padded_, rows, units, packed + packed_at(s, first, units));
          add_bias(slots + s * padded_, rows, share, workspace_.at<T>(d_bias_) + s * padded_);
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
    T* scratch = workspace_.at<T>(scratch_) + thread * per_thread_;
    const std::ptrdiff_t total = clock_.total();
    const std::ptrdiff_t begin = total * thread / threads_, end = total * (thread + 1) / threads_;
    const std::ptrdiff_t width = std::ptrdiff_t(input_blocks_) * W;
    std::ptrdiff_t t = 0, r = begin;
    while (t < layer_.steps && r >= clock_.rows(t)) r -= clock_.rows(t++);
    for (std::ptrdiff_t m = begin; m < end; m += at_once) {
      const int many = static_cast<int>(std::min<std::ptrdiff_t>(at_once, end - m));
      if (tiled_) narrow_slots(thread, m, many);
      for (int piece = 0; piece < input_pieces(); ++piece) {
        int nth = 0;
        for (const Product& product : plan_.products) {
          if (product.source != kInput) continue;
          const Strip<T> strip = input_panel(piece, nth);
          const T* source = nth > 0 ? scratch : nullptr;
          if (tiled_) {
            multiply<T>(&strip, 1, static_cast<int>(layer_.hidden), input_halves(thread, nth), many, scratch, width, source,
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
  static constexpr int W = kWidth<T>;

  // ---- on matrix tiles

  void plan_tiles(std::ptrdiff_t most) {
    tiled_sum_ = kTiledSum;
    while (tiled_sum_ > kTiledInputRows && plan_.slots * Halves::size(most, tiled_sum_) * 2 > kTiledPacked) tiled_sum_ /= 2;
    int products = 0;
    for (const Product& product : plan_.products) products += product.source == kInput;
    input_halves_size_ = Halves::size(kTiledInputRows, layer_.hidden);
    input_halves_ = workspace_.count<std::uint16_t>(threads_ * products * input_halves_size_);
    slots_size_ = Halves::size(most, tiled_sum_);
    slot_halves_ = workspace_.count<std::uint16_t>(threads_ * plan_.slots * slots_size_);
    // Panels of what was multiplied, a corner for columns that do not fill a vector, and rows of the input's gradient.
    corner_ = std::size_t(tiled_sum_) / 2 * kTiledStrips * kTileVectors * W;
    per_thread_ = std::max(corner_ + kTiledUnits * W, std::size_t(kTiledInputRows) * input_blocks_ * W);
    scratch_ = workspace_.count<T>(per_thread_ * threads_);
    rows_.assign(threads_, std::vector<const T*>(tiled_sum_));
    masks_.assign(threads_, std::vector<const T*>(tiled_sum_));
  }

  Halves input_halves(int thread, int nth) const {
    int products = 0;
    for (const Product& product : plan_.products) products += product.source == kInput;
    return {workspace_.at<std::uint16_t>(input_halves_) + (thread * products + nth) * input_halves_size_,
            Halves::deep_for(layer_.hidden)};
  }

  // Gradients of the slots that take input, of some rows.
  void narrow_slots(int thread, std::ptrdiff_t m, int many) {
    int nth = 0;
    for (const Product& product : plan_.products) {
      if (product.source != kInput) continue;
      const T* slots = static_cast<const T*>(layer_.kept) + m * row_ + product.slot * padded_;
      for (int i = 0; i < many; ++i) rows_[thread][i] = slots + i * row_;
      narrow_rows<T>(input_halves(thread, nth++), rows_[thread].data(), many, layer_.hidden);
    }
  }

  // As `weights`: the slots' gradients turned so that units are rows and rows of the batch are terms.
  void weights_on_tiles(int thread, Share share) {
    const std::ptrdiff_t unit = std::ptrdiff_t(share.begin) * W;
    const int units = static_cast<int>(std::min<std::ptrdiff_t>(layer_.hidden, std::ptrdiff_t(share.end) * W) - unit);
    const std::ptrdiff_t total = clock_.total();
    std::ptrdiff_t j = 0;
    int r = 0;
    if (total == 0) clear(unit, units);
    for (std::ptrdiff_t m = 0; m < total; m += tiled_sum_) {
      const int many = static_cast<int>(std::min<std::ptrdiff_t>(tiled_sum_, total - m));
      for (int s = 0; s < plan_.slots; ++s) {
        const T* slots = static_cast<const T*>(layer_.kept) + m * row_ + s * padded_ + unit;
        turn_slots(slots, many, share.end - share.begin, turned(thread, s, many));
        for (int first = 0; first < many; first += kSum)
          add_bias(slots + first * row_, std::min(kSum, many - first), share, workspace_.at<T>(d_bias_) + s * padded_);
      }
      std::ptrdiff_t j_end = j;
      int r_end = r;
      for (std::size_t p = 0; p < plan_.products.size(); ++p) {
        if (!first_of_source(p)) continue;
        j_end = j;
        r_end = r;
        gather(rows_[thread].data(), masks_[thread].data(), plan_.products[p], m, many, j_end, r_end);
        source_on_tiles(thread, plan_.products[p], m > 0, many, unit, units);
      }
      j = j_end;
      r = r_end;
    }
    write_bias(share);
  }

  Halves turned(int thread, int slot, int many) const {
    return {workspace_.at<std::uint16_t>(slot_halves_) + (thread * plan_.slots + slot) * slots_size_, Halves::deep_for(many)};
  }

  void turn_slots(const T* slots, int many, int blocks, const Halves& to) const {
    if constexpr (kTiled<T>)
      for (int block = 0; block < blocks; ++block)
        for (int i = 0; i < many; i += kTileTerms)
          narrow_turned(to.at(block * kTile, i), slots + i * row_ + block * W, row_, std::min(kTileTerms, many - i));
  }

  void source_on_tiles(int thread, const Product& like, bool add, int many, std::ptrdiff_t unit, int units) {
    T* panels = workspace_.at<T>(scratch_) + thread * per_thread_;
    T* corner = panels + corner_;
    const std::ptrdiff_t width = terms_of(layer_, like);
    constexpr std::ptrdiff_t kColumns = kTiledStrips * kTileVectors * W;
    for (std::ptrdiff_t column = 0; column < width; column += kColumns) {
      // Columns that do not fill a vector are a strip of their own.
      const int existing = static_cast<int>(std::min(width - column, kColumns)), left = existing % W;
      std::vector<Strip<T>> strips;
      T* panel = panels;
      for (int begin = 0; begin < existing;) {
        const int vectors = std::max(1, std::min(kTileVectors, (existing - begin) / W));
        Strip<T> strip{panel, vectors, {}, nullptr, Width::kTiled};
        for (int v = 0; v < vectors; ++v) strip.columns[v] = begin + v * W;
        pair_source(thread, like, many, column + begin, strip, std::min(W, existing - begin));
        panel += depth(Width::kTiled, many) * vectors * W;
        strips.push_back(strip);
        begin += vectors * W;
      }
      const int whole = static_cast<int>(strips.size()) - (left > 0 ? 1 : 0);
      for (std::size_t p = 0; p < plan_.products.size(); ++p) {
        const Product& product = plan_.products[p];
        if (product.source != like.source || product.index != like.index) continue;
        if (layer_.d_weights[product.matrix] == nullptr) continue;
        T* to = static_cast<T*>(layer_.d_weights[product.matrix]) + (product.gate * layer_.hidden + unit) * width + column;
        const bool adding = add || repeated(p);
        const Halves slots = turned(thread, product.slot, many);
        for (int first = 0; first < units; first += kTiledUnits) {
          const Halves rows{const_cast<std::uint16_t*>(slots.tile(first)), slots.deep};
          const int n = std::min(kTiledUnits, units - first);
          T* at = to + first * width;
          multiply<T>(strips.data(), whole, many, rows, n, at, width, adding ? at : nullptr, width);
          if (left == 0) continue;
          Strip<T> last = strips.back();
          const int begin = static_cast<int>(last.columns[0]);
          last.columns[0] = 0;
          multiply<T>(&last, 1, many, rows, n, corner, W, nullptr, 0);
          for (int u = 0; u < n; ++u)
            for (int c = 0; c < left; ++c) {
              T& d = at[u * width + begin + c];
              d = adding ? d + corner[u * W + c] : corner[u * W + c];
            }
        }
      }
    }
  }

  // Columns of what was multiplied, two rows to a lane, under its mask; `existing` lanes of each vector.
  void pair_source(int thread, const Product& like, int many, std::ptrdiff_t column, const Strip<T>& strip, int existing) const {
    if constexpr (kTiled<T>) {
      const bool mask = like.source == kState && masked(layer_, like);
      const auto part = [&](int i, int v) {
        if (i >= many) return Vec<T>{};
        const T* from = rows_[thread][i] + column + v * W;
        const Vec<T> x = existing == W ? load(from) : load_first(from, existing);
        return mask ? x * load_first(masks_[thread][i] + column + v * W, existing) : x;
      };
      T* to = strip.panel;
      for (int i = 0; i < kTileTerms * Halves::deep_for(many); i += 2)
        for (int v = 0; v < strip.vectors; ++v, to += W) store(to, paired_halves(part(i, v), part(i + 1, v)));
    }
  }

  bool first_of_source(std::size_t p) const {
    for (std::size_t q = 0; q < p; ++q)
      if (plan_.products[q].source == plan_.products[p].source && plan_.products[q].index == plan_.products[p].index) return false;
    return true;
  }

  // ---- on vectors

  // Units that a thread owns, in tiles of kTileRows rows of the weights' gradients.
  static int tiles_of(int units) { return (units + kTileRows - 1) / kTileRows; }

  // Without a row that counts every gradient is zero.
  void clear(std::ptrdiff_t unit, int units) {
    for (const Product& product : plan_.products) {
      const std::ptrdiff_t width = terms_of(layer_, product);
      void* to = layer_.d_weights[product.matrix];
      if (to != nullptr)
        std::memset(static_cast<T*>(to) + (product.gate * layer_.hidden + unit) * width, 0, sizeof(T) * units * width);
    }
  }

  // Where the rows from `first` on of a slot are packed.
  std::ptrdiff_t packed_at(int slot, int first, int units) const {
    return (std::ptrdiff_t(slot) * sums_ + first / kSum) * kSum * (units + kTileRows);
  }

  // packed[tile][row][unit of the tile]
  void pack_tiles(const T* slots, int many, int units, T* to) const {
    const int tiles = tiles_of(units);
    for (int tile = 0; tile < tiles; ++tile) {
      const int begin = units * tile / tiles, size = units * (tile + 1) / tiles - begin;
      T* at = to + std::ptrdiff_t(begin) * kSum;
      const T* from = slots + begin;
      if (size == kTileRows) {
        for (int i = 0; i < many; ++i) std::memcpy(at + i * kTileRows, from + i * row_, kTileRows * sizeof(T));
      } else {
        for (int i = 0; i < many; ++i)
          for (int u = 0; u < size; ++u) at[i * size + u] = from[i * row_ + u];
      }
    }
  }

  void add_bias(const T* slots, int many, Share share, T* total) const {
    if (layer_.d_bias_ih == nullptr && layer_.d_bias_hh == nullptr) return;
    for (int block = 0; block < share.end - share.begin; ++block) {
      // Several short sums round less than a long one.
      Vec<T> sums[8] = {};
      for (int i = 0; i < many; ++i) sums[i % 8] = sums[i % 8] + load(slots + i * row_ + block * W);
      for (int apart = 4; apart > 0; apart /= 2)
        for (int i = 0; i < apart; ++i) sums[i] = sums[i] + sums[i + apart];
      T* to = total + std::ptrdiff_t(share.begin + block) * W;
      store(to, load(to) + sums[0]);
    }
  }

  void write_bias(Share share) {
    for (int matrix = 0; matrix < 2; ++matrix) {
      void* to = matrix == 0 ? layer_.d_bias_ih : layer_.d_bias_hh;
      if (to == nullptr) continue;
      for (std::size_t p = 0; p < plan_.products.size(); ++p) {
        const Product& product = plan_.products[p];
        if (product.matrix != matrix) continue;
        for (int block = share.begin; block < share.end; ++block) {
          const int width = lanes(layer_.hidden, block, W);
          T* at = static_cast<T*>(to) + product.gate * layer_.hidden + std::ptrdiff_t(block) * W;
          const Vec<T> d = load(workspace_.at<T>(d_bias_) + product.slot * padded_ + std::ptrdiff_t(block) * W);
          store_first(at, repeated(p) ? load_first(at, width) + d : d, width);
        }
      }
    }
  }

  // Whether an earlier product has the same rows of the same matrix.
  bool repeated(std::size_t p) const {
    for (std::size_t q = 0; q < p; ++q)
      if (plan_.products[q].matrix == plan_.products[p].matrix && plan_.products[q].gate == plan_.products[p].gate) return true;
    return false;
  }

  // Addresses of what a product multiplied, for `many` rows from (j, r) on, in the order of time.
  void gather(const T** rows, const T** masks, const Product& product, std::ptrdiff_t m, int many, std::ptrdiff_t& t, int& r) const {
    for (int i = 0; i < many; ++i) {
      while (r >= clock_.rows(t)) {
        ++t;
        r = 0;
      }
      if (product.source == kInput)
        rows[i] = clock_.template at<T>(layer_.input, t, r);
      else if (product.source == kState)
        rows[i] = clock_.template old_state<T>(product.index, clock_.time(t), r);
      else
        rows[i] = static_cast<const T*>(layer_.operands[product.index]) + (m + i) * padded_;
      if (product.source == kState && masked(layer_, product)) masks[i] = clock_.template at<T>(layer_.mask, 0, r);
      ++r;
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
      const int begin = count * piece / pieces, vectors = count * (piece + 1) / pieces - begin;
      const std::ptrdiff_t column = std::ptrdiff_t(begin) * W;
      const int existing = static_cast<int>(std::min<std::ptrdiff_t>(width - column, vectors * W));
      pack_source(thread, like, many, column, vectors, existing, panels);
      for (std::size_t p = 0; p < plan_.products.size(); ++p) {
        const Product& product = plan_.products[p];
        if (product.source != like.source || product.index != like.index) continue;
        if (layer_.d_weights[product.matrix] == nullptr) continue;
        T* to = static_cast<T*>(layer_.d_weights[product.matrix]) + (product.gate * layer_.hidden + unit) * width + column;
        for (int part = 0; part < tiles; part += kPart)
          for (int first = 0; first < many; first += kSum)
            for (int tile = part; tile < std::min(tiles, part + kPart); ++tile) {
              const int start = units * tile / tiles, size = units * (tile + 1) / tiles - start;
              const T* from = packed + packed_at(product.slot, first, units) + std::ptrdiff_t(start) * kSum;
              tile_gradient(size, vectors, existing, std::min(kSum, many - first), from,
                            panels + std::ptrdiff_t(first) * vectors * W, to + start * width, width,
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
        if (mask) x = x * load_first(masks_[thread][i] + column + v * W, std::min(left, W));
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
    int products = 0;
    for (const Product& product : plan_.products) products += product.source == kInput;
    T* panel = workspace_.at<T>(input_panels_) +
               depth(width_, layer_.hidden) * W * (std::ptrdiff_t(products) * strip.begin + std::ptrdiff_t(nth_product) * (strip.end - strip.begin));
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

  const Layer& layer_;
  const CellPlan& plan_;
  const Clock& clock_;
  const Width width_;
  const bool tiled_;
  Workspace& workspace_;
  const int blocks_, input_blocks_;
  const std::ptrdiff_t padded_, row_;
  int threads_ = 1, sums_ = kSums;
  std::vector<std::vector<const T*>> rows_, masks_;  // of each thread
  int tiled_sum_ = 0;
  std::size_t input_halves_ = 0, input_halves_size_ = 0, slot_halves_ = 0, slots_size_ = 0, corner_ = 0;
  std::size_t input_panels_ = 0, d_bias_ = 0, scratch_ = 0, per_thread_ = 0;
};

}  // namespace recurra::RECURRA_ISA
