// What gradients of weights and biases take from the rows of all steps, however they are summed.
#pragma once

#include "common.hpp"

namespace recurra::RECURRA_ISA {

// Rows whose part of the weights' gradients is summed at once; their sums are then added in order.
constexpr int kSum = 128;

template <class T> class GradientTerms {
 protected:
  static constexpr int W = kWidth<T>;

  GradientTerms(const Layer& layer, const Clock& clock, Workspace& workspace)
      : layer_(layer),
        plan_(*layer.plan),
        clock_(clock),
        workspace_(workspace),
        blocks_(blocks_of(layer.hidden, W)),
        padded_(padded_units(layer.hidden)),
        row_(plan_.kept * padded_) {}

  // Of the biases, before the workspace takes its memory.
  void plan_bias(int threads) {
    threads_ = threads;
    d_bias_ = workspace_.count<T>(plan_.slots * padded_);
  }
  // Addresses of so many rows for each thread.
  void plan_rows(int many) {
    rows_.resize(threads_);
    masks_.resize(threads_);
    for (List<const T*>& rows : rows_) rows.resize(many);
    for (List<const T*>& masks : masks_) masks.resize(many);
  }

  // Without a row that counts every gradient is zero.
  void clear(std::ptrdiff_t unit, int units) {
    for (const Product& product : plan_.products) {
      const std::ptrdiff_t width = terms_of(layer_, product);
      void* to = layer_.d_weights[product.matrix];
      if (to != nullptr)
        std::memset(static_cast<T*>(to) + (product.gate * layer_.hidden + unit) * width, 0, sizeof(T) * units * width);
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

  // How many products multiply the input.
  int input_products() const {
    int products = 0;
    for (const Product& product : plan_.products) products += product.source == kInput;
    return products;
  }

  // Whether no earlier product is of the same source.
  bool first_of_source(std::size_t p) const {
    for (std::size_t q = 0; q < p; ++q)
      if (plan_.products[q].source == plan_.products[p].source && plan_.products[q].index == plan_.products[p].index) return false;
    return true;
  }

  const Layer& layer_;
  const CellPlan& plan_;
  const Clock& clock_;
  Workspace& workspace_;
  const int blocks_;
  const std::ptrdiff_t padded_, row_;
  int threads_ = 1;
  List<List<const T*>> rows_, masks_;  // of each thread
  std::size_t d_bias_ = 0;
};

}  // namespace recurra::RECURRA_ISA
