// Gradients of weights in bfloat16 on matrix tiles, and rows of slots' gradients for that of the input.
#pragma once

#include "gradient_terms.hpp"

namespace recurra::RECURRA_ISA {

// Rows whose part of the weights' gradients is summed at once, which are fewer where a thread's units take
// more memory than this in bfloat16; units that share columns of what was multiplied while these are in the second cache.
constexpr int kTiledSum = 1024, kTiledUnits = 32, kTiledStrips = 4;
constexpr std::size_t kTiledPacked = std::size_t(1) << 22;
// Rows of the input's gradient that are computed at once.
constexpr int kTiledInputRows = 64;

template <class T> class TiledGradients : protected GradientTerms<T> {
 protected:
  using GradientTerms<T>::GradientTerms;
  using GradientTerms<T>::W;
  using GradientTerms<T>::layer_;
  using GradientTerms<T>::plan_;
  using GradientTerms<T>::clock_;
  using GradientTerms<T>::workspace_;
  using GradientTerms<T>::padded_;
  using GradientTerms<T>::row_;
  using GradientTerms<T>::threads_;
  using GradientTerms<T>::rows_;
  using GradientTerms<T>::masks_;
  using GradientTerms<T>::d_bias_;
  using GradientTerms<T>::clear;
  using GradientTerms<T>::add_bias;
  using GradientTerms<T>::write_bias;
  using GradientTerms<T>::repeated;
  using GradientTerms<T>::first_of_source;
  using GradientTerms<T>::input_products;
  using GradientTerms<T>::gather;

  // Count the memory that is needed by threads of at most so many units, for rows of the input's gradient `width` wide too.
  void plan_tiles(std::ptrdiff_t most, std::ptrdiff_t width) {
    tiled_sum_ = kTiledSum;
    while (tiled_sum_ > kTiledInputRows && plan_.slots * Halves::size(most, tiled_sum_) * 2 > kTiledPacked) tiled_sum_ /= 2;
    input_halves_size_ = Halves::size(kTiledInputRows, layer_.hidden);
    input_halves_ = workspace_.template count<std::uint16_t>(threads_ * input_products() * input_halves_size_);
    slots_size_ = Halves::size(most, tiled_sum_);
    slot_halves_ = workspace_.template count<std::uint16_t>(threads_ * plan_.slots * slots_size_);
    // Panels of what was multiplied, a corner for columns that do not fill a vector, and rows of the input's gradient.
    corner_ = std::size_t(tiled_sum_) / 2 * kTiledStrips * kTileVectors * W;
    per_thread_ = max(corner_ + kTiledUnits * W, std::size_t(kTiledInputRows) * width);
    scratch_ = workspace_.template count<T>(per_thread_ * threads_);
    this->plan_rows(tiled_sum_);
  }

  Halves input_halves(int thread, int nth) const {
    return {workspace_.template at<std::uint16_t>(input_halves_) + (thread * input_products() + nth) * input_halves_size_,
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
    const int units = static_cast<int>(min<std::ptrdiff_t>(layer_.hidden, std::ptrdiff_t(share.end) * W) - unit);
    const std::ptrdiff_t total = clock_.total();
    std::ptrdiff_t j = 0;
    int r = 0;
    if (total == 0) clear(unit, units);
    for (std::ptrdiff_t m = 0; m < total; m += tiled_sum_) {
      const int many = static_cast<int>(min<std::ptrdiff_t>(tiled_sum_, total - m));
      for (int s = 0; s < plan_.slots; ++s) {
        const T* slots = static_cast<const T*>(layer_.kept) + m * row_ + s * padded_ + unit;
        turn_slots(slots, many, share.end - share.begin, turned(thread, s, many));
        for (int first = 0; first < many; first += kSum)
          add_bias(slots + first * row_, min(kSum, many - first), share, workspace_.template at<T>(d_bias_) + s * padded_);
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

  std::size_t scratch_ = 0, per_thread_ = 0;

 private:
  Halves turned(int thread, int slot, int many) const {
    return {workspace_.template at<std::uint16_t>(slot_halves_) + (thread * plan_.slots + slot) * slots_size_, Halves::deep_for(many)};
  }

  void turn_slots(const T* slots, int many, int blocks, const Halves& to) const {
    if constexpr (kTiled<T>)
      for (int block = 0; block < blocks; ++block)
        for (int i = 0; i < many; i += kTileTerms)
          narrow_turned(to.at(block * kTile, i), slots + i * row_ + block * W, row_, min(kTileTerms, many - i));
  }

  void source_on_tiles(int thread, const Product& like, bool add, int many, std::ptrdiff_t unit, int units) {
    T* panels = workspace_.template at<T>(scratch_) + thread * per_thread_;
    T* corner = panels + corner_;
    const std::ptrdiff_t width = terms_of(layer_, like);
    constexpr std::ptrdiff_t kColumns = kTiledStrips * kTileVectors * W;
    for (std::ptrdiff_t column = 0; column < width; column += kColumns) {
      // Columns that do not fill a vector are a strip of their own.
      const int existing = static_cast<int>(min(width - column, kColumns)), left = existing % W;
      List<Strip<T>> strips;
      T* panel = panels;
      for (int begin = 0; begin < existing;) {
        const int vectors = max(1, min(kTileVectors, (existing - begin) / W));
        Strip<T> strip{panel, vectors, {}, nullptr, Width::kTiled};
        for (int v = 0; v < vectors; ++v) strip.columns[v] = begin + v * W;
        pair_source(thread, like, many, column + begin, strip, min(W, existing - begin));
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
          const int n = min(kTiledUnits, units - first);
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

  int tiled_sum_ = 0;
  std::size_t input_halves_ = 0, input_halves_size_ = 0, slot_halves_ = 0, slots_size_ = 0, corner_ = 0;
};

}  // namespace recurra::RECURRA_ISA
