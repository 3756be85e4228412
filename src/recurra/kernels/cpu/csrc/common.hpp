// What the way forward and the way back share: the layout of a layer's rows in memory and time.
#pragma once

#include "layer.hpp"
#include "team.hpp"
#include "tile.hpp"
#include "tiles.hpp"
#include "workspace.hpp"

namespace recurra::RECURRA_ISA {

// The order of time and the rows that count in each step.
class Clock {
 public:
  explicit Clock(const Layer& layer) : layer_(layer) {
    if (layer.active != nullptr) {
      offsets_.resize(layer.steps + 1);
      for (std::ptrdiff_t t = 0; t < layer.steps; ++t) offsets_[t + 1] = offsets_[t] + layer.active[t];
    }
  }

  // The step in memory of the j-th step taken.
  std::ptrdiff_t time(std::ptrdiff_t j) const { return layer_.reverse ? layer_.steps - 1 - j : j; }
  int rows(std::ptrdiff_t t) const { return static_cast<int>(layer_.active ? layer_.active[t] : layer_.batch); }
  // How many rows of all steps before t count.
  std::ptrdiff_t before(std::ptrdiff_t t) const { return layer_.active ? offsets_[t] : t * layer_.batch; }
  std::ptrdiff_t total() const { return before(layer_.steps); }
  std::ptrdiff_t place(int r) const { return layer_.order ? layer_.order[r] : r; }

  template <class T> T* at(const Sequence& sequence, std::ptrdiff_t t, int r) const {
    if (sequence.packed) return static_cast<T*>(sequence.data) + (before(t) + r) * sequence.row;
    return static_cast<T*>(sequence.data) + t * sequence.step + place(r) * sequence.row;
  }
  // Of (B, width of a state).
  template <class T> T* at(void* values, int state, int r) const {
    return static_cast<T*>(values) + place(r) * layer_.width(state);
  }

  bool resets() const { return layer_.resets.data != nullptr; }
  // Whether the j-th step of a row starts from the state to restart from.
  bool reset(std::ptrdiff_t j, int r) const {
    if (!resets() || j >= layer_.steps) return false;
    // A document begins at this step or, when time runs backwards, at the step before.
    const std::ptrdiff_t t = layer_.reverse ? time(j) + 1 : time(j);
    return t < layer_.steps && r < rows(t) && *at<unsigned char>(layer_.resets, t, r) != 0;
  }

  // The state that the j-th step starts from.
  template <class T> T* old_state(int s, std::ptrdiff_t j, int r) const {
    if (reset(j, r)) return static_cast<T*>(layer_.restart[s]);
    if (j > 0 && r < rows(time(j - 1))) return at<T>(layer_.states[s], time(j - 1), r);
    return at<T>(layer_.initial[s], s, r);
  }

 private:
  const Layer& layer_;
  List<std::ptrdiff_t> offsets_;
};

// Whether the mask of recurrent dropout acts on what a product multiplies.
inline bool masked(const Layer& layer, const Product& product) {
  return layer.mask != nullptr && product.matrix == 1;
}

// The proportion in which a unit keeps its old value: that of the layer, or all or nothing as its mask says.
template <class T> class Zoneout {
 public:
  explicit Zoneout(const Layer& layer) : layer_(layer) {}
  bool on() const { return layer_.zoneout > 0.0; }

  const unsigned char* mask(const Clock& clock, int s, std::ptrdiff_t t, int r) const {
    if (layer_.zoneout_masks.empty()) return nullptr;
    return clock.at<unsigned char>(layer_.zoneout_masks[s], t, r);
  }
  T share(const unsigned char* mask, std::ptrdiff_t unit) const {
    return mask ? static_cast<T>(mask[unit] ? 1 : 0) : static_cast<T>(layer_.zoneout);
  }

 private:
  const Layer& layer_;
};

// Terms of a product's sums: the width of what is multiplied.
inline int terms_of(const Layer& layer, const Product& product) {
  if (product.source == kInput) return static_cast<int>(layer.input_size);
  return static_cast<int>(product.source == kState ? layer.width(product.index) : layer.hidden);
}

// How many whole vectors hold so many units.
inline int blocks_of(std::ptrdiff_t size, int width) { return static_cast<int>((size + width - 1) / width); }

inline int lanes(std::ptrdiff_t size, int block, int width) {
  return static_cast<int>(min<std::ptrdiff_t>(width, size - std::ptrdiff_t(block) * width));
}

// A product with few rows waits for its weights and not for arithmetic.
constexpr std::ptrdiff_t kFewRows = 12;

// How to hold weights that so many rows at a time are multiplied by.
template <class T> inline Width width_for(const Layer& layer, std::ptrdiff_t rows) {
  if (!layer.round_weights) return Width::kWhole;
  if (kTiled<T> && layer.tiles) return Width::kTiled;
  return rows <= kFewRows && sizeof(T) == 4 ? Width::kNarrow : Width::kRounded;
}

// One vector of columns, of which a matrix holds the first element at an offset.
template <class T>
Column<T> column_of(const Layer& layer, const void* matrix, std::ptrdiff_t element, int width, std::ptrdiff_t offset) {
  const Column<T> first{matrix, width, offset, layer.bfloat16_weights};
  return {first.at(element), width, offset, layer.bfloat16_weights};
}

// The order in which a thread takes its groups: to and fro, so that the weights at which one pass ends, which are still in
// the cache, are those with which the next begins.
class Turns {
 public:
  explicit Turns(unsigned turn, std::size_t count) : back_(turn % 2 != 0), count_(count) {}
  std::size_t operator[](std::size_t nth) const { return back_ ? count_ - 1 - nth : nth; }
  // The one after it; at the end the one with which the next pass begins.
  std::size_t after(std::size_t nth) const { return (*this)[nth + 1 < count_ ? nth + 1 : nth]; }

 private:
  bool back_;
  std::size_t count_;
};

// Some units of n rows in bfloat16, of `size` units in all, times a mask for each row if there is one.
template <class T, class Row, class Mask>
void narrow_units(const Halves& to, const Row& row, int begin, int end, std::ptrdiff_t size, int n, const Mask& mask) {
  constexpr int W = kWidth<T>;
  const bool zeros = end == blocks_of(size, W) && end % 2 != 0;
  for (int r = 0; r < n; ++r) {
    const T* from = row(r);
    const T* factors = mask(r);
    for (int block = begin; block < end; ++block) {
      const std::ptrdiff_t unit = std::ptrdiff_t(block) * W;
      const int width = lanes(size, block, W);
      Vec<T> v = width == W ? load(from + unit) : load_first(from + unit, width);
      if (factors != nullptr) v = v * load_first(factors + unit, width);
      narrow<T>(to, r, unit, v);
    }
    // The other half of the last tile's row.
    if (zeros) narrow<T>(to, r, std::ptrdiff_t(end) * W, Vec<T>{});
  }
}

template <class T> const T* no_mask(int) { return nullptr; }

// Cuts columns into strips; the panels lie one after another from `panel`.
template <class T>
T* cut(const List<Column<T>>& columns, int terms, Width width, T* panel, List<Strip<T>>& strips) {
  const int count = static_cast<int>(columns.size());
  const int pieces = (count + kTileVectors - 1) / kTileVectors;
  for (int piece = 0; piece < pieces; ++piece) {
    const Share part = share_of(count, piece, pieces);
    Strip<T> strip{panel, part.size(), {}, nullptr, width};
    for (int v = part.begin; v < part.end; ++v) strip.columns[v - part.begin] = columns[v].offset;
    panel += depth(width, terms) * strip.vectors * kWidth<T>;
    strips.push_back(strip);
  }
  return panel;
}

}  // namespace recurra::RECURRA_ISA
